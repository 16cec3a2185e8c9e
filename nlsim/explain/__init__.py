"""What a latent responds to, in words: explainers and imported explanations."""
