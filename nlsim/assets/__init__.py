"""Models and small files that travel with the package."""
