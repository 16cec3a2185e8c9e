"""Which stages, in which graph, make an experiment."""
