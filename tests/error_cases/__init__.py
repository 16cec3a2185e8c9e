"""How each row of docs/errors.md comes about, by the command line. `CASES` has them by the row's first column."""

from error_cases import cluster, models, runs, sources
from error_cases.bench import CASES

__all__ = ["CASES", "cluster", "models", "runs", "sources"]
