"""Whatever a file of another tool holds: it is read, or refused by one of nlsim's errors."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from fuzz.material import LONG, SCALARS, TEXTS, VALUES, altered, elsewise, fuzz, survives
from hypothesis import example
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save

from nlsim.coders.config import CoderConfig
from nlsim.coders.load import coder_meta, load_coder
from nlsim.corpus.config import FilesSource, TokensSource
from nlsim.corpus.documents import open_documents
from nlsim.corpus.pieces import token_pieces
from nlsim.corpus.tokenfiles import read_tokens
from nlsim.exchange.article import read_article, reanalyse
from nlsim.exchange.explanations import read_explanations, read_features
from nlsim.exchange.scores import read_scores
from nlsim.explain.imported import read_texts
from nlsim.latents.imported import imported_codes
from nlsim.lm.adapter import read_card
from nlsim.subject.config import SubjectConfig
from nlsim.subject.model import Subject
from nlsim.subject.tokenizer import load_tokenizer

ASSETS = Path("nlsim/assets")


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


# Explanations, scores, features, published results

TEXT_FORMS = [{"0": "a", "3": "b"}, [{"latent": 1, "text": "a"}, {"latent": 2, "explanation": "b"}]]
OTHERS = [
    *TEXT_FORMS,
    [{"modelId": "m", "layer": "l", "index": "7", "description": "a"}],
    {"features": [1, {"index": 2}]},
]


@fuzz(st.sampled_from(OTHERS).flatmap(elsewise).map(as_json) | altered(as_json(OTHERS[2])) | VALUES.map(as_json))
@example(b"[" * 100_000)
@example(b'{"1": "\\ud83d"}')
@example(b'{"%s": "a"}' % (b"9" * 5000))
def test_explanations(tmp_path: Path, data: bytes) -> None:
    for name, content in {
        "e.json": data,
        "e.jsonl": data,
        "e.jsonl.gz": gzip.compress(data),
        "f.json.gz": data,
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        found = [survives(lambda path=path: read_explanations(path)), survives(lambda path=path: read_texts(path, 8))]
        survives(lambda path=path: read_features(path))
        for texts in found:
            assert all(text.encode() is not None and latent >= 0 for latent, text in (texts or {}).items())


@fuzz(st.lists(st.lists(TEXTS, max_size=3), max_size=4), altered(b'latent,text\n1,a\n2,"b\nc"\n'))
@example([], b'latent,text\n1,"' + b"x" * 200_000)
def test_explanations_as_csv(tmp_path: Path, rows: list[list[str]], data: bytes) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([["latent", "text"], *rows])
    for content in (text.getvalue().encode("utf-8", "surrogatepass"), data):
        (tmp_path / "e.csv").write_bytes(content)
        survives(lambda: read_texts(tmp_path / "e.csv", 8))
        survives(lambda: read_scores(tmp_path / "e.csv"))


COLUMN = st.sampled_from([pa.int64(), pa.float64(), pa.string(), pa.binary(), pa.list_(pa.int32()), pa.bool_()])


def parquet(columns: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), sink)
    return sink.getvalue()


@fuzz(COLUMN, COLUMN, altered(parquet({"latent": [1, 2], "text": ["a", "b"]})))
def test_explanations_as_parquet(tmp_path: Path, first: Any, second: Any, data: bytes) -> None:
    values = {"int64": [1, -7], "double": [1.5, float("nan")], "string": ["1", "x"], "binary": [b"1", b"\xff"],
              "bool": [True, None]}  # fmt: skip
    columns = {name: pa.array(values.get(str(kind), [[1], None]), kind) for name, kind in
               (("latent", first), ("text", second))}  # fmt: skip
    for content in (parquet(columns), data):
        (tmp_path / "e.parquet").write_bytes(content)
        survives(lambda: read_texts(tmp_path / "e.parquet", 8))
        survives(lambda: list(open_documents(FilesSource(paths=(str(tmp_path / "e.parquet"),)))))
        survives(lambda: read_tokens(TokensSource(path=str(tmp_path / "e.parquet"), column="latent")))


EXAMPLES = [
    {
        "str_tokens": ["a"],
        "activations": [0.5],
        "distance": 1,
        "activating": True,
        "prediction": True,
        "probability": 0.9,
    },
    {"str_tokens": ["b"], "activations": [0.0], "ground_truth": False, "prediction": -1},
]


@fuzz(elsewise(EXAMPLES).map(as_json) | altered(as_json(EXAMPLES)))
def test_scores(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "detection").mkdir(exist_ok=True)
    (tmp_path / "detection" / "m_latent4.txt").write_bytes(data)
    survives(lambda: read_scores(tmp_path))
    survives(lambda: read_explanations(tmp_path / "detection"))


LOSSES = {"loss_base": [1.0, 2.0], "loss_reconstruction": [1.5, 2.5], "loss_prediction": [2.0, 9.0]}
COLUMNS = b"feature,predicted_quantile,activation,order,expected_quantile,predicted_activation\n"
SENTENCE = COLUMNS + b"3,5,0.5,0,4.5,0.4\n4,-1,0,1,-1,0\n"


@fuzz(elsewise(LOSSES).map(as_json) | altered(as_json(LOSSES)), altered(SENTENCE), share=0.4)
def test_published_results(tmp_path: Path, losses: bytes, sentence: bytes) -> None:
    (tmp_path / "ce_loss_0.05.json").write_bytes(losses)
    (tmp_path / "0all_data.csv").write_bytes(sentence)
    survives(lambda: list(reanalyse(read_article(tmp_path))))
    (tmp_path / "0all_data.csv").write_bytes(SENTENCE)
    survives(lambda: list(reanalyse(read_article(tmp_path))))


# Text and tokens


@fuzz(
    st.lists(st.fixed_dictionaries({"text": SCALARS | VALUES}), max_size=3),
    altered(b'{"text": "a b"}\n{"text": "c"}\n'),
)
@example([], b'{"text": "\\ud800"}\n')
@example([], b'{"text": ' + b"[" * 100_000)
@example([{"text": [{"role": "user<|im_end|>", "content": "x"}]}], b"")
def test_documents(tmp_path: Path, rows: list[Any], data: bytes) -> None:
    for content in ("".join(json.dumps(row) + "\n" for row in rows).encode(), data):
        for name in ("d.jsonl", "d.txt"):
            (tmp_path / name).write_bytes(content)
            found = survives(lambda name=name: list(open_documents(FilesSource(paths=(str(tmp_path / name),)))))
            assert all(document.text.encode() is not None for document in found or [])


ARRAYS = hnp.arrays(
    st.sampled_from([np.int64, np.uint16, np.int8, np.float32, np.float16, np.bool_]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


@fuzz(ARRAYS, st.lists(st.lists(SCALARS, max_size=3) | SCALARS, max_size=3))
def test_files_of_tokens(tmp_path: Path, array: Any, rows: list[Any]) -> None:
    np.save(tmp_path / "t.npy", array)
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"input_ids": row}) + "\n" for row in rows))
    for name in ("t.npy", "t.jsonl"):
        found = survives(lambda name=name: read_tokens(TokensSource(path=str(tmp_path / name))))
        if found is not None:
            tokens, length = found
            assert tokens.ndim == 2
            assert (tokens >= 0).all()
            assert len(length) == len(tokens)


CACHE = {
    "locations": np.array([[0, 1, 2], [1, 3, 5]], np.uint16),
    "activations": np.array([1.5, 0.25], np.float16),
    "tokens": np.array([[9, 1, 2, 3], [9, 4, 5, 6]], np.int64),
}


@fuzz(st.sampled_from([*CACHE, "lengths"]), ARRAYS, altered(save(CACHE)), elsewise({"model_name": "m"}).map(as_json))
@example("locations", np.array([[-1, 1, 2]], np.int64), b"", b"{}")
@example("locations", np.array([[0, 1, -3]], np.int64), b"", b"{}")
@example("tokens", np.array([[1 << 40]], np.int64), b"", b"{}")
@example("lengths", np.array([99, -1], np.int64), b"", b"[" * 9000)
def test_caches(tmp_path: Path, name: str, array: Any, data: bytes, config: bytes) -> None:
    (tmp_path / "config.json").write_bytes(config)
    for content in (save({**CACHE, name: np.ascontiguousarray(array)}), data):
        (tmp_path / "0_7.safetensors").write_bytes(content)
        rows = survives(lambda: read_tokens(TokensSource(path=str(tmp_path))))
        length = np.array([4, 4]) if rows is None else rows[1].astype(np.int64)
        codes = survives(lambda length=length: imported_codes(str(tmp_path), np.arange(len(length)), length, width=8))
        if codes is not None and len(codes.latent):
            assert codes.latent.max() < 8
            assert (codes.value.astype(np.float32) >= 0).all()


# Coders, models, adapters

CODER = (ASSETS / "coders" / "tiny-skip.safetensors").read_bytes()
HEAD = 8 + int.from_bytes(CODER[:8], "little")


@fuzz(altered(CODER[:HEAD]), share=0.5)
def test_a_coders_header(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "c.safetensors").write_bytes(header + CODER[HEAD:])
    survives(lambda: load_coder(CoderConfig(path=str(tmp_path / "c.safetensors"))))


SETTINGS = [
    {"d_in": 4, "d_sae": 8, "architecture": "standard", "metadata": {"hook_name": "blocks.0.hook_mlp_out"}},
    {"d_in": 4, "k": 2, "num_latents": 8, "activation": "topk", "transcode": False},
    {"trainer": {"dict_class": "BatchTopKSAE", "layer": 3, "lm_name": "m", "submodule_name": "mlp_out_layer_3"}},
    {"hook_point_in": "blocks.1.hook_mlp_out", "hook_point_out": "blocks.1.hook_mlp_out", "d_model": 4, "d_sae": 8,
     "act_fn": "jumprelu", "dataset_average_activation_norm": {"in": 1.0, "out": 1.0}},
]  # fmt: skip
WEIGHTS = save({name: np.ones((4, 8), np.float32) for name in ("W_enc", "W_dec", "encoder.weight")} | {
    "b_enc": np.ones(8, np.float32), "b_dec": np.ones(4, np.float32)})  # fmt: skip


def torch_bytes() -> bytes:
    sink = io.BytesIO()
    torch.save({"encoder.weight": torch.ones(8, 4), "decoder.weight": torch.ones(4, 8), "k": torch.tensor(2)}, sink)
    return sink.getvalue()


@fuzz(st.sampled_from(SETTINGS).flatmap(elsewise).map(as_json), altered(WEIGHTS), altered(torch_bytes()), share=0.5)
def test_coders_of_other_libraries(tmp_path: Path, settings: bytes, weights: bytes, state: bytes) -> None:
    forms = {"sae.safetensors": weights, "ae.pt": state, "params.npz": state}
    if LONG:  # else not worth the seconds that the library takes to be imported
        forms["sae_weights.safetensors"] = WEIGHTS
    for name, content in forms.items():
        folder = tmp_path / name.replace(".", "-")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / name).write_bytes(content)
        for config in ("cfg.json", "config.json"):
            (folder / config).write_bytes(settings)
        where = CoderConfig(path=str(folder), hookpoint="layers.0.mlp")
        survives(lambda where=where: coder_meta(where))
        survives(lambda where=where: load_coder(where))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ASSETS / "tiny", tmp_path / "tiny"))


TOKENIZER = json.loads((ASSETS / "tiny" / "tokenizer.json").read_text(encoding="utf-8"))
TOKENIZER["model"]["merges"], TOKENIZER["model"]["vocab"] = [], dict(list(TOKENIZER["model"]["vocab"].items())[:300])


@fuzz(elsewise(TOKENIZER).map(as_json) | altered(as_json(TOKENIZER)), share=0.4)
def test_tokenizers(model: Path, data: bytes) -> None:
    (model / "tokenizer.json").write_bytes(data)
    tokenizer = survives(lambda: load_tokenizer(SubjectConfig(model=str(model))))
    if tokenizer is not None:
        pieces = survives(lambda: token_pieces(tokenizer))
        assert pieces is None or pieces.strings([0]) is not None


MODEL = json.loads((ASSETS / "tiny" / "config.json").read_text(encoding="utf-8"))


@fuzz(elsewise(MODEL, SCALARS | VALUES).map(as_json), altered(as_json(MODEL)), share=0.3)
def test_models(model: Path, settings: bytes, data: bytes) -> None:
    for content in (settings, data):
        (model / "config.json").write_bytes(content)
        survives(lambda: Subject.load(SubjectConfig(model=str(model), device="cpu")))


CARD = {"template": {"shots": 2}, "coder": "c", "latents": [1, 2], "documents": ["a"]}


@fuzz(elsewise(CARD).map(as_json) | altered(as_json(CARD)))
def test_cards_of_adapters(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "nlsim.json").write_bytes(data)
    survives(lambda: read_card(str(tmp_path)))
