"""Activations to train on: which tokens, in which order, in how much memory."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from nlsim.coders.config import StreamConfig, TrainCoderConfig
from nlsim.coders.stream import Spool, capture_blocks, shuffled
from nlsim.coders.train import Job, Training
from nlsim.errors import DataError
from nlsim.progress import SilentReporter
from nlsim.subject.config import SubjectConfig
from nlsim.subject.hookpoints import Tap
from nlsim.subject.model import Subject

TAP = Tap("layers.0", "output")


@pytest.fixture(scope="module")
def subject():
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32
    )
    return Subject(GPTNeoXForCausalLM(config), SubjectConfig(model="made-up", device="cpu", batch_tokens=64))


def rows(count: int = 40, context: int = 12):
    generator = np.random.default_rng(0)
    tokens_RT = generator.integers(1, 50, (count, context)).astype(np.int32)
    length_R = generator.integers(3, context + 1, count).astype(np.int32)
    tokens_RT[np.arange(context) >= length_R[:, None]] = 0
    return tokens_RT, length_R


def test_blocks_hold_every_token_but_bos_and_padding(subject):
    """Mistake 7: position 0 is left out. Several hookpoints are captured in one pass, equal to one at a time."""
    tokens_RT, length_R = rows()
    places = [subject.hookpoint(name) for name in ("layers.0.mlp", "layers.2")]
    taps = [places[0].read, places[0].write, places[1].write]
    blocks = list(capture_blocks(subject, tokens_RT, length_R, taps))
    for place, tap, side in [(places[0], taps[0], 0), (places[0], taps[1], 1), (places[1], taps[2], 1)]:
        alone = subject.capture(tokens_RT, length_R, place)[side]
        expected = torch.cat([alone[row, 1 : length_R[row]] for row in range(len(tokens_RT))])
        found = torch.cat([block[tap] for block in blocks])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_massive_tokens_are_left_out(subject):
    """Mistake 7: a token whose norm is far above its row's median would outweigh all others."""
    tokens_RT, length_R = rows()
    tap = subject.hookpoint("layers.0.mlp").write
    with torch.no_grad():
        weight = subject.model.get_input_embeddings().weight
        kept = weight[7].clone()
        weight[7] = 0
        weight[7, :2] = 1e4
    try:
        everything = torch.cat([b[TAP] for b in capture_blocks(subject, tokens_RT, length_R, [TAP])])
        usual = torch.cat([b[TAP] for b in capture_blocks(subject, tokens_RT, length_R, [TAP, tap], 10.0)])
    finally:
        with torch.no_grad():
            weight[7] = kept
    massive = int(((tokens_RT == 7)[:, 1:] & (np.arange(1, 12) < length_R[:, None])).sum())
    assert massive > 0
    assert len(everything) - len(usual) == massive
    assert usual.norm(dim=1).max() < 1e3 < everything.norm(dim=1).max()


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12), batch=st.integers(1, 16), room=st.integers(1, 90))
@settings(max_examples=50, deadline=None)
def test_shuffled_batches_are_a_permutation(sizes, batch, room):
    total = sum(sizes)
    numbers = torch.arange(total).float()[:, None].split(sizes)
    found = list(shuffled(({TAP: x} for x in numbers), batch, room, torch.Generator().manual_seed(1)))
    assert all(len(block[TAP]) == batch for block in found)
    assert len(found) == total // batch
    seen = torch.cat([block[TAP] for block in found]).flatten().tolist() if found else []
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(range(total))


def test_the_buffer_is_bounded():
    """No more than the capacity and one block wait, however long the stream."""
    waiting, most = 0, 0

    def blocks():
        nonlocal waiting, most
        for _ in range(200):
            waiting += 10
            most = max(most, waiting)
            yield {TAP: torch.zeros(10, 1)}

    for batch in shuffled(blocks(), 8, 64, torch.Generator()):
        waiting -= len(batch[TAP])
    assert most <= 64 + 10


def test_a_spool_gives_back_what_it_was_given(tmp_path):
    blocks = [{TAP: torch.randn(300, 4)} for _ in range(20)]
    spool = Spool(tmp_path)
    told = []
    spool.fill(blocks, 5000, told.append)
    assert spool.tokens == told[-1] == 5000
    whole = torch.cat([block[TAP] for block in blocks])[:5000].half()
    back = torch.cat([block[TAP] for block in spool.blocks(torch.Generator().manual_seed(0), torch.device("cpu"))])
    assert torch.equal(back.sort(0).values, whole.sort(0).values)
    assert not torch.equal(back, whole)
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="do not fit into float16"):
        Spool(tmp_path / "b").fill([{TAP: torch.full((3, 4), 1e6)}], 3, told.append)


@pytest.mark.parametrize("epochs", [1, 3])
def test_training_several_coders_in_one_pass(subject, epochs):
    """Each job's coder is the same as when trained alone with the same data: jobs do not influence each other."""
    tokens_RT, length_R = rows(60)
    config = TrainCoderConfig(width=20, k=3, skip=True)
    other = TrainCoderConfig(kind="sae", width=24, k=2)
    third = TrainCoderConfig(trainer="saelens", kind="sae", activation="jumprelu", width=24)
    jobs = [Job("a", subject.hookpoint("layers.0.mlp"), config), Job("b", subject.hookpoint("layers.1"), other)]
    jobs += [Job("c", subject.hookpoint("layers.1.attention"), third)]
    stream = StreamConfig(tokens=300, epochs=epochs, batch=32, buffer=100, outlier_norm=1e9)

    def trained(chosen):
        run = Training(subject, tokens_RT, length_R, chosen, stream, SilentReporter())
        steps = list(run)
        assert len(steps) == steps[-1].steps == 300 // 32 * epochs
        return run.coders()

    both = trained(jobs)
    alone = trained(jobs[:1])
    assert both["a"].meta.hookpoint == "layers.0.mlp"
    assert (both["b"].meta.kind, both["b"].meta.width, both["b"].meta.training["epochs"]) == ("sae", 24, epochs)
    assert both["c"].meta.hookpoint == "layers.1.attention"
    for name, tensor in alone["a"].tensors.items():
        torch.testing.assert_close(tensor, both["a"].tensors[name])
    again = trained(jobs)
    for job in "bc":
        assert all(torch.equal(again[job].tensors[name], tensor) for name, tensor in both[job].tensors.items())


def test_too_little_text_is_a_data_error(subject):
    tokens_RT, length_R = rows(2)
    jobs = [Job("a", subject.hookpoint("layers.1"), TrainCoderConfig(kind="sae", width=8, k=2))]
    with pytest.raises(DataError, match="fewer than 1024 tokens"):
        list(Training(subject, tokens_RT, length_R, jobs, StreamConfig(), SilentReporter()))
