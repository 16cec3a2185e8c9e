"""Tables, figures and self-contained pages from a run's committed results."""
