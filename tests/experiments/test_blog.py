"""The blog's experiments on the fixtures, once and small: every number is there, and those that must hold do."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from byte_models import byte_tokenizer
from command import nlsim_apart
from transformers import LlamaConfig, LlamaForCausalLM

from nlsim.report.gather import Metrics

SMALL = (
    """corpus.source={kind: files, paths: ['docs/*.md'], separator: "\\n## "}""", "corpus.rows.explain=128",
    "latents.count=24", "simulate.evaluation_rows=6", "simulate.calibration_rows=6", "blog.rows=6",
    "blog.planted_rows=3", "blog.counts=[1, 8, 64]", "blog.aligned_reads=20", "blog.draws=200",
    "kinds.sampled.simulate.pool=6", "score.scorers=[detection]", "continuations={}",
)  # fmt: skip
ASKED = """kinds.asked={simulate: {prompt: binary, positions: last, pool: 6, show_score: detection, shots: 1,
 lm: {model: '%s', template: base}}}"""


def write_opinionated(folder: Path) -> Path:
    """A Llama of random weights whose next token is nearly always 0 or 1."""
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=8192, tie_word_embeddings=False, **shape)
    )
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 1.0
        model.lm_head.weight.zero_()
        for digit in "0123456789":
            (token,) = tokenizer.encode(digit, add_special_tokens=False)
            model.lm_head.weight[token].normal_(0, 8)
            model.lm_head.weight[token, 0] = 4.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, with a kind that asks two questions of a general model about a sample."""
    url = tmp_path_factory.mktemp("blog") / "run"
    asked = ASKED.replace("\n", "") % write_opinionated(tmp_path_factory.mktemp("model"))
    words = [word for setting in (*SMALL, asked) for word in ("--set", setting)]
    done = nlsim_apart("run", "configs/blog-tiny.yaml", "--run", str(url), *words)
    assert done.returncode == 0, done.stderr
    return url


@pytest.fixture(scope="module")
def metrics(folder: Path) -> Metrics:
    stored = json.loads((folder / "metrics.json").read_text())
    assert stored["schema"] == 1
    return Metrics(stored["metrics"])


def value(metrics: Metrics, name: str, kind: str | None = None, **condition: Any) -> float:
    row = metrics.row(name, kind, **condition)
    assert row is not None, (name, kind, condition)
    assert row["value"] is not None, row
    return float(row["value"])


def test_all_true_latents_are_the_coder_and_fewer_lose_more(metrics: Metrics) -> None:
    whole, none = (value(metrics, "kl", task="limits", keep=keep) for keep in ("coder", "zero"))
    strongest = [value(metrics, "kl", task="limits", keep="strongest", count=n) for n in (1, 8, 64)]
    random = [value(metrics, "kl", task="limits", keep="random", count=n) for n in (1, 8, 64)]
    assert value(metrics, "kl", task="limits", keep="clean") == 0
    assert strongest[2] == random[2] == pytest.approx(whole, rel=1e-5)  # more than are ever active
    assert strongest[0] > strongest[1] > strongest[2]
    assert none > strongest[0]
    assert value(metrics, "ce_relative_error", task="limits", keep="clean") == 0


def test_a_planted_simulator_that_makes_mistakes_loses_more(metrics: Metrics) -> None:
    perfect = value(metrics, "kl", task="limits", keep="planted", recall=1.0, false_rate=0.0)
    wrong = value(metrics, "kl", task="limits", keep="planted", recall=1.0, false_rate=0.1)
    rows = {row["condition"]["keep"]: row["n"] for row in metrics.all("ce", task="limits")}
    assert rows["planted"] < rows["coder"]
    assert wrong > perfect


def test_every_kind_has_every_table(metrics: Metrics) -> None:
    for kind in (None, "short", "sampled", "asked"):
        for name in ("recall", "specificity", "auc", "balanced_accuracy", "explained_active", "failed"):
            assert 0 <= value(metrics, name, kind, task="identify") <= 1
        for pool in ("all", "published"):
            for name in ("f1", "precision", "precision_at"):
                assert metrics.row(name, kind, task="identify", pool=pool) is not None
        assert metrics.row("alignment", kind, task="identify", latents="random") is not None
        assert metrics.row("correlation", kind, task="value", target="quantile") is not None
        assert metrics.row("false_positive_rate", kind, task="identify", threshold=0.999) is not None
        assert metrics.row("rank_correlation", kind, task="predict", scorer="detection") is not None
    assert len({value(metrics, "auc", kind, task="identify") for kind in (None, "short", "sampled", "asked")}) == 4
    failed = value(metrics, "failed", "asked", task="identify")
    assert failed < 0.5


def test_help_lies_between_nothing_and_everything(metrics: Metrics) -> None:
    """Mistake 28: both directions are there by name."""
    whole, none = (value(metrics, "kl", task="help", keep=keep) for keep in ("coder", "none"))
    for kind in (None, "short"):
        found = value(metrics, "kl", kind, task="help", keep="found")
        assert 0.5 * whole <= found <= 1.5 * none  # a few tokens: divergences are no sum of what is left out
        assert value(metrics, "kl_reverse", kind, task="help", keep="found") != found
        spread = [value(metrics, f"kl_{part}", kind, task="help", keep="found") for part in ("p25", "p50", "p75")]
        assert spread == sorted(spread)


def test_the_report_compares_with_what_was_published(folder: Path) -> None:
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert "Beside the published numbers" in page
    assert "probabilities sharpened by" in page
    assert page.count("<svg") >= 14
    assert len(page.encode()) < 5e6
    assert "F1, 50 active and 1,000 inactive" in (folder / "report" / "report.md").read_text(encoding="utf-8")
