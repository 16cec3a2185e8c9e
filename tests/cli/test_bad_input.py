"""Bad input, end to end: whatever is wrong, `nlsim run` says it in one line, with the right exit code, and loses
nothing.

Stages that are not about what is wrong come from a store that the runs share.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from byte_models import byte_tokenizer, write_model
from command import nlsim_here
from planted_folder import write_folder
from safetensors.torch import load_file, save_file

from nlsim.coders.planted import LATENTS
from nlsim.pipeline.pipeline import Pipeline
from nlsim.pipeline.run import Run
from nlsim.pipeline.runner import sole_runner


class Said(NamedTuple):
    """What a command answered."""

    code: int
    line: str
    """The last line of stderr."""


Nlsim = Callable[..., Said]


@pytest.fixture
def nlsim(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nlsim:
    """Runs a command in this process."""

    def call(*words: object) -> Said:
        capsys.readouterr()
        code = nlsim_here(monkeypatch, *words)
        err = capsys.readouterr().err
        assert "Traceback" not in err
        return Said(code, err.strip().splitlines()[-1] if err.strip() else "")

    return call


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("planted"))


@pytest.fixture
def run(nlsim: Nlsim, folder: Path, tmp_path: Path) -> Nlsim:
    """Runs the configuration with some settings, in a run of its own."""

    def call(*settings: str, until: str | None = None) -> Said:
        words = [word for setting in settings for word in ("--set", setting)]
        stop = ["--until", until] if until else []
        place = ["--run", tmp_path / "run", "--store", folder / "store"]
        return nlsim("run", folder / "bad.yaml", *place, *words, *stop)

    return call


CASES: dict[str, tuple[list[str], str | None, int, str]] = {
    "no model folder": (["subject.model=/no/such/model"], None, 3, "the model folder /no/such/model does not exist"),
    "no coder": (["coder.path=/no/such/coder"], None, 3, "no coder at /no/such/coder"),
    "wrong hookpoint": (["coder.hookpoint=layers.7.mlp"], "cache", 2, "layers.7.mlp"),
    "a coder that does not fit": (
        ["coder.path=nlsim:tiny-skip", "coder.hookpoint=h.0.mlp"],
        "cache",
        3,
        "the coder",
    ),
    "unknown latent": (["latents.ids=[1, 18]"], "explain", 2, "latents.ids names latent 18: the coder has 18"),
    "a split without a budget": (["corpus.rows.evaluate=0"], None, 2, "corpus.rows.evaluate is 0, but simulate reads"),
    "an evaluation split of short rows": (["simulate.window=63"], "simulate", 3, "split has more than 64 tokens"),
    "thresholds that none passes": (
        ["latents={choose: all, min_explain_rows: 999}"],
        "explain",
        3,
        "none of the 18 latents passes the thresholds",
    ),
    "no language model": (['lm.model=""'], "score", 2, "no language model is configured: set lm.model"),
    "an embedding scorer without model": (
        ["score.scorers=[embedding]"],
        "score",
        2,
        "the embedding scorer needs a model: set score.embedding_model",
    ),
    "import without a file": (["explain.method=import"], None, 2, "explain.method is import but explain.path is not"),
    "an explainer that answers nonsense": (
        ["explain.method=llm", "explain.examples=2", "explain.max_tokens=4"],
        "calibrate",
        3,
        "no latent has an explanation (3 failed)",
    ),
    "latents with too few contexts": (
        ["explain.min_tokens=99999"],
        "calibrate",
        3,
        "no latent has an explanation (3 few)",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_settings_that_cannot_work(case: str, run: Nlsim) -> None:
    settings, until, code, line = CASES[case]
    said = run(*settings, until=until)
    assert said.code == code, said.line
    assert said.line.startswith("nlsim: ")
    assert line in said.line


def test_a_wrong_hookpoint_lists_the_valid_ones(run: Nlsim) -> None:
    line = run("coder.hookpoint=h.0.mpl", until="cache").line
    assert "no hookpoint h.0.mpl: did you mean h.0.mlp? valid: " in line


def files(folder: Path, name: str, content: bytes) -> str:
    path = folder / name
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("empty.txt", b"", "the corpus has no text of"),
        ("latin.txt", b"caf\xe9 " * 50, "is not UTF-8 text"),
        ("broken.jsonl", b'{"text": "a"', "is not JSON"),
        ("columns.jsonl", b'{"words": "a"}\n', "set corpus.source.column; there are: words"),
        ("broken.parquet", b"PAR1 nothing", "is not a readable Parquet file"),
    ],
)
def test_text_that_cannot_be_read(name: str, content: bytes, line: str, run: Nlsim, tmp_path: Path) -> None:
    said = run(f"corpus.source.paths=[{files(tmp_path, name, content)}]", until="tokens")
    assert said.code == 3
    assert line in said.line


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("e.json", {"0": "a", "99": "b"}, "explains latent 99: the coder has 18 latents, numbered from 0"),
        ("e.json", [{"latent": 1, "text": "a"}, {"latent": 1, "text": "b"}], "explains latent 1 twice: keep one"),
        ("e.json", [{"latent": 1}], "no column text"),
        ("e.txt", {}, "use .json, .parquet or .csv"),
    ],
)
def test_explanations_that_cannot_be_imported(name: str, content: Any, line: str, run: Nlsim, tmp_path: Path) -> None:
    path = files(tmp_path, name, json.dumps(content).encode())
    said = run("explain.method=import", f"explain.path={path}", until="explain")
    assert said.code == 3
    assert line in said.line


def test_explanations_of_other_latents_are_missing_not_wrong(run: Nlsim, tmp_path: Path) -> None:
    path = files(tmp_path, "e.json", json.dumps({"7": LATENTS[7].explanation}).encode())
    assert run("explain.method=import", f"explain.path={path}", until="explain").code == 0
    found = Run.open(str(tmp_path / "run")).artifact("explain").tables("explanations")
    assert found.column("status").to_pylist() == ["missing"] * 3


def test_a_language_model_whose_tokenizer_splits_digits(run: Nlsim, tmp_path: Path) -> None:
    splitting = byte_tokenizer(merges=[("Ġ", "0")])  # " 0" is one token, while " 1" is two
    model = write_model(tmp_path / "lm", splitting, says="!")
    said = run(f"lm.model={model}", until="score")
    assert said.code == 2
    assert "the model's tokenizer" in said.line
    assert "answers cannot be read from one token: set lm.template, or use another model" in said.line


def test_activations_that_are_not_finite(run: Nlsim, folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(folder / "subject", tmp_path / "subject")
    weights = load_file(broken / "model.safetensors")
    weights["transformer.h.0.ln_2.weight"][3] = float("nan")
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    said = run(f"subject.model={broken}", until="cache")
    assert said.code == 3
    assert "activations at h.0.mlp are not finite in row" in said.line


def test_failures_leave_what_was_committed_and_the_next_call_carries_on(run: Nlsim, tmp_path: Path) -> None:
    assert run("score.scorers=[embedding]", until="score").code == 2
    stages = Run.open(str(tmp_path / "run"))
    assert all(stages.artifact(name).complete for name in ("tokens", "cache", "index", "explain"))
    assert not stages.artifact("score").is_committed(0)


# What does not depend on the experiment is tried on the toy pipeline.


@pytest.fixture
def small(toy_pipeline: Pipeline, tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({"subject": {"model": "nlsim:tiny"}, "coder": {"path": "nlsim:tiny-skip"}}))
    return path


def test_a_changed_configuration(nlsim: Nlsim, small: Path, tmp_path: Path) -> None:
    assert nlsim("run", small, "--run", tmp_path / "run", "--until", "squares").code == 0
    said = nlsim("run", small, "--run", tmp_path / "run", "--until", "squares", "--set", "seed=5")
    assert said.code == 2
    assert "was made from another configuration (changed: seed): choose another --run, or add --update" in said.line
    assert nlsim("run", "--run", tmp_path / "run", "--until", "squares").code == 0


def test_two_runners(nlsim: Nlsim, small: Path, tmp_path: Path) -> None:
    assert nlsim("plan", small, "--run", tmp_path / "run").code == 0
    with sole_runner(Run.open(str(tmp_path / "run")).files):
        said = nlsim("run", "--run", tmp_path / "run", "--until", "squares")
        assert said.code == 75
        assert f"another runner (process {os.getpid()} on" in said.line
        assert nlsim("run", "--run", tmp_path / "run", "--until", "squares", "--join").code == 0


@pytest.mark.parametrize("change", ["altered", "truncated", "deleted"])
def test_an_object_that_is_not_as_it_was_written(change: str, nlsim: Nlsim, small: Path, tmp_path: Path) -> None:
    assert nlsim("run", small, "--run", tmp_path / "run", "--until", "numbers").code == 0
    victim = next((tmp_path / "run").glob("numbers/*/data/*/values.safetensors"))
    data = bytearray(victim.read_bytes())
    victim.parent.chmod(0o755)
    victim.chmod(0o644)
    data[-1] ^= 1
    if change == "deleted":
        victim.unlink()
    else:
        victim.write_bytes(data if change == "altered" else data[:-8])
    said = nlsim("run", "--run", tmp_path / "run", "--until", "squares")
    assert said.code == 3, said.line
    assert "values.safetensors" in said.line
    assert nlsim("verify", tmp_path / "run").code == 3
    assert nlsim("verify", tmp_path / "run", "--repair").code == 0
    assert nlsim("run", "--run", tmp_path / "run", "--until", "squares").code == 0


def test_a_folder_that_cannot_be_written(nlsim: Nlsim, small: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    said = nlsim("run", small, "--run", tmp_path / "file" / "run")
    assert said.code in (2, 3)
    assert str(tmp_path / "file") in said.line


def test_no_bucket(nlsim: Nlsim, small: Path, s3_url: str) -> None:
    assert s3_url
    said = nlsim("run", small, "--run", "s3://nlsim-no-such-bucket/run")
    assert said.code == 2
    assert "there is no bucket nlsim-no-such-bucket at http://" in said.line


def test_a_wrong_endpoint(nlsim: Nlsim, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the fixture's client is kept open for its own endpoint
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    said = nlsim("status", s3_url)
    assert said.code == 75
    assert "nothing answers at http://127.0.0.1:9: check AWS_ENDPOINT_URL" in said.line


def test_access_denied(nlsim: Nlsim, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.exceptions import ClientError

    from nlsim.store import s3

    client = s3.make_client()

    def deny(*_: object, **__: object) -> None:
        reply = {"Error": {"Code": "AccessDenied", "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
        raise ClientError(reply, "GetObject")  # type: ignore[arg-type]

    for operation in ("get_object", "head_object", "list_objects_v2"):
        monkeypatch.setattr(client, operation, deny)
    said = nlsim("status", s3_url)
    assert said.code == 2
    assert "access denied at http" in said.line
