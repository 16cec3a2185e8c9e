"""The article's experiment: what does the subject lose when one layer's latents are simulated from explanations?"""

from nlsim.calibrate.stage import Calibrate
from nlsim.corpus.stage import Tokens
from nlsim.explain.stage import Explain
from nlsim.latents.cache_stage import Cache
from nlsim.latents.index_stage import Index
from nlsim.pipeline.pipeline import Pipeline
from nlsim.reconstruct.stage import Reconstruct
from nlsim.report.stage import Report
from nlsim.score.stage import Score
from nlsim.simulate.stage import Simulate


def article() -> Pipeline:
    """tokens → cache → index → explain → score → simulate → calibrate → reconstruct → report."""
    return Pipeline(
        "article",
        (Tokens(), Cache(), Index(), Explain(), Score(), Simulate(), Calibrate(), Reconstruct(), Report()),
    )
