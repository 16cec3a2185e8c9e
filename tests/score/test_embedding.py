"""The embedding scorer on a model whose embeddings are known: the mean of its words' vectors."""

from pathlib import Path

import numpy as np
import pytest
from score.word_vectors import WORDS

from nlsim.errors import DataError, UsageError
from nlsim.score.embedding import EmbeddingScorer


@pytest.mark.filterwarnings("ignore")  # the library's own
def test_texts_that_share_words_with_the_explanation_are_nearer(embedding_model: Path) -> None:
    scorer = EmbeddingScorer(str(embedding_model))
    found = scorer.similarity("cats dogs", ["cats dogs", "cats", "rain snow", "dogs cats cats dogs"])
    assert found[0] == pytest.approx(found[3], abs=1e-5)
    assert found[0] > found[1] > found[2]
    assert ((found >= -1 - 1e-6) & (found <= 1 + 1e-6)).all()


@pytest.mark.filterwarnings("ignore")
def test_batches_and_padding_change_nothing(embedding_model: Path) -> None:
    """Texts of many lengths, more than one batch: each has the value that it has alone."""
    scorer = EmbeddingScorer(str(embedding_model))
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS[1:5], size=1 + n % 7)) for n in range(40)]
    together = scorer.similarity("cats", texts)
    assert together.shape == (40,)
    for text, similarity in list(zip(texts, together, strict=True))[::6]:
        assert scorer.similarity("cats", [text])[0] == pytest.approx(similarity, abs=1e-5)
    assert scorer.similarity("cats", []).shape == (0,)


@pytest.mark.filterwarnings("ignore")
def test_longer_texts_than_the_model_takes_are_cut(embedding_model: Path) -> None:
    scorer = EmbeddingScorer(str(embedding_model))
    found = scorer.similarity("cats", ["cats " * 100, "cats " * 50])
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_no_model_and_no_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"set score\.embedding_model"):
        EmbeddingScorer(None)
    with pytest.raises(DataError, match="no embedding model in"):
        EmbeddingScorer(str(tmp_path))
