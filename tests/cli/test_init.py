"""`nlsim init`: what it writes is the configuration that was asked for, and its comments are true."""

import re
from pathlib import Path

import pytest
import yaml
from command import nlsim_here as nlsim

from nlsim.cli.init import QUESTIONS, commented, settings, source
from nlsim.config import leaves, load_config, parse_config
from nlsim.errors import UsageError


def test_options_become_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    words = [
        "--subject",
        "EleutherAI/pythia-160m",
        "--coder",
        "hub:EleutherAI/x/layers.6.mlp",
        "--hookpoint",
        "layers.6.mlp",
    ]
    words += ["--text", "a/b", "--lm", "nlsim:simulator", "--explain", "llm", "--latents", "7", "--yes"]
    assert nlsim(monkeypatch, "init", str(file), *words) == 0
    assert f"nlsim run {file}" in capsys.readouterr().out
    config = load_config(file).config
    assert (config.name, config.subject.model, config.coder.hookpoint) == (
        "mine",
        "EleutherAI/pythia-160m",
        "layers.6.mlp",
    )
    assert (config.latents.choose, config.latents.count, config.explain.method) == ("heaviest", 7, "llm")
    assert config.corpus.source.model_dump()["path"] == "a/b"
    assert nlsim(monkeypatch, "init", str(file), "--yes") == 2
    assert "is there already" in capsys.readouterr().err
    assert nlsim(monkeypatch, "init", str(file), "--yes", "--force") == 0
    assert nlsim(monkeypatch, "plan", str(file)) == 0


def test_every_setting_is_there_with_its_default() -> None:
    """Taking every # away gives the same configuration, in which every setting stands."""
    chosen = settings({name: default for name, (_, default) in QUESTIONS.items()})
    text = commented(chosen)
    whole = yaml.safe_load(re.sub(r"(?m)^(\s*)#(?=[a-z_0-9]+:)", r"\1", text))
    config = parse_config({"name": "x", **yaml.safe_load(text)})
    assert parse_config({"name": "x", **whole}) == config
    explained = {path for path, _ in leaves(whole)}
    assert {path for path, _ in leaves(config.model_dump(mode="json"))} - explained == {"name"}
    assert all(len(line) <= 120 for line in text.splitlines() if line.lstrip().startswith("# "))


@pytest.mark.parametrize(
    ("text", "kind"),
    [("builtin", "builtin"), ("data/*.txt", "files"), ("x.parquet", "files"), ("owner/name", "huggingface")],
)
def test_text_is_told_apart(text: str, kind: str) -> None:
    assert source(text)["kind"] == kind


def test_answers_that_do_not_fit() -> None:
    answers = {name: default for name, (_, default) in QUESTIONS.items()}
    with pytest.raises(UsageError, match="whole number, 0 for all"):
        settings({**answers, "latents": "many"})
    with pytest.raises(UsageError, match=r"explain\.method"):
        settings({**answers, "explain": "magic"})
