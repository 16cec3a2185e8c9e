"""Names of places in a model: as in sparsify (module paths) and as in SAELens / TransformerLens (`blocks.6.hook_…`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal, NamedTuple

from nlsim.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

Side = Literal["input", "output", "normalized"]


class Tap(NamedTuple):
    """One activation: what enters or leaves a module."""

    module: str
    """Path below the decoder (`layers.6.mlp`)."""
    side: Side
    """`normalized`: what a norm computes before it multiplies by its gain. It can be read, not replaced."""


class Hookpoint(NamedTuple):
    """Where a coder reads and what it writes."""

    name: str
    """As given."""
    layer: int
    """The block that holds `write`; -1 for the embedding."""
    read: Tap
    """What a transcoder reads: the module's input."""
    write: Tap
    """What a coder reconstructs and what is replaced."""


class Layout(NamedTuple):
    """How an architecture calls its parts."""

    stack: str
    """The list of blocks: `layers` or `h`."""
    layers: int
    embedding: str
    mlp: str
    attention: str
    attention_head_output: str
    """The projection whose input is the heads' output (`hook_z`)."""
    norms: tuple[str, str]
    """The norms before attention and before the MLP."""
    mlp_result: str
    """The module whose output is added to the residual stream: the MLP, or the norm after it (Gemma 2 and 3)."""
    attention_result: str


_MLP = ("mlp", "feed_forward", "block_sparse_moe")
_ATTENTION = ("self_attn", "attention", "attn")
_HEAD_OUTPUT = ("o_proj", "dense", "c_proj", "out_proj")


def layout_of(decoder: nn.Module) -> Layout:
    """Find the parts by the names that the Hugging Face models use. Raises UsageError for an unknown architecture."""
    stack = next((name for name in ("layers", "h", "blocks") if hasattr(decoder, name)), None)
    if stack is None:
        raise UsageError(f"{type(decoder).__name__} has no list of blocks that nlsim knows", "use a decoder-only model")
    blocks = getattr(decoder, stack)
    block: nn.Module = blocks[0]
    children = {name for name, _ in block.named_children()}
    mlp = next((name for name in _MLP if name in children), "")
    attention = next((name for name in _ATTENTION if name in children), "")
    if not mlp or not attention:
        raise UsageError(
            f"{type(block).__name__} has no MLP or attention that nlsim knows", f"it has: {sorted(children)}"
        )
    inner = {name for name, _ in getattr(block, attention).named_children()}
    projection = next((name for name in _HEAD_OUTPUT if name in inner), "")
    after = "post_feedforward_layernorm" in children  # Gemma 2 and 3, OLMo 2: a norm between the MLP and the residual
    before_mlp = ("pre_feedforward_layernorm", "ln_2", *(() if after else ("post_attention_layernorm",)))
    norms = (
        next((name for name in ("input_layernorm", "ln_1") if name in children), ""),
        next((name for name in before_mlp if name in children), ""),
    )
    return Layout(
        stack=stack,
        layers=len(blocks),
        embedding=next(name for name, m in decoder.named_children() if m is decoder.get_input_embeddings()),  # type: ignore[operator]
        mlp=mlp,
        attention=attention,
        attention_head_output=f"{attention}.{projection}" if projection else "",
        norms=norms,
        mlp_result="post_feedforward_layernorm" if after else mlp,
        attention_result="post_attention_layernorm" if after else attention,
    )


def resolve(name: str, decoder: nn.Module) -> Hookpoint:
    """The hookpoint that a name means in a model.

    - `layers.6.mlp`, `h.6.mlp`, `model.layers.6.mlp`: a module (sparsify). A transcoder reads its input; SAEs and
      transcoders write its output.
    - `blocks.6.hook_resid_post`, `blocks.6.hook_mlp_out`, …: an activation (TransformerLens, SAELens).
    - `A -> B`: a transcoder that reads A and writes B, e.g. `blocks.6.ln2.hook_normalized -> blocks.6.hook_mlp_out`.

    Raises UsageError, with the nearest and some valid names, for a name that the model does not have.
    """
    layout = layout_of(decoder)
    source, arrow, target = (part.strip() for part in name.partition("->"))
    if not arrow:
        read, write = _taps(source, decoder, layout)
    else:
        first, second = _taps(source, decoder, layout), _taps(target, decoder, layout)
        # Of a module name the transcoder reads the input; a TransformerLens name is one activation.
        read, write = first[0] if _is_module(source) else first[1], second[1]
    if write.side == "normalized":
        raise UsageError(
            f"the hookpoint {name} can be read but not replaced", f"write it as `{source} -> what is replaced`"
        )
    if layer_of(read, layout) > layer_of(write, layout):
        raise UsageError(f"the hookpoint {name} reads after it writes", "swap the two sides of `->`")
    return Hookpoint(name, layer_of(write, layout), read, write)


def layer_of(tap: Tap, layout: Layout) -> int:
    """The block that a tap is in; -1 for the embedding."""
    parts = tap.module.split(".")
    return int(parts[1]) if parts[0] == layout.stack else -1


def hookpoint_names(decoder: nn.Module, layer: int = 0) -> list[str]:
    """The names valid in one block, and the embedding's."""
    layout = layout_of(decoder)
    block = f"{layout.stack}.{layer}"
    modules = [block, f"{block}.{layout.mlp}", f"{block}.{layout.attention}"]
    return [*modules, *(f"blocks.{layer}.{hook}" for hook in _hooks(layout, layer)), "hook_embed"]


def _hooks(layout: Layout, layer: int) -> dict[str, tuple[Tap, Tap]]:
    """TransformerLens name inside a block → (read, write)."""
    block = f"{layout.stack}.{layer}"
    enter, leave = Tap(block, "input"), Tap(block, "output")
    mlp_in, attention_in = Tap(f"{block}.{layout.mlp}", "input"), Tap(f"{block}.{layout.attention}", "input")
    hooks = {
        "hook_resid_pre": (enter, enter),
        "hook_resid_post": (enter, leave),
        "hook_mlp_out": (mlp_in, Tap(f"{block}.{layout.mlp_result}", "output")),
        "hook_attn_out": (attention_in, Tap(f"{block}.{layout.attention_result}", "output")),
        "mlp.hook_in": (mlp_in, mlp_in),
        "mlp.hook_out": (mlp_in, Tap(f"{block}.{layout.mlp}", "output")),
    }
    for number, norm in enumerate(layout.norms, 1):
        if norm:
            normalized = Tap(f"{block}.{norm}", "normalized")
            hooks[f"ln{number}.hook_normalized"] = (normalized, normalized)
    if layout.attention_head_output:
        heads = Tap(f"{block}.{layout.attention_head_output}", "input")
        hooks["attn.hook_z"] = (heads, heads)
    return hooks


def _taps(name: str, decoder: nn.Module, layout: Layout) -> tuple[Tap, Tap]:
    if name in {"hook_embed", "embed", layout.embedding}:
        embedding = Tap(layout.embedding, "output")
        return embedding, embedding
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
    if match and int(match[1]) < layout.layers:
        hooks = _hooks(layout, int(match[1]))
        if match[2] in hooks:
            return hooks[match[2]]
    # Module paths may carry the names above the decoder, and either name of the list of blocks.
    path = re.sub(r"^(?:.*\.)?(?:layers|h|blocks)\.(\d+)(?=\.|$)", rf"{layout.stack}.\1", name)
    if path.startswith(f"{layout.stack}.") and path.count(".") and path in dict(decoder.named_modules()):
        return Tap(path, "input"), Tap(path, "output")
    raise _unknown(name, decoder, layout)


def _is_module(name: str) -> bool:
    return "hook_" not in name


def _unknown(name: str, decoder: nn.Module, layout: Layout) -> UsageError:
    number = re.search(r"\.(\d+)(?:\.|$)", name)
    layer = int(number[1]) if number else 0
    if layer >= layout.layers:
        return UsageError(f"no hookpoint {name}: the model has {layout.layers} layers", f"use 0 to {layout.layers - 1}")
    known = hookpoint_names(decoder, layer)
    near = get_close_matches(name, [*known, *_module_paths(decoder, layout, layer)], 1, 0.6)
    hint = f"did you mean {near[0]}? " if near else ""
    return UsageError(f"no hookpoint {name}", f"{hint}valid: {', '.join(known)}, or another module's path")


def _module_paths(decoder: nn.Module, layout: Layout, layer: int) -> Iterator[str]:
    block = f"{layout.stack}.{layer}"
    return (path for path, _ in decoder.named_modules() if path.startswith(f"{block}."))
