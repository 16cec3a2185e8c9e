"""`timeline.html`: who did what when in a run, from its commit records and the notes of failed attempts."""

from __future__ import annotations

import statistics
from collections import defaultdict
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from nlsim.report.frame import framed
from nlsim.report.page import Figure, Part, section
from nlsim.report.spans import MOST_ROWS, Clock, Span, Spans, stamp
from nlsim.report.svg import Axis, Lines, Series
from nlsim.report.tables import Cell, Column, Number, Table
from nlsim.store.failures import Failure, failures

if TYPE_CHECKING:
    from nlsim.pipeline.run import Run

POINTS = 280
"""Times at which the figures of concurrency are read."""
SHOWN = 100
"""Rows of the tables of hosts and failures."""


class History(NamedTuple):
    """What is known of a run's past."""

    stages: list[str]
    shards: list[int]
    spans: list[Span]
    counts: list[dict[str, int]]
    """By stage: what its commit records count."""
    failures: list[Failure]


def history(run: Run) -> History:
    """Read every commit record and note of a run, complete or not."""
    names = [stage.name for stage in run.pipeline.stages]
    made = History(names, [run.artifact(name).shards for name in names], [], [], [])
    for place, name in enumerate(names):
        artifact = run.artifact(name)
        artifact.refresh()
        counts: dict[str, int] = defaultdict(int)
        for record in artifact.iter_records():
            host, end = record.engine.get("host", ""), record.started + record.seconds
            made.spans.append(Span(place, record.shard, host, record.started, end))
            for what, count in record.counts.items():
                counts[what] += count
        made.counts.append(dict(counts))
        for note in failures(artifact):
            made.failures.append(note)
            made.spans.append(Span(place, note.shard, note.host, note.started, note.ended, failed=True))
    return made


def timeline(run: Run) -> str:
    """The page."""
    past = history(run)
    done = [sum(span.stage == place and not span.failed for span in past.spans) for place in range(len(past.stages))]
    state = "Complete" if done == past.shards else "Under way"
    title = f"Timeline of {run.config.name}"
    headline = f"{state}: {sum(done):,} of {sum(past.shards):,} shards"
    headline += f", {len(past.failures):,} failed attempts." if past.failures else "."
    parts = [Part("stages", "Stages", [stages_table(past, done), counts_table(past)])]
    if past.spans:
        parts.insert(0, Part("when", "Who did what when", figures(past)))
        parts.append(Part("hosts", "Hosts", [hosts_table(past)]))
    if past.failures:
        parts.append(Part("failures", "Failed attempts", [failures_table(past)]))
    navigation = "".join(f'<li><a href="#{part.anchor}">{escape(part.title)}</a></li>' for part in parts)
    body = [
        f'<header><div><h1>{escape(title)}</h1><div class="soft">{escape(run.url)}</div></div>',
        '<button id="theme" type="button" hidden>Theme: auto</button></header>\n',
        f'<nav aria-label="Sections"><ul>{navigation}</ul></nav>\n<main>\n',
        f'<p class="headline">{escape(headline)}</p>\n',
        *map(section, parts),
        "</main>\n",
    ]
    return framed(title, body, ["report.css"], ["core.js", "timeline.js"])


def figures(past: History) -> list[Figure]:
    """Each attempt as a bar; how many were at work at once."""
    clock = Clock(past.spans)
    bars = Figure(
        Spans("Attempts", past.spans, past.stages),
        "One bar per attempt at a shard; outlines failed. Times without work are left out (dashed lines). Of attempts "
        f"at once {MOST_ROWS} are drawn.",
    )
    times = [clock.total * (place + 0.5) / POINTS for place in range(POINTS)]
    series = []
    for place, name in enumerate(past.stages):
        changes = sorted(
            change
            for span in past.spans
            if span.stage == place
            for change in ((clock(span.start), 1), (clock(span.end), -1))
        )
        if not changes:
            continue
        levels, level, following = [], 0, 0
        for time in times:
            while following < len(changes) and changes[following][0] <= time:
                level += changes[following][1]
                following += 1
            levels.append(float(level))
        series.append(Series(name, times, levels, step=True))
    lines = Lines("At work at once", Axis("time at work (s)", low=0.0), Axis("attempts", low=0.0), series)
    return [bars, Figure(lines, f"Attempts at work, by stage, at {POINTS} moments.")]


def stages_table(past: History, done: list[int]) -> Table:
    """One row per stage."""
    rows = []
    for place, name in enumerate(past.stages):
        mine = [span for span in past.spans if span.stage == place]
        seconds = [span.end - span.start for span in mine if not span.failed]
        clock = Clock(mine)
        rows.append(
            [
                name,
                f"{done[place]:,} of {past.shards[place]:,}",
                stamp(min(span.start for span in mine)) if mine else "not begun",
                Number(clock.total),
                Number(sum(seconds)),
                Number(statistics.median(seconds)) if seconds else None,
                Number(max(seconds)) if seconds else None,
                len(mine) - len(seconds),
            ]
        )
    columns = [Column("stage"), Column("shards"), Column("began"), Column("took", "s"), Column("work", "s")]
    columns += [Column("median shard", "s"), Column("slowest", "s"), Column("failed attempts")]
    return Table("Stages", columns, rows, "“Took” leaves out times when nothing was at work on the stage.")


def counts_table(past: History) -> Table:
    """What was counted, and how fast."""
    rows = []
    for place, (name, counts) in enumerate(zip(past.stages, past.counts, strict=True)):
        seconds = Clock(span for span in past.spans if span.stage == place).total
        rows += [
            [f"{name}: {what}", count, Number(count / seconds) if seconds else None] for what, count in counts.items()
        ]
    return Table("Throughput", [Column("what"), Column("count"), Column("rate", "1/s")], rows)


def hosts_table(past: History) -> Table:
    """The hosts that worked longest."""
    work: dict[str, float] = defaultdict(float)
    shards: dict[str, int] = defaultdict(int)
    for span in past.spans:
        work[span.host] += span.end - span.start
        shards[span.host] += not span.failed
    longest = sorted(work, key=lambda host: -work[host])
    rows: list[list[Cell]] = [[host or "unknown", shards[host], Number(work[host])] for host in longest[:SHOWN]]
    note = f"The {SHOWN} that worked longest of {len(work):,}." if len(work) > SHOWN else ""
    return Table("Hosts", [Column("host"), Column("shards"), Column("work", "s")], rows, note)


def failures_table(past: History) -> Table:
    """The last failures, with their reasons."""
    last = sorted(past.failures, key=lambda note: -note.ended)[:SHOWN]
    rows: list[list[Cell]] = [
        [f"{note.stage} {note.shard}", stamp(note.ended), note.host, Number(note.ended - note.started), note.reason]
        for note in last
    ]
    columns = [Column("shard"), Column("when"), Column("host"), Column("after", "s"), Column("reason")]
    note = f"The last {SHOWN} of {len(past.failures):,}." if len(past.failures) > SHOWN else ""
    return Table("Failed attempts", columns, rows, note)
