"""The timeline: rows, idle times, bars of many shards; the page of a run that is under way, in a browser."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from command import nlsim_here as nlsim

from nlsim.config import Config
from nlsim.pipeline.execute import execute_shard
from nlsim.pipeline.pipeline import Pipeline
from nlsim.pipeline.run import Run
from nlsim.progress import SilentReporter
from nlsim.report.spans import MOST_ROWS, Clock, Span, Spans, joined, rows
from nlsim.report.timeline import timeline
from nlsim.store.failures import Failure, note_failure


def span(start: float, end: float, shard: int = 0, stage: int = 0, failed: bool = False) -> Span:
    return Span(stage, shard, "host", start, end, failed)


def test_spans_of_one_row_do_not_overlap_and_there_are_no_more_rows_than_work_at_once() -> None:
    spans = [
        span(start, start + length, n) for n, (start, length) in enumerate([(0, 5), (1, 1), (2, 9), (3, 1), (5, 2)])
    ]
    made = rows(spans)
    assert len(made) == 3
    assert sorted(one for row in made for one in row) == sorted(spans)
    for row in made:
        assert all(before.end <= after.start for before, after in pairwise(row))


def test_times_without_work_are_left_out() -> None:
    clock = Clock([span(1000, 1010), span(1005, 1020), span(1050, 1060), span(9000, 9005)])
    assert clock.starts == [1000, 9000]
    assert clock.total == 60 + 5
    assert [clock(time) for time in (1000, 1060, 9000, 9005)] == [0, 60, 60, 65]
    assert Clock([]).total == 0


def test_a_hundred_thousand_shards_make_a_small_figure() -> None:
    spans = [span(n // 64 * 1.0, n // 64 + 0.9, n) for n in range(100_000)]
    drawn = Spans("Attempts", spans, ["cache"]).svg()
    assert len(drawn) < 2_000_000
    assert drawn.count("<title>") <= MOST_ROWS * 560
    assert drawn.count('class="cell"') > 40 * 50, "work is still told apart"


def test_only_neighbours_of_one_kind_are_joined() -> None:
    row = [span(0, 1, 0), span(1, 2, 1), span(2, 3, 2, failed=True), span(3, 4, 3), span(4, 90, 4), span(90, 91, 5)]
    assert [len(group) for group in joined(row, 2.0)] == [2, 1, 1, 1, 1]
    assert [len(group) for group in joined(row, 0.5)] == [1] * 6


@pytest.fixture
def half_done(toy_pipeline: Pipeline, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Numbers are complete, a shard of squares has failed; a note says something hostile."""
    run = Run.create(str(tmp_path / "run"), config)
    for shard in range(4):
        execute_shard(run, "numbers", shard, SilentReporter())
    monkeypatch.setenv("TOY_FAIL", "2")
    with pytest.raises(RuntimeError):
        execute_shard(run, "squares", 2, SilentReporter())
    hostile = Failure(
        stage="squares", shard=3, attempt="00", host="<b>", started=0, ended=1, exit_code=1, reason="<script>x</script>"
    )
    note_failure(run.artifact("squares"), hostile)
    return run


def test_a_run_under_way(half_done: Run) -> None:
    page = timeline(half_done)
    assert "Under way: 4 of 9 shards, 2 failed attempts." in page
    assert "unexpected RuntimeError: asked to fail after writing data" in page
    assert "numbers: values" in page
    assert "<script>x" not in page


@pytest.mark.browser
def test_in_a_browser(half_done: Run, open_page: Callable[..., Any]) -> None:
    opened = open_page(timeline(half_done))
    assert opened.errors == []
    assert opened.requests == []
    assert opened.page.locator("svg").count() == 2
    assert opened.page.locator("#failures tbody tr").count() == 2
    assert opened.page.locator("script").count() == 1


def test_by_the_command_line(
    half_done: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nlsim(monkeypatch, "report", "--run", half_done.url, "--page", "timeline") == 0
    assert capsys.readouterr().out == f"{half_done.url}/report/timeline.html\n"
    assert (Path(half_done.url) / "report" / "timeline.html").read_text(encoding="utf-8") == timeline(half_done)
