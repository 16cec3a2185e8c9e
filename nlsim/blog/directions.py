"""Do the latents taken for active write in the directions that the active ones write in?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nlsim.blog.pairs import Ints, Pairs
from nlsim.metrics.alignment import cosine_similarity, hungarian
from nlsim.metrics.intervals import Bootstrap
from nlsim.metrics.rows import Row, metric_row


def aligned_reads(pairs: Pairs, count: int) -> npt.NDArray[np.int64]:
    """At most `count` reads with active latents, evenly spread."""
    known = np.unique(pairs.read_P[pairs.active_P])
    return known[np.unique(np.linspace(0, len(known) - 1, min(count, len(known))).astype(np.int64))]


def alignment(
    pairs: Pairs, decoder_MD: npt.NDArray[np.float32], bootstrap: Bootstrap, count: int, seed: int
) -> list[Row]:
    """Mean cosine of the active latents' decoder directions with those of as many others, in the pairing that makes it
    largest (Hungarian algorithm): `likeliest`, the k latents of highest probability among those asked about, k being
    the number of active ones; `random`, k of all latents.

    The likeliest may be the active ones themselves. Between pools of different size the figures do not compare.
    """
    likeliest_R, random_R = np.full((2, len(pairs.at_R)), np.nan)
    starts = pairs.starts
    for read in aligned_reads(pairs, count).tolist():
        mine = pairs.at(read, starts)
        latent, active = pairs.latent_P[mine], pairs.activation_P[mine] > 0
        k = int(active.sum())
        order = np.argsort(-np.nan_to_num(pairs.probability_P[mine], nan=-1.0), kind="stable")
        rng = np.random.default_rng([seed, int(pairs.at_R[read]), 13])
        other = rng.choice(len(decoder_MD), k, replace=False)
        likeliest_R[read] = _best(decoder_MD, latent[active], latent[order[:k]])
        random_R[read] = _best(decoder_MD, latent[active], other)
    return [
        metric_row("alignment", bootstrap.mean(value_R), "cosine", {"task": "identify", "latents": name})
        for name, value_R in (("likeliest", likeliest_R), ("random", random_R))
    ]


def _best(decoder_MD: npt.NDArray[np.float32], first: Ints, second: Ints) -> float:
    return hungarian(cosine_similarity(decoder_MD[first], decoder_MD[second])).mean
