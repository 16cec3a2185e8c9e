"""Any transformers decoder over a packed trie: an attention backend, and the last layer only where it is read."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from nlsim.errors import UsageError
from nlsim.lm.attention import Form
from nlsim.lm.trie import TriePass

NAME = "nlsim_trie"
"""Name of the backend in `attn_implementation`. Outside a pass of ours it is torch's ordinary attention."""

_current: ContextVar[_Pass | None] = ContextVar("nlsim_trie_pass", default=None)

LAYERS = {"full_attention", "sliding_attention"}
"""Kinds of layers whose attention only masks keys."""


class _Pass:
    """The trie pass under way, and what is known of the last layer."""

    def __init__(self, trie: TriePass) -> None:
        self.trie = trie
        self.keys_values: tuple[Tensor, Tensor] | None = None
        self.only_keys = False


class _KeysReadyError(Exception):
    """The last layer's keys and values are known; nothing else of it is wanted for all rows."""


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """The attention function that transformers calls: query [1, heads, T, d] after rotary embedding."""
    current = _current.get()
    if current is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    if kwargs.get("s_aux") is not None or not getattr(module, "is_causal", True):
        raise UsageError("the model's attention has sinks or is not causal", "use lm.engine transformers or vllm")
    form = Form(kwargs.get("scaling") or query.shape[-1] ** -0.5, kwargs.get("softcap"), kwargs.get("sliding_window"))
    q_THd, k_TKd, v_TKd = (x[0].transpose(0, 1) for x in (query, key, value))
    layer: int = module.layer_idx
    if current.keys_values is not None:
        return current.trie.attend(layer, q_THd, *current.keys_values, form, only_reads=True)[None], None
    current.trie.keep(layer, k_TKd, v_TKd)
    if current.only_keys:
        current.keys_values = k_TKd, v_TKd
        raise _KeysReadyError
    return current.trie.attend(layer, q_THd, k_TKd, v_TKd, form)[None], None


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


class Backbone:
    """A transformers decoder without its output layer."""

    def __init__(self, model: Any, compiled: bool = False) -> None:
        """Switch `model` (a causal language model) to our attention. Raises UsageError if it cannot be packed."""
        config = model.config.get_text_config()
        name = model.config.model_type
        kinds = set(getattr(config, "layer_types", None) or {"full_attention"})
        if not model._supports_attention_backend or kinds - LAYERS:
            raise UsageError(f"engine packed cannot run {name} models", "use lm.engine transformers or vllm")
        self.decoder: nn.Module = model.get_decoder()
        model.set_attn_implementation(NAME)
        layers = [
            m for m in self.decoder.children() if isinstance(m, nn.ModuleList) and len(m) == config.num_hidden_layers
        ]
        if len(layers) != 1:
            raise UsageError(f"engine packed does not know the layers of {name} models", "use lm.engine transformers")
        self.width: int = config.hidden_size
        self.device = next(self.decoder.parameters()).device
        layers[0][-1].register_forward_pre_hook(self._narrow, with_kwargs=True)
        self._last = layers[0][-1]
        self._last.register_forward_hook(self._widen)
        for layer in layers[0][:-1] if compiled else []:  # the last layer runs in two parts
            layer.compile(dynamic=True)

    def hidden(self, trie: TriePass) -> Tensor:
        """Hidden states [R, D], after the final norm, of the rows to be read."""
        plan = trie.plan
        ids = torch.from_numpy(plan.tokens_T).to(self.device)[None]
        positions = torch.from_numpy(plan.positions_T).to(self.device)[None]
        no_mask = torch.empty((1, 1, 1, 1), device=self.device)  # four axes: taken as it is, and our backend ignores it
        current = _Pass(trie)
        token = _current.set(current)
        try:
            out = self.decoder(input_ids=ids, attention_mask=no_mask, position_ids=positions, use_cache=False)
        except _KeysReadyError:  # nothing is read
            return torch.empty((0, self.width), device=self.device)
        finally:
            _current.reset(token)
        hidden_TD: Tensor = out.last_hidden_state[0]
        if current.keys_values is not None:
            return hidden_TD[: len(plan.reads_R)]
        return hidden_TD[trie.reads(hidden_TD.device)]

    def _narrow(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        """Before the last layer: make its keys and values for all rows, then hand it only the rows to be read."""
        current = _current.get()
        if current is None or current.only_keys or 2 * len(current.trie.plan.reads_R) > current.trie.rows:
            return None
        current.only_keys = True
        try:
            layer(*args, **kwargs)
        except _KeysReadyError:
            if not len(current.trie.plan.reads_R):
                raise
        finally:
            current.only_keys = False

        def pick(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(pick(item) for item in value)
            if isinstance(value, Tensor) and value.ndim >= 2 and value.shape[1] == current.trie.rows:
                return value.index_select(1, current.trie.reads(value.device))
            return value

        return tuple(pick(arg) for arg in args), {key: pick(value) for key, value in kwargs.items()}

    def _widen(self, layer: nn.Module, args: tuple[Any, ...], output: Any) -> Any:  # noqa: ARG002 - a hook's signature
        """After the last layer: some families insist on as many rows as they began with, so fill up behind."""
        current = _current.get()
        if current is None or current.keys_values is None:
            return output
        hidden = output[0] if isinstance(output, tuple) else output
        filled = hidden.new_zeros((1, current.trie.rows, hidden.shape[-1]))
        filled[:, : hidden.shape[1]] = hidden
        return (filled, *output[1:]) if isinstance(output, tuple) else filled
