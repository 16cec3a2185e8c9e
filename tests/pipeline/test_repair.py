"""A byte is changed in each object of a run in turn: it is noticed, and repair redoes exactly what it hit."""

import json
from pathlib import Path

import pytest

from nlsim.config import Config
from nlsim.errors import DataError
from nlsim.pipeline.pipeline import Pipeline
from nlsim.pipeline.run import CONFIG, LINEAGE, Run
from nlsim.pipeline.runner import carry_out
from nlsim.progress import SilentReporter
from nlsim.store.gc import collect_garbage
from nlsim.store.objects import Objects


def finish(run: Run) -> int:
    """How many shards were computed."""
    return sum(outcome.computed for outcome in carry_out(run, SilentReporter()))


def content(run: Run) -> dict[str, bytes]:
    """Everything that is in the run, data by stage, shard and name; of records what they say of the data."""
    collect_garbage(run.store, grace=-60)
    found = {}
    for info in run.files.list():
        data = run.files.get(info.key)
        if "/_commit/" in info.key:
            record = json.loads(data)
            data = json.dumps([record["counts"], *(entry["sha256"] for entry in record["objects"].values())]).encode()
        found[name_of(info.key)] = data
    return found


def name_of(key: str) -> str:
    """The key without the name of the attempt."""
    stage, _, rest = key.partition("/data/")
    return f"{stage}/{rest[:6]}/{rest.rpartition('/')[2]}" if rest else key


def flip(objects: Objects, key: str) -> None:
    data = bytearray(objects.get(key))
    data[len(data) // 2] ^= 1
    objects.put(key, bytes(data))


def verify(run: Run, repair: bool = False) -> list[str]:
    lines = [line for stage in run.pipeline.stages for line in run.artifact(stage.name).verify(repair)]
    return lines + run.check_published(repair)


def test_a_changed_byte_in_each_object(toy_pipeline: Pipeline, config: Config, store_url: str) -> None:
    run = Run.create(store_url, config)
    finish(run)
    undisturbed = content(run)
    assert len(undisturbed) == 3 + 2 * 9
    assert verify(run) == []
    for name in sorted(undisturbed):
        run = Run.open(store_url)
        key = next(info.key for info in run.files.list() if name_of(info.key) == name)
        flip(run.files, key)
        if key in (CONFIG, LINEAGE):
            with pytest.raises(DataError, match=r"--update"):
                Run.open(store_url)
            run = Run.create(store_url, config, update=True)
            assert finish(run) == 0
        else:
            (line,) = verify(run)
            assert key in line
            assert verify(run, repair=True) == [line]
            assert finish(Run.open(store_url)) == (0 if key == "total.json" else 1)
        run = Run.open(store_url)
        assert verify(run) == []
        assert content(run) == undisturbed, name


def test_a_missing_object_and_a_missing_record(toy_pipeline: Pipeline, config: Config, tmp_path: Path) -> None:
    run = Run.create(str(tmp_path), config)
    finish(run)
    undisturbed = content(run)
    data = next(info.key for info in run.files.list("squares/") if "/data/000001-" in info.key)
    record = next(info.key for info in run.files.list("numbers/") if info.key.endswith("_commit/000003.json"))
    run.files.delete([data, record, "total.json"])
    lines = verify(run, repair=True)
    assert len(lines) == 2
    assert finish(Run.open(run.url)) == 2, "nothing but the shard that lost its data and the one that lost its record"
    assert content(run) == undisturbed


def test_an_update_that_is_cut_short_computes_nothing_under_old_names(
    toy_pipeline: Pipeline, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the new configuration and its lineage: going on would commit new numbers as those of the old."""
    run = Run.create(str(tmp_path), config)
    lineage = run.files.get(LINEAGE)
    other = config.model_copy(update={"seed": 5})
    Run.create(str(tmp_path), other, update=True)
    run.files.put(LINEAGE, lineage)
    with pytest.raises(DataError, match=r"is not the configuration that lineage\.json was made for.*--update"):
        Run.open(str(tmp_path))
    moved = Run.create(str(tmp_path), other, update=True)
    finish(moved)
    assert moved.artifact("numbers").arrays(0, "values")["n"][0] == 5
