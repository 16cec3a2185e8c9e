"""What docs/explain.md shows works: its fourth explainer, and its files of explanations."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from latents.world import World

from nlsim.config import parse_config
from nlsim.corpus.splits import Split
from nlsim.explain.explainer import Evidence
from nlsim.explain.imported import read_texts

TEXT = (Path(__file__).parents[2] / "docs" / "explain.md").read_text(encoding="utf-8")
IMPORTS = """
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from nlsim.corpus.pieces import Pieces
from nlsim.corpus.splits import Split
from nlsim.explain.explainer import Evidence, Explanation
from nlsim.explain.quote import quote
"""
PIECES = [f" w{number}".encode() for number in range(20)]


def blocks(language: str) -> list[str]:
    """Fenced blocks of one language: every second part between fences, the first line of which names it."""
    inside = [part.partition("\n") for part in re.split("^```", TEXT, flags=re.MULTILINE)[1::2]]
    return [content for name, _, content in inside if name == language]


class Known(Evidence):
    """Evidence whose vocabulary is given."""

    pieces = PIECES  # type: ignore[assignment]


def test_the_fourth_explainer(tmp_path: Path) -> None:
    (code,) = (block for block in blocks("python") if "class LongestExplainer" in block)
    names: dict[str, Any] = {}
    exec(IMPORTS + code, names)  # noqa: S102 - our own documentation
    tokens = np.tile(np.arange(12) % 9 + 1, (6, 1))
    z = np.zeros((6, 12, 2), np.float16)
    z[2, 5, 1], z[3, 7, 1] = 1.0, 3.0
    world = World(tmp_path, tokens, np.full(6, 12), np.full(6, int(Split.EXPLAIN)), z)
    config = parse_config({"name": "world", "subject": {}, "coder": {}})
    explainer = names["LongestExplainer"](Known(config, world.tokens, world.open()))
    dead, alive = explainer.explain([0, 1])
    assert (dead.text, dead.status) == ("", "few")
    assert (alive.text, alive.status, alive.examples) == ("The token “ w8”.", "ok", (3 * 12 + 7,))
    assert explainer.model == ""
    assert dict(explainer.facts) == {}


def test_files_of_explanations(tmp_path: Path) -> None:
    assert len(blocks("json")) == 2
    wanted = {3: "names of months in dates", 17: "the closing bracket of a call"}
    for number, form in enumerate(blocks("json")):
        json.loads(form)
        path = tmp_path / f"{number}.json"
        path.write_text(form, encoding="utf-8")
        assert read_texts(path, 18) == wanted
    (table,) = (block for block in blocks("") if block.startswith("latent,text"))
    (tmp_path / "e.csv").write_text(table, encoding="utf-8")
    assert read_texts(tmp_path / "e.csv", 18).keys() == wanted.keys()
    (code,) = (block for block in blocks("python") if "to_parquet" in block)
    assert "pandas.DataFrame(" in code
    pandas.DataFrame({"latent": [3, 17], "text": ["a", "b"]}).to_parquet(tmp_path / "e.parquet")
    assert read_texts(tmp_path / "e.parquet", 18) == {3: "a", 17: "b"}


def test_every_setting_it_speaks_of_exists() -> None:
    config = parse_config({"name": "x", "subject": {}, "coder": {}})
    for path in re.findall(r"`((?:explain|cache|index|reconstruct|score|simulate)\.\w+)`", TEXT):
        config.at(path)
    for name in ("examples", "sampling", "budget", "highlight", "prompt_tokens", "temperature", "min_tokens", "path"):
        assert f"`{name}`" in TEXT
        getattr(config.explain, name)
