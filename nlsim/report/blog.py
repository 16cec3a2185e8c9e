"""What a run of the experiment `blog` found: its numbers, and its page in sentences, tables and figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nlsim.blog.losses import help_rows, limit_rows
from nlsim.metrics.rows import Row
from nlsim.pipeline.variant import of_kind
from nlsim.report.blog_figures import (
    digit_lines,
    false_rate_lines,
    heat_maps,
    help_dots,
    limit_lines,
    needed_lines,
    rank_lines,
    score_lines,
    sweep_lines,
)
from nlsim.report.blog_tables import (
    help_table,
    identification_table,
    limit_table,
    predictive_table,
    published_table,
    sweep_table,
    value_table,
)
from nlsim.report.gather import Metrics, latent_metrics, score_metrics
from nlsim.report.page import Browser, Figure, Part, Story
from nlsim.report.story import beside
from nlsim.report.tables import Table

if TYPE_CHECKING:
    from nlsim.config import Config
    from nlsim.store.artifact import Artifact

Items = list[str | Table | Figure | tuple[Figure, ...]]


def gather_blog(config: Config, inputs: Mapping[str, Artifact]) -> Metrics:
    """All metrics of a run of `blog`; those of a kind of `config.kinds` have the condition `kind`."""
    settings = config.blog
    rows = limit_rows(inputs["limits"].tables("losses"), settings.draws, settings.level)
    rows += help_rows(inputs["help"].tables("losses"), config.kind, settings.draws, settings.level)
    rows += _of_one_kind(config, inputs)
    for kind in config.kinds:
        for row in _of_one_kind(config.of_kind(kind), of_kind(inputs, kind)):
            rows.append({**row, "condition": {**row["condition"], "kind": kind}})
    return Metrics(rows)


def _of_one_kind(config: Config, inputs: Mapping[str, Artifact]) -> list[Row]:
    rows = [*latent_metrics(inputs["explain"].tables("explanations")), *score_metrics(inputs["score"].tables("scores"))]
    if config.simulate.pool is None:
        rows += inputs["calibrate"].json(0, "metrics")
    rows += inputs["identify"].json(0, "metrics")
    return rows


def tell_blog(
    config: Config, metrics: Metrics, inputs: Mapping[str, Artifact], browser: Browser, provenance: Mapping[str, str]
) -> Story:
    """The whole story of a run."""
    kinds: dict[str, str | None] = {config.kind: None}
    kinds.update({kind: kind for kind in config.kinds})
    heats = {name: of_kind(inputs, name)["identify"].arrays(0, "heat") for name in kinds}
    return Story(
        config.report.title or f"nlsim: {config.name}",
        f"{config.subject.model} · {config.coder.path} · explanations: {', '.join(kinds)}",
        headline(metrics, config),
        findings(metrics, kinds),
        [
            limits(metrics),
            identification(config, metrics, kinds),
            helped(config, metrics, kinds),
            values(metrics, kinds, {name: {k: v.tolist() for k, v in heat.items()} for name, heat in heats.items()}),
            thresholds(metrics, kinds),
            scores(metrics, kinds),
            compared(config, metrics),
        ],
        browser,
        provenance,
        config.to_yaml(),
        beside(config),
    )


def headline(metrics: Metrics, config: Config) -> str:
    """One sentence: what is found, at which price."""
    recall = metrics.number("recall", task="identify")
    precision = metrics.number("precision", task="identify", pool="all")
    if recall is None or precision is None:
        return "This run identified no latents."
    return (
        f"From their explanations ({config.kind}) {100 * recall.value:.0f} % of a token's active latents are found, "
        f"and {100 * precision.value:.2g} % of those called active are."
    )


def findings(metrics: Metrics, kinds: Mapping[str, str | None]) -> list[str]:
    """The main results, one sentence each."""
    found = []
    whole, none = (metrics.number("kl", task="limits", **kept) for kept in ({"keep": "coder"}, {"keep": "zero"}))
    if whole is not None and none is not None:
        found.append(f"KL(clean ‖ patched) of the whole true code: {whole.text()} nats; of no latents: {none.text()}.")
    for name, kind in kinds.items():
        auc = metrics.number("auc", kind, task="identify")
        pooled, true = (metrics.number("f1", kind, task="identify", pool=pool) for pool in ("published", "all"))
        if auc is not None and pooled is not None and true is not None:
            found.append(
                f"{name}: AUC {auc.text()}; F1 {pooled.text()} on the published pool, {true.text()} at true prevalence."
            )
    for name, kind in kinds.items():
        mine, other = (metrics.number("kl", kind, task="help", keep=keep) for keep in ("found", "random"))
        if mine is not None and other is not None:
            found.append(
                f"{name}, with help: keeping the active latents it finds leaves a KL of {mine.text()} nats, as many "
                f"random ones {other.text()}."
            )
    return found


def limits(metrics: Metrics) -> Part:
    """Figure 1, and how accurate a simulator must be."""
    items: Items = [
        "The module's output is rebuilt at every token from a few of its true active latents, with their true values. "
        "No explanation is involved: this is what any simulation that finds so many latents could reach at best.",
        tuple(
            limit_lines(metrics, name, label)
            for name, label in (("kl", "KL(clean ‖ patched) (nats)"), ("ce_relative_error", "relative error of CE"))
        ),
        limit_table(metrics),
    ]
    if figure := needed_lines(metrics):
        items += [
            "A simulator made up to have a given recall and false-positive rate, with true values for what it finds "
            "and mean activations for what it makes up. Where its curve crosses that of no latents it does harm.",
            figure,
        ]
    return Part("limits", "How many latents are needed", items)


def identification(config: Config, metrics: Metrics, kinds: Mapping[str, str | None]) -> Part:
    """Table 1 and Figure 2."""
    return Part(
        "identification",
        "Which latents are active",
        [
            "Each token's rates are computed from its own latents and averaged over tokens. Precision and F1 are given "
            f"at the true prevalence and on the published pool (the active and {config.blog.pool:,} inactive latents).",
            identification_table(metrics, kinds, config.blog.top),
            (rank_lines(metrics, kinds), help_dots(metrics, kinds, "alignment")),
        ],
    )


def helped(config: Config, metrics: Metrics, kinds: Mapping[str, str | None]) -> Part:
    """Figure 3."""
    where = "the last token of each window" if config.blog.help_positions == "last" else "every token"
    earlier = " (earlier ones hold the coder's output)" if config.blog.help_earlier == "coder" else ""
    return Part(
        "help",
        "What finding them gains",
        [
            f"Only true active latents that were found are kept, with their true values, at {where}"
            f"{earlier if config.blog.help_positions == 'last' else ''}; false positives cannot occur.",
            help_table(metrics, kinds),
            help_dots(metrics, kinds, "kl"),
        ],
    )


def values(
    metrics: Metrics, kinds: Mapping[str, str | None], heats: Mapping[str, Mapping[str, list[list[float]]]]
) -> Part:
    """Figure 4 and Table 2."""
    return Part(
        "values",
        "How strong they are",
        [
            "Active latents alone: the expected digit against the place of the true activation between the latent's "
            "least and largest (value) and in its distribution (quantile), both from 0 to 9.",
            value_table(metrics, kinds),
            tuple(digit_lines(metrics, kinds, target) for target in ("value", "quantile")),
            *(heat_maps(name, heat) for name, heat in heats.items()),
        ],
    )


def thresholds(metrics: Metrics, kinds: Mapping[str, str | None]) -> Part:
    """Figure 5."""
    return Part(
        "thresholds",
        "Calling fewer latents active",
        [
            "Every inactive latent that was asked about is counted, none twice: rates below the resolution read 0. "
            "Beyond it stands an exponential tail fitted to the likeliest inactive pairs, with its interval, down to a "
            "thousandth of the resolution.",
            (sweep_lines(metrics, kinds), false_rate_lines(metrics, kinds)),
            sweep_table(metrics, kinds),
        ],
    )


def scores(metrics: Metrics, kinds: Mapping[str, str | None]) -> Part:
    """Figure 6."""
    figures = [
        figure for quality in ("recall", "specificity") if (figure := score_lines(metrics, kinds, quality)) is not None
    ]
    items: Items = [
        "Over latents: does the score of an explanation foretell how well its latent is simulated? Curves hold the "
        "latent's density fixed (partial dependence); correlations are given both ways.",
        predictive_table(metrics, kinds),
    ]
    if figures:
        items.append(tuple(figures))
    return Part("scores", "Do scores predict simulation", items)


def compared(config: Config, metrics: Metrics) -> Part:
    """Beside the published numbers."""
    return Part(
        "published",
        "Beside the published numbers",
        [
            f"Published: Gemma-2-9B, layer 11, 131,072 latents, Llama-3.1 as simulator, web text. Here: "
            f"{config.subject.model}, {config.coder.path}, {config.language_model('simulate').model}, "
            f"{config.corpus.source.kind} text. Brackets hold quartiles over sentences for the published numbers and "
            "95 % intervals for ours.",
            published_table(config, metrics),
        ],
    )
