"""`nlsim import` and `nlsim export`: other tools' files, in and out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
import yaml

from nlsim.cli import table
from nlsim.errors import UsageError

if TYPE_CHECKING:
    import pyarrow

RUN = click.option(
    "--run", "url", metavar="URL", required=True, envvar="NLSIM_RUN", help="Folder or s3:// URL of the run."
)
SOURCE = click.argument("source", type=click.Path(path_type=Path))
TO = click.option("--to", required=True, type=click.Path(path_type=Path), help="Where to write.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("import")
def import_() -> None:
    """Take over activations, explanations, scores, features, or the published article's results."""


@import_.command("cache")
@SOURCE
@JSON
def import_cache(source: Path, as_json: bool) -> None:
    """Look at the delphi activation cache in SOURCE (one hookpoint's folder) and print the settings that use it."""
    from nlsim.corpus.delphi import DelphiCache

    cache = DelphiCache(source)
    rows = cache.rows()
    if rows is None:
        raise UsageError(
            f"{source} was written without its tokens", "set corpus.source to a .npy file of them yourself"
        )
    entries = sum(len(entry.value) for entry in cache.entries())
    settings = {
        "corpus": {"source": {"kind": "tokens", "path": str(source)}, "context": rows[0].shape[1]},
        "subject": {"model": cache.config.get("model_name", "")},
        "coder": {"path": "", "hookpoint": source.name},
        "cache": {"imported": str(source)},
    }
    facts = {"files": len(cache.splits), "rows": len(rows[0]), "activations": entries, "settings": settings}
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    click.echo(f"# {facts['files']} files, {len(rows[0]):,} rows of {rows[0].shape[1]} tokens, {entries:,} activations")
    click.echo("# coder.path: the coder that the cache was made with")
    click.echo(yaml.safe_dump(settings, sort_keys=False), nl=False)


@import_.command("explanations")
@SOURCE
@TO
def import_explanations(source: Path, to: Path) -> None:
    """Read explanations (a delphi folder, a Neuronpedia export, the article's JSON) and write {"latent": "text"}.

    The file is what explain.path takes with explain.method=import.
    """
    from nlsim.exchange.explanations import read_explanations

    texts = read_explanations(source)
    _write(to, json.dumps(texts, indent=1, ensure_ascii=False) + "\n")
    click.echo(f"{len(texts):,} explanations in {to}: --set explain.method=import --set explain.path={to}")


@import_.command("scores")
@SOURCE
@TO
def import_scores(source: Path, to: Path) -> None:
    """Read scores (delphi's folder, or the article's CSV) into a table as `nlsim score` makes it: .parquet or .csv."""
    from nlsim.exchange.scores import read_scores

    scores = read_scores(source)
    _write_table(to, scores)
    click.echo(f"{len(scores):,} scores in {to}")


@import_.command("features")
@SOURCE
def import_features(source: Path) -> None:
    """Read a feature list of SAELens or Neuronpedia and print the settings that choose its latents."""
    from nlsim.exchange.explanations import read_features

    settings = {"latents": {"choose": "listed", "ids": read_features(source)}}
    click.echo(yaml.safe_dump(settings, sort_keys=False, default_flow_style=None, width=110), nl=False)


@import_.command("article")
@SOURCE
@click.option("--to", type=click.Path(path_type=Path), help="Also write what was found as tables to this folder.")
@JSON
def import_article(source: Path, to: Path | None, as_json: bool) -> None:
    """Read the published article's result files in SOURCE and analyse their losses anew: paired, failures left out."""
    from nlsim.exchange.article import read_article, reanalyse

    found = read_article(source)
    if to is not None:
        for name, texts in found.explanations.items():
            _write(to / f"{name}.json", json.dumps(texts, indent=1, ensure_ascii=False) + "\n")
        tables = {**found.scores, "predictions": found.predictions, "losses": found.losses}
        for name, rows in tables.items():
            _write_table(to / f"{name}.parquet", rows)
    results = list(reanalyse(found)) if len(found.losses) else []
    if as_json:
        click.echo(json.dumps([{**r._asdict(), "difference": r.difference._asdict()} for r in results], indent=1))
        return
    sizes = {name: len(texts) for name, texts in found.explanations.items()}
    sizes |= {name: len(rows) for name, rows in found.scores.items()} | {"predictions": len(found.predictions)}
    table.say(", ".join(f"{name}: {size:,}" for name, size in sizes.items() if size))
    cells = [
        [r.condition, f"{r.sentences:,}", f"{r.without:,}", f"{r.base:.3f}", f"{r.prediction:.3f}",
         f"{r.difference.value:+.3f}", f"{r.difference.low:+.3f} to {r.difference.high:+.3f}", f"{r.median:+.3f}"]
        for r in results
    ]  # fmt: skip
    columns = [
        "condition",
        ">sentences",
        ">left out",
        ">clean",
        ">simulated",
        ">- coder",
        "95 % interval",
        ">median",
    ]
    table.show("Published losses, nats", columns, cells)


@click.group()
def export() -> None:
    """Write a run's activations, explanations, scores or latents in other tools' forms."""


@export.command("cache")
@RUN
@TO
@click.option("--files", default=5, show_default=True, type=click.IntRange(1), help="Files the latents are cut into.")
def export_cache(url: str, to: Path, files: int) -> None:
    """Write the activations as a delphi cache to TO/HOOKPOINT."""
    from nlsim.api.run import open_run
    from nlsim.exchange.delphi_cache import export_cache as write

    click.echo(str(write(open_run(url), to, files)))


@export.command("explanations")
@RUN
@TO
@click.option("--form", type=click.Choice(["json", "delphi", "neuronpedia"]), default="json", show_default=True)
@click.option("--model-id", default="", help="Neuronpedia's name of the model, e.g. gemma-2-2b.")
@click.option("--source-id", default="", help="Neuronpedia's name of the coder, e.g. 20-gemmascope-res-16k.")
def export_explanations(url: str, to: Path, form: str, model_id: str, source_id: str) -> None:
    """Write the explanations: one JSON file, a delphi folder, or a Neuronpedia export (.json, .jsonl, .jsonl.gz)."""
    from nlsim.api.run import open_run
    from nlsim.exchange import explanations

    run = open_run(url)
    if form == "delphi":
        count = explanations.export_delphi(run, to)
    elif form == "neuronpedia":
        count = explanations.export_neuronpedia(run, to, *_named(model_id, source_id))
    else:
        texts = explanations.explained(run)
        count = len(texts)
        _write(to, json.dumps(texts, indent=1, ensure_ascii=False) + "\n")
    click.echo(f"{count:,} explanations in {to}")


@export.command("scores")
@RUN
@TO
def export_scores(url: str, to: Path) -> None:
    """Write every scored example as delphi's records, TO/SCORER/MODULE_latent123.txt."""
    from nlsim.api.run import open_run
    from nlsim.exchange.scores import export_scores as write

    click.echo(f"{write(open_run(url), to):,} files in {to}")


@export.command("features")
@RUN
@TO
@click.option("--model-id", default="", help="Neuronpedia's name of the model, e.g. gemma-2-2b.")
@click.option("--source-id", default="", help="Neuronpedia's name of the coder, e.g. 20-gemmascope-res-16k.")
@click.option("--most", type=click.IntRange(1), help="At most so many, the best-scored first.")
def export_features(url: str, to: Path, model_id: str, source_id: str, most: int | None) -> None:
    """Write the explained latents as a feature list of SAELens and Neuronpedia."""
    from nlsim.api.run import open_run
    from nlsim.exchange.explanations import export_features as write

    click.echo(f"{write(open_run(url), to, *_named(model_id, source_id), most):,} features in {to}")


def _named(model: str, source: str) -> tuple[str, str]:
    if not model or not source:
        raise UsageError("Neuronpedia needs names for model and coder", "give --model-id and --source-id")
    return model, source


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _write_table(path: Path, rows: pyarrow.Table) -> None:
    import pyarrow.csv
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(rows, path)
    elif path.suffix == ".csv":
        pyarrow.csv.write_csv(rows, path)
    else:
        raise UsageError(f"{path}: no kind of table that is known", "use .parquet or .csv")
