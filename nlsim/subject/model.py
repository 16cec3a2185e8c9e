"""The model under study: capture what a hookpoint sees, and carry on with something else in its place."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from nlsim.errors import DataError, UsageError
from nlsim.subject.config import SubjectConfig
from nlsim.subject.hookpoints import Hookpoint, Tap, layout_of, resolve
from nlsim.subject.locate import locate
from nlsim.subject.pretrained import load_pretrained
from nlsim.subject.taps import EarlyExit, like, overridden, recording, replaced, tensor_of
from nlsim.subject.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TokenRows = Tensor | NDArray[np.integer]

_LOGITS = 1 << 24
"""Logits held at a time by `Subject.losses`: 64 MB for each of the few arrays involved."""


class Captured(NamedTuple):
    """What a hookpoint saw, at every position; padding positions hold values without meaning."""

    input_BTD: Tensor
    """What a transcoder reads."""
    output_BTD: Tensor
    """What a coder reconstructs."""


class State(NamedTuple):
    """A clean run up to a hookpoint, from which any number of patched runs carry on."""

    tokens_BT: Tensor
    valid_BT: Tensor
    """bool: not padding."""
    hookpoint: Hookpoint
    entering_BTD: Tensor | None
    """The residual stream that enters the hookpoint's block; None for the embedding."""
    captured: Captured
    output: Any
    """The written module's output in its own form (a tuple for attention)."""
    block_gives_tuple: bool


class Losses(NamedTuple):
    """Next-token losses of C conditions at P positions, in nats, from float32 logits."""

    ce_CP: Tensor
    """Cross entropy of the target."""
    kl_CP: Tensor
    """KL(clean ‖ patched) of the next-token distributions."""
    top1_CP: Tensor
    """bool: the likeliest token is the clean run's."""
    reverse_kl_CP: Tensor | None = None
    """KL(patched ‖ clean), where it was asked for."""


class Subject:
    """A causal language model with named hookpoints.

    Rows are right-padded. No attention mask is passed: under a causal mask nothing at or before a row's last token
    depends on its padding. Hidden states have the model's dtype, logits are float32: a 16-bit model gets a float32
    copy of its head, since 16-bit logits are coarser than the differences of losses looked for.
    """

    def __init__(self, model: PreTrainedModel, config: SubjectConfig) -> None:
        self.config = config
        self.model = model.eval().requires_grad_(False)
        self.decoder: nn.Module = model.get_decoder()
        self.layout = layout_of(self.decoder)
        self.blocks: nn.ModuleList = getattr(self.decoder, self.layout.stack)
        self.layers = self.layout.layers
        if model.dtype != torch.float32:
            _widen_head(model)
        if model.config.model_type not in _TESTED:
            self._check_finish()

    @classmethod
    def load(cls, config: SubjectConfig) -> Self:
        """Load a model. Raises DataError when it is missing or damaged, UsageError for a device that is not there."""
        device = pick_device(config.device)
        location = locate(config)
        model = load_pretrained("model", location, dtype=getattr(torch, config.dtype))
        try:
            placed: PreTrainedModel = nn.Module.to(model, device)  # transformers types its own `to` wrongly
        except torch.OutOfMemoryError as error:
            raise UsageError(
                f"{config.model} is larger than the memory of {device}",
                "set subject.dtype bfloat16, or subject.device cpu",
            ) from error
        return cls(placed, config)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        return load_tokenizer(self.config)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def vocabulary(self) -> int:
        """Tokens that it has an embedding for; some models have more than their tokenizer."""
        return int(self.decoder.get_input_embeddings().num_embeddings)  # type: ignore[operator]

    @property
    def batch_tokens(self) -> int:
        """Tokens to give to one forward pass."""
        return self.config.batch_tokens or (16384 if self.device.type == "cuda" else 2048)

    def hookpoint(self, name: str | Hookpoint) -> Hookpoint:
        """Resolve a name; see `nlsim.subject.hookpoints.resolve`."""
        return name if isinstance(name, Hookpoint) else resolve(name, self.decoder)

    @torch.no_grad()
    def capture(self, tokens_BT: TokenRows, lengths_B: TokenRows, hookpoint: str | Hookpoint) -> Captured:
        """Run up to a hookpoint and no further: the cost is that of (layer + 1) blocks."""
        return self.start(tokens_BT, lengths_B, hookpoint).captured

    @torch.no_grad()
    def start(self, tokens_BT: TokenRows, lengths_B: TokenRows, hookpoint: str | Hookpoint) -> State:
        """Run up to a hookpoint and keep what `finish` carries on from. lengths_B: tokens that are not padding."""
        tokens = self._tokens(tokens_BT)
        place = self.hookpoint(hookpoint)
        taps = {"read": place.read, "write": place.write}
        if place.layer >= 0:
            taps["enter"] = Tap(f"{self.layout.stack}.{place.layer}", "input")
        if place.layer > 0:
            taps["first"] = Tap(f"{self.layout.stack}.0", "output")
        with recording(self.decoder, taps) as seen, suppress(EarlyExit):
            self.decoder(input_ids=tokens, use_cache=False)
        if len(seen) < len(taps):
            raise UsageError(f"the hookpoint {place.name} never runs in {self.config.model}", "name another module")
        return State(
            tokens_BT=tokens,
            valid_BT=torch.arange(tokens.shape[1], device=self.device) < self._integers(lengths_B)[:, None],
            hookpoint=place,
            entering_BTD=seen.get("enter"),
            captured=Captured(tensor_of(seen["read"]), tensor_of(seen["write"])),
            output=seen["write"],
            block_gives_tuple=isinstance(seen.get("first"), tuple),
        )

    def finish(self, state: State, output: Tensor | None = None) -> Tensor:
        """Float32 logits [..., T, V] with `output` in place of what the hookpoint wrote; see `finish_hidden`.

        Holds logits of every position: for many positions take `finish_hidden` and `losses`.
        """
        return self.logits(self.finish_hidden(state, output))

    @torch.no_grad()
    def finish_hidden(self, state: State, output: Tensor | None = None) -> Tensor:
        """Carry on with `output` in place of what the hookpoint wrote; the normed final hidden states [..., T, D].

        output: [B, T, D] one condition, or [C, B, T, D] several conditions of the same rows, run `batch_tokens` at a
        time; None is the clean run. To patch chosen positions only, put `state.captured.output_BTD` at the others.
        Blocks before the hookpoint's do not run again. With the untouched output a float32 run of one condition equals
        the plain model's bit for bit.
        """
        if output is None:
            output = state.captured.output_BTD
        if output.ndim == 3:
            return self._finish(state, output)
        rows, positions = state.tokens_BT.shape
        group = max(1, self.batch_tokens // (rows * positions))
        return torch.cat(
            [self._finish(state, part.flatten(0, 1)).unflatten(0, (-1, rows)) for part in output.split(group)]
        )

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        """[…, D] normed final hidden states → [..., V] float32 logits, as the model's own head gives them."""
        flat = hidden.reshape(1, -1, hidden.shape[-1])
        result = BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=flat)
        with overridden(self.decoder, result):
            logits: Tensor = self.model(inputs_embeds=flat, use_cache=False).logits
        return logits.float().reshape(*hidden.shape[:-1], logits.shape[-1])

    @torch.no_grad()
    def losses(self, hidden_CPD: Tensor, clean_PD: Tensor, target_P: Tensor, reverse: bool = False) -> Losses:
        """Losses of C conditions at P positions, against the targets and the clean run, in bounded memory.

        hidden_CPD, clean_PD: results of `finish_hidden` at the chosen positions; target_P: the tokens that follow them;
        reverse: also the divergence in the other direction.
        """
        step = max(1, _LOGITS // self.model.get_output_embeddings().weight.shape[0])
        parts = []
        for start in range(0, max(1, len(target_P)), step):
            chunk = slice(start, start + step)
            clean_PV = self.logits(clean_PD[chunk]).log_softmax(-1)
            target_P1 = target_P[chunk].to(clean_PV.device, torch.int64)[:, None]
            weight_PV, top_P = clean_PV.exp(), clean_PV.argmax(-1)
            columns = []
            for hidden_PD in hidden_CPD[:, chunk]:
                patched_PV = self.logits(hidden_PD).log_softmax(-1)
                ce_P = -patched_PV.gather(1, target_P1).squeeze(1)
                top1_P = patched_PV.argmax(-1) == top_P
                back = [(patched_PV.exp() * (patched_PV - clean_PV)).sum(-1)] if reverse else []
                kl_P = torch.sub(clean_PV, patched_PV, out=patched_PV).mul_(weight_PV).sum(-1)
                columns.append((ce_P, kl_P, top1_P, *back))
            parts.append([torch.stack(column) for column in zip(*columns, strict=True)])
        ce, kl, top1, *other = (torch.cat(pieces, 1) for pieces in zip(*parts, strict=True))
        return Losses(ce, kl.clamp_min_(0), top1, *(column.clamp_min_(0) for column in other))

    def _finish(self, state: State, output_NTD: Tensor) -> Tensor:
        """Conditions × rows as one batch. The model's own loop runs over all blocks, so that what depends on a block's
        place (sliding windows, rotary bases) stays as it is; the blocks to skip hand the residual stream through."""
        copies = output_NTD.shape[0] // state.tokens_BT.shape[0]
        layer, write = state.hookpoint.layer, state.hookpoint.write
        value = output_NTD.to(self.device, state.captured.output_BTD.dtype)
        with ExitStack() as changes:
            if state.entering_BTD is not None:
                entering = state.entering_BTD.repeat(copies, 1, 1)
                passed = (entering,) if state.block_gives_tuple else entering
                for block in self.blocks[:layer]:
                    changes.enter_context(overridden(block, passed))
                changes.enter_context(replaced(self.decoder, Tap(f"{self.layout.stack}.{layer}", "input"), entering))
            # After the line above, so that a hookpoint at the block's input has the last word.
            given = like(state.output, value) if write.side == "output" else value
            changes.enter_context(replaced(self.decoder, write, given))
            result = self.decoder(input_ids=state.tokens_BT.repeat(copies, 1), use_cache=False)
        hidden_NTD: Tensor = result.last_hidden_state
        return hidden_NTD

    def _tokens(self, tokens_BT: TokenRows) -> Tensor:
        vocabulary = self.decoder.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
        if isinstance(tokens_BT, np.ndarray) and tokens_BT.size and tokens_BT.max() >= vocabulary:
            raise DataError(
                f"token {tokens_BT.max()} is not among the {vocabulary} of {self.config.model}",
                "the rows were made with another model's tokenizer",
            )
        return self._integers(tokens_BT)

    def _integers(self, values: TokenRows) -> Tensor:
        if isinstance(values, Tensor):
            return values.to(self.device, torch.int64)
        return torch.from_numpy(np.array(values, np.int64)).to(self.device)  # a copy: stored arrays are read-only

    @torch.no_grad()
    def _check_finish(self) -> None:
        """Refuse an architecture whose later blocks need more of the earlier ones than the residual stream."""
        tokens = torch.arange(4, device=self.device)[None]
        clean = self.decoder(input_ids=tokens, use_cache=False).last_hidden_state
        place = f"{self.layout.stack}.{self.layers // 2}.{self.layout.mlp}"
        again = self.finish_hidden(self.start(tokens, tokens.new_tensor([4]), place))
        if not torch.equal(clean, again):
            raise UsageError(
                f"models of type {self.model.config.model_type} cannot be carried on from the middle",
                f"types known to work: {', '.join(sorted(_TESTED))}",
            )


_TESTED = {"gpt_neox", "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "gpt2"}


def pick_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:N` as a device. Raises UsageError when it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"no device is called {name}", "use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"this machine has no device {name}", "use auto or cpu")
    return device


def _widen_head(model: PreTrainedModel) -> None:
    """Give a 16-bit model a float32 copy of its output head, untied from the embedding."""
    head = model.get_output_embeddings()
    wide = nn.Linear(head.in_features, head.out_features, head.bias is not None, device="meta")
    wide.weight = nn.Parameter(head.weight.detach().float(), requires_grad=False)
    if head.bias is not None:
        wide.bias = nn.Parameter(head.bias.detach().float(), requires_grad=False)
    wide.register_forward_pre_hook(lambda _, args: (args[0].float(),))
    model.set_output_embeddings(wide)
