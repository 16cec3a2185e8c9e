"""The simulator's network for training: a Llama whose windows share their explanation's keys and values.

Parameters have Hugging Face's names, so that a checkpoint loads as `LlamaForCausalLM`, which computes the same.
The head is small by construction: its rows are equal for all tokens that are never an answer. They are one parameter
here.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention, silu


class Shape(NamedTuple):
    """Size of a simulator."""

    vocabulary: int
    width: int = 128
    layers: int = 3
    heads: int = 2
    hidden: int = 384
    theta: float = 100_000.0
    longest: int = 2048
    epsilon: float = 1e-5

    @property
    def parameters(self) -> int:
        """Parameters outside embedding and head."""
        return self.layers * (4 * self.width**2 + 3 * self.width * self.hidden + 2 * self.width) + self.width


class Batch(NamedTuple):
    """E explanations with W windows each."""

    prefix_EP: Tensor
    """Explanations, padded on the left."""
    prefix_length_E: Tensor
    window_EWT: Tensor
    """Windows, padded on the right."""


class Block(nn.Module):
    """One layer: attention and gated MLP, each after a norm and added to the residual."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d, f = shape.width, shape.hidden
        self.heads, self.epsilon = shape.heads, shape.epsilon

        def matrix(out: int, into: int, scale: float = 1.0) -> nn.Parameter:
            return nn.Parameter(torch.randn(out, into) * scale / math.sqrt(into))

        deep = 1 / math.sqrt(2 * shape.layers)
        self.q, self.k, self.v, self.o = matrix(d, d), matrix(d, d), matrix(d, d), matrix(d, d, deep)
        self.gate, self.up, self.down = matrix(f, d), matrix(f, d), matrix(d, f, deep)
        self.norm1, self.norm2 = nn.Parameter(torch.ones(d)), nn.Parameter(torch.ones(d))

    def keys(self, x_BTD: Tensor, rotation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Normed input projected to queries, keys (both rotated) and values [B, heads, T, head]."""
        y_BTD = rms_norm(x_BTD, x_BTD.shape[-1:], self.norm1, self.epsilon)
        b, t, d = y_BTD.shape
        q, k, v = (
            linear(y_BTD, w).view(b, t, self.heads, d // self.heads).transpose(1, 2) for w in (self.q, self.k, self.v)
        )
        return rotate(q, rotation), rotate(k, rotation), v

    def finish(self, x_BTD: Tensor, attended_BHTK: Tensor) -> Tensor:
        """The residual after the attention's output and the MLP."""
        b, h, t, k = attended_BHTK.shape
        x_BTD = x_BTD + linear(attended_BHTK.transpose(1, 2).reshape(b, t, h * k), self.o)
        y_BTD = rms_norm(x_BTD, x_BTD.shape[-1:], self.norm2, self.epsilon)
        return x_BTD + linear(silu(linear(y_BTD, self.gate)) * linear(y_BTD, self.up), self.down)


class Simulator(nn.Module):
    """Embedding, blocks, norm, and the few distinct rows of the head: one per answer, one for every other token."""

    def __init__(self, shape: Shape, answers: list[int]) -> None:
        super().__init__()
        self.shape, self.answers = shape, answers
        self.embedding = nn.Parameter(torch.randn(shape.vocabulary, shape.width) * 0.5)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.width))
        head = torch.zeros(len(answers) + 1, shape.width)
        self.head = nn.Parameter(head)

    def forward(self, batch: Batch) -> Tensor:
        """Last hidden states [E, W, T, D] of the windows' tokens."""
        e, w, t = batch.window_EWT.shape
        p = batch.prefix_EP.shape[1]
        device = batch.prefix_EP.device
        prefix_E = batch.prefix_length_E
        pad_EP = torch.arange(p, device=device) < (p - prefix_E)[:, None]
        at_EP = (torch.arange(p, device=device) - (p - prefix_E)[:, None]).clamp(min=0)
        at_BT = (prefix_E[:, None] + torch.arange(t, device=device)).repeat_interleave(w, 0)
        causal_PP = torch.ones(p, p, dtype=torch.bool, device=device).tril()
        # a padded query attends to itself alone, so that no softmax is empty
        mask_E1PP = (causal_PP & ~pad_EP[:, None, :]) | torch.eye(p, dtype=torch.bool, device=device)
        mask_E1PP = mask_E1PP[:, None]
        causal_TT = torch.ones(t, t, dtype=torch.bool, device=device).tril()
        seen_BTP = (~pad_EP).repeat_interleave(w, 0)[:, None, :].expand(-1, t, -1)
        mask_B1TK = torch.cat([seen_BTP, causal_TT.expand(e * w, -1, -1)], 2)[:, None]
        head = self.shape.width // self.shape.heads
        prefix_turn, window_turn = (rotation(at, head, self.shape.theta) for at in (at_EP, at_BT))
        x_EPD = self.embedding[batch.prefix_EP]
        y_BTD = self.embedding[batch.window_EWT.reshape(e * w, t)]
        for block in self.blocks:
            assert isinstance(block, Block)  # noqa: S101 - for the type checker
            q, k, v = block.keys(x_EPD, prefix_turn)
            q2, k2, v2 = block.keys(y_BTD, window_turn)
            k2 = torch.cat([k.repeat_interleave(w, 0), k2], 2)
            v2 = torch.cat([v.repeat_interleave(w, 0), v2], 2)
            x_EPD = block.finish(x_EPD, scaled_dot_product_attention(q, k, v, attn_mask=mask_E1PP))
            y_BTD = block.finish(y_BTD, scaled_dot_product_attention(q2, k2, v2, attn_mask=mask_B1TK))
        return rms_norm(y_BTD, y_BTD.shape[-1:], self.norm, self.shape.epsilon).view(e, w, t, -1)

    def logprobs(self, hidden_RD: Tensor) -> Tensor:
        """Log-probabilities [R, answers] as next tokens, over the full vocabulary."""
        logits = linear(hidden_RD, self.head)
        others = logits[:, -1:] + math.log(self.shape.vocabulary - len(self.answers))
        return logits[:, :-1] - torch.cat([logits[:, :-1], others], 1).logsumexp(1, keepdim=True)

    def save(self, folder: Path) -> None:
        """Write weights (f16) and configuration as a Hugging Face Llama."""
        from safetensors.torch import save

        shape = self.shape
        head_VD = self.head[-1].expand(shape.vocabulary, -1).clone()
        head_VD[self.answers] = self.head[:-1]
        tensors = {
            "model.embed_tokens.weight": self.embedding,
            "model.norm.weight": self.norm,
            "lm_head.weight": head_VD,
        }
        for i, block in enumerate(self.blocks):
            for ours, theirs in NAMES.items():
                tensors[f"model.layers.{i}.{theirs}.weight"] = getattr(block, ours)
        folder.mkdir(parents=True, exist_ok=True)
        halves = {name: tensor.detach().half().contiguous() for name, tensor in tensors.items()}
        (folder / "model.safetensors").write_bytes(save(halves, metadata={"format": "pt"}))
        config = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": shape.width,
            "intermediate_size": shape.hidden,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.heads,
            "head_dim": shape.width // shape.heads,
            "vocab_size": shape.vocabulary,
            "max_position_embeddings": shape.longest,
            "rms_norm_eps": shape.epsilon,
            "rope_parameters": {"rope_type": "default", "rope_theta": shape.theta},
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": False,
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": 0,
            "dtype": "float16",
        }
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


NAMES = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
    "norm1": "input_layernorm",
    "norm2": "post_attention_layernorm",
}
"""Our parameter → Hugging Face's module."""


def rotation(at_BT: Tensor, head: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine [B, 1, T, head] of rotary positions (Su et al. 2021), halves paired as in Llama."""
    frequency = theta ** (-torch.arange(0, head, 2, device=at_BT.device).float() / head)
    angle = at_BT[..., None].float() * frequency
    angle = torch.cat([angle, angle], -1)[:, None]
    return angle.cos(), angle.sin()


def rotate(x_BHTK: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Queries or keys rotated by their position."""
    first, second = x_BHTK.chunk(2, -1)
    return x_BHTK * turn[0] + torch.cat([-second, first], -1) * turn[1]
