"""Explanations, scores and feature lists, out and in again, and in from files as their tools write them."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nlsim.api.run import RunView, open_run
from nlsim.errors import DataError, UsageError
from nlsim.exchange.explanations import (
    explained,
    export_delphi,
    export_features,
    export_neuronpedia,
    mean_scores,
    read_explanations,
    read_features,
)
from nlsim.exchange.scores import export_scores, read_scores
from nlsim.explain.imported import read_texts


@pytest.fixture(scope="module")
def run(tiny_run: tuple[str, str]) -> RunView:
    return open_run(tiny_run[0])


def test_delphi_explanations_round_trip(run: RunView, tmp_path: Path) -> None:
    assert export_delphi(run, tmp_path / "explanations") == len(explained(run))
    names = [path.name for path in sorted((tmp_path / "explanations").iterdir())]
    assert all(name.startswith("layers.2.mlp_latent") and name.endswith(".txt") for name in names)
    assert read_explanations(tmp_path / "explanations") == explained(run)


@pytest.mark.parametrize("name", ["e.json", "e.jsonl", "e.jsonl.gz"])
def test_neuronpedia_round_trip(run: RunView, tmp_path: Path, name: str) -> None:
    count = export_neuronpedia(run, tmp_path / name, "tiny", "2-transcoder")
    assert count == len(explained(run))
    assert read_explanations(tmp_path / name) == explained(run)
    data = (tmp_path / name).read_bytes()
    text = (gzip.decompress(data) if name.endswith("gz") else data).decode()
    row = json.loads(text.splitlines()[0]) if "jsonl" in name else json.loads(text)[0]
    assert {"modelId": "tiny", "layer": "2-transcoder", "typeName": "nlsim_lexical"}.items() <= row.items()
    assert isinstance(row["index"], str)


def test_what_is_imported_explains(run: RunView, tmp_path: Path) -> None:
    """The file that `nlsim import explanations` writes is one that explain.method=import reads."""
    (tmp_path / "e.json").write_text(json.dumps(explained(run)))
    wanted = {latent: " ".join(text.split()) for latent, text in explained(run).items()}
    assert read_texts(tmp_path / "e.json", run.latents.width) == wanted


def test_published_explanations(tmp_path: Path) -> None:
    (tmp_path / "explanations_layer6_top.json").write_text('{"7": " a ", "3": "b", "5": ""}')
    assert read_explanations(tmp_path / "explanations_layer6_top.json") == {3: "b", 7: "a"}
    older = tmp_path / "older"
    older.mkdir()
    (older / ".gpt_neox.layers.6_feature12.txt").write_text('"from before"')
    assert read_explanations(older) == {12: "from before"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"x": "a"}', "explains 'x' by 'a'"),
        ("[1, 2]", "is no file of explanations"),
        ('[{"description": "a"}]', "explains None"),
        ("{", "is not readable as JSON"),
    ],
)
def test_explanations_that_cannot_be_read(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "e.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_explanations(tmp_path / "e.json")


def test_folders_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file"):
        read_explanations(tmp_path / "absent.json")
    with pytest.raises(DataError, match="no delphi files in"):
        read_explanations(tmp_path)
    (tmp_path / "a_latent1.txt").write_text("3")
    with pytest.raises(DataError, match="holds int, not an explanation"):
        read_explanations(tmp_path)
    (tmp_path / "b_latent1.txt").write_text('"x"')
    with pytest.raises(DataError, match="is about several modules"):
        read_explanations(tmp_path)


def test_delphi_scores_round_trip(run: RunView, tmp_path: Path) -> None:
    assert export_scores(run, tmp_path / "scores") == len(run.scores)
    assert sorted(path.name for path in (tmp_path / "scores").iterdir()) == ["detection", "fuzz"]
    back = read_scores(tmp_path / "scores").to_pandas().set_index(["scorer", "latent"]).sort_index()
    mine = run.scores.to_pandas().set_index(["scorer", "latent"]).sort_index()
    assert list(back.columns) == list(mine.columns)
    for column in mine.columns:
        np.testing.assert_allclose(back[column].astype(float), mine[column].astype(float), err_msg=column)
    record = json.loads(next((tmp_path / "scores" / "detection").iterdir()).read_text())[0]
    assert len(record["str_tokens"]) == len(record["activations"])
    assert record["activating"] == (max(record["activations"]) > 0) == (record["distance"] > 0)


def test_delphi_answers_that_failed_are_in_no_rate(tmp_path: Path) -> None:
    """Mistake 24: whole batches of failed answers; they are counted apart, not as wrong."""

    def example(truth: Any, prediction: Any, **more: Any) -> dict[str, Any]:
        return {"str_tokens": ["a"], "activations": [0.0], "ground_truth": truth, "prediction": prediction, **more}

    folder = tmp_path / "recall"
    folder.mkdir()
    records = [example(True, 1), example(True, -1), example(False, 0), example(False, 1), example(True, None)]
    (folder / "m_feature4.txt").write_text(json.dumps(records))
    row = read_scores(folder).to_pylist()[0]
    assert (row["scorer"], row["latent"], row["failed"]) == ("detection", 4, 2)
    assert (row["tp"], row["fn"], row["tn"], row["fp"]) == (1, 0, 1, 1)
    assert row["balanced_accuracy"] == 0.75
    (folder / "m_feature5.txt").write_text(json.dumps([{"prediction": 1}]))
    with pytest.raises(DataError, match="an example without its truth"):
        read_scores(folder)
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="has no scorer's folder"):
        read_scores(tmp_path / "other")


def test_published_scores(tmp_path: Path) -> None:
    (tmp_path / "scores_layer6_recall_top.csv").write_text("feature,balanced_accuracy\n0,0.887\n2,0.615\n")
    table = read_scores(tmp_path / "scores_layer6_recall_top.csv")
    assert table["latent"].to_pylist() == [0, 2]
    assert table["balanced_accuracy"].to_pylist() == [0.887, 0.615]
    assert table["tp"].null_count == 2, "what the file does not say is not made up"
    (tmp_path / "scores_x.csv").write_text("latent,score\n1,2\n")
    with pytest.raises(DataError, match="has no columns feature and balanced_accuracy"):
        read_scores(tmp_path / "scores_x.csv")
    with pytest.raises(UsageError, match="no folder of scores"):
        read_scores(tmp_path / "absent")


def test_feature_lists(run: RunView, tmp_path: Path) -> None:
    assert export_features(run, tmp_path / "f.json", "tiny", "2-t", most=5) == 5
    latents = read_features(tmp_path / "f.json")
    scores = mean_scores(run)
    assert min(scores[latent] for latent in latents) >= sorted(scores.values())[-6]
    (tmp_path / "g.json").write_text('{"features": [{"modelId": "m", "layer": "l", "index": "7"}, {"index": 3}]}')
    assert read_features(tmp_path / "g.json") == [7, 3]
    (tmp_path / "h.json").write_text("[5, 6, 5]")
    assert read_features(tmp_path / "h.json") == [5, 6]
    (tmp_path / "i.json").write_text('{"a": 1}')
    with pytest.raises(DataError, match="is no list of features"):
        read_features(tmp_path / "i.json")
