"""Explainers, scorers and engines from another package: a toy one, installed as packages are, by its entry points."""

import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from nlsim.config import load_config, parse_config
from nlsim.errors import DataError, UsageError
from nlsim.lm.config import LmConfig
from nlsim.lm.engine import load_engine
from nlsim.pipeline.execute import execute_shard
from nlsim.pipeline.run import Run
from nlsim.plugins import load_plugin, plugin_identity
from nlsim.progress import LineReporter
from nlsim.score.plugin import judged

MODULE = '''
"""A toy: explains a latent by its loudest token, and believes every explanation that names a token it sees."""
import math

class Loudest:
    model = ""
    facts = {"toy": "1.2"}
    def __init__(self, evidence, options):
        self.evidence, self.prefix = evidence, options.get("prefix", "fires on")
    def explain(self, latents):
        from nlsim.explain.explainer import Explanation
        from nlsim.corpus.splits import Split
        index = self.evidence.index
        for latent in latents:
            active = index.activations(latent, Split.EXPLAIN)
            if not len(active.value):
                yield Explanation(latent, "", "few")
                continue
            token = index.rows.ids(active.token[[active.value.argmax()]])[0]
            yield Explanation(latent, f"{self.prefix} {self.evidence.pieces[token].decode('utf-8', 'replace')!r}")

class Contains:
    asks = "detection"
    def __init__(self, config, options):
        self.missing = options.get("missing", False)
    def probabilities(self, explanation, questions):
        token = eval(explanation.split(" on ", 1)[1])
        if self.missing:
            return [math.nan for _ in questions]
        return [0.9 if token in "".join(q.pieces) else 0.1 for q in questions]

class Engine:
    name = "toy"
    def __init__(self, config):
        self.config = config
'''


@pytest.fixture
def toy_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that installing a package leaves: its module, and metadata with entry points."""
    site = tmp_path / "site"
    metadata = site / "toy_nlsim-1.2.dist-info"
    metadata.mkdir(parents=True)
    (site / "toy_nlsim.py").write_text(MODULE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-nlsim\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text(
        "[nlsim.explainers]\nloudest = toy_nlsim:Loudest\nbroken = toy_nlsim:Absent\n"
        "[nlsim.scorers]\ncontains = toy_nlsim:Contains\n[nlsim.backends]\ntoy = toy_nlsim:Engine\n"
    )
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "toy_nlsim", raising=False)


def run_with(tiny: str, tmp_path: Path, **sections: Any) -> Run:
    """A run on a copy of the finished tiny one's store: only what a plugin makes is new."""
    shutil.copytree(tiny, tmp_path / "store")
    config = yaml.safe_load(load_config("configs/tiny.yaml").config.to_yaml())
    for section, settings in sections.items():
        config[section].update(settings)
    return Run.create(str(tmp_path / "run"), parse_config(config), store=str(tmp_path / "store"))


def test_a_run_with_another_packages_explainer_and_scorer(
    toy_package: None, tiny_run: tuple[str, str], tmp_path: Path
) -> None:
    explain = {"method": "plugin:loudest", "options": {"prefix": "shouts on"}}
    run = run_with(tiny_run[0], tmp_path, explain=explain, score={"scorers": ["plugin:contains"]})
    assert run.artifact("index").complete, "what the plugins leave alone is shared"
    for stage in ("explain", "score"):
        execute_shard(run, stage, 0, LineReporter())
    explanations = run.artifact("explain").tables("explanations").to_pylist()
    assert all(row["method"] == "plugin:loudest" for row in explanations)
    assert all(row["text"].startswith("shouts on ") for row in explanations if row["status"] == "ok")
    scores = run.artifact("score").tables("scores").to_pylist()
    assert {row["scorer"] for row in scores} == {"plugin:contains"}
    assert np.nanmean([row["balanced_accuracy"] for row in scores]) > 0.5, "loud tokens tell contexts apart"


def test_failed_answers_of_a_plugin_count_as_failed(
    toy_package: None, tiny_run: tuple[str, str], tmp_path: Path
) -> None:
    options = {"scorers": ["plugin:contains"], "options": {"missing": True}}
    run = run_with(tiny_run[0], tmp_path, explain={"method": "plugin:loudest"}, score=options)
    for stage in ("explain", "score"):
        execute_shard(run, stage, 0, LineReporter())
    for row in run.artifact("score").tables("scores").to_pylist():
        assert row["failed"] == row["n_pos"] + row["n_neg"]
        assert math.isnan(row["balanced_accuracy"])


def test_a_plugins_version_is_part_of_what_determines_the_output(toy_package: None) -> None:
    assert plugin_identity("nlsim.explainers", "plugin:loudest") == {"plugin:loudest": "toy-nlsim 1.2"}
    assert plugin_identity("nlsim.explainers", "lexical") == {}


def test_another_packages_engine(toy_package: None) -> None:
    engine = load_engine(LmConfig.model_validate({"model": "any", "engine": "plugin:toy", "options": {"a": 1}}))
    assert engine.name == "toy"
    assert engine.config.options == {"a": 1}  # type: ignore[attr-defined]


def test_plugins_that_are_not_there(toy_package: None) -> None:
    with pytest.raises(UsageError, match=r"no installed package offers plugin:shout .*: plugin:broken, plugin:loudest"):
        load_plugin("nlsim.explainers", "plugin:shout")
    with pytest.raises(UsageError, match=r"plugin:broken \(toy_nlsim:Absent\) cannot be imported"):
        load_plugin("nlsim.explainers", "plugin:broken")


def test_a_scorer_that_answers_nonsense() -> None:
    class Nonsense:
        def probabilities(self, explanation: str, questions: Any) -> Any:
            return [2.0]

    with pytest.raises(DataError, match="plugin:x gave no probability per question"):
        judged("plugin:x", Nonsense(), "", [None])  # type: ignore[arg-type,list-item]
    with pytest.raises(DataError, match="plugin:x gave no probability per question"):
        judged("plugin:x", Nonsense(), "", [])  # type: ignore[arg-type]
