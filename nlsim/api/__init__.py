"""Looking at runs from Python: `nlsim.open(url)`. Nothing here computes or writes anything of a run."""
