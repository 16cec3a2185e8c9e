"""Text to token rows: sources, tokenization, document splits, evaluation windows."""
