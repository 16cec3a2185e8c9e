"""What an explainer is. Another method is another file with a class like this, and a line in `build_explainer`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from nlsim.corpus.splits import Split
from nlsim.plugins import is_plugin, load_plugin

if TYPE_CHECKING:
    from nlsim.config import Config
    from nlsim.explain.reading import Reading
    from nlsim.latents.index import LatentIndex
    from nlsim.store.artifact import Artifact

Status = Literal["ok", "failed", "few", "missing"]
"""`ok`: there is a text; `failed`: the model's answer held no explanation; `few`: too little activity to explain;
`missing`: the imported file says nothing of the latent. Only `ok` has a text."""


class Explanation(NamedTuple):
    """What one explainer says of one latent."""

    latent: int
    text: str
    """Empty unless the status is ok."""
    status: Status = "ok"
    examples: tuple[int, ...] = ()
    """Global token positions of the examples shown; none where everything in the split was counted."""
    prompt_hash: str = ""
    """First 16 hex digits of the SHA-256 of the prompt."""


class Explainer(Protocol):
    """A way to explain latents."""

    @property
    def model(self) -> str:
        """What wrote the explanations; empty for none."""

    @property
    def facts(self) -> Mapping[str, str]:
        """What the language model says of itself once it has written: engine, versions, tokens, cost."""

    def explain(self, latents: Sequence[int]) -> Iterator[Explanation]:
        """One explanation per latent, in order."""


class Evidence:
    """What explainers may look at: activations and text of the explain split alone."""

    def __init__(self, config: Config, tokens: Artifact, index: LatentIndex) -> None:
        self.config, self.index = config, index
        self._tokens = tokens

    @cached_property
    def pieces(self) -> list[bytes]:
        """Vocabulary number → the token's bytes in running text."""
        return read_pieces(self._tokens)

    @cached_property
    def reading(self) -> Reading:
        """The explain split token by token."""
        from nlsim.explain.reading import Reading

        rows = self._tokens.arrays(0, "rows")
        first, last = self.index.rows.block(Split.EXPLAIN)
        chosen = slice(first, last)
        return Reading.of(rows["tokens"][chosen], rows["length"][chosen], rows["document"][chosen], self.pieces, first)


def read_pieces(tokens: Artifact) -> list[bytes]:
    """The vocabulary of a *tokens* artifact."""
    column = tokens.table(0, "pieces").column("bytes")
    return [bytes(piece) for piece in column.to_pylist()]


def build_explainer(evidence: Evidence) -> Explainer:
    """The explainer that the configuration names."""
    method = evidence.config.explain.method
    if is_plugin(method):
        explainer: Explainer = load_plugin("nlsim.explainers", method)(evidence, evidence.config.explain.options)
        return explainer
    if method == "lexical":
        from nlsim.explain.lexical import LexicalExplainer

        return LexicalExplainer(evidence)
    if method == "llm":
        from nlsim.explain.llm import LlmExplainer

        return LlmExplainer(evidence)
    from nlsim.explain.imported import ImportedExplainer

    return ImportedExplainer(evidence)
