"""Runs and stage outputs in a directory or an S3-compatible bucket: objects, atomic commits, verified reads."""
