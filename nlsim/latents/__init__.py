"""Sparse activations: row-major shards, the latent-major index, context sampling."""
