"""Small tokenizers of the two families that subjects use, trained in the test: byte-level, and SentencePiece-like."""

from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SENTENCES = [
    "The quick brown fox doesn't jump over the lazy dog; it sleeps.",
    "def encode(self, text):\n    return [self.table[c] for c in text]\n",
    "Numbers such as 3.14159 and 2718 occur, and naïve café words — with dashes.",
    "数据 and 文字 without spaces: 汉字汉字汉字. Emoji 🦊🦊 too.",
]


@cache
def byte_level() -> PreTrainedTokenizerFast:
    """GPT-2's form, with an added run of spaces as GPT-NeoX has, and <|end|> for BOS and EOS."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    tokenizer.add_tokens([AddedToken("   ", normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|end|>", eos_token="<|end|>")


@cache
def sentencepiece_like() -> PreTrainedTokenizerFast:
    """Gemma's form: ▁ for spaces, bytes for unknown characters."""
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    letters = sorted({c for sentence in SENTENCES for c in sentence.replace(" ", "▁") if ord(c) < 0x80 or c == "▁"})
    vocabulary = {token: i for i, token in enumerate(tokens + [c for c in letters if c != "\n"])}
    merges = []
    for left, right in [("t", "h"), ("th", "e"), ("▁", "the"), ("▁", "a"), ("▁", "▁"), ("i", "n")]:
        merges.append((left, right))
        vocabulary[left + right] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )
