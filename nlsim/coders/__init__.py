"""Sparse coders (SAEs and transcoders) behind one protocol, their file formats and their training."""
