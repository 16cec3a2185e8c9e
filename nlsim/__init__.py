"""How much of a language model survives when part of it is replaced by plain-English explanations?"""

__version__ = "0.1.0"
