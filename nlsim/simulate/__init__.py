"""Predicted activations: every latent on every evaluation window, from explanation and text alone."""
