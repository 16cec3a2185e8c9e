"""`nlsim init`: a configuration with every setting explained, from options or questions."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import yaml
from pydantic import BaseModel

from nlsim.errors import UsageError

WIDTH = 110
FILES = (".txt", ".text", ".md", ".jsonl", ".ndjson", ".parquet")

QUESTIONS = {
    "subject": ("Model under study: a folder, a Hugging Face name, or", "smollm2-135m"),
    "coder": (
        "Its sparse coder: file, folder, hub:OWNER/NAME, saelens:RELEASE/ID, or",
        "nlsim:smollm2-layer8-skip",
    ),
    "hookpoint": ("Where the coder belongs, e.g. layers.6.mlp (empty: as its file says)", ""),
    "text": ("Text: files (a glob), a Hugging Face data set's name, or", "builtin"),
    "lm": ("Language model that scores and simulates: a folder, a Hugging Face name, or", "nlsim:simulator"),
    "explain": ("How latents are explained: lexical (by counting), llm, or import (from a file)", "lexical"),
    "latents": ("How many latents, the heaviest first (0: all)", "256"),
}
"""Option → what is asked, and what is taken when nothing is said."""


@click.command()
@click.argument("path", default="run.yaml")
@click.option("--subject", metavar="MODEL", help="Model under study.")
@click.option("--coder", metavar="CODER", help="Sparse coder: file, folder, hub:…, saelens:… or nlsim:NAME.")
@click.option("--hookpoint", metavar="NAME", help="Where the coder belongs, if its file does not say.")
@click.option("--text", metavar="TEXT", help="builtin, files (a glob), or a Hugging Face data set's name.")
@click.option("--lm", metavar="MODEL", help="Language model that scores and simulates.")
@click.option("--explain", type=click.Choice(["lexical", "llm", "import"]), help="How latents are explained.")
@click.option("--latents", type=click.IntRange(0), help="How many latents; 0: all.")
@click.option("--yes", is_flag=True, help="Ask nothing: take defaults for what no option says.")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
def init(path: str, yes: bool, force: bool, **given: Any) -> None:
    """Write a configuration to PATH [run.yaml], every setting there with its explanation.

    On a terminal it asks for what no option says. Settings at their defaults are commented out.
    """
    file = Path(path)
    if file.exists() and not force:
        raise UsageError(f"{file} is there already", "give another name, or --force to replace it")
    answers = {}
    for name, (question, default) in QUESTIONS.items():
        if given[name] is None and not yes and sys.stdin.isatty():
            answers[name] = click.prompt(question, default=default, show_default=bool(default))
        else:
            answers[name] = default if given[name] is None else str(given[name])
    text = commented(settings(answers))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    click.echo(f"{file}: see what it takes with `nlsim plan {file}`, carry it out with `nlsim run {file}`")


def settings(answers: Mapping[str, str]) -> dict[str, Any]:
    """What the answers say, as a configuration. Raises UsageError for answers that do not fit."""
    from nlsim.config import parse_config

    if not answers["latents"].isdigit():
        raise UsageError(f"{answers['latents']!r} latents", "give a whole number, 0 for all")
    count = int(answers["latents"])
    chosen: dict[str, Any] = {
        "corpus": {"source": source(answers["text"])},
        "subject": {"model": answers["subject"]},
        "coder": {"path": answers["coder"]} | ({"hookpoint": answers["hookpoint"]} if answers["hookpoint"] else {}),
        "latents": {"choose": "heaviest", "count": count} if count else {"choose": "all"},
        "lm": {"model": answers["lm"]},
        "explain": {"method": answers["explain"]},
    }
    parse_config({"name": "new", **chosen})
    return chosen


def source(text: str) -> dict[str, Any]:
    """`corpus.source` for what was said of the text."""
    if text == "builtin":
        return {"kind": "builtin"}
    if Path(text).exists() or "*" in text or Path(text).suffix.lower() in FILES:
        return {"kind": "files", "paths": [text]}
    return {"kind": "huggingface", "path": text}


def commented(chosen: Mapping[str, Any]) -> str:
    """YAML of `chosen` between comments that show every other setting at its default.

    A line `#key: value` is a setting that can be switched on by taking the `#` away (and that of its section's line);
    a line `# words` explains the setting below it.
    """
    from nlsim.config import Config

    head = "# A run of nlsim. `#key: value` is a default: take the # away (also from its section) to change it.\n"
    return head + "\n".join(_lines(Config, chosen, 0)) + "\n"


def _lines(model: type[BaseModel], chosen: Mapping[str, Any], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, field in model.model_fields.items():
        if depth == 0 and name == "name":  # the file's own
            continue
        if depth == 0:
            yield ""
        for line in textwrap.wrap(field.description or "", WIDTH - len(indent) - 2):
            yield f"{indent}# {line}"
        here, inner = name in chosen, field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield f"{indent}{'' if here else '#'}{name}:"
            yield from _lines(inner, chosen.get(name, {}), depth + 1)
            continue
        value = chosen[name] if here else field.get_default(call_default_factory=True)
        yield f"{indent}{'' if here else '#'}{name}: {_inline(value)}"


def _inline(value: Any) -> str:
    """A value in one line of YAML."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    plain = list(plain) if isinstance(plain, tuple) else plain
    text = yaml.safe_dump(plain, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("...\n").strip()
