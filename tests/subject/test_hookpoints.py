"""Names of hookpoints: what they mean in each architecture, and what is said about wrong ones."""

from pathlib import Path

import pytest
import torch
from corpus.tokenizers import byte_level
from subject.architectures import CONFIGS, LAYERS, VOCAB, make_model, make_subject

from nlsim.errors import UsageError
from nlsim.subject.hookpoints import Hookpoint, Tap, hookpoint_names, resolve

TOKENS = torch.randint(0, VOCAB, (2, 12), generator=torch.Generator().manual_seed(3))
LENGTHS = torch.tensor([12, 12])
RENAMED = {"layers": "h", "h": "layers"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_names_mean_what_they_mean_in_transformer_lens(name: str, tmp_path: Path) -> None:
    bridge = pytest.importorskip("transformer_lens.model_bridge").TransformerBridge
    from transformers import AutoTokenizer

    model = make_model(name)
    model.set_attn_implementation("eager")
    model.config.architectures = [type(model).__name__]
    byte_level().save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    lens = bridge.boot_transformers(str(tmp_path), hf_model=model, tokenizer=tokenizer, device="cpu")
    with torch.no_grad():
        _, cache = lens.run_with_cache(TOKENS)
    subject = make_subject(name)
    for hook in hookpoint_names(subject.decoder, 1):
        if not hook.startswith("blocks."):
            continue
        if hook.endswith("hook_normalized"):
            got = subject.capture(TOKENS, LENGTHS, f"{hook} -> blocks.1.hook_resid_post").input_BTD
        else:
            got = subject.capture(TOKENS, LENGTHS, hook).output_BTD
        torch.testing.assert_close(got, cache[hook].reshape(got.shape), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_a_modules_path_may_be_written_as_each_library_writes_it(name: str) -> None:
    subject = make_subject(name)
    stack, mlp = subject.layout.stack, subject.layout.mlp
    want = (2, Tap(f"{stack}.2.{mlp}", "input"), Tap(f"{stack}.2.{mlp}", "output"))
    top = subject.model.base_model_prefix
    for path in (f"{stack}.2.{mlp}", f"{RENAMED[stack]}.2.{mlp}", f"{top}.{stack}.2.{mlp}"):
        assert subject.hookpoint(path) == Hookpoint(path, *want)
    assert subject.hookpoint(f"{stack}.3").write == Tap(f"{stack}.3", "output")
    assert subject.hookpoint("hook_embed").layer == -1


def test_every_listed_name_is_valid_in_every_architecture() -> None:
    for name in CONFIGS:
        subject = make_subject(name)
        for layer in range(LAYERS):
            for hook in hookpoint_names(subject.decoder, layer):
                if hook.endswith("hook_normalized"):
                    with pytest.raises(UsageError, match="can be read but not replaced"):
                        subject.hookpoint(hook)
                else:
                    assert subject.hookpoint(hook).layer in (layer, -1)


def test_gemmas_norm_after_the_mlp_belongs_to_what_is_written() -> None:
    gemma = make_subject("gemma2")
    assert gemma.hookpoint("blocks.1.hook_mlp_out").write.module == "layers.1.post_feedforward_layernorm"
    assert gemma.hookpoint("blocks.1.hook_attn_out").write.module == "layers.1.post_attention_layernorm"
    assert gemma.hookpoint("layers.1.mlp").write.module == "layers.1.mlp"
    assert make_subject("llama3").hookpoint("blocks.1.hook_mlp_out").write.module == "layers.1.mlp"


def test_an_arrow_joins_what_is_read_and_what_is_written() -> None:
    subject = make_subject("gemma2")
    place = subject.hookpoint("blocks.1.ln2.hook_normalized -> blocks.1.hook_mlp_out")
    assert place.read == Tap("layers.1.pre_feedforward_layernorm", "normalized")
    assert place.write == Tap("layers.1.post_feedforward_layernorm", "output")
    assert place.layer == 1
    across = subject.hookpoint("layers.0.mlp->layers.2.mlp")
    assert (across.read, across.layer) == (Tap("layers.0.mlp", "input"), 2)
    captured = subject.capture(TOKENS, LENGTHS, across)
    assert torch.equal(captured.input_BTD, subject.capture(TOKENS, LENGTHS, "layers.0.mlp").input_BTD)
    assert torch.equal(captured.output_BTD, subject.capture(TOKENS, LENGTHS, "layers.2.mlp").output_BTD)
    with pytest.raises(UsageError, match="reads after it writes"):
        subject.hookpoint("layers.2.mlp -> layers.0.mlp")


def test_the_embedding_can_be_patched() -> None:
    for name in CONFIGS:
        subject = make_subject(name)
        state = subject.start(TOKENS, LENGTHS, "hook_embed")
        other = subject.start(TOKENS.flip(0), LENGTHS, "hook_embed")
        clean = subject.model(input_ids=TOKENS, use_cache=False).logits
        assert torch.equal(subject.finish(state), clean)
        assert torch.equal(subject.finish(other, state.captured.output_BTD), clean)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("layers.1.mpl", r"no hookpoint layers.1.mpl: did you mean layers.1.mlp\? valid: layers.1, layers.1.mlp,"),
        ("blocks.1.hook_resid_mid", r"did you mean blocks.1.hook_resid_\w+\? valid: .*blocks.1.hook_resid_post"),
        ("blocks.9.hook_resid_post", r"the model has 4 layers: use 0 to 3"),
        ("layers.4.mlp", r"the model has 4 layers"),
        ("layers", r"no hookpoint layers: "),
        ("mlp", r"no hookpoint mlp: "),
        ("", r"no hookpoint : "),
        ("layers.1.mlp -> nowhere", r"no hookpoint nowhere"),
    ],
)
def test_a_wrong_name_is_a_usage_error_that_lists_valid_ones(wrong: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        make_subject("llama3").hookpoint(wrong)
    assert "\n" not in str(caught.value)


def test_a_model_without_blocks_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="has no list of blocks"):
        resolve("layers.1", torch.nn.Linear(2, 2))
