"""How well an explanation predicts where its latent is active: detection, fuzzing, embedding."""
