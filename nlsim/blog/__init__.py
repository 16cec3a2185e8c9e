"""The blog's experiments: which latents does a language model find, with which values, and how much is enough?"""
