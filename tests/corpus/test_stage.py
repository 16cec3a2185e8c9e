"""Stage `tokens`: the artifact that every later stage reads."""

from pathlib import Path

import numpy as np
import pytest
from corpus.tokenizers import SENTENCES, byte_level

from nlsim.config import Config, parse_config
from nlsim.corpus.pieces import Pieces
from nlsim.corpus.splits import Split
from nlsim.corpus.stage import Tokens
from nlsim.pipeline.stage import StageContext
from nlsim.store.artifact import Artifact
from nlsim.store.objects import open_objects


@pytest.fixture
def config(tmp_path: Path) -> Config:
    model = tmp_path / "model"
    byte_level().save_pretrained(model)
    (model / "config.json").write_text('{"model_type": "gpt_neox"}')
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"{i} {SENTENCES[i % 3]}" for i in range(200)))
    return parse_config(
        {
            "name": "test",
            "corpus": {
                "source": {"kind": "files", "paths": [str(text)], "separator": "\n"},
                "context": 16,
                "min_tokens": 4,
                "rows": dict.fromkeys(("train", "explain", "score", "calibrate", "evaluate"), 10),
            },
            "subject": {"model": str(model)},
            "coder": {},
        }
    )


def run(config: Config, store: Path) -> Artifact:
    artifact = Artifact(open_objects(str(store)), "tokens", Tokens().fingerprint(config, {}), 1)
    writer = artifact.begin(0)
    calls: list[tuple[int, int, str]] = []
    Tokens().execute(StageContext(config, 0, 1, {}, writer, lambda *call: calls.append(call)))
    writer.commit()
    assert calls[-1] == (50, 50, "rows")
    return artifact


def test_the_artifact_is_as_the_other_stages_expect(config: Config, tmp_path: Path) -> None:
    artifact = run(config, tmp_path / "store")
    rows = artifact.arrays(0, "rows")
    types = {"tokens": "int32", "length": "int32", "document": "int32", "start": "int32", "split": "uint8"}
    assert {name: str(array.dtype) for name, array in rows.items()} == types
    assert rows["tokens"].shape == (50, 16)
    assert (rows["tokens"][:, 0] == byte_level().bos_token_id).all()
    assert np.bincount(rows["split"]).tolist() == [10] * 5
    documents = artifact.table(0, "documents")
    assert documents.column_names == ["document", "name", "split", "tokens"]
    assert documents["document"].to_pylist() == list(range(len(documents)))
    assert set(rows["document"].tolist()) == set(range(len(documents)))
    assert (np.array(documents["split"])[rows["document"]] == rows["split"]).all()
    pieces = Pieces.of(artifact)
    text = pieces.text(rows["tokens"][0, 1 : rows["length"][0]]).text
    assert any(text.strip() in f"{i} {SENTENCES[i % 3]}" for i in range(200))
    counts = artifact.records[0].counts
    assert counts["rows"] == 50
    assert counts["tokens"] == rows["length"].sum()
    assert all(counts[f"{split.key}_rows"] == 10 for split in Split)


def test_the_same_configuration_gives_the_same_bytes(config: Config, tmp_path: Path) -> None:
    digests = [
        {name: made.sha256 for name, made in run(config, tmp_path / place).records[0].objects.items()}
        for place in ("a", "b")
    ]
    assert digests[0] == digests[1]


def test_the_fingerprint_follows_text_and_tokenizer_but_not_the_device(config: Config, tmp_path: Path) -> None:
    def fingerprint() -> str:
        return Tokens().fingerprint(config, {})

    first = fingerprint()
    elsewhere = config.model_copy(
        update={"subject": config.subject.model_copy(update={"device": "cpu", "dtype": "bfloat16"})}
    )
    assert Tokens().fingerprint(elsewhere, {}) == first
    text = Path(config.corpus.source.paths[0])  # type: ignore[union-attr]
    text.write_text(text.read_text() + "\nmore")
    second = fingerprint()
    assert second != first
    tokenizer = Path(config.subject.model) / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + "\n")
    assert fingerprint() not in (first, second)


def test_plan_needs_no_model(config: Config) -> None:
    estimate = Tokens().estimate(config)
    assert estimate.bytes == 50 * 16 * 4
    assert Tokens().shards(config) == 1
    assert Tokens().resources(config).image == "model"
