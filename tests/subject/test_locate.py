"""Where models are read from, and what is said when they are not there."""

from pathlib import Path

import pytest
import torch
from corpus.tokenizers import byte_level
from subject.architectures import make_model

from nlsim.errors import DataError, UsageError
from nlsim.subject.config import SubjectConfig
from nlsim.subject.locate import Location, locate, model_identity, tokenizer_identity
from nlsim.subject.model import Subject
from nlsim.subject.tokenizer import load_failure, load_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_model("pythia").save_pretrained(tmp_path / "model")
    byte_level().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def config(model: Path | str, **settings: object) -> SubjectConfig:
    return SubjectConfig(model=str(model), device="cpu", **settings)


def test_a_saved_model_is_loaded_as_it_was(folder: Path) -> None:
    subject = Subject.load(config(folder))
    assert subject.layers == 4
    original = make_model("pythia").state_dict()
    assert all((value == original[name]).all() for name, value in subject.model.state_dict().items())
    assert len(subject.tokenizer) == len(byte_level())
    assert not subject.model.training


def test_dtype_is_that_of_the_configuration(folder: Path) -> None:
    subject = Subject.load(config(folder, dtype="bfloat16"))
    head = subject.model.get_output_embeddings().weight
    assert {p.dtype for p in subject.model.parameters() if p is not head} == {torch.bfloat16}
    assert head.dtype == torch.float32


def test_places(folder: Path) -> None:
    assert locate(config(folder)) == Location(str(folder), None, local=True)
    assert locate(config("EleutherAI/pythia-160m", revision="step3000")) == Location(
        "EleutherAI/pythia-160m", "step3000", local=False
    )
    assert locate(config("gpt2")).local is False


@pytest.mark.parametrize("model", ["/nowhere/model", "./nowhere", "~/nowhere", "a/b/c"])
def test_a_missing_folder_is_a_data_error(model: str) -> None:
    with pytest.raises(DataError, match=r"the model folder .* does not exist"):
        Subject.load(config(model))


def test_a_folder_without_a_model_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no model folder: it has no config.json"):
        Subject.load(config(tmp_path))


def test_an_unknown_shipped_model_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"no model is shipped as nlsim:nothing: shipped: .*smollm2-135m"):
        locate(config("nlsim:nothing"))


def test_a_folder_without_a_tokenizer_is_a_data_error(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(DataError, match="model has no tokenizer: save"):
        load_tokenizer(config(folder))


def test_a_model_of_unknown_type_is_a_data_error(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "nothing-known"}')
    with pytest.raises(DataError, match="cannot load the model in") as caught:
        Subject.load(config(folder))
    assert "\n" not in str(caught.value)


def test_hub_failures_say_what_to_do() -> None:
    hub = Location("meta-llama/Llama-3.1-8B", "abc", local=False)
    assert "HF_TOKEN" in str(load_failure("model", hub, OSError("You are trying to access a gated repo.\nMore")))
    assert "check the revision abc" in str(load_failure("model", hub, OSError("no such revision")))
    network = load_failure("model", hub, OSError("We couldn't connect to 'https://huggingface.co'\nand so on"))
    assert "nlsim plan" in str(network)
    assert "\n" not in str(network)


def test_identity_follows_the_files(folder: Path) -> None:
    first, tokenizer = model_identity(config(folder)), tokenizer_identity(config(folder))
    assert set(tokenizer) < set(first)
    assert "model.safetensors" in first
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert model_identity(config(folder)) != first
    assert tokenizer_identity(config(folder)) == tokenizer
    assert model_identity(config("gpt2", revision="abc")) == {"revision": "abc"}
    assert len(model_identity(config("smollm2-135m"))["model"]) == 64
