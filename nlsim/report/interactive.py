"""The data of the interactive page: continuations of some prompts, and what is known of latents that occur there."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from nlsim.continuations.kinds import shown_kinds
from nlsim.corpus.pieces import Pieces
from nlsim.corpus.splits import Split
from nlsim.explain.table import read_explanations
from nlsim.latents.contexts import ContextSampler
from nlsim.latents.index import LatentIndex
from nlsim.pipeline.variant import of_kind
from nlsim.report.browse import CONTEXT, contexts, rounded, score_records
from nlsim.report.embed import chunk
from nlsim.report.interactive_page import Kind, Page, html
from nlsim.report.make import provenance
from nlsim.report.tables import Cell, Column, Number, Table

if TYPE_CHECKING:
    from nlsim.config import Config
    from nlsim.pipeline.stage import StageContext
    from nlsim.store.artifact import Artifact

Record = dict[str, Any]

LATENTS_PER_CHUNK = 32
MOST_BYTES = 10_000_000
"""Of the page. Where there is no room for all, the latents that occur least often go without contexts."""


def make_page(context: StageContext) -> None:
    """Write `interactive.html`."""
    config, inputs = context.config, context.inputs
    pieces, continued = Pieces.of(inputs["tokens"]), inputs["continue"]
    found = (prompt_record(continued, shard, pieces) for shard in range(continued.shards))
    prompts = [prompt for prompt in found if prompt["texts"]]
    kinds = [described(config, kind) for kind in shown_kinds(config)]
    uses = Counter(latent for prompt in prompts for latent in latents_in(prompt))
    page = Page(
        title=f"{config.report.title or config.name}: continuations",
        subject=config.subject.model,
        found_at=config.continuations.found_at,
        temperature=config.continuations.temperature,
        kinds=kinds,
        prompts=prompts,
        explanations=explanation_texts(context, sorted(uses)),
        chunks=[],
        summary=summary(prompts),
        provenance=provenance(context),
        config=config.to_yaml(),
    )
    room = MOST_BYTES - len(html(page).encode())
    by_use = [latent for latent, _ in uses.most_common()]
    chunks = list(fitting(latent_chunks(context, by_use, pieces), room))
    made = html(page._replace(chunks=chunks)).encode()
    context.output.bytes("interactive.html", made)
    shown = min(len(chunks) * LATENTS_PER_CHUNK, len(by_use))
    context.output.count(prompts=len(prompts), latents=len(uses), with_contexts=shown, bytes=len(made))


def described(config: Config, kind: str) -> Kind:
    """What a kind of explanations is, in words."""
    mine = config.of_kind(kind)
    simulator, explain = mine.language_model("simulate"), mine.explain
    writer = f" by {mine.language_model('explain').model}" if explain.method == "llm" else ""
    examples = f" from {explain.sampling} examples" if explain.method == "llm" else ""
    adapter = f" with {simulator.adapter}" if simulator.adapter else ""
    pool = mine.simulate.pool
    sample = (
        ""
        if pool is None
        else f"; asked about the active latents and {pool:,} others of each token, its answers taken as they come"
    )
    return Kind(kind, f"{explain.method} explanations{writer}{examples}, read by {simulator.model}{adapter}{sample}")


def prompt_record(continued: Artifact, shard: int, pieces: Pieces) -> Record:
    """One prompt with its texts, token by token; see docs/interactive.md for the form."""
    facts = continued.json(shard, "prompt")
    texts = facts["texts"]
    steps: list[dict[str, Record]] = [{} for _ in texts]
    words: dict[int, str] = {}
    for line in continued.table(shard, "steps").to_pylist():
        names = ("kl", "chosen", "given", "likeliest", "probability")
        made = steps[line["text"]].setdefault(line["condition"], {name: [] for name in names})
        made["kl"].append(significant(line["kl"]))
        made["chosen"].append(line["chosen"])
        made["given"].append(significant(line["given"]))
        made["likeliest"].append(line["likeliest"])
        made["probability"].append([significant(value) for value in line["probability"]])
        for token in (line["chosen"], *line["likeliest"]):
            words.setdefault(
                token, pieces.bytes[token].decode("utf-8", "replace") if token < len(pieces) else f"<{token}>"
            )
    active: list[list[list[Any]]] = [[[] for _ in text[1:]] for text in texts]
    for line in continued.table(shard, "active").to_pylist():
        active[line["text"]][line["step"]].append([line["latent"], significant(line["value"]), line["lot"]])
    said: list[dict[str, list[Record]]] = [{} for _ in texts]
    for line in continued.table(shard, "counts").to_pylist():
        counts = [line[name] for name in ("asked", "found", "missed", "unasked", "false_alarms")]
        mine = said[line["text"]].setdefault(line["kind"], [{"counts": [0, 0, 0, 0, 0], "latents": []}])
        mine.append({"counts": counts, "latents": []})
    for line in continued.table(shard, "predicted").to_pylist():
        what = [line["latent"], significant(line["probability"]), significant(line["value"])]
        said[line["text"]][line["kind"]][line["step"]]["latents"].append(what)
    return {
        "source": facts["source"],
        "begun": facts["begun"],
        "latents": facts["latents"],
        "width": facts["width"],
        "free": facts["free"],
        "conditions": facts["forced"],
        "texts": [["", *pieces.strings(text[1:])] for text in texts],
        "ids": texts,
        "words": {str(token): word for token, word in sorted(words.items())},
        "steps": steps,
        "active": active,
        "said": said,
    }


def latents_in(prompt: Record) -> Iterator[int]:
    """Every latent that the page may show for a prompt, as often as it occurs."""
    for text, said in zip(prompt["active"], prompt["said"], strict=True):
        yield from (latent for step in text for latent, *_ in step)
        yield from (latent for kind in said.values() for step in kind for latent, *_ in step["latents"])


def explanation_texts(context: StageContext, latents: Sequence[int]) -> dict[str, dict[int, str]]:
    """Kind → latent → explanation; a latent without one is left out."""
    result = {}
    for kind in shown_kinds(context.config):
        read = read_explanations(of_kind(context.inputs, kind)["explain"])
        texts = {row.latent: row.text for row in read if row.status == "ok"}
        result[kind] = {latent: texts[latent] for latent in latents if latent in texts}
    return result


def latent_chunks(context: StageContext, latents: Sequence[int], pieces: Pieces) -> Iterator[tuple[list[int], str]]:
    """Numbers and compressed records of latents, some at a time: density, scale, scores by kind, contexts."""
    config, inputs = context.config, context.inputs
    index = LatentIndex(inputs["tokens"], inputs["cache"], inputs["index"])
    sampler = ContextSampler(index, CONTEXT, config.seed)
    scores = {kind: score_records(of_kind(inputs, kind)["score"]) for kind in shown_kinds(config)}
    density_M = index.table.density()

    def record(latent: int) -> Record:
        scale = float(index.table.robust_max_M[latent])
        top = sampler.draw(latent, Split.EXPLAIN, config.report.contexts, "top")
        spread = sampler.draw(latent, Split.EXPLAIN, config.report.quantile_contexts, "quantiles")
        return {
            "density": rounded(float(density_M[latent])),
            "max": rounded(scale),
            "scores": {kind: mine[latent] for kind, mine in scores.items() if latent in mine},
            "top": contexts(top, pieces, scale),
            "quantiles": contexts(spread, pieces, scale),
        }

    for start in range(0, len(latents), LATENTS_PER_CHUNK):
        group = list(latents[start : start + LATENTS_PER_CHUNK])
        context.progress(start, len(latents), "latents")
        yield group, chunk({str(latent): record(latent) for latent in group})


def fitting(chunks: Iterable[tuple[list[int], str]], room: int) -> Iterator[tuple[list[int], str]]:
    """As many chunks as fit into `room` bytes."""
    for group, packed in chunks:
        room -= len(packed) + 200 + 8 * len(group)  # its element, and its numbers in the manifest
        if room < 0:
            return
        yield group, packed


def summary(prompts: Sequence[Record]) -> Table:
    """Every condition over the written tokens of all prompts."""
    columns = [
        Column("condition"),
        Column("KL", "nats per token", "lower"),
        Column("other token", "%", "lower"),
        Column("KL, own text", "nats per token", "lower"),
        Column("leaves after", "tokens", "higher"),
        Column("n", "tokens"),
    ]
    labels = dict.fromkeys(label for prompt in prompts for label in prompt["conditions"])
    rows: list[list[Cell]] = []
    for label in labels:
        kl: list[float] = []
        other: list[bool] = []
        own: list[float] = []
        leaves: list[int] = []
        for prompt in prompts:
            begun, forced = prompt["begun"], prompt["steps"][0][label]
            kl += forced["kl"][begun - 1 :]
            written = prompt["ids"][0][begun:]
            other += [a != b for a, b in zip(forced["chosen"][begun - 1 :], written, strict=True)]
            if label in prompt["free"]:
                text = prompt["free"][label]
                own += prompt["steps"][text][label]["kl"][begun - 1 :]
                leaves.append(common_length(prompt["ids"][text][begun:], written))
        rows.append(
            [
                named(label),
                Number(significant(statistics.fmean(kl))),
                Number(significant(100 * statistics.fmean(other))),
                Number(significant(statistics.fmean(own))) if own else None,
                Number(significant(statistics.fmean(leaves))) if leaves else None,
                len(kl),
            ]
        )
    note = (
        "Means over the written tokens of all prompts: an illustration, without intervals; the report's losses are the "
        "measurement. The patched model reads what the model itself writes (KL; share of places where it would write "
        "another token), or its own text (KL, own text; tokens until that text leaves the model's)."
    )
    return Table("All conditions", columns, rows, note)


def named(label: str) -> str:
    """A condition's label in words."""
    what, _, which = label.partition(":")
    if what in ("top", "random"):
        return f"{'strongest' if what == 'top' else 'random'} {float(which):.0%}"
    words = {"clean": "the model itself", "coder": "all true latents", "none": "no latents", "help": "found latents"}
    return words.get(what, "simulated values") + (f" ({which})" if which else "")


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the longest common beginning."""
    pairs = zip(first, second, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def significant(value: float) -> float:
    """Three significant digits: what the page shows."""
    return float(f"{value:.3g}")
