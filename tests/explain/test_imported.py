"""Explanations from files: three forms, and clear words about bad ones."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from nlsim.errors import DataError, UsageError
from nlsim.explain.imported import import_path, read_texts


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_three_forms_agree(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pa.table({"latent": [3, 7], "text": ["a b", "c"]}), tmp_path / "e.parquet")
    files = [
        written(tmp_path / "e.json", json.dumps({"3": "a b", "7": "c"})),
        written(tmp_path / "list.json", json.dumps([{"latent": 7, "explanation": "c"}, {"latent": 3, "text": "a\nb"}])),
        written(tmp_path / "e.csv", 'latent,text\n3,"a b"\n7,c\n'),
        tmp_path / "e.parquet",
    ]
    assert [read_texts(file, 8) for file in files] == [{3: "a b", 7: "c"}] * 4


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.json", '{"3": "a", "3": "b"}', "explains latent 3 twice"),
        ("e.csv", "latent,text\n3,a\n3,b\n", "explains latent 3 twice"),
        ("e.json", '[{"latent": 3, "text": "a"}, {"latent": 3.0, "text": "b"}]', "explains latent 3 twice"),
        ("e.json", '{"8": "a"}', "the coder has 8 latents"),
        ("e.json", '{"-1": "a"}', "the coder has 8 latents"),
        ("e.json", '{"one": "a"}', "latents are whole numbers"),
        ("e.json", '[{"latent": 2.5, "text": "a"}]', "latents are whole numbers"),
        ("e.json", "[1, 2", "cannot be read as explanations"),
        ("e.json", "3", "neither an object nor a list"),
        ("e.csv", "feature,text\n3,a\n", "no latent"),
        ("e.csv", "latent,words\n3,a\n", "no column text"),
        ("e.parquet", "nothing", "cannot be read as explanations"),
        ("e.txt", "3: a", "use .json, .parquet or .csv"),
    ],
)
def test_bad_files_are_explained(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_texts(written(tmp_path / name, content), 8)


def test_a_missing_file_and_a_missing_setting_differ(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"explain\.path"):
        import_path(None)
    with pytest.raises(DataError, match="no explanations at"):
        import_path(str(tmp_path / "none.json"))
