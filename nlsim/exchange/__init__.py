"""Other tools' files, in and out: delphi, Neuronpedia, SAELens feature lists, the published article's results."""
