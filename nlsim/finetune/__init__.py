"""Teaching a language model to simulate: examples from other latents and documents, LoRA, and how good it becomes."""
