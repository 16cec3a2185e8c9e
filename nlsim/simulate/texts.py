"""Windows as text, token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlsim.corpus.pieces import Pieces
from nlsim.explain.explainer import read_pieces
from nlsim.simulate.prompts import Text
from nlsim.simulate.taught import check_adapter
from nlsim.simulate.wording import with_score

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nlsim.config import Config
    from nlsim.explain.explainer import Explanation
    from nlsim.lm.config import LmConfig
    from nlsim.simulate.config import SimulateConfig
    from nlsim.simulate.windows import Windows
    from nlsim.store.artifact import Artifact


def window_texts(tokens: Artifact, windows: Windows) -> list[Text]:
    """The text of every window, as the strings of its tokens, and which of them are read."""
    tokens_RT = tokens.arrays(0, "rows")["tokens"]
    pieces = Pieces(read_pieces(tokens))
    found = []
    for i, (row, start, length) in enumerate(zip(windows.row_N, windows.start_N, windows.length_N, strict=True)):
        strings = pieces.strings(tokens_RT[row, start : start + length])
        found.append(Text(strings, [int(offset) for offset in windows.offsets(i)]))
    return found


def check_taught(lm: LmConfig, config: Config, tokens: Artifact, windows: Windows, latents: Iterable[int]) -> None:
    """Raise UsageError where a finetuned model would be asked about latents or documents that it was taught with."""
    rows = tokens.arrays(0, "rows")
    names = tokens.table(0, "documents").column("name").to_pylist()
    documents = {names[document] for document in rows["document"][windows.row_N].tolist()}
    check_adapter(lm, config.simulate, config.coder.path, latents, documents)


def shown_texts(
    explanations: Iterable[Explanation], settings: SimulateConfig, inputs: Mapping[str, Artifact]
) -> list[str]:
    """Explanations as prompts state them: with their score where it is shown."""
    if settings.show_score is None:
        return [explanation.text for explanation in explanations]
    table = inputs["score"].tables("scores")
    columns = (table.column(name).to_pylist() for name in ("latent", "scorer", "balanced_accuracy"))
    score = {latent: value for latent, scorer, value in zip(*columns, strict=True) if scorer == settings.show_score}
    return [with_score(explanation.text, score.get(explanation.latent)) for explanation in explanations]
