"""How much of a language model survives when part of it is replaced by plain-English explanations?"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlsim.api.run import open_run as open  # noqa: A004 - `nlsim.open` is what it is called

__version__ = "0.1.0"
__all__ = ["__version__", "open"]


def __getattr__(name: str) -> Any:
    """`open` is imported when it is first asked for, so that `import nlsim` takes no time."""
    if name == "open":
        from nlsim.api.run import open_run

        return open_run
    raise AttributeError(f"module 'nlsim' has no attribute {name!r}")
