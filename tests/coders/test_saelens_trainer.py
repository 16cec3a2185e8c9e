"""SAELens trains on the activations that nlsim streams, and nlsim reads what it wrote."""

from pathlib import Path
from typing import Any

import pytest
import torch
from coders.theirs import assert_equal, from_path
from coders.world import ACTIVE, D, World, fvu
from pydantic import ValidationError

from nlsim.coders.coder import CoderMeta
from nlsim.coders.config import StreamConfig, TrainCoderConfig
from nlsim.coders.saelens_trainer import SaeLensTrainer
from nlsim.coders.trainer import Pair
from nlsim.errors import UsageError

pytest.importorskip("sae_lens")

BATCH, STEPS, WIDTH = 128, 160, 48


def trainer(activation: str, **options: Any) -> SaeLensTrainer:
    config = TrainCoderConfig.model_validate(
        {
            "trainer": "saelens",
            "kind": "sae",
            "width": WIDTH,
            "k": ACTIVE,
            "activation": activation,
            "learning_rate": 1e-2,
            "options": options,
        }
    )
    k = ACTIVE if "topk" in activation else None
    meta = CoderMeta(kind="sae", hookpoint="layers.1", d_in=D, d_out=D, width=WIDTH, activation="relu", k=k)
    return SaeLensTrainer(config, StreamConfig(batch=BATCH), meta, pair(World(), 1000), STEPS)


def pair(world: World, n: int) -> Pair:
    x_ND = world.sample(n).input_ND
    return Pair(x_ND, x_ND)


@pytest.mark.parametrize(
    ("activation", "options", "read_as"),
    [
        ("topk", {}, "topk"),
        ("batchtopk", {"topk_threshold_lr": 0.1}, "jumprelu"),
        ("relu", {"l1_coefficient": 0.1}, "relu"),
        ("jumprelu", {"l0_coefficient": 0.1}, "jumprelu"),
        ("gated", {"l1_coefficient": 0.1}, "jumprelu"),
    ],
)
def test_every_architecture_learns_and_is_read_as_saelens_reads_it(
    activation: str, options: dict[str, Any], read_as: str, tmp_path: Path
) -> None:
    from sae_lens import SAE

    world, training = World(), trainer(activation, **options)
    said = [training.step(pair(world, BATCH)) for _ in range(STEPS)]
    held = pair(world, 500)
    coder = from_path(training.save(tmp_path / "layers.1"), None)
    assert (coder.meta.activation, coder.meta.width, coder.meta.hookpoint) == (read_as, WIDTH, "layers.1")
    found = fvu(coder, held)
    assert found < 0.3 < said[0]
    assert found == pytest.approx(sum(said[-20:]) / 20, abs=0.1), "what training said is what the file does"
    theirs = SAE.load_from_disk(str(tmp_path / "layers.1"))
    with torch.no_grad():
        assert_equal(coder, held.input_ND, theirs.encode(held.input_ND), theirs(held.input_ND))


def test_the_same_seed_gives_the_same_coder() -> None:
    def trained() -> torch.Tensor:
        world, training = World(), trainer("topk")
        for _ in range(5):
            training.step(pair(world, BATCH))
        return training.coder().decoder_MD

    torch.testing.assert_close(trained(), trained(), rtol=0, atol=0)


def test_what_saelens_cannot_train_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no option l1 of SAELens.* known: .*l1_coefficient"):
        trainer("relu", l1=3)
    with pytest.raises(UsageError, match="SAELens refuses the options"):
        trainer("topk", normalize_activations="so so")
    with pytest.raises(ValidationError, match="SAELens trains SAEs: set kind=sae"):
        TrainCoderConfig(trainer="saelens", kind="transcoder")
    with pytest.raises(ValidationError, match="nlsim trains topk and batchtopk without options: set trainer=saelens"):
        TrainCoderConfig(activation="jumprelu")
