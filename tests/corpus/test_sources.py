"""Documents from the standard library, from files and from data sets, and what is said when they cannot be read."""

import json
import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from nlsim.corpus.config import BuiltinSource, CorpusConfig, FilesSource, HuggingFaceSource
from nlsim.corpus.documents import Document, open_documents, source_identity
from nlsim.errors import DataError

TEXTS = ["First document.\nTwo lines.", "naïve — 数据", ""]


def read(source: BuiltinSource | FilesSource | HuggingFaceSource) -> list[Document]:
    return list(open_documents(source))


def files(*paths: Path | str, **settings: object) -> FilesSource:
    return FilesSource(paths=tuple(map(str, paths)), **settings)


# The standard library


def test_builtin_text_is_the_documentation_of_this_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A small library stands in for the real one, whose parsing takes seconds."""
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "test").mkdir()
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "json" / "__init__.py").write_text(
        '"""A package."""\nclass Loader:\n    """Loads."""\n    def load(self):\n        """Do it\n\n        now."""\n'
    )
    (tmp_path / "json" / "copy.py").write_text(
        'class Loader:\n    """Loads."""\n    def close(self):\n        "Closes."\n'
    )
    (tmp_path / "abc.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "json" / "test" / "x.py").write_text('"""Not this."""')
    (tmp_path / "site-packages" / "x.py").write_text('"""Nor this."""')
    (tmp_path / "nolib.py").write_text('"""Nor this."""')
    from nlsim.corpus import builtin

    monkeypatch.setattr(builtin, "_root", lambda: tmp_path)
    documents = {d.name: d.text for d in builtin.builtin_documents.__wrapped__() if d.name.startswith("modules/")}
    assert documents == {
        "modules/json": "A package.\n\nLoader\n\nLoads.\n\nLoader.load\n\nDo it\n\nnow.\n",
        "modules/json.copy": "Loader.close\n\nCloses.\n",
    }
    first = builtin.builtin_identity.__wrapped__()
    (tmp_path / "json" / "copy.py").write_text('"""Another text."""')
    assert builtin.builtin_identity.__wrapped__() != first
    assert first["python"] == ".".join(map(str, sys.version_info[:3]))


def test_help_topics_are_documents() -> None:
    from nlsim.corpus.builtin import _topics

    topics = {document.name: document.text for document in _topics()}
    assert len(topics) > 50
    assert list(topics) == sorted(topics)
    assert "assert" in topics["topics/assert"]
    assert min(map(len, topics.values())) > 100


# Files


def test_text_files_are_documents(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").write_text(TEXTS[0])
    (tmp_path / "b" / "c.md").write_text(TEXTS[1])
    assert read(files(tmp_path / "**" / "*.*")) == [Document("a.txt:0", TEXTS[0]), Document("b/c.md:0", TEXTS[1])]
    assert read(files(tmp_path / "a.txt", separator="\n")) == [
        Document("a.txt:0", "First document."),
        Document("a.txt:1", "Two lines."),
    ]


def test_json_lines_and_parquet_give_the_same_documents(tmp_path: Path) -> None:
    lines = [json.dumps({"id": i, "body": text}) for i, text in enumerate(TEXTS)]
    (tmp_path / "x.jsonl").write_text("\n".join(lines) + "\n\n")
    pq.write_table(pa.table({"id": range(3), "body": TEXTS}), tmp_path / "x.parquet", row_group_size=2)
    for name in ("x.jsonl", "x.parquet"):
        assert read(files(tmp_path / name, column="body")) == [Document(f"{name}:{i}", t) for i, t in enumerate(TEXTS)]


def test_names_do_not_change_when_the_folder_moves(tmp_path: Path) -> None:
    for place in ("here", "there/deeper"):
        folder = tmp_path / place
        (folder / "sub").mkdir(parents=True)
        (folder / "one.txt").write_text("1")
        (folder / "sub" / "two.txt").write_text("2")
    here, there = (read(files(tmp_path / place / "**" / "*.txt")) for place in ("here", "there/deeper"))
    assert here == there
    assert source_identity(files(tmp_path / "here/one.txt")) == source_identity(
        files(tmp_path / "there/deeper/one.txt")
    )
    assert source_identity(files(tmp_path / "here/one.txt")) != source_identity(files(tmp_path / "here/sub/two.txt"))


def test_a_null_is_an_empty_document(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([None, "x"])}), tmp_path / "x.parquet")
    assert [d.text for d in read(files(tmp_path / "x.parquet"))] == ["", "x"]


@pytest.mark.parametrize(
    ("name", "content", "settings", "message"),
    [
        ("x.jsonl", b'{"body": "a"}\n', {}, r"x.jsonl:1 has no 'text': .*there are: body"),
        ("x.jsonl", b'{"text": "a"}\n{oops\n', {}, r"x.jsonl:2 is not JSON"),
        ("x.jsonl", b"[1]\n", {}, r"x.jsonl:1 has no 'text'"),
        ("x.jsonl", b'{"text": 5}\n', {}, r"x.jsonl:1: 'text' holds int, not text"),
        ("x.txt", b"\xff\xfe\x00", {}, r"x.txt is not UTF-8 text \(byte 0\)"),
        ("x.parquet", b"nothing of the kind", {}, r"x.parquet is not a readable Parquet file"),
        ("x.bin", b"", {}, r"cannot tell the format of .*x.bin: set corpus.source.format"),
    ],
)
def test_what_cannot_be_read_is_one_clear_line(
    tmp_path: Path, name: str, content: bytes, settings: dict[str, str], message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read(files(tmp_path / name, **settings))
    assert "\n" not in str(caught.value)


def test_a_missing_parquet_column_names_those_there(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1], "b": [2]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"has no 'text': .*there are: a, b"):
        read(files(tmp_path / "x.parquet"))


def test_a_pattern_without_a_file_is_a_data_error(tmp_path: Path) -> None:
    for act in (read, source_identity):
        with pytest.raises(DataError, match=r"no file matches .*nothing"):
            act(files(tmp_path / "nothing*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x")
    (tmp_path / "x.txt").chmod(0)
    with pytest.raises(DataError, match=r"cannot read .*Permission denied"):
        read(files(tmp_path / "x.txt"))


def test_a_read_error_is_a_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.txt").write_text("x")

    def fail(*_: object, **__: object) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_text", fail)
    with pytest.raises(DataError, match=r"cannot read .*x.txt .Input/output error"):
        read(files(tmp_path / "x.txt"))


# Data sets


@pytest.mark.parametrize("streaming", [True, False])
def test_a_data_set_of_local_files(tmp_path: Path, streaming: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"body": text}) + "\n" for text in TEXTS))
    source = HuggingFaceSource(path="json", data_files=(str(tmp_path / "x.jsonl"),), column="body", streaming=streaming)
    if not streaming:
        source = source.model_copy(update={"split": "train[:2]"})
    got = read(source)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read(source.model_copy(update={"data_files": ("~/x.jsonl",)})) == got
    assert [d.text for d in got] == TEXTS[: len(got)]
    assert len(got) == (3 if streaming else 2)
    assert got[1].name == f"{source.split}:1"
    assert len(next(iter(source_identity(source).values()))) == 64


def test_a_data_set_saved_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setenv("HOME", str(tmp_path))

    rows = datasets.Dataset.from_dict({"text": TEXTS})
    rows.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"test": rows}).save_to_disk(str(tmp_path / "dict"))
    assert [d.text for d in read(HuggingFaceSource(path=str(tmp_path / "one")))] == TEXTS
    assert read(HuggingFaceSource(path="~/one")) == read(HuggingFaceSource(path=str(tmp_path / "one")))
    source = HuggingFaceSource(path="~/dict", split="test")
    assert "revision" not in source_identity(source)
    assert read(source) == [Document(f"test:{i}", t) for i, t in enumerate(TEXTS)]
    with pytest.raises(DataError, match=r"no split 'train': there are: test"):
        read(HuggingFaceSource(path=str(tmp_path / "dict")))
    with pytest.raises(DataError, match=r"no column 'body': .*there are: text"):
        read(HuggingFaceSource(path=str(tmp_path / "one"), column="body"))


def test_a_data_set_that_is_not_there_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot open the data set json .*nothing") as caught:
        read(HuggingFaceSource(path="json", data_files=(str(tmp_path / "nothing.jsonl"),)))
    assert "\n" not in str(caught.value)


def test_a_data_set_of_the_hub_that_is_here_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `hf download owner/name --repo-type dataset` leaves it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    source = HuggingFaceSource(path="owner/name")
    with pytest.raises(DataError, match=r"cannot open the data set owner/name .*HF_HUB_OFFLINE is set: `nlsim plan`"):
        read(source)
    snapshot = tmp_path / "datasets--owner--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    (snapshot / "train.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    assert [d.text for d in read(source)] == TEXTS


@pytest.mark.parametrize(
    ("error", "todo"),
    [
        ("403 Client Error: gated", "accept its licence on huggingface.co, then set HF_TOKEN"),
        ("Repository Not Found", "check its name"),
    ],
)
def test_a_data_set_that_cannot_be_had_says_what_to_do(error: str, todo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        raise OSError(error)

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", failing)
    with pytest.raises(DataError, match=rf"cannot open the data set owner/name \({error}\): {todo}"):
        read(HuggingFaceSource(path="owner/name"))


# Configuration


def test_a_source_may_be_a_bare_word() -> None:
    assert CorpusConfig.model_validate({"source": "builtin"}).source == BuiltinSource()
    config = CorpusConfig.model_validate({"source": {"kind": "files", "paths": ["a.txt"]}})
    assert config.source == FilesSource(paths=("a.txt",))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "web"}, "builtin"),
        ({"source": {"kind": "files"}}, "paths"),
        ({"source": {"kind": "builtin", "path": "x"}}, "path"),
        ({"context": 10, "min_tokens": 10}, "min_tokens 10 is more than the 9"),
        ({"fractions": {"evaluate": 0}}, "fractions.evaluate is 0"),
        ({"rows": {"train": 0, "explain": 0, "score": 0, "calibrate": 0, "evaluate": 0}}, "every split"),
        ({"fractions": {"train": -1}}, "greater than or equal to 0"),
    ],
)
def test_a_wrong_configuration_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CorpusConfig.model_validate(settings)
