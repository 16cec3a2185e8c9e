"""Training finds what was planted, is reproducible, and revives dead latents."""

import pytest
import torch
from coders.world import ACTIVE, D, World, fvu
from pydantic import ValidationError

from nlsim.coders.coder import CoderMeta
from nlsim.coders.config import TrainCoderConfig
from nlsim.coders.trainer import Pair, Trainer, least_squares
from nlsim.errors import DataError

STEPS = 500


def trained(world: World, steps: int = STEPS, sae: bool = False, **settings):
    config = TrainCoderConfig(
        kind="sae" if sae else "transcoder", width=48, k=ACTIVE, learning_rate=1e-2, dead_after=5000, **settings
    )
    meta = CoderMeta(
        kind=config.kind,
        hookpoint="x",
        d_in=D,
        d_out=D,
        width=48,
        activation=config.activation,
        k=ACTIVE,
        skip=config.skip,
    )

    def batch(n: int = 256) -> Pair:
        pair = world.sample(n)
        return Pair(pair.input_ND, pair.input_ND) if sae else pair

    trainer = Trainer(config, meta, batch(4096), steps)
    for _ in range(steps):
        trainer.step(batch())
    return trainer, batch(2000)


@pytest.mark.parametrize("activation", ["topk", "batchtopk"])
def test_an_sae_recovers_the_planted_dictionary(activation):
    world = World()
    trainer, held = trained(world, sae=True, activation=activation)
    coder = trainer.coder()
    assert fvu(coder, held) < 0.1
    closest_L = (world.read_LD @ coder.decoder_MD.T).amax(1)
    assert (closest_L > 0.95).float().mean() > 0.9
    torch.testing.assert_close(coder.decoder_MD.norm(dim=1), torch.ones(48))


def test_a_transcoder_recovers_what_is_written():
    world = World()
    trainer, held = trained(world)
    assert fvu(trainer.coder(), held) < 0.15
    assert ((world.write_LD @ trainer.coder().decoder_MD.T).amax(1) > 0.9).float().mean() > 0.8


@pytest.mark.parametrize("start", ["least_squares", "zero"])
def test_a_skip_connection_takes_the_linear_part(start):
    trainer, held = trained(World(linear=True), skip=True, skip_start=start)
    plain, _ = trained(World(linear=True))
    assert fvu(trainer.coder(), held) < 0.6 * fvu(plain.coder(), held)


def test_a_skip_penalty_leaves_the_work_to_the_latents():
    def unexplained_without_latents(penalty: float) -> float:
        trainer, held = trained(World(linear=True), steps=200, skip=True, skip_penalty=penalty)
        rest_NO = held.target_NO - trainer.coder().constant(held.input_ND)
        return float(rest_NO.square().sum() / (held.target_NO - held.target_NO.mean(0)).square().sum())

    assert unexplained_without_latents(3.0) > unexplained_without_latents(0.0)


def test_the_folded_coder_says_what_the_trainer_computed():
    """Scales, means and the skip connection end up in the weights: the FVU of both is the same."""
    trainer, _ = trained(World(linear=True), steps=30, skip=True)
    batch = World(linear=True).sample(512)
    expected = fvu(trainer.coder(), batch)
    assert trainer.step(batch) == pytest.approx(expected, rel=1e-3)


def test_training_is_reproducible():
    one, two = (trained(World(), steps=20, skip=True)[0].coder() for _ in range(2))
    other = trained(World(), steps=20, skip=True, seed=1)[0].coder()
    assert all(torch.equal(one.tensors[name], two.tensors[name]) for name in one.tensors)
    assert not torch.equal(one.decoder_MD, other.decoder_MD)


def test_dead_latents_are_revived():
    def dead_after_training(auxk: float) -> int:
        world = World()
        config = TrainCoderConfig(kind="sae", width=48, k=ACTIVE, auxk=auxk, dead_after=2000, learning_rate=1e-2)
        meta = CoderMeta(kind="sae", hookpoint="x", d_in=D, d_out=D, width=48, activation="topk", k=ACTIVE)
        trainer = Trainer(config, meta, Pair(*[world.sample(4096).input_ND] * 2), 300)
        with torch.no_grad():
            trainer.encoder_bias_M[24:] = -3.0  # half of the latents start silent
        for _ in range(300):
            trainer.step(Pair(*[world.sample(256).input_ND] * 2))
        return trainer.dead

    assert dead_after_training(1.0) < dead_after_training(0.0)


def test_least_squares_is_the_best_linear_map():
    generator = torch.Generator().manual_seed(0)
    x_ND, map_OD = torch.randn(500, 6, generator=generator), torch.randn(4, 6, generator=generator)
    torch.testing.assert_close(least_squares(x_ND, x_ND @ map_OD.T), map_OD, atol=0.01, rtol=0.01)


def test_bad_settings_and_data():
    with pytest.raises(ValidationError, match="an SAE has no skip connection"):
        TrainCoderConfig(kind="sae", skip=True)
    with pytest.raises(ValidationError, match="k = 9 is more than the width 4"):
        TrainCoderConfig(width=4, k=9)
    meta = CoderMeta(kind="sae", hookpoint="x", d_in=4, d_out=4, width=8, activation="topk", k=2)
    with pytest.raises(DataError, match="constant or not finite"):
        Trainer(TrainCoderConfig(kind="sae", width=8, k=2), meta, Pair(torch.ones(9, 4), torch.ones(9, 4)), 1)
