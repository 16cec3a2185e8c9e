"""SmolLM2 from its wheel: converted once, safely, and the model that it should be."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from nlsim.errors import DataError, UsageError
from nlsim.subject import smollm2
from nlsim.subject.config import SubjectConfig
from nlsim.subject.model import Subject
from nlsim.subject.smollm2 import GGUF_NAME, smollm2_folder, verify


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """A stand-in for the conversion, and the folders it was asked to fill."""
    made: list[Path] = []

    def convert(gguf: Path, target: Path) -> None:
        assert gguf.name == GGUF_NAME
        made.append(target)
        (target / "config.json").write_text("{}")
        (target / "model.safetensors").write_bytes(b"weights")

    monkeypatch.setenv("NLSIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(smollm2, "gguf_file", lambda: Path(GGUF_NAME))
    monkeypatch.setattr(smollm2, "_convert", convert)
    return made


def test_it_is_converted_once_into_the_cache(conversions: list[Path], tmp_path: Path) -> None:
    folder = smollm2_folder()
    assert folder == tmp_path / "cache" / "models" / "smollm2-135m"
    assert smollm2_folder() == folder
    assert len(conversions) == 1
    assert verify(folder) == []
    assert sorted(path.name for path in folder.parent.iterdir()) == ["smollm2-135m", "smollm2-135m.lock"]


def test_concurrent_callers_convert_once(conversions: list[Path]) -> None:
    got: list[Path] = []
    threads = [threading.Thread(target=lambda: got.append(smollm2_folder())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(got)) == 1
    assert len(got) == 4
    assert len(conversions) == 1


@pytest.mark.parametrize("damage", ["truncate", "remove", "record", "other source"])
def test_an_incomplete_folder_is_made_again(conversions: list[Path], damage: str) -> None:
    folder = smollm2_folder()
    if damage == "truncate":
        (folder / "model.safetensors").write_bytes(b"weig")
    elif damage == "remove":
        (folder / "config.json").unlink()
    elif damage == "record":
        (folder / "nlsim.json").write_text("{")
    else:
        record = json.loads((folder / "nlsim.json").read_text())
        (folder / "nlsim.json").write_text(json.dumps({**record, "source": "0" * 64}))
    assert verify(folder) == [f"{folder}: incomplete"]
    assert smollm2_folder() == folder
    assert len(conversions) == 2
    assert verify(folder) == []


def test_an_altered_file_is_found(conversions: list[Path]) -> None:
    folder = smollm2_folder()
    (folder / "model.safetensors").write_bytes(b"WEIGHTS")
    assert verify(folder) == [f"{folder}/model.safetensors: altered"]


def test_a_failed_conversion_leaves_nothing(conversions: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(gguf: Path, target: Path) -> None:
        (target / "config.json").write_text("{}")
        raise RuntimeError("stopped in the middle")

    with monkeypatch.context() as patch:
        patch.setattr(smollm2, "_convert", fail)
        with pytest.raises(RuntimeError, match="stopped in the middle"):
            smollm2_folder()
    folder = smollm2_folder()
    assert len(conversions) == 1
    assert sorted(path.name for path in folder.parent.iterdir()) == ["smollm2-135m", "smollm2-135m.lock"]


def test_a_cache_that_cannot_be_written_is_a_data_error(
    conversions: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NLSIM_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(DataError, match=r"cannot write the converted model .*NLSIM_CACHE"):
        smollm2_folder()


def test_without_the_wheel_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NLSIM_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm2, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install 'nlsim\[smollm2\]'"):
        smollm2_folder()


def test_another_file_in_the_wheel_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / GGUF_NAME).write_bytes(b"GGUF")

    class Spec:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr(smollm2, "find_spec", lambda _: Spec)
    with pytest.raises(DataError, match="is not the published file"):
        smollm2.gguf_file()


# The real model


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject.load(SubjectConfig(device="cpu"))


@pytest.mark.smollm2
def test_the_weights_are_the_files_exactly(subject: Subject) -> None:
    gguf = pytest.importorskip("gguf")
    tensors = {t.name: t for t in gguf.GGUFReader(smollm2.gguf_file()).tensors}
    for ours, theirs in [
        ("layers.8.mlp.down_proj.weight", "blk.8.ffn_down.weight"),
        ("layers.29.self_attn.v_proj.weight", "blk.29.attn_v.weight"),
        ("embed_tokens.weight", "token_embd.weight"),
        ("norm.weight", "output_norm.weight"),
    ]:
        tensor = tensors[theirs]
        want = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        got = subject.decoder.get_parameter(ours).detach().numpy()
        assert np.array_equal(got, want.reshape(got.shape))


@pytest.mark.smollm2
def test_it_is_the_model_it_should_be(subject: Subject) -> None:
    assert (subject.layers, subject.model.config.hidden_size, len(subject.tokenizer)) == (30, 576, 49152)
    assert "<|im_start|>" in subject.tokenizer.chat_template
    prompt = subject.tokenizer("The capital of France is", return_tensors="pt").input_ids
    state = subject.start(prompt, [prompt.shape[1]], "layers.8.mlp")
    assert subject.tokenizer.decode(subject.finish(state)[0, -1].argmax()) == " Paris"
    state = subject.start(prompt, [prompt.shape[1]], "layers.8.mlp")
    with torch.no_grad():
        assert torch.equal(subject.finish(state), subject.model(input_ids=prompt, use_cache=False).logits)


@pytest.mark.smollm2
def test_its_loss_on_documentation(subject: Subject) -> None:
    """Cross entropy in nats per token on a help topic; about 2.9 over the whole documentation."""
    from nlsim.corpus.builtin import _topics
    from nlsim.corpus.config import CorpusConfig, RowBudgets
    from nlsim.corpus.rows import build_rows

    only = RowBudgets(train=0, explain=0, score=0, calibrate=0, evaluate=8)
    rows = build_rows(list(_topics()), subject.tokenizer, CorpusConfig(context=64, rows=only))
    state = subject.start(rows.tokens, rows.length, "layers.8.mlp")
    hidden = subject.finish_hidden(state)
    mask = state.valid_BT[:, 1:].clone()
    mask[:, 0] = False  # the first token after BOS is anyone's guess
    losses = subject.losses(hidden[:, :-1][mask][None], hidden[:, :-1][mask], state.tokens_BT[:, 1:][mask])
    assert 2.0 < losses.ce_CP.mean() < 3.8
    assert losses.kl_CP.max() < 1e-5
