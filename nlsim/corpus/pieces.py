"""The bytes of every token as they appear in text, and the text of a row with the place of each token in it."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from nlsim.errors import DataError, UsageError

if TYPE_CHECKING:
    import pyarrow
    from transformers import PreTrainedTokenizerFast

    from nlsim.store.artifact import Artifact

MOST_TOKENS = 1 << 24
"""More than any vocabulary has."""
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class RowText(NamedTuple):
    """A stretch of text and where its tokens are."""

    text: str
    start: NDArray[np.int32]
    """[tokens] character at which each token's text starts."""
    end: NDArray[np.int32]
    """[tokens] character after each token's text; the spans touch and cover the text."""


class Pieces:
    """Token id → the bytes that the token stands for in running text. Special tokens have their spelling."""

    def __init__(self, pieces: Sequence[bytes], special: Collection[int] = ()) -> None:
        self.bytes = list(pieces)
        self.special = frozenset(special)

    @classmethod
    def of(cls, tokens: Artifact) -> Self:
        """The pieces in a *tokens* artifact."""
        table = tokens.table(0, "pieces")
        special = np.flatnonzero(table.column("special").to_numpy())
        return cls(table.column("bytes").to_pylist(), special.tolist())

    def table(self) -> pyarrow.Table:
        """Columns id, bytes, special."""
        import pyarrow as pa

        ids = range(len(self.bytes))
        special = [token in self.special for token in ids]
        return pa.table(
            {"id": pa.array(ids, pa.int32()), "bytes": pa.array(self.bytes, pa.binary()), "special": special}
        )

    def __len__(self) -> int:
        return len(self.bytes)

    def text(self, tokens: Sequence[int] | NDArray[np.integer]) -> RowText:
        """The text of consecutive tokens (without BOS) and each token's span.

        A character spelled by several tokens belongs to the last of them, which completes it; the others get an empty
        span. Bytes that are no valid UTF-8, also at the end, show as U+FFFD.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        last = len(tokens) - 1
        parts = [decoder.decode(self.bytes[int(token)], final=i == last) for i, token in enumerate(tokens)]
        end = np.cumsum([len(part) for part in parts], dtype=np.int32)
        return RowText("".join(parts), np.concatenate([np.zeros(1, np.int32), end])[: len(parts)], end)

    def strings(self, tokens: Sequence[int] | NDArray[np.integer]) -> list[str]:
        """The text of each token of a stretch; together they are the stretch's text."""
        row = self.text(tokens)
        return [row.text[a:b] for a, b in zip(row.start, row.end, strict=True)]


def token_pieces(tokenizer: PreTrainedTokenizerFast) -> Pieces:
    """The bytes of all tokens, read off a fast tokenizer's vocabulary.

    Byte-level BPE (GPT-2, GPT-NeoX, Llama 3, Qwen, SmolLM2): one letter of a fixed 256-letter alphabet per byte.
    SentencePiece-like (Llama 2, Mistral, Gemma): `▁` is a space, `<0x0A>` a byte. Added tokens are spelled as they are.
    Raises UsageError for another kind of tokenizer, DataError for a damaged one.
    """
    backend = tokenizer.backend_tokenizer
    decoder = json.dumps(json.loads(backend.to_str()).get("decoder"))
    if "ByteLevel" in decoder:
        alphabet = {letter: byte for byte, letter in byte_alphabet().items()}
    elif "▁" in decoder or "Metaspace" in decoder or "ByteFallback" in decoder:
        alphabet = None
    else:
        raise UsageError(
            "cannot tell the bytes of this tokenizer's tokens", "use a byte-level or SentencePiece tokenizer"
        )
    added = {token_id: added.content for token_id, added in tokenizer.added_tokens_decoder.items()}
    vocabulary = backend.get_vocab(with_added_tokens=True)
    count = 1 + max(vocabulary.values(), default=-1)  # numbers may have gaps
    if count > MOST_TOKENS:
        raise DataError(f"the tokenizer numbers a token {count - 1}", "it is damaged: save it again")
    pieces = [b""] * count
    for token, token_id in sorted(vocabulary.items()):
        if token_id in added:
            pieces[token_id] = added[token_id].encode()
        elif alphabet is not None:
            if not alphabet.keys() >= set(token):
                raise DataError(f"the tokenizer's token {token_id} is not spelled in bytes", "save it again")
            pieces[token_id] = bytes(alphabet[letter] for letter in token)
        elif match := _BYTE_TOKEN.fullmatch(token):
            pieces[token_id] = bytes([int(match[1], 16)])
        else:
            pieces[token_id] = token.replace("▁", " ").encode()
    return Pieces(pieces, tokenizer.all_special_ids)


def byte_alphabet() -> dict[int, str]:
    """GPT-2's byte → letter table: printable Latin-1 bytes are themselves, the rest are letters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in set(printable)]
    return {byte: chr(byte) for byte in printable} | {byte: chr(0x100 + i) for i, byte in enumerate(rest)}
