"""`nlsim models`: train and examine the models that nlsim carries with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nlsim import log
from nlsim.cli import table
from nlsim.cli.train_simulator import train_simulator
from nlsim.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nlsim.base import Section
    from nlsim.coders.coder import Coder
    from nlsim.corpus.config import CorpusConfig
    from nlsim.corpus.rows import Rows
    from nlsim.progress import Reporter
    from nlsim.subject.config import SubjectConfig
    from nlsim.subject.model import Subject

SectionT = TypeVar("SectionT", bound="Section")

CONFIG = click.option("--config", "config", metavar="FILE", help="Run configuration to take subject and corpus from.")
SUBJECT = click.option("--subject", metavar="NAME", help="The subject, in place of the configuration's [smollm2-135m].")
SET = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Another setting; repeatable.")
THREADS = click.option("--threads", type=click.IntRange(1), help="CPU threads. The same number gives the same bytes.")
LATENTS = click.option("--latents", default=10, show_default=True, help="Latents to show contexts of.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")

SHOWN_EVERY = 100  # steps


@click.group()
def models() -> None:
    """Train and examine the models that nlsim carries with it."""


@models.command("train-coder")
@click.option("--hookpoint", "hookpoints", multiple=True, required=True, help="Where; repeatable, one pass for all.")
@click.option("--out", required=True, metavar="DIR", help="Folder for HOOKPOINT.safetensors, or SAELens' HOOKPOINT/.")
@click.option("--dtype", default="f16", show_default=True, type=click.Choice(["f16", "f32"]), help="Stored weights.")
@CONFIG
@SUBJECT
@SET
@THREADS
@LATENTS
@JSON
def train_coder(
    hookpoints: tuple[str, ...],
    out: str,
    dtype: Any,
    config: str | None,
    subject: str | None,
    overrides: tuple[str, ...],
    threads: int | None,
    latents: int,
    as_json: bool,
) -> None:
    """Train sparse coders on the training documents of a corpus and print their figures on held-out ones.

    Settings, with --set: trainer (nlsim, saelens), kind (sae, transcoder), skip, width, k, activation, tokens, epochs,
    batch, learning_rate, and the others of `TrainCoderConfig` and `StreamConfig`.

    \b
    nlsim models train-coder --hookpoint layers.8.mlp --out coders --set skip=true --set width=1024 --set epochs=8
    nlsim models train-coder --hookpoint layers.8 --out coders --set trainer=saelens --set kind=sae
    """
    from nlsim.coders.config import CoderConfig, StreamConfig, TrainCoderConfig
    from nlsim.coders.load import load_coder
    from nlsim.coders.train import Job, Training
    from nlsim.corpus.splits import Split

    given = _settings(overrides, TrainCoderConfig, StreamConfig)
    training, stream = _section(TrainCoderConfig, given), _section(StreamConfig, given)
    _use_threads(threads)
    loaded, rows = _subject_and_rows(config, subject, stream.tokens)
    jobs = [Job(name, loaded.hookpoint(name), training) for name in dict.fromkeys(hookpoints)]
    used = rows.of(Split.TRAIN)
    with _reporter() as reporter:
        run = Training(loaded, rows.tokens[used], rows.length[used], jobs, stream, reporter)
        for at in run:
            if at.step % SHOWN_EVERY == 0 or at.step == at.steps:
                shown = {name: f"{fvu:.4f}" for name, fvu in at.fvu.items()}
                log.event("training", step=f"{at.step}/{at.steps}", fvu=shown, dead=at.dead)
    paths = [trainer.save(Path(out) / name.replace(" ", ""), dtype) for name, trainer in run.trainers.items()]
    coders = {str(path): load_coder(CoderConfig(path=str(path)), str(loaded.device)) for path in paths}
    _print_cards(loaded, rows, coders, latents, as_json)


@models.command("show-coder")
@click.argument("coder")
@click.option("--hookpoint", help="In place of the one that the coder's file names.")
@CONFIG
@SUBJECT
@THREADS
@LATENTS
@JSON
def show_coder(
    coder: str,
    hookpoint: str | None,
    config: str | None,
    subject: str | None,
    threads: int | None,
    latents: int,
    as_json: bool,
) -> None:
    """Print the figures of CODER (nlsim:NAME, a file, …) on held-out text, and some latents, as Markdown."""
    from nlsim.coders.config import CoderConfig
    from nlsim.coders.load import coder_meta, load_coder

    _use_threads(threads)
    where = CoderConfig(path=coder, hookpoint=hookpoint)
    named = coder_meta(where).subject if subject is None and config is None else ""
    loaded, rows = _subject_and_rows(config, subject or named or None, 0)
    _print_cards(loaded, rows, {coder: load_coder(where, str(loaded.device))}, latents, as_json)


@models.command("train-tiny")
@click.option("--out", default="nlsim/assets", show_default=True, metavar="DIR", help="Folder for tiny/ and coders/.")
@SET
@THREADS
def train_tiny(out: str, overrides: tuple[str, ...], threads: int | None) -> None:
    """Train the test fixtures on the built-in text: a tokenizer, a small GPT-NeoX subject and three coders."""
    from nlsim.coders.tiny import TinyConfig, train_fixtures

    tiny = _section(TinyConfig, _settings(overrides, TinyConfig))
    _use_threads(threads)
    with _reporter() as reporter:
        click.echo(train_fixtures(tiny, Path(out), reporter))


def _print_cards(subject: Subject, rows: Rows, coders: Mapping[str, Coder], latents: int, as_json: bool) -> None:
    """Each coder's figures on held-out text."""
    from nlsim.coders.card import make_card

    cards = {name: make_card(subject, rows, coder, latents) for name, coder in coders.items()}
    if as_json:
        click.echo(json.dumps({name: card.to_json() for name, card in cards.items()}, indent=1))
        return
    for name, card in cards.items():
        click.echo(f"## {name}\n")
        table.say(card.markdown())


def _subject_and_rows(config: str | None, model: str | None, train_tokens: int) -> tuple[Subject, Rows]:
    """The subject, and rows of its text: enough for `train_tokens`, and a fixed number of held-out ones."""
    from nlsim.coders.card import HELD_OUT_ROWS, LOSS_ROWS
    from nlsim.config import load_config
    from nlsim.corpus.config import CorpusConfig, RowBudgets
    from nlsim.corpus.documents import open_documents
    from nlsim.corpus.rows import build_rows
    from nlsim.subject.config import SubjectConfig
    from nlsim.subject.model import Subject

    where: SubjectConfig = SubjectConfig()
    text: CorpusConfig = CorpusConfig()
    if config is not None:
        loaded = load_config(config).config
        where, text = loaded.subject, loaded.corpus
    if model is not None:
        where = where.model_copy(update={"model": model})
    subject = Subject.load(where)
    half_row = max(1, (text.context - 1) // 2)  # a row is never cut shorter than this but at a document's end
    budgets = RowBudgets(
        train=-(-train_tokens // half_row), explain=HELD_OUT_ROWS, score=0, calibrate=0, evaluate=LOSS_ROWS
    )
    text = text.model_copy(update={"rows": budgets})
    return subject, build_rows(open_documents(text.source), subject.tokenizer, text)


def _settings(overrides: tuple[str, ...], *kinds: type[Section]) -> dict[str, Any]:
    """The values given with --set. Raises UsageError for a key that none of the sections has."""
    from nlsim.config import parse_override

    given = dict(parse_override(override, "width=1024") for override in overrides)
    known = {key for kind in kinds for key in kind.model_fields}
    if unknown := sorted(given.keys() - known):
        raise UsageError(f"no setting {unknown[0]}", f"known: {', '.join(sorted(known))}")
    return given


def _section(kind: type[SectionT], given: dict[str, Any]) -> SectionT:
    """A section with those of the given settings that it has. Raises UsageError for a wrong value."""
    from pydantic import ValidationError

    try:
        return kind.model_validate({key: value for key, value in given.items() if key in kind.model_fields})
    except ValidationError as error:
        fault = error.errors()[0]
        raise UsageError(f"{'.'.join(map(str, fault['loc'])) or 'settings'}: {fault['msg']}") from error


def _reporter() -> Any:
    """Bars on a terminal, log lines elsewhere."""
    from contextlib import nullcontext

    from nlsim.progress import BarReporter, LineReporter

    reporter: Reporter = LineReporter()
    return BarReporter() if log.people_read_stderr() else nullcontext(reporter)


def _use_threads(threads: int | None) -> None:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


models.add_command(train_simulator)
