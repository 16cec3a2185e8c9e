"""A small language model of our own that answers simulation, detection and fuzzing prompts: its text, model,
training."""
