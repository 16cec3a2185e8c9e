"""An embedding model whose embeddings are known: the mean of its words' vectors."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from nlsim.score.embedding import INSTRUCTION

WORDS = ["[UNK]", "cats", "dogs", "rain", "snow", *INSTRUCTION.replace(":", "").split()]


def save_word_vectors(path: Path) -> None:
    """BERT without layers: word vectors alone, at right angles to each other; those of the instruction are short."""
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
