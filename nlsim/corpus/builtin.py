"""English that every Python installation carries: the language's help topics and the standard library's docstrings."""

import ast
import hashlib
import platform
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from nlsim.corpus.documents import Document

_SKIPPED_FOLDERS = {"site-packages", "test", "tests", "idle_test", "_bundled", "__pycache__", "turtledemo"}
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@cache
def builtin_documents() -> tuple[Document, ...]:
    """One document per help topic (`topics/NAME`) and per documented module (`modules/NAME`), in a fixed order.

    Source files are parsed, never imported. A docstring that occurs again elsewhere (inherited or copied classes) is
    kept only where it occurs first, so that the same text cannot be on two sides of a split.
    """
    return tuple(_topics()) + tuple(_modules())


@cache
def builtin_identity() -> dict[str, str]:
    """The Python version and a digest of the files that the text is taken from (cheaper than gathering it)."""
    state = hashlib.sha256()
    for name, path in _sources():
        state.update(f"{name}\0".encode())
        state.update(hashlib.sha256(path.read_bytes()).digest())
    return {"python": platform.python_version(), "text": state.hexdigest()}


def _root() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _sources() -> list[tuple[str, Path]]:
    """(dotted module name, file) of the standard library's Python files, sorted by name."""
    found = []
    for path in _root().rglob("*.py"):
        parts = path.relative_to(_root()).with_suffix("").parts
        if parts[0] in sys.stdlib_module_names and not _SKIPPED_FOLDERS.intersection(parts):
            found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return sorted(found)


def _topics() -> Iterator[Document]:
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield Document(f"topics/{name}", topics[name].strip() + "\n")


def _modules() -> Iterator[Document]:
    seen: set[str] = set()
    for name, path in _sources():
        if name.startswith("pydoc_data"):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in old docstrings
            tree = ast.parse(path.read_bytes(), filename=name)
        entries = []
        for title, docstring in _docstrings(tree, ""):
            if docstring not in seen:
                seen.add(docstring)
                entries.append(f"{title}\n\n{docstring}\n" if title else f"{docstring}\n")
        if entries:
            yield Document(f"modules/{name}", "\n".join(entries))


def _docstrings(node: _Documented, title: str) -> Iterator[tuple[str, str]]:
    """(qualified name, docstring) of a node and of the classes and functions directly inside it, in source order."""
    docstring = ast.get_docstring(node)
    if docstring:
        yield title, docstring
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstrings(child, f"{title}.{child.name}" if title else child.name)
