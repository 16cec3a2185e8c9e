"""The right answers, what is held out, and what an adapter may be asked."""

import json
from pathlib import Path

import numpy as np
import pytest

from nlsim.errors import DataError, UsageError
from nlsim.finetune.examples import Example, answers_of, example_table, held_out, read_examples
from nlsim.lm.adapter import adapter_folder, adapter_identity
from nlsim.lm.config import LmConfig
from nlsim.lm.vllm import adapter_rank
from nlsim.simulate.config import SimulateConfig
from nlsim.simulate.taught import check_adapter, template_of
from nlsim.store.objects import open_objects


def test_answers_are_ninths_of_the_scale_and_only_silence_is_0() -> None:
    value = np.array([0, 1e-3, 1.0, 4.4, 4.6, 9, 90.0])
    assert answers_of(value, 9.0, "digit").tolist() == [0, 1, 1, 4, 5, 9, 9]
    assert answers_of(value, 9.0, "binary").tolist() == [0, 1, 1, 1, 1, 1, 1]


def test_a_share_is_held_out_by_name_alone() -> None:
    held = [held_out("latent", latent, 0.2) for latent in range(4000)]
    assert np.mean(held) == pytest.approx(0.2, abs=0.03)
    assert held == [held_out("latent", latent, 0.2) for latent in range(4000)]
    wider = [held_out("latent", latent, 0.3) for latent in range(4000)]
    assert all(more for less, more in zip(held, wider, strict=True) if less)


def test_examples_survive_their_table() -> None:
    one = Example(3, 5, "judge", "other", np.array([1, 2, 3]), np.array([1, 2]), np.array([0, 9]))
    (read,) = read_examples(example_table([one]))
    assert read[:4] == one[:4]
    for mine, theirs in zip(read[4:], one[4:], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert read_examples(example_table([])) == []


SIMULATE = SimulateConfig(prompt="digit")
CARD = {"template": template_of(SIMULATE, LmConfig()), "coder": "c", "latents": [3, 5], "documents": ["a", "b"]}


@pytest.fixture
def lm(tmp_path: Path) -> LmConfig:
    (tmp_path / "nlsim.json").write_text(json.dumps(CARD))
    return LmConfig(adapter=str(tmp_path))


def test_an_adapter_answers_about_what_it_was_not_taught(lm: LmConfig) -> None:
    """Mistakes 29, 30 and 31: the prompt of training at use; no latent and no document of training."""
    check_adapter(lm, SIMULATE, "c", [4, 6], ["x"])
    check_adapter(lm, SIMULATE, "another coder", [3], ["x"])
    check_adapter(LmConfig(), SIMULATE, "c", [3], ["a"])
    with pytest.raises(UsageError, match="taught 1 of the latents asked about, as 5"):
        check_adapter(lm, SIMULATE, "c", [5, 6], ["x"])
    with pytest.raises(UsageError, match="1 of the documents asked about, as b"):
        check_adapter(lm, SIMULATE, "c", [4], ["b"])
    with pytest.raises(UsageError, match=r"other prompts \(prompt, shots\)"):
        check_adapter(lm, SimulateConfig(prompt="binary", shots=1), "c", [4], ["x"])


def test_an_adapter_is_known_by_its_bytes(lm: LmConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    before = adapter_identity(lm.adapter)
    (tmp_path / "nlsim.json").write_text("{}")
    assert adapter_identity(lm.adapter) != before
    (tmp_path / "home" / "tuned").mkdir(parents=True)
    (tmp_path / "home" / "tuned" / "nlsim.json").write_text("{}")
    assert adapter_identity("~/tuned") == adapter_identity(lm.adapter)
    assert adapter_identity("owner/name") == {"adapter": "owner/name"}
    assert adapter_identity(None) == {}


def test_an_adapter_in_a_bucket_is_read_from_a_copy_and_known_by_its_bytes(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NLSIM_CACHE", str(tmp_path / "cache"))
    files = {"adapter_model.safetensors": b"weights", "adapter_config.json": b'{"r": 40}', "nlsim.json": b"{}"}
    objects = open_objects(s3_url)
    assert adapter_identity(s3_url) == {"adapter": s3_url}, "yet to be trained"
    with pytest.raises(DataError, match=r"adapter_model.safetensors is missing"):
        adapter_folder(s3_url)
    for name, data in files.items():
        objects.put(name, data)
    folder = Path(adapter_folder(s3_url))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert adapter_identity(s3_url) == adapter_identity(str(folder))
    assert adapter_rank(s3_url) == adapter_rank(str(folder)) == 64
    objects.put("adapter_model.safetensors", b"others")
    assert adapter_identity(s3_url) != adapter_identity(str(folder))
