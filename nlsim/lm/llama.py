"""Models of the Llama family on a CPU in float32, with far fewer passes over memory than module by module.

In a small model on a CPU a matrix product is hardly dearer than reading its operands, so what surrounds the products
decides the speed. Here norms' gains are folded into the weights that follow, queries, keys and values are one product
(gate and up projection too), rotary embedding is one complex multiplication in place, residuals are added inside the
products, and every intermediate lives in a buffer that is used again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nlsim.lm.attention import Form
from nlsim.lm.trie import TriePass

FAMILIES = ("llama", "mistral", "qwen2")
MOST_PARAMETERS = 3_000_000_000
"""Fused weights are copies; larger models do not pay for the memory."""

BLOCK = 512
"""Rows that go through the feed-forward layer at once, so that they stay in the cache."""


def fits(model: Any) -> bool:
    """Whether this module computes what `model` (a causal language model) does."""
    config = model.config.get_text_config()
    parameters = list(model.parameters())
    return (
        config.model_type in FAMILIES
        and config.hidden_act == "silu"
        and not getattr(config, "mlp_bias", False)
        and not getattr(config, "attention_bias", False)
        and all(parameter.dtype == torch.float32 and parameter.device.type == "cpu" for parameter in parameters)
        and sum(parameter.numel() for parameter in parameters) <= MOST_PARAMETERS
    )


class Layer:
    """Fused weights of one decoder layer."""

    def __init__(self, layer: Any, heads: int, groups: int) -> None:
        """Fold and join the weights of a transformers layer."""
        attention, before, between = layer.self_attn, layer.input_layernorm, layer.post_attention_layernorm
        projections = [attention.q_proj, attention.k_proj, attention.v_proj]
        turned = [_interleaved(projections[0], heads), _interleaved(projections[1], groups), projections[2].weight]
        self.qkv_ED = torch.cat(turned) * before.weight
        self.bias_E: Tensor | None = None
        if projections[0].bias is not None:
            biases = [_interleaved_bias(projections[0], heads), _interleaved_bias(projections[1], groups)]
            self.bias_E = torch.cat([*biases, projections[2].bias])
        self.out_DE: Tensor = attention.o_proj.weight
        self.gate_up_FD = torch.cat([layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight]) * between.weight
        self.down_DF: Tensor = layer.mlp.down_proj.weight
        self.epsilons = (before.variance_epsilon, between.variance_epsilon)
        window = getattr(attention, "sliding_window", getattr(attention.config, "sliding_window", None))
        self.form = Form(attention.scaling, None, window)


class LlamaForward:
    """The decoder without its output layer."""

    def __init__(self, model: Any) -> None:
        """Take the weights of a transformers model for which `fits` holds."""
        config = model.config.get_text_config()
        decoder = model.get_decoder()
        self.width: int = config.hidden_size
        self.heads: int = config.num_attention_heads
        self.groups: int = config.num_key_value_heads
        self.layers = [Layer(layer, self.heads, self.groups) for layer in decoder.layers]
        self.embedding_VD: Tensor = decoder.embed_tokens.weight
        self.norm = decoder.norm
        self.rotary = decoder.rotary_emb
        self.turns_Sh = torch.empty((0, 1, 1), dtype=torch.complex64)
        self._buffers: dict[str, Tensor] = {}

    def hidden(self, trie: TriePass) -> Tensor:
        """Hidden states [R, D], after the final norm, of the rows to be read."""
        plan = trie.plan
        reads_R = trie.reads(torch.device("cpu"))
        turns_T1h = self._turns(int(plan.positions_T.max()) + 1)[torch.from_numpy(plan.positions_T)]
        x_TD = functional.embedding(torch.from_numpy(plan.tokens_T), self.embedding_VD)
        for index, layer in enumerate(self.layers):
            last = index == len(self.layers) - 1
            few = last and 2 * len(reads_R) <= trie.rows
            q_THd, k_TKd, v_TKd = self._project(layer, x_TD, turns_T1h)
            trie.keep(index, k_TKd, v_TKd)
            if last:
                x_TD = x_TD[reads_R]
            if last and not len(reads_R):
                return x_TD
            o_THd = trie.attend(index, q_THd[reads_R] if few else q_THd, k_TKd, v_TKd, layer.form, only_reads=few)
            if last and not few:
                o_THd = o_THd[reads_R]
            torch.addmm(x_TD, o_THd.flatten(1), layer.out_DE.T, out=x_TD)
            self._feed_forward(layer, x_TD)
        normed: Tensor = self.norm(x_TD)
        return normed

    def _project(self, layer: Layer, x_TD: Tensor, turns_T1h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries and keys, and values: views of one buffer."""
        qkv_TE = self._buffer("qkv", len(x_TD), len(layer.qkv_ED))
        normed_TD = self._normed(x_TD, layer.epsilons[0])
        torch.mm(normed_TD, layer.qkv_ED.T, out=qkv_TE)
        if layer.bias_E is not None:
            qkv_TE.add_(layer.bias_E)
        size = qkv_TE.shape[1] // (self.heads + 2 * self.groups)
        parts_TGd = qkv_TE.unflatten(1, (-1, size))
        turned = self.heads + self.groups
        torch.view_as_complex(parts_TGd[:, :turned].unflatten(2, (-1, 2))).mul_(turns_T1h)
        return parts_TGd[:, : self.heads], parts_TGd[:, self.heads : turned], parts_TGd[:, turned:]

    def _feed_forward(self, layer: Layer, x_TD: Tensor) -> None:
        """Add the feed-forward layer's output to `x_TD`."""
        size = layer.down_DF.shape[1]
        for start in range(0, len(x_TD), BLOCK):
            block_TD = x_TD[start : start + BLOCK]
            both_TF = self._buffer("gate_up", len(block_TD), 2 * size)
            torch.mm(self._normed(block_TD, layer.epsilons[1]), layer.gate_up_FD.T, out=both_TF)
            gate_TF, up_TF = both_TF[:, :size], both_TF[:, size:]
            functional.silu(gate_TF, inplace=True).mul_(up_TF)
            torch.addmm(block_TD, gate_TF, layer.down_DF.T, out=block_TD)

    def _normed(self, x_TD: Tensor, epsilon: float) -> Tensor:
        """`x_TD` divided by its root mean square, without gain."""
        squares_T1 = torch.linalg.vector_norm(x_TD, dim=-1, keepdim=True).square_()
        return torch.mul(
            x_TD, squares_T1.div_(self.width).add_(epsilon).rsqrt_(), out=self._buffer("norm", *x_TD.shape)
        )

    def _turns(self, positions: int) -> Tensor:
        """Rotation [S, 1, d/2], as complex numbers, of at least the first `positions` positions."""
        if len(self.turns_Sh) < positions:
            ids = torch.arange(2 * positions)[None]
            cos_Sd, sin_Sd = (x[0] for x in self.rotary(self.embedding_VD[:1], ids))
            half = cos_Sd.shape[1] // 2
            self.turns_Sh = torch.complex(cos_Sd[:, :half], sin_Sd[:, :half])[:, None]
        return self.turns_Sh

    def _buffer(self, name: str, rows: int, width: int) -> Tensor:
        """A [rows, width] buffer that earlier users of `name` are done with."""
        held = self._buffers.get(name)
        if held is None or held.numel() < rows * width:
            held = self._buffers[name] = torch.empty(rows * width)
        return held[: rows * width].view(rows, width)


def _interleaved(projection: Any, heads: int) -> Tensor:
    """Rows of a projection so that what rotates together, (i, i + d/2) of a head, is adjacent.

    Queries and keys are permuted alike, which leaves their products as they are.
    """
    weight: Tensor = projection.weight
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(weight.shape)


def _interleaved_bias(projection: Any, heads: int) -> Tensor:
    bias: Tensor = projection.bias
    return bias.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(-1)
