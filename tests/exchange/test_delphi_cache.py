"""Activation caches of delphi, out and in again, and in from files written as delphi writes them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from nlsim.api.run import RunView, open_run
from nlsim.config import parse_config
from nlsim.corpus.config import CorpusConfig, TokensSource
from nlsim.corpus.delphi import DelphiCache, boundaries
from nlsim.corpus.tokenfiles import read_tokens, token_rows
from nlsim.errors import DataError
from nlsim.exchange.delphi_cache import export_cache
from nlsim.latents.imported import file_rows, imported_codes
from nlsim.pipeline.execute import execute_shard
from nlsim.pipeline.run import Run
from nlsim.progress import LineReporter


@pytest.fixture(scope="module")
def run(tiny_run: tuple[str, str]) -> RunView:
    return open_run(tiny_run[0])


@pytest.fixture(scope="module")
def exported(run: RunView, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_cache(run, tmp_path_factory.mktemp("delphi"), files=3)


def test_files_are_those_of_delphi(run: RunView, exported: Path) -> None:
    """Names, types and order; adding a file's first latent back gives the coder's numbers (mistake 30 forgot to)."""
    assert exported.name == "layers.2.mlp"
    width, index = run.latents.width, run.latents.index
    files = sorted(exported.glob("*.safetensors"), key=lambda path: int(path.stem.split("_")[0]))
    assert [path.stem for path in files] == [f"{start}_{end}" for start, end in boundaries(width, 3)]
    assert boundaries(32768, 5) == [(0, 6552), (6553, 13106), (13107, 19659), (19660, 26213), (26214, 32767)]
    total = 0
    for path in files:
        arrays = load_file(path)
        assert arrays["locations"].dtype == np.uint16
        assert arrays["activations"].dtype == np.float16
        place = arrays["locations"].astype(np.int64)
        order = np.lexsort((place[:, 2], place[:, 1], place[:, 0]))
        assert np.array_equal(order, np.arange(len(place)))
        total += len(place)
        latent = int(place[0, 2]) + int(path.stem.split("_")[0])
        mine = place[:, 2] == place[0, 2]
        rows = index.codes.rows[place[mine, 0]]
        active = index.activations(latent)
        assert np.array_equal(rows * index.context + place[mine, 1], active.token)
        np.testing.assert_array_equal(arrays["activations"][mine].astype(np.float32), active.value)
    assert total == int(index.table.active_MS.sum()) + _outliers(run)
    settings = json.loads((exported / "config.json").read_text())
    assert (settings["ctx_len"], settings["n_splits"], settings["model_name"]) == (index.context, 3, "nlsim:tiny")


def _outliers(run: RunView) -> int:
    """Activations that the cache has and the index leaves out."""
    return int(run.latents.index.codes.active_M.sum() - run.latents.index.table.active_MS.sum())


def test_a_run_on_the_exported_cache_finds_the_same_activations(run: RunView, exported: Path, tmp_path: Path) -> None:
    """One line of configuration takes the activations over, models unseen; every latent is active where it was."""
    rows = dict.fromkeys(("explain", "score", "calibrate", "evaluate"), 10_000)
    settings: dict[str, Any] = {
        "name": "again",
        "corpus": {"source": {"kind": "tokens", "path": str(exported)}, "context": 64, "rows": {"train": 0, **rows}},
        "subject": {"model": "nlsim:tiny"},
        "coder": {"path": "nlsim:tiny-skip"},
        "cache": {"imported": str(exported), "shard_tokens": 10_000},
        "index": {"outliers": "keep"},
    }
    settings["corpus"]["fractions"] = {"train": 0}
    again = Run.create(str(tmp_path / "again"), parse_config(yaml.safe_load(yaml.safe_dump(settings))))
    for stage in ("tokens", "cache", "index"):
        for shard in range(again.artifact(stage).shards):
            execute_shard(again, stage, shard, LineReporter())
    before, after = run.latents, open_run(str(tmp_path / "again")).latents
    source = file_rows(again.artifact("tokens"))
    cached = before.index.codes.rows
    written = read_tokens(TokensSource(kind="tokens", path=str(exported)))[0]
    there = {written[row].tobytes() for row in source}
    missing = set(range(len(cached))) - set(source.tolist())
    assert all(written[row].tobytes() in there for row in missing), "only rows that repeat another are left out"
    assert len(missing) < len(cached) / 50
    kept = set(cached[source].tolist())
    for latent in before.explained[:20]:
        old = {(t, v) for t, v in zip(*_activity(before.index, latent), strict=True) if t // 64 in kept}
        row, value = after.index.activations(latent).row, after.index.activations(latent).value
        position = after.index.activations(latent).position
        new = set(zip((cached[source[row]] * 64 + position).tolist(), value.tolist(), strict=True))
        assert new >= old
        assert len(new - old) <= _outliers(run)


def _activity(index: Any, latent: int) -> tuple[list[int], list[float]]:
    active = index.activations(latent)
    return active.token.tolist(), active.value.tolist()


def written(folder: Path, *, start: int = 0, end: int = 7, **changes: Any) -> Path:
    """A small cache as delphi saves it: two rows of four tokens, three activations."""
    folder.mkdir(exist_ok=True)
    arrays = {
        "locations": np.array([[0, 1, 2], [0, 3, 5], [1, 2, 2]], np.uint16),
        "activations": np.array([1.5, 0.25, 3.0], np.float16),
        "tokens": np.array([[9, 1, 2, 3], [9, 4, 5, 6]], np.int64),
    }
    arrays |= changes
    save_file({k: v for k, v in arrays.items() if v is not None}, folder / f"{start}_{end}.safetensors")
    return folder


def test_latents_of_every_file_are_counted_from_its_start(tmp_path: Path) -> None:
    """Mistake 30: without the offset, latents of all files but the first are taken for others."""
    written(tmp_path, start=0, end=7)
    written(tmp_path, start=8, end=15)
    found = [entry.latent.tolist() for entry in DelphiCache(tmp_path).entries()]
    assert found == [[2, 5, 2], [10, 13, 10]]


def test_codes_come_strongest_first_and_without_position_0(tmp_path: Path) -> None:
    places = np.array([[1, 0, 7], [1, 2, 2], [1, 2, 6], [0, 1, 3]], np.uint32)
    written(tmp_path, locations=places, activations=np.array([9, 1, 2, 4], np.float16))
    codes = imported_codes(str(tmp_path), np.array([1, 0]), np.array([4, 4]), width=8)
    assert codes.indptr is not None
    assert codes.indptr.tolist() == [0, 0, 0, 2, 2, 2, 3, 3, 3]
    assert codes.latent.tolist() == [6, 2, 3]
    assert codes.value.tolist() == [2, 1, 4]


def test_one_file_for_all_latents(tmp_path: Path) -> None:
    path = written(tmp_path) / "0_7.safetensors"
    path.rename(tmp_path / "layers.6.safetensors")
    cache = DelphiCache(tmp_path / "layers.6.safetensors")
    assert [entry.latent.tolist() for entry in cache.entries()] == [[2, 5, 2]]


@pytest.mark.parametrize(
    ("changes", "width", "message"),
    [
        ({}, 4, "has latent 5, the coder has 4: it was made with another coder"),
        ({"activations": np.array([1, np.nan, 1], np.float16)}, 8, "activations that are not finite"),
        ({"activations": np.array([1, -1, 1], np.float16)}, 8, "has negative activations"),
        ({"locations": np.array([[0, 1, 2], [0, 3, 5], [1, 4, 2]])}, 8, "activations beyond the ends of rows"),
        ({"activations": None}, 8, "has no activations: it is no activation cache of delphi"),
        ({"activations": np.array([1.0], np.float16)}, 8, "locations are not 1 × 3"),
    ],
)
def test_caches_that_do_not_fit(tmp_path: Path, changes: dict[str, Any], width: int, message: str) -> None:
    written(tmp_path, **changes)
    with pytest.raises(DataError, match=message):
        imported_codes(str(tmp_path), np.array([0, 1]), np.array([4, 4]), width)


def test_folders_that_are_no_cache(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no activation cache in"):
        DelphiCache(tmp_path)
    written(tmp_path / "layers.3")
    with pytest.raises(DataError, match=r"give one hookpoint's folder: layers\.3"):
        DelphiCache(tmp_path)
    written(tmp_path / "gap", start=4)
    with pytest.raises(DataError, match="lacks latents 0 to 3"):
        DelphiCache(tmp_path / "gap")
    cut = written(tmp_path / "cut") / "0_7.safetensors"
    cut.write_bytes(cut.read_bytes()[:-9])
    with pytest.raises(DataError, match="is damaged or was not downloaded whole"):
        DelphiCache(tmp_path / "cut").rows()
    (written(tmp_path / "old") / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config\.json is not JSON"):
        DelphiCache(tmp_path / "old")
    bare = written(tmp_path / "bare", tokens=None)
    with pytest.raises(DataError, match="was written without its tokens"):
        read_tokens(TokensSource(path=str(bare)))


def test_token_files_in_every_form_give_the_same_rows(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    rows = np.random.default_rng(0).integers(0, 50, (60, 12))
    np.save(tmp_path / "t.npy", rows)
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"input_ids": row.tolist()}) + "\n" for row in rows))
    pyarrow.parquet.write_table(pa.table({"ids": rows.tolist()}), tmp_path / "t.parquet")
    sources = [
        TokensSource(path=str(tmp_path / "t.npy")),
        TokensSource(path=str(tmp_path / "t.jsonl")),
        TokensSource(path=str(tmp_path / "t.parquet"), column="ids"),
    ]
    config = CorpusConfig(context=16, min_tokens=4)
    made = [token_rows(source, config, 50) for source in sources]
    for other in made[1:]:
        assert np.array_equal(other.tokens, made[0].tokens)
        assert other.names == made[0].names
    first = made[0]
    assert (first.length == 12).all()
    assert (first.tokens[:, 12:] == 0).all()
    for row, document in enumerate(first.document.tolist()):
        number = int(first.names[document].removeprefix("row:"))
        assert np.array_equal(first.tokens[row, :12], rows[number])
    assert np.all(np.diff(first.split.astype(int)) >= 0)


def test_tokens_that_do_not_fit(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.full((9, 12), 60))
    config = CorpusConfig(context=16, min_tokens=4)
    with pytest.raises(DataError, match="has token 60, the subject's tokenizer 50 of them"):
        token_rows(TokensSource(path=str(tmp_path / "t.npy")), config, 50)
    with pytest.raises(DataError, match=r"has rows of 12 tokens: set corpus\.context to 12"):
        token_rows(TokensSource(path=str(tmp_path / "t.npy")), CorpusConfig(context=8, min_tokens=4), 99)
    np.save(tmp_path / "f.npy", np.zeros(9))
    with pytest.raises(DataError, match=r"holds float64 of shape \(9,\)"):
        read_tokens(TokensSource(path=str(tmp_path / "f.npy")))
    (tmp_path / "t.jsonl").write_text('{"tokens": [1]}\n')
    with pytest.raises(DataError, match="cannot be read as rows of tokens"):
        read_tokens(TokensSource(path=str(tmp_path / "t.jsonl")))
    with pytest.raises(DataError, match="no token file at"):
        read_tokens(TokensSource(path=str(tmp_path / "absent.npy")))
    np.save(tmp_path / "o.npy", np.array([[{}]], dtype=object))
    with pytest.raises(DataError, match="cannot be read as rows of tokens"):
        read_tokens(TokensSource(path=str(tmp_path / "o.npy")))
