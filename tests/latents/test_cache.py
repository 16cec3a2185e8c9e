"""The cache stage: real models and coders against plain arithmetic, and what is done with odd activations."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from nlsim.coders.coder import CoderMeta, Codes
from nlsim.coders.config import CoderConfig
from nlsim.coders.file import write_coder
from nlsim.coders.sparse import SparseCoder, shapes
from nlsim.config import parse_config
from nlsim.corpus.splits import Split
from nlsim.errors import DataError
from nlsim.latents.cache_stage import Cache, check_vocabulary
from nlsim.latents.cache_stage import models as load_models
from nlsim.latents.encode import Encoded, batches, encode_rows, outlying
from nlsim.latents.index import LatentIndex
from nlsim.latents.index_stage import Index
from nlsim.latents.rows import TokenRows
from nlsim.pipeline.stage import StageContext
from nlsim.reconstruct import measure
from nlsim.store.artifact import Artifact
from nlsim.store.objects import open_objects
from nlsim.subject.config import SubjectConfig
from nlsim.subject.model import Subject

torch.set_num_threads(1)
WIDTH = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model, as save_pretrained leaves it."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
    model = GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=50, max_position_embeddings=32, **shape))
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def subject(folder: Path) -> Subject:
    return Subject.load(SubjectConfig(model=str(folder), device="cpu"))


def coder_of(activation: str = "topk", kind: str = "transcoder", hookpoint: str = "layers.1.mlp") -> SparseCoder:
    k = {"topk": 8}.get(activation)
    meta = CoderMeta.model_validate(
        {
            "kind": kind,
            "hookpoint": hookpoint,
            "d_in": 32,
            "d_out": 32,
            "width": WIDTH,
            "activation": activation,
            "k": k,
        }
    )
    generator = torch.Generator().manual_seed(1)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes(meta).items()}
    if "threshold_M" in tensors:
        tensors["threshold_M"] = tensors["threshold_M"].abs() + 3
    return SparseCoder(meta, tensors)


def rows_of(count: int = 30, context: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    length = np.where(rng.random(count) < 0.5, rng.integers(2, context + 1, count), context)
    tokens = rng.integers(1, 50, (count, context))
    tokens[np.arange(context)[None, :] >= length[:, None]] = 0
    return tokens, length


def dense(encoded: Encoded, tokens: int) -> np.ndarray:
    z_NM = np.zeros((tokens, WIDTH), np.float32)
    per_token = np.diff(encoded.indptr) if encoded.indptr is not None else (encoded.value > 0).sum(1)
    present = encoded.value > 0
    z_NM[np.repeat(np.arange(tokens), per_token), encoded.latent[present]] = encoded.value[present]
    return z_NM


@pytest.mark.parametrize("kind", ["sae", "transcoder"])
@pytest.mark.parametrize("activation", ["topk", "jumprelu", "relu"])
def test_codes_are_those_of_each_row_alone(subject: Subject, kind: str, activation: str) -> None:
    """Mistakes 11 and 14: the codes of a token are those of its whole row, in float32, whatever its batch."""
    tokens, length = rows_of()
    coder = coder_of(activation, kind)
    found = dense(encode_rows(subject, coder, tokens, length, outlier_norm=10, batch_tokens=100), int(length.sum()))
    offset = 0
    for row, size in zip(tokens, length, strict=True):
        captured = subject.capture(row[None, :size], np.array([size]), "layers.1.mlp")
        x_TD = (captured.output_BTD if kind == "sae" else captured.input_BTD)[0]
        pre_TM = coder.pre_activations(x_TD).relu()
        if activation == "topk":
            pre_TM = torch.where(pre_TM >= pre_TM.topk(8).values[:, -1:], pre_TM, 0)
        if activation == "jumprelu":
            pre_TM = torch.where(pre_TM > coder.tensors["threshold_M"], pre_TM, 0)
        pre_TM[0] = 0  # BOS
        np.testing.assert_allclose(found[offset : offset + size], pre_TM.numpy(), rtol=2e-3, atol=1e-4)
        offset += size


@given(st.lists(st.integers(1, 40), max_size=50), st.integers(1, 100))
def test_batches_hold_every_row_once_within_the_limit(length: list[int], most: int) -> None:
    found = list(batches(np.array(length, np.int64), most))
    assert sorted(int(row) for batch in found for row in batch) == list(range(len(length)))
    assert all(len(batch) == 1 or len(batch) * max(length[row] for row in batch) <= most for batch in found)


class Given:
    """A subject whose activations are given, and a coder of width 2 that reads off their components."""

    def __init__(self, x_BTD: np.ndarray) -> None:
        self.x_BTD = torch.from_numpy(x_BTD.astype(np.float32))
        meta = {"kind": "sae", "hookpoint": "h", "d_in": 2, "d_out": 2, "width": 2, "activation": "topk", "k": 2}
        self.meta = CoderMeta.model_validate(meta)
        self.decoder_MD = torch.eye(2)

    def capture(self, tokens_BT: np.ndarray, lengths_B: np.ndarray, hookpoint: str) -> Any:
        x_BTD = self.x_BTD[tokens_BT[:, 0]][:, : tokens_BT.shape[1]]  # a row's first token is its number
        return SimpleNamespace(input_BTD=x_BTD, output_BTD=x_BTD)

    def encode(self, x_ND: torch.Tensor) -> Codes:
        return Codes(torch.arange(2).expand(len(x_ND), 2), x_ND.relu())

    def encoded(self, **options: Any) -> Encoded:
        rows, context, _ = self.x_BTD.shape
        tokens = np.repeat(np.arange(rows)[:, None], context, 1)
        length = np.full(rows, context)
        return encode_rows(self, self, tokens, length, outlier_norm=10, batch_tokens=2 * context, **options)  # type: ignore[arg-type]


def test_massive_norms_are_flagged_against_the_median_of_their_row() -> None:
    """Mistake 7: position 0 is neither cached nor in the median; a row of large norms has no outlier for that."""
    x = np.ones((3, 6, 2))
    x[:, 0] = 1e6
    x[1] *= 100
    x[1, 4] *= 11
    x[2, 3] *= 9
    encoded = Given(x).encoded()
    assert encoded.outlier.tolist() == [6 + 4]
    assert not encoded.value.reshape(3, 6, 2)[:, 0].any()
    assert (encoded.value.reshape(3, 6, 2)[:, 1:] > 0).all()


def test_a_short_row_has_no_outlier_without_a_majority() -> None:
    norm = np.array([[9.0, 1.0, 50.0, 0.0], [9.0, 5.0, 0.0, 0.0], [9.0, 0.0, 0.0, 0.0]], np.float32)
    used = np.array([[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]], bool)
    assert outlying(norm, used, 10).tolist() == [[False, False, True, False], [False] * 4, [False] * 4]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_activations_that_are_not_finite(bad: float) -> None:
    x = np.ones((5, 6, 2))
    x[3, 2, 1] = bad
    with pytest.raises(DataError, match=r"at h are not finite in row 103: run the subject in float32"):
        Given(x).encoded(names=np.arange(100, 105))
    x[3, 2, 1] = 1
    x[:, 0] = bad  # at position 0 nobody looks
    assert (Given(x).encoded().value.reshape(5, 6, 2)[:, 1:] == 1).all()


def test_tokens_that_the_model_does_not_have() -> None:
    """A tokenizer with more tokens than the model embeds is another model's."""
    subject = SimpleNamespace(vocabulary=50, config=SubjectConfig(model="x"))
    one = np.ones(2, np.int64)
    check_vocabulary(TokenRows(np.array([[0, 49], [0, 3]]), 2 * one, 0 * one), subject)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="the text has token 50, the subject embeds 50: the tokenizer of x belongs"):
        check_vocabulary(TokenRows(np.array([[0, 50], [0, 3]]), 2 * one, 0 * one), subject)  # type: ignore[arg-type]


def test_values_beyond_float16_are_counted() -> None:
    x = np.full((1, 4, 2), 1e5)
    encoded = Given(x).encoded()
    assert encoded.saturated == 6
    assert encoded.value.max() == np.finfo(np.float16).max


def run(
    root: Path, folder: Path, coder: SparseCoder, cache_shards: int, index_shards: int
) -> tuple[LatentIndex, Artifact]:
    """Both stages on 40 rows of four splits, with the models read from files."""
    write_coder(coder, root / "coder.safetensors")
    subject = {"model": str(folder), "device": "cpu"}
    config = parse_config({"name": "t", "subject": subject, "coder": {"path": str(root / "coder.safetensors")}})
    assert {"model.safetensors", "coder"} <= Cache().identity(config).keys()
    store = open_objects(root)
    tokens, length = rows_of(40)
    artifacts = {
        "tokens": Artifact(store, "tokens", "0" * 16, 1),
        "cache": Artifact(store, "cache", "1" * 16, cache_shards),
        "index": Artifact(store, "index", "2" * 16, index_shards),
    }
    writer = artifacts["tokens"].begin(0)
    split = np.repeat([Split.TRAIN, Split.EXPLAIN, Split.SCORE, Split.EVALUATE], 10)
    arrays = {"tokens": tokens.astype(np.int32), "length": length.astype(np.int32), "split": split.astype(np.uint8)}
    writer.arrays("rows", arrays)
    writer.commit()
    for stage in (Cache(), Index()):
        for shard in range(artifacts[stage.name].shards):
            inputs = {name: artifacts[name] for name in stage.inputs}
            writer = artifacts[stage.name].begin(shard)
            stage.execute(StageContext(config, shard, artifacts[stage.name].shards, inputs, writer, lambda *_: None))
            writer.commit()
    return LatentIndex(artifacts["tokens"], artifacts["cache"], artifacts["index"]), artifacts["cache"]


@pytest.mark.parametrize("activation", ["topk", "jumprelu"])
def test_from_tokens_to_index(tmp_path: Path, folder: Path, subject: Subject, activation: str) -> None:
    """Cache and index with real parts: the same codes row by row and latent by latent, however they are sharded."""
    coder = coder_of(activation)
    one, cache = run(tmp_path / "one", folder, coder, 1, 1)
    many, _ = run(tmp_path / "many", folder, coder, 4, 3)
    tokens, length = rows_of(40)
    direct = dense(encode_rows(subject, coder, tokens, length, outlier_norm=10, batch_tokens=1024), int(length.sum()))
    cached = np.arange(10, 40)
    truth = direct[int(length[:10].sum()) :]
    for index in (one, many):
        codes = index.codes_of_rows(cached)
        np.testing.assert_allclose(codes.dense(np.arange(WIDTH), WIDTH), truth, rtol=2e-3, atol=1e-4)
        by_latent = np.zeros((40 * 12, WIDTH), np.float32)
        for latent in range(WIDTH):
            active = index.activations(latent)
            by_latent[active.token, latent] = active.value
        np.testing.assert_array_equal(by_latent[codes.token_N], codes.dense(np.arange(WIDTH), WIDTH))
        np.testing.assert_allclose(index.table.decoder_norm_M, coder.decoder_MD.norm(dim=1).numpy(), rtol=1e-6)
    counts = cache.record(0).counts
    assert (counts["rows"], counts["tokens"]) == (30, int(length[10:].sum()))
    assert counts["active"] == (truth > 0).sum()


def test_bytes_per_activation(tmp_path: Path, folder: Path) -> None:
    index, cache = run(tmp_path, folder, coder_of(), 1, 1)
    active = cache.record(0).counts["active"]
    stored = index._index.record(0).objects["csc.safetensors"].size
    assert stored <= 6 * active + 8 * (WIDTH + 1) + 300


def test_shards_follow_from_the_configuration() -> None:
    data: dict[str, Any] = {"name": "t", "subject": {}, "coder": {}}
    rows = {"train": 10**6, "explain": 3000, "score": 500, "calibrate": 400, "evaluate": 100}
    config = parse_config({**data, "corpus": {"context": 256, "rows": rows}})
    assert Cache().shards(config) == 2  # 4,000 rows of 256 tokens; train is not cached
    assert Index().shards(config) == 1
    assert Cache().estimate(config).tokens == 4000 * 256


def test_models_are_loaded_once_per_process(folder: Path, tmp_path: Path) -> None:
    write_coder(coder_of(), tmp_path / "coder.safetensors")
    config = parse_config(
        {"name": "t", "subject": {"model": str(folder)}, "coder": {"path": str(tmp_path / "coder.safetensors")}}
    )
    again = config.model_copy(deep=True)
    assert load_models(config.subject, config.coder)[0] is load_models(again.subject, again.coder)[0]


def test_the_coder_goes_where_the_subject_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A subject on a GPU needs its coder there too, in the cache and in patched runs alike."""
    asked = []
    placed = type("Placed", (), {"device": torch.device("cuda", 1)})()
    monkeypatch.setattr("nlsim.subject.model.Subject.load", lambda _: placed)
    monkeypatch.setattr("nlsim.coders.load.load_coder", lambda _, device: asked.append(device))
    load_models.__wrapped__(SubjectConfig(), CoderConfig())
    assert asked == ["cuda:1"]
    assert measure.models is load_models


def test_a_coder_that_does_not_fit(subject: Subject) -> None:
    meta = coder_of().meta.model_copy(update={"d_out": 16})
    coder = SparseCoder(meta, {name: torch.zeros(shape) for name, shape in shapes(meta).items()})
    tokens, length = rows_of(3)
    with pytest.raises(DataError, match=r"maps 32 components to 16, but .*layers\.1\.mlp .*32 to 32"):
        encode_rows(subject, coder, tokens, length, outlier_norm=10, batch_tokens=100)
