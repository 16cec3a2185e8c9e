"""`nlsim render`, `submit`, `fan-out` and `record` as users and workflows call them."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from nlsim.cli.cluster import fan_out, record, render, submit
from nlsim.config import Config
from nlsim.errors import UsageError
from nlsim.pipeline.execute import execute_shard
from nlsim.pipeline.pipeline import Pipeline
from nlsim.pipeline.run import Run
from nlsim.progress import SilentReporter

CONFIG = "name: toy\nsubject: {model: 'nlsim:tiny'}\ncoder: {path: 'nlsim:tiny-skip'}\n"


@pytest.fixture
def config_file(tmp_path: Path) -> str:
    path = tmp_path / "toy.yaml"
    path.write_text(CONFIG)
    return str(path)


def call(command: object, *words: str) -> str:
    result = CliRunner().invoke(command, words, catch_exceptions=False)  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    return result.output


def test_fan_out_lists_what_is_left(toy_pipeline: Pipeline, config: Config, store_url: str, tmp_path: Path) -> None:
    run = Run.create(store_url, config)
    execute_shard(run, "numbers", 1, SilentReporter())
    call(fan_out, "--run", store_url, "--to", str(tmp_path / "out"), "--job", "squares=4")
    assert json.loads((tmp_path / "out" / "numbers").read_text()) == [0, 2, 3]
    assert json.loads((tmp_path / "out" / "squares").read_text()) == 4
    assert json.loads((tmp_path / "out" / "total").read_text()) == [0]
    assert json.loads(run.files.get("plan.json"))["stages"][0]["name"] == "numbers"


@pytest.mark.parametrize(
    ("words", "message"), [(("--max-pods", "3"), "more than 3 pods"), (("--job", "squares=5"), "made for 5")]
)
def test_fan_out_refuses_a_template_of_another_configuration(
    toy_pipeline: Pipeline, config: Config, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    """An empty list would be taken for `nothing to do`."""
    Run.create(str(tmp_path / "run"), config)
    with pytest.raises(UsageError, match=message):
        call(fan_out, "--run", str(tmp_path / "run"), "--to", str(tmp_path / "out"), *words)


def test_record_says_how_far_each_stage_is(toy_pipeline: Pipeline, config: Config, store_url: str) -> None:
    run = Run.create(store_url, config)
    for shard in range(4):
        execute_shard(run, "numbers", shard, SilentReporter())
    call(record, "--run", store_url, "--state", "Failed", "--by", "toy-abcde")
    status = json.loads(run.files.get("status.json"))
    assert (status["state"], status["workflow"]) == ("Failed", "toy-abcde")
    assert status["stages"] == {
        "numbers": {"shards": 4, "missing": 0},
        "squares": {"shards": 4, "missing": 4},
        "total": {"shards": 1, "missing": 1},
    }


def test_render_writes_yaml(toy_pipeline: Pipeline, config_file: str, tmp_path: Path) -> None:
    printed = call(render, config_file)
    path = call(render, config_file, "--to", str(tmp_path / "out")).strip()
    assert Path(path).read_text(encoding="utf-8") == printed
    template = yaml.safe_load(printed)
    assert template["metadata"]["name"] == "nlsim-toy"
    assert [t["name"] for t in template["spec"]["templates"] if "dag" in t] == ["numbers", "squares", "total", "run"]


def test_submit_needs_a_bucket(toy_pipeline: Pipeline, config_file: str) -> None:
    with pytest.raises(UsageError, match="pods cannot reach a folder"):
        call(submit, config_file, "--run", "runs/toy")


def test_submit_without_kubeconfig(
    toy_pipeline: Pipeline, config_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="no configuration for a cluster"):
        call(submit, config_file, "--run", "s3://bucket/run")


KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: eu-prod-1
contexts: [{name: eu-prod-1, context: {cluster: c, user: u}}, {name: dev, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
"""


def test_submit_asks_before_production(
    toy_pipeline: Pipeline, config_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    with pytest.raises(UsageError, match=r"eu-prod-1.* looks like production: set CONFIRM=1"):
        call(submit, config_file, "--run", "s3://bucket/run")
    for words in (("--confirm",), ("--context", "dev")):  # past the question: then the cluster must answer
        with pytest.raises(UsageError, match=r"does not answer at http://127\.0\.0\.1:1"):
            call(submit, config_file, "--run", "s3://bucket/run", *words)
    with pytest.raises(UsageError, match="no configuration for context staging"):
        call(submit, config_file, "--run", "s3://bucket/run", "--context", "staging")
