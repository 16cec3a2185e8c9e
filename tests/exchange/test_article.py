"""The published article's files, read as their scripts wrote them, and analysed with their failures left out."""

import json
from pathlib import Path

import numpy as np
import pytest

from nlsim.errors import DataError
from nlsim.exchange.article import read_article, reanalyse

HEADER = ",feature,predicted_quantile,activation,order,expected_quantile,predicted_activation,text\n"


def sentence(folder: Path, number: int, rows: list[tuple[int, int, float, int, float, float]]) -> None:
    """One sentence's file, with the index column that pandas wrote and a text that holds commas and lines."""
    lines = [
        f'{i},{feature},{digit},{true},{order},{expected},{predicted},"a, b\n<<c>>"\n'
        for i, (feature, digit, true, order, expected, predicted) in enumerate(rows)
    ]
    (folder / f"{number}all_data.csv").write_text(HEADER + "".join(lines))


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Three sentences, of which the second failed throughout, and two conditions."""
    sentence(tmp_path, 0, [(9, 4, 1.5, 0, 3.75, 0.9), (3, 0, 0.0, -1, 0.02, 0.1)])
    sentence(tmp_path, 1, [(9, -1, 2.0, 0, -1, 2.5), (3, -1, 0.0, -1, -1, 0.7)])
    sentence(tmp_path, 2, [(9, 0, 0.0, -1, 0.0, 0.0), (3, 7, 0.0, -1, 6.5, 4.0)])
    losses = {"loss_base": [3.0, 2.0, 4.0], "loss_reconstruction": [3.1, 2.1, 4.1], "loss_prediction": [4.1, 2.1, 6.1]}
    (tmp_path / "ce_loss_1.0.json").write_text(json.dumps(losses))
    (tmp_path / "ce_loss_0.05_sample_normalized.json").write_text(json.dumps(losses))
    (tmp_path / "explanations_layer6_top.json").write_text('{"9": "nine", "3": "three"}')
    (tmp_path / "scores_layer6_recall_top.csv").write_text("feature,balanced_accuracy\n3,0.8\n9,0.9\n")
    return tmp_path


def test_everything_is_read(published: Path) -> None:
    found = read_article(published)
    assert found.explanations == {"explanations_layer6_top": {3: "three", 9: "nine"}}
    assert found.scores["scores_layer6_recall_top"]["latent"].to_pylist() == [3, 9]
    rows = found.predictions.to_pylist()
    assert [(row["sentence"], row["latent"]) for row in rows] == [(0, 3), (0, 9), (1, 3), (1, 9), (2, 3), (2, 9)]
    assert rows[1] == {
        "sentence": 0, "latent": 9, "digit": 4, "rank": 0, "true": 1.5, "expected": 3.75, "predicted": 0.9
    }  # fmt: skip
    assert set(found.losses["condition"].to_pylist()) == {"1.0", "0.05_sample_normalized"}
    assert set(found.losses["fraction"].to_pylist()) == {1.0, 0.05}


def test_failures_are_no_numbers_and_no_ablation(published: Path) -> None:
    """A failed answer was stored as -1, in averages too; a sentence of failures alone looks like zero ablation."""
    found = read_article(published)
    expected = np.array(found.predictions["expected"].to_pylist(), float)
    assert np.isnan(expected[2:4]).all()
    assert np.nanmin(expected) >= 0
    result = next(r for r in reanalyse(found) if r.condition == "1.0")
    assert (result.sentences, result.without) == (2, 1)
    assert result.difference.value == pytest.approx(1.5)
    assert result.median == pytest.approx(1.5)
    assert result.difference.low <= 1.0
    assert result.difference.high >= 2.0
    assert result.base == pytest.approx(3.5)


def test_without_predictions_every_sentence_counts(published: Path) -> None:
    for path in published.glob("*all_data.csv"):
        path.unlink()
    assert [(r.sentences, r.without) for r in reanalyse(read_article(published))] == [(3, 0), (3, 0)]


def test_files_of_another_form(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no published results in"):
        read_article(tmp_path)
    (tmp_path / "ce_loss_1.0.json").write_text('{"loss_base": [1]}')
    with pytest.raises(DataError, match="does not hold the lists loss_base"):
        read_article(tmp_path)
    lists = {"loss_base": [1], "loss_reconstruction": [1, 2], "loss_prediction": [1]}
    (tmp_path / "ce_loss_1.0.json").write_text(json.dumps(lists))
    with pytest.raises(DataError, match="lists of different lengths"):
        read_article(tmp_path)
    (tmp_path / "ce_loss_1.0.json").unlink()
    (tmp_path / "0all_data.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"is no all_data\.csv of the article"):
        read_article(tmp_path)
