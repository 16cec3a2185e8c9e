"""Continuations: what the subject goes on to write, token by token, as it is and with its latents replaced."""
