"""A reading that was stopped goes on where it was, and ends in the same bytes."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus.tokenizers import SENTENCES, byte_level

from nlsim.config import Config, parse_config
from nlsim.corpus import huggingface, reading
from nlsim.corpus.documents import Documents, Place, open_documents
from nlsim.corpus.stage import Tokens
from nlsim.errors import TransientError
from nlsim.pipeline.stage import StageContext, Stopped
from nlsim.store.artifact import Artifact
from nlsim.store.objects import open_objects

# Every seventh text has occurred before, so that what was seen by one attempt matters to the next.
TEXTS = [f"{i % 7 and i} {SENTENCES[i % 3]}" for i in range(300)]


def jsonl(folder: Path) -> dict[str, Any]:
    for part in range(3):
        lines = [json.dumps({"text": text}) + "\n" for text in TEXTS[part * 100 : part * 100 + 100]]
        (folder / f"{part}.jsonl").write_text("".join(lines))
    return {"kind": "huggingface", "path": "json", "data_files": [str(folder / f"{part}.jsonl") for part in range(3)]}


def parquet(folder: Path) -> dict[str, Any]:
    for part in range(2):
        table = pa.table({"text": TEXTS[part * 150 : part * 150 + 150]})
        pq.write_table(table, folder / f"{part}.parquet", row_group_size=40)
    return {"kind": "huggingface", "path": str(folder)}


def plain(folder: Path) -> dict[str, Any]:
    return {**jsonl(folder), "kind": "files", "paths": [str(folder / "*.jsonl")], "path": None, "data_files": None}


def configured(folder: Path, source: dict[str, Any]) -> Config:
    model = folder / "model"
    byte_level().save_pretrained(model)
    (model / "config.json").write_text('{"model_type": "gpt_neox"}')
    corpus = {
        "source": {name: value for name, value in source.items() if value is not None},
        "context": 16,
        "min_tokens": 4,
        "rows": dict.fromkeys(("train", "explain", "score", "calibrate", "evaluate"), 20),
        "max_documents": 290,
    }
    return parse_config({"name": "test", "corpus": corpus, "subject": {"model": str(model)}, "coder": {}})


class Attempts:
    """Attempts at the stage in one store, and the places at which they began to read."""

    def __init__(self, config: Config, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.config, self.files = config, open_objects(str(store))
        self.artifact = Artifact(self.files, "tokens", "0" * 16, 1)
        self.began: list[Place] = []

        def opened(source: Any, place: Place) -> Documents:
            self.began.append(place)
            return open_documents(source, place)

        monkeypatch.setattr(reading, "open_documents", opened)
        monkeypatch.setattr(reading, "BATCH", 16)

    def attempt(self, report: Callable[[int, int, str], None] = lambda *_: None) -> None:
        writer = self.artifact.begin(0)
        try:
            Tokens().execute(StageContext(self.config, 0, 1, {}, writer, report))
            writer.commit()
        finally:
            writer.discard()

    def cut_short(self, error: type[BaseException], batches: int) -> None:
        """An attempt that ends in `error` after some batches."""
        seen = iter(range(batches))

        def report(*_: object) -> None:
            if next(seen, None) is None:
                raise error

        with pytest.raises(error):
            self.attempt(report)

    @property
    def digests(self) -> dict[str, str]:
        return {name: made.sha256 for name, made in self.artifact.records[0].objects.items()}

    @property
    def kept(self) -> list[str]:
        return [info.key for info in self.files.list() if "-kept/" in info.key]


def whole(config: Config, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    once = Attempts(config, folder / "once", monkeypatch)
    once.attempt()
    assert [place.documents for place in once.began] == [0]
    return once.digests


@pytest.mark.parametrize("source", [jsonl, parquet, plain])
def test_a_stopped_reading_goes_on_and_gives_the_same_bytes(
    source: Callable[[Path], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "text"
    text.mkdir()
    config = configured(tmp_path, source(text))
    expected = whole(config, tmp_path, monkeypatch)
    runs = Attempts(config, tmp_path / "store", monkeypatch)
    for _ in range(2):
        runs.cut_short(Stopped, 6)
        assert not runs.artifact.is_committed(0)
    assert runs.kept
    runs.attempt()
    assert runs.digests == expected
    assert runs.kept == []
    began = [place.documents for place in runs.began]
    assert began[0] == 0 < began[1] < began[2] < 290
    assert all((place.stream is None) == (source is plain or not place.documents) for place in runs.began)


def test_a_killed_reading_goes_on_from_the_last_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asked it to stop; and another version of `datasets`, whose state may mean something else, counts rows."""
    (tmp_path / "text").mkdir()
    config = configured(tmp_path, jsonl(tmp_path / "text"))
    expected = whole(config, tmp_path, monkeypatch)
    runs = Attempts(config, tmp_path / "store", monkeypatch)
    monkeypatch.setattr(reading, "PART", 1000)
    runs.cut_short(KeyboardInterrupt, 9)
    assert len(runs.kept) > 1
    monkeypatch.setattr(datasets, "__version__", "0")
    runs.attempt()
    assert runs.began[-1].documents > 50
    assert runs.digests == expected


def test_kept_bytes_that_are_not_understood_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text").mkdir()
    config = configured(tmp_path, plain(tmp_path / "text"))
    expected = whole(config, tmp_path, monkeypatch)
    runs = Attempts(config, tmp_path / "store", monkeypatch)
    runs.artifact.begin(0).keep("text-000000", b"of another version")
    runs.attempt()
    assert runs.began[-1].documents == 0
    assert runs.digests == expected


def test_a_download_that_fails_goes_on_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(tmp_path, {"kind": "huggingface", "path": "owner/name", "revision": "main"})
    commits: list[str | None] = []
    broken = [True]

    def rows() -> Iterator[dict[str, str]]:
        for number, text in enumerate(TEXTS):
            if number == 120 and broken:
                raise ConnectionError("connection reset by peer")
            yield {"text": text}

    def opened(_source: object, revision: str | None) -> Any:
        commits.append(revision)
        return datasets.IterableDataset.from_generator(rows)

    monkeypatch.setattr(huggingface, "_open", opened)
    monkeypatch.setattr(huggingface, "_commit", lambda _: f"commit {len(commits)}")
    runs = Attempts(config, tmp_path / "store", monkeypatch)
    with pytest.raises(TransientError, match=r"reading the data set owner/name failed .*run the same command again"):
        runs.attempt()
    broken.clear()
    runs.attempt()
    assert 0 < runs.began[1].documents < 120
    assert commits == ["commit 0"] * 2, "what was begun is read on at its commit"
    assert runs.digests == whole(config, tmp_path, monkeypatch)
