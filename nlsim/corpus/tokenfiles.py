"""Rows of tokens that were made elsewhere: NumPy, safetensors, Parquet or JSON-lines files, or a delphi cache."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nlsim.corpus.config import CorpusConfig, TokensSource
from nlsim.corpus.delphi import DelphiCache, splits_of, whole_numbers
from nlsim.corpus.rows import Rows
from nlsim.corpus.splits import Split, assign, unit_hash
from nlsim.errors import DataError
from nlsim.foreign import json_of, local_path, reading
from nlsim.store.cache import file_sha256


def token_rows(source: TokensSource, config: CorpusConfig, vocabulary: int) -> Rows:
    """The file's rows as they are, each a document of its own called `row:NUMBER`, at most as many as the budgets ask.

    The first token of a row stands where BOS stands in other corpora: it is never an example or a target. Rows that
    repeat another one, and rows of fewer than `min_tokens` tokens after the first, are left out. Raises DataError for
    rows longer than `context` and for tokens that the subject's vocabulary does not have.
    """
    tokens_RT, length_R = read_tokens(source)
    longest, largest = int(length_R.max(initial=0)), int(tokens_RT.max(initial=0))
    if longest > config.context:
        raise DataError(f"{source.path} has rows of {longest} tokens", f"set corpus.context to {longest} or more")
    if largest >= vocabulary or int(tokens_RT.min(initial=0)) < 0:
        raise DataError(
            f"{source.path} has token {largest}, the subject's tokenizer {vocabulary} of them",
            "the tokens were made with another tokenizer",
        )
    chosen: dict[Split, list[tuple[float, int]]] = {split: [] for split in Split}
    seen: set[bytes] = set()
    for row, length in enumerate(length_R.tolist()):
        key = hashlib.sha256(tokens_RT[row, :length].tobytes()).digest()[:16]
        if length > config.min_tokens and key not in seen:
            seen.add(key)
            split = assign(config.seed, f"row:{row}", config.fractions)
            chosen[split].append((unit_hash("row", config.seed, f"row:{row}", 0), row))
    for split in Split:
        chosen[split] = sorted(chosen[split])[: getattr(config.rows, split.key)]
        if getattr(config.rows, split.key) and not chosen[split]:
            raise DataError(f"no row for the split {split.key}", "give more rows, or change corpus.fractions")
    order = np.array([row for split in Split for _, row in chosen[split]], np.int64)
    split_R = np.repeat([int(split) for split in Split], [len(chosen[split]) for split in Split]).astype(np.uint8)
    documents, number_R = np.unique(order, return_inverse=True)
    tokens = np.zeros((len(order), config.context), np.int32)
    tokens[:, : tokens_RT.shape[1]] = tokens_RT[order][:, : config.context]
    tokens[np.arange(config.context) >= length_R[order][:, None]] = 0
    document_split = np.zeros(len(documents), np.uint8)
    document_split[number_R] = split_R
    return Rows(
        tokens=tokens,
        length=length_R[order],
        document=number_R.astype(np.int32),
        start=np.zeros(len(order), np.int32),
        split=split_R,
        names=[f"row:{row}" for row in documents.tolist()],
        document_split=document_split,
        document_tokens=length_R[documents],
    )


def read_tokens(source: TokensSource) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Tokens [rows, longest], zeros after each row's end, and lengths [rows]. Raises DataError when it cannot."""
    path = local_path(source.path)
    if path.is_dir() or path.suffix == ".safetensors":
        found = DelphiCache(path).rows()
        if found is None:
            raise DataError(f"{path} was written without its tokens", "give them as a .npy file of rows × positions")
        return found
    if not path.is_file():
        raise DataError(f"no token file at {path}", "check corpus.source.path")
    with reading(path, "see corpus.source.kind: tokens", "rows of tokens"):
        if path.suffix == ".npy":
            table = np.load(path, allow_pickle=False)
            if table.ndim != 2 or not np.issubdtype(table.dtype, np.integer):
                raise DataError(
                    f"{path} holds {table.dtype} of shape {table.shape}", "give whole numbers, rows × positions"
                )
            return whole_numbers(table).astype(np.int32), np.full(len(table), table.shape[1], np.int32)
        return _padded(_lists(path, source.column))


def tokens_identity(source: TokensSource) -> dict[str, str]:
    """The digest of the file, of a delphi cache that of the file with its tokens."""
    path = local_path(source.path)
    if path.is_dir():
        path = splits_of(path)[0].path
    if not path.is_file():
        raise DataError(f"no token file at {path}", "check corpus.source.path")
    return {"tokens": file_sha256(path)}


def _lists(path: Path, column: str) -> list[list[int]]:
    if path.suffix in (".jsonl", ".ndjson"):
        with path.open(encoding="utf-8") as lines:
            return [list(map(int, json_of(line)[column])) for line in lines if line.strip()]
    if path.suffix == ".parquet":
        import pyarrow.parquet

        rows: list[list[int]] = pyarrow.parquet.read_table(path, columns=[column])[column].to_pylist()
        return rows
    raise DataError(f"{path} is no kind of token file that is known", "use .npy, .safetensors, .parquet or .jsonl")


def _padded(rows: list[list[int]]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    length = np.array([len(row) for row in rows], np.int32)
    tokens = np.zeros((len(rows), int(length.max(initial=0))), np.int32)
    for number, row in enumerate(rows):
        tokens[number, : len(row)] = whole_numbers(row or np.zeros(0, np.int64))
    return tokens, length
