"""Patched losses: what the subject loses when simulated activations stand in for the coder's."""
