"""A coder's card: its figures on held-out text and some latents to look at."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from nlsim.coders.coder import Coder, CoderMeta
from nlsim.coders.evaluate import CONDITIONS, Losses, Usage, losses, usage
from nlsim.corpus.pieces import Pieces, token_pieces
from nlsim.corpus.rows import Rows
from nlsim.corpus.splits import Split
from nlsim.metrics.intervals import Estimate
from nlsim.subject.model import Subject

MEANING = {
    "clean": "nothing replaced",
    "coder": "the coder's reconstruction",
    "zero": "no latent active: bias and skip connection alone",
    "mean": "every latent at its mean",
    "none": "zeros in place of the module's output",
}
HELD_OUT_ROWS, LOSS_ROWS = 1024, 256  # of the splits `explain` and `evaluate`
BEFORE, AFTER = 9, 4  # tokens of context shown around the active one


class Context(NamedTuple):
    """A place where a latent is active."""

    value: float
    before: str
    token: str
    after: str


class Card(NamedTuple):
    """A coder on documents that nothing is trained on: activity on the split `explain`, losses on `evaluate`."""

    meta: CoderMeta
    used: Usage
    lost: Losses
    contexts: dict[int, list[Context]]
    """Some latents, each with its strongest contexts."""

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON."""
        density_M = self.used.fired_M / max(self.used.tokens, 1)
        numbers = self.used._asdict()
        latents = {
            str(latent): {"density": float(density_M[latent]), "contexts": [context._asdict() for context in found]}
            for latent, found in self.contexts.items()
        }
        return {
            "coder": self.meta.model_dump(mode="json"),
            **{name: numbers[name] for name in ("tokens", "fvu", "fvu_zero", "l0")},
            "never_fired": int((self.used.fired_M == 0).sum()),
            "ce": {name: _plain(loss) for name, loss in self.lost.ce.items()},
            "excess": {name: _plain(loss) for name, loss in self.lost.excess.items()},
            "recovered": _plain(self.lost.recovered),
            "latents": latents,
        }

    def markdown(self) -> str:
        """What the coder is, tables of figures, and the latents with their contexts."""
        meta, used, lost, contexts = self
        density_M = used.fired_M / max(used.tokens, 1)
        kind = f"{'skip ' if meta.skip else ''}{meta.kind}"
        kept = f"{meta.activation}, k = {meta.k}" if meta.k else meta.activation
        lines = [
            f"{kind} at `{meta.hookpoint}` of `{meta.subject}`, "
            f"{meta.d_in} → {meta.width} latents → {meta.d_out}, {kept}.",
            "",
            f"On {used.tokens:,} held-out tokens:",
            "",
            "| figure | value |",
            "|---|---|",
            f"| variance unexplained (FVU) | {used.fvu:.3f} |",
            f"| the same without latents (bias and skip connection) | {used.fvu_zero:.3f} |",
            f"| active latents per token (L0) | {used.l0:.1f} |",
            f"| latents that never fired | {int((used.fired_M == 0).sum())} of {meta.width} |",
            f"| density of a latent: 10 %, median, 90 % | {_quantiles(density_M)} |",
            "",
            f"Next-token loss on {lost.ce['clean'].n:,} held-out tokens, the output replaced everywhere but at BOS:",
            "",
            "| in its place | loss (nats) | above clean |",
            "|---|---|---|",
            *(
                f"| {MEANING[c]} (`{c}`) | {lost.ce[c].value:.3f} | {_interval(lost.excess.get(c))} |"
                for c in CONDITIONS
            ),
            "",
            f"Loss recovered, (zero - coder) / (zero - clean): {_interval(lost.recovered)}.",
            "",
            f"{len(contexts)} latents drawn at random, each with its strongest contexts (active token in bold):",
            "",
        ]
        for latent, found in contexts.items():
            lines.append(f"- **{latent}**, active at {density_M[latent]:.2%} of tokens")
            lines += [f"  - {c.value:.1f} {_code(c.before)} **{_code(c.token)}** {_code(c.after)}" for c in found]
        return "\n".join(lines) + "\n"


def make_card(subject: Subject, rows: Rows, coder: Coder, latents: int) -> Card:
    """Measure a coder, and find the strongest contexts of `latents` of its latents."""
    held, last = rows.of(Split.EXPLAIN), rows.of(Split.EVALUATE)
    used = usage(subject, coder, rows.tokens[held], rows.length[held])
    lost = losses(subject, coder, rows.tokens[last], rows.length[last], rows.document[last], used.mean_M)
    chosen = sample_latents(used, latents)
    contexts = strongest_contexts(subject, coder, rows.tokens[held], rows.length[held], chosen, 5)
    return Card(coder.meta, used, lost, contexts)


def strongest_contexts(
    subject: Subject,
    coder: Coder,
    tokens_RT: NDArray[np.int32],
    length_R: NDArray[np.int32],
    latents: list[int],
    count: int,
) -> dict[int, list[Context]]:
    """The rows in which each latent is strongest, one context per row, strongest first."""
    best: dict[int, list[tuple[float, int, int]]] = {latent: [] for latent in latents}
    size = max(1, subject.batch_tokens // tokens_RT.shape[1])
    for start in range(0, len(tokens_RT), size):
        rows = slice(start, start + size)
        captured = subject.capture(tokens_RT[rows], length_R[rows], coder.meta.hookpoint)
        x_BTD = captured.output_BTD if coder.meta.kind == "sae" else captured.input_BTD
        codes = coder.encode(x_BTD.flatten(0, 1))
        place_T = np.arange(x_BTD.shape[1])
        used_BT = (place_T > 0) & (place_T < length_R[rows, None])
        for latent in latents:
            value_BT = (codes.value_NK * (codes.index_NK == latent)).sum(1).view(
                x_BTD.shape[:2]
            ).cpu().numpy() * used_BT
            peak_B = value_BT.argmax(1)
            strongest_B = value_BT.max(1)
            best[latent] += [
                (float(strongest_B[b]), start + int(b), int(peak_B[b])) for b in np.flatnonzero(strongest_B)
            ]
    pieces = token_pieces(subject.tokenizer)
    return {
        latent: [
            _context(pieces, tokens_RT[row], int(length_R[row]), place, value)
            for value, row, place in sorted(found, reverse=True)[:count]
        ]
        for latent, found in best.items()
    }


def sample_latents(usage: Usage, count: int, least: int = 20, seed: int = 0) -> list[int]:
    """`count` latents drawn at random from those that fired at `least` tokens or more, ascending."""
    living = torch.from_numpy(np.flatnonzero(usage.fired_M >= least))
    order = torch.randperm(len(living), generator=torch.Generator().manual_seed(seed))
    return sorted(living[order[:count]].tolist())


def _context(pieces: Pieces, tokens_T: NDArray[np.int32], length: int, place: int, value: float) -> Context:
    text = ["", *pieces.strings(tokens_T[1:length])]  # BOS has no text
    before, after = text[max(1, place - BEFORE) : place], text[place + 1 : place + 1 + AFTER]
    return Context(value, "".join(before), text[place], "".join(after))


def _code(text: str) -> str:
    """Text as inline code: white space made visible, backticks replaced, so that a context stays on its line."""
    shown = text.replace("\n", "⏎").replace("`", "ˋ").replace("|", "¦")
    return f"`{shown}`" if shown else ""


def _plain(estimate: Estimate) -> dict[str, float | None]:
    """An estimate as JSON has it: null for what is not finite."""
    return {name: number if math.isfinite(number) else None for name, number in estimate._asdict().items()}


def _interval(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _quantiles(density_M: NDArray[np.float64]) -> str:
    return ", ".join(f"{share:.2%}" for share in np.quantile(density_M, [0.1, 0.5, 0.9]))
