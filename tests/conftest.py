"""Fixtures that tests of every package can use: places to store things."""

import fcntl
import functools
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import hypothesis
import pytest
import s3_servers
import toy
from browser_fixtures import browser, open_page  # noqa: F401 - fixtures
from command import nlsim_apart

from nlsim.config import Config, parse_config
from nlsim.pipeline.pipeline import Pipeline

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


# A busy machine is slow, not wrong. The tests try the same cases each time; `make fuzz` looks for new ones.
hypothesis.settings.register_profile("same", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None, derandomize=False, max_examples=1000, print_blob=True)
hypothesis.settings.load_profile("same")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[dict[str, str]]:
    """Environment variables that lead to an S3 server: NLSIM_TEST_S3_ENDPOINT with the caller's AWS_*, else moto's."""
    if endpoint := os.environ.get("NLSIM_TEST_S3_ENDPOINT"):
        given = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        yield {**s3_servers.COMMON, **given, "AWS_ENDPOINT_URL": endpoint}
        return
    with s3_servers.moto() as environment:
        yield environment


@functools.cache
def _make_client() -> "Callable[[], S3Client]":
    from nlsim.store.s3 import make_client

    return make_client


@functools.cache
def _client(_endpoint: str) -> "S3Client":
    """A client for the environment as it is, made once per endpoint: that takes longer than most tests."""
    return _make_client()()


@pytest.fixture
def s3_url(s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """s3://<a fresh bucket>/some/prefix, with the environment set so that `open_objects` reaches it."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NLSIM_CACHE", str(tmp_path / "cache"))
    bucket = f"nlsim-{uuid.uuid4().hex[:12]}"
    _client(s3_server["AWS_ENDPOINT_URL"]).create_bucket(Bucket=bucket)
    monkeypatch.setattr("nlsim.store.s3.make_client", lambda: _client(os.environ["AWS_ENDPOINT_URL"]))
    return f"s3://{bucket}/some/prefix"


@pytest.fixture(params=["directory", "s3"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh store of each kind."""
    return str(request.getfixturevalue("s3_url") if request.param == "s3" else tmp_path / "store")


class Finished(NamedTuple):
    """A run that is complete."""

    url: str
    printed: str
    """What `nlsim run` wrote to standard output."""


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """configs/tiny.yaml carried out, once for all workers. Not to be written to."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "tiny-run"
    printed = folder.with_suffix(".out")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not printed.exists():
            done = nlsim_apart("run", "configs/tiny.yaml", "--run", str(folder))
            assert done.returncode == 0, done.stderr
            printed.write_text(done.stdout, encoding="utf-8")
    return Finished(str(folder), printed.read_text(encoding="utf-8"))


@pytest.fixture
def config() -> Config:
    """The least that a configuration must say."""
    return parse_config({"name": "toy", "subject": {"model": "nlsim:tiny"}, "coder": {"path": "nlsim:tiny-skip"}})


@pytest.fixture
def toy_pipeline(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """The pipeline of toy.py, in place of every experiment's."""
    monkeypatch.setattr("nlsim.pipeline.registry.pipeline_of", lambda _config: toy.toy())
    return toy.toy()
