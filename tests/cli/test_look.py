"""`nlsim show` and `nlsim diff` on a finished run."""

import json

import pytest
from command import nlsim_here as nlsim

from nlsim.api.run import open_run


def test_show_latent(
    tiny_run: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    latent = open_run(tiny_run[0]).latents.explained[0]
    assert nlsim(monkeypatch, "show", "latent", str(latent), "--run", tiny_run[0], "--contexts", "3") == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"latent {latent}\n")
    assert "\x1b" not in shown, "no colours where nobody sees them"
    assert nlsim(monkeypatch, "show", "latent", str(latent), "--run", tiny_run[0], "--contexts", "3", "--json") == 0
    card = json.loads(capsys.readouterr().out)
    assert card["latent"] == latent
    assert len(card["contexts"]) == 3
    assert nlsim(monkeypatch, "show", "latent", "99999", "--run", tiny_run[0]) == 2
    assert "there is no latent 99999" in capsys.readouterr().err


def test_show_explanations(
    tiny_run: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = open_run(tiny_run[0]).explanations
    assert nlsim(monkeypatch, "show", "explanations", "--run", tiny_run[0], "--json") == 0
    assert len(json.loads(capsys.readouterr().out)) == len(texts)
    word = texts["text"][0].as_py().split()[0]
    assert nlsim(monkeypatch, "show", "explanations", word.upper(), "--run", tiny_run[0], "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert texts["latent"][0].as_py() in {row["latent"] for row in found}
    assert all(word.lower() in row["text"].lower() for row in found)


def test_diff(tiny_run: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert nlsim(monkeypatch, "diff", tiny_run[0], tiny_run[0]) == 0
    assert "0 higher, 0 lower, 0 unclear" in capsys.readouterr().out
    assert nlsim(monkeypatch, "diff", tiny_run[0], tiny_run[0], "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["changes"]) == len(open_run(tiny_run[0]).metric_rows)
