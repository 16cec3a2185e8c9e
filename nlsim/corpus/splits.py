"""Which part of the work a document serves. Decided by its name alone, so that no stage can cross sides."""

import hashlib
from enum import IntEnum

from nlsim.corpus.config import SplitFractions


class Split(IntEnum):
    """The five disjoint parts of a corpus; the values are stored in the tokens artifact."""

    TRAIN = 0
    EXPLAIN = 1
    SCORE = 2
    CALIBRATE = 3
    EVALUATE = 4

    @property
    def key(self) -> str:
        """The name used in the configuration."""
        return self.name.lower()


def unit_hash(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts' text only: the same on every machine and in every process."""
    data = "\0".join(str(part) for part in parts).encode("utf-8", "surrogatepass")
    # 53 bits are what a double holds exactly; more would round up to 1.0 for the highest hashes.
    return (int.from_bytes(hashlib.sha256(data).digest()[:8], "big") >> 11) / float(1 << 53)


def assign(seed: int, name: str, fractions: SplitFractions) -> Split:
    """The split of the document called `name`: a hash of (seed, name) cut at the cumulated fractions."""
    shares = [(split, getattr(fractions, split.key)) for split in Split]
    point = unit_hash("split", seed, name) * sum(share for _, share in shares)
    for split, share in shares:
        if point < share:
            return split
        point -= share
    return next(split for split, share in reversed(shares) if share)  # rounding at the very top
