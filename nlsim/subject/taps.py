"""Reading, replacing and skipping parts of a model while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nlsim.subject.hookpoints import Tap


class EarlyExit(Exception):
    """Raised inside a forward pass when everything asked for has been seen. A signal, not an error."""


@contextmanager
def recording(decoder: nn.Module, taps: Mapping[str, Tap]) -> Iterator[dict[str, Any]]:
    """Collect activations by name while the body runs the model.

    The forward pass ends, by `EarlyExit`, as soon as all are seen: no later module runs. Module outputs keep their own
    form (attention gives a tuple).
    """
    seen: dict[str, Any] = {}

    def keep(name: str, value: Any) -> None:
        seen[name] = value
        if len(seen) == len(taps):
            raise EarlyExit

    with ExitStack() as hooks:
        for name, tap in taps.items():
            hooks.callback(_listen(decoder.get_submodule(tap.module), tap, name, keep))
        yield seen


def _listen(module: nn.Module, tap: Tap, name: str, keep: Callable[[str, Any], None]) -> Callable[[], None]:
    def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(name, first_argument(args, kwargs))

    def leave(_module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
        keep(name, output)

    def norm(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _output: Any) -> None:
        keep(name, normalized(module, first_argument(args, kwargs)))

    if tap.side == "input":
        return module.register_forward_pre_hook(enter, with_kwargs=True).remove
    return module.register_forward_hook(leave if tap.side == "output" else norm, with_kwargs=True).remove


@contextmanager
def replaced(decoder: nn.Module, tap: Tap, value: Any) -> Iterator[None]:
    """Let a module give `value` (without computing anything), or take it as its first argument."""
    module = decoder.get_submodule(tap.module)
    if tap.side == "output":
        with overridden(module, value):
            yield
        return

    def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return ((value, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": value})

    handle = module.register_forward_pre_hook(enter, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def overridden(module: nn.Module, value: Any) -> Iterator[None]:
    """Let a module give `value` without computing anything. Its class keeps `forward`; an attribute shadows it."""

    def give(*_args: Any, **_kwargs: Any) -> Any:
        return value

    previous = module.__dict__.get("forward")
    module.__dict__["forward"] = give
    try:
        yield
    finally:
        if previous is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = previous


def first_argument(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """The activation that enters a module: its first argument, which some blocks give by name."""
    return args[0] if args else kwargs["hidden_states"]


def tensor_of(output: Any) -> Tensor:
    """The activation in a module's output."""
    return output[0] if isinstance(output, tuple) else output


def like(output: Any, value: Tensor) -> Any:
    """`value` in the form of `output`: a tensor, or a tuple whose other parts are not computed."""
    return (value, *(None for _ in output[1:])) if isinstance(output, tuple) else value


def normalized(norm: nn.Module, x: Tensor) -> Tensor:
    """What a LayerNorm or RMSNorm computes before its gain and bias, in float32 as TransformerLens does."""
    wide = x.float()
    if isinstance(norm, nn.LayerNorm):
        return nn.functional.layer_norm(wide, norm.normalized_shape, eps=norm.eps).to(x.dtype)
    eps = float(getattr(norm, "variance_epsilon", getattr(norm, "eps", 1e-6)))  # Llama's name, Gemma's name
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)
