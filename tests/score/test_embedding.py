"""The embedding scorer on a model whose embeddings are known: the mean of its words' vectors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from nlsim.errors import DataError, UsageError
from nlsim.score.embedding import INSTRUCTION, EmbeddingScorer

WORDS = ["[UNK]", "cats", "dogs", "rain", "snow", *INSTRUCTION.replace(":", "").split()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BERT without layers: word vectors alone, at right angles to each other; those of the instruction are short."""
    path = tmp_path_factory.mktemp("embedding")
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", model_max_length=64).save_pretrained(path)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4}
    model = BertModel(BertConfig(vocab_size=len(WORDS), max_position_embeddings=64, **shape))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(float("LayerNorm.weight" in name))
        model.embeddings.word_embeddings.weight.copy_(torch.eye(len(WORDS), 32))
    model.save_pretrained(path)
    return path


@pytest.mark.filterwarnings("ignore")  # the library's own
def test_texts_that_share_words_with_the_explanation_are_nearer(folder: Path) -> None:
    scorer = EmbeddingScorer(str(folder))
    found = scorer.similarity("cats dogs", ["cats dogs", "cats", "rain snow", "dogs cats cats dogs"])
    assert found[0] == pytest.approx(found[3], abs=1e-5)
    assert found[0] > found[1] > found[2]
    assert ((found >= -1 - 1e-6) & (found <= 1 + 1e-6)).all()


@pytest.mark.filterwarnings("ignore")
def test_batches_and_padding_change_nothing(folder: Path) -> None:
    """Texts of many lengths, more than one batch: each has the value that it has alone."""
    scorer = EmbeddingScorer(str(folder))
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS[1:5], size=1 + n % 7)) for n in range(40)]
    together = scorer.similarity("cats", texts)
    assert together.shape == (40,)
    for text, similarity in list(zip(texts, together, strict=True))[::6]:
        assert scorer.similarity("cats", [text])[0] == pytest.approx(similarity, abs=1e-5)
    assert scorer.similarity("cats", []).shape == (0,)


@pytest.mark.filterwarnings("ignore")
def test_longer_texts_than_the_model_takes_are_cut(folder: Path) -> None:
    scorer = EmbeddingScorer(str(folder))
    found = scorer.similarity("cats", ["cats " * 100, "cats " * 50])
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_no_model_and_no_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"set score\.embedding_model"):
        EmbeddingScorer(None)
    with pytest.raises(DataError, match="no embedding model in"):
        EmbeddingScorer(str(tmp_path))
