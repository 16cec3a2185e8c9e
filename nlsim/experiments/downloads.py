"""What a run takes from the Hugging Face hub, told from its configuration, and whether it is here already."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from nlsim.coders.config import RELEASE
from nlsim.corpus.huggingface import on_hub
from nlsim.subject.locate import local_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nlsim.config import Config

SHIPPED = ("nlsim:", "smollm2-135m")


class Download(NamedTuple):
    """One repository of the hub."""

    use: str
    """What the run needs it for."""
    repository: str
    kind: Literal["model", "dataset", "saelens"]
    part: str
    """Folder in it; empty: all of it."""
    revision: str
    here: bool
    """Whether the Hugging Face cache of this machine has (some of) it."""

    @property
    def command(self) -> str:
        """How to fetch it where there is a network."""
        if self.kind == "saelens":
            return f"python -c \"from sae_lens import SAE; SAE.from_pretrained('{self.repository}', '{self.part}')\""
        words = ["hf download", self.repository]
        words += [] if self.kind == "model" else ["--repo-type dataset"]
        words += [f"--revision {self.revision}"] if self.revision else []
        words += [f'--include "{self.part}/*"'] if self.part else []
        return " ".join(words)


def downloads_of(config: Config) -> tuple[Download, ...]:
    """Every repository once, in the order in which the run needs them. Looks at folders of this machine, no network."""
    found: dict[tuple[str, str, str], Download] = {}
    for part in _parts(config):
        found.setdefault((part.kind, part.repository, part.part), part)
    return tuple(found.values())


def _parts(config: Config) -> Iterator[Download]:
    source = config.corpus.source
    if source.kind == "huggingface" and on_hub(source):
        yield _download("text", source.path, "dataset", "", source.revision)
    if _on_hub(config.subject.model):
        yield _download("subject", config.subject.model, "model", "", config.subject.revision)
    place, _, name = config.coder.path.partition(":")
    if place == "hub":
        owner, _, rest = name.partition("/")
        repository, _, folder = rest.partition("/")
        yield _download("coder", f"{owner}/{repository}", "model", folder, None)
    elif config.coder.path.startswith(RELEASE):
        release, _, sae_id = name.partition("/")
        yield Download("coder", release, "saelens", sae_id, "", False)
    for kind in (config.kind, *config.kinds):
        mine = config.of_kind(kind)
        asked = {"explain": mine.explain.method == "llm", "score": True, "simulate": True}
        for stage in ("explain", "score", "simulate"):
            lm = mine.language_model(stage)
            model = "" if lm.endpoint.base_url else lm.model
            parts = {"language model": model, "tokenizer": lm.tokenizer or "", "adapter": lm.adapter or ""}
            for use, name in parts.items():
                if asked[stage] and _on_hub(name):
                    yield _download(use, name, "model", "", lm.revision if use == "language model" else None)


def _on_hub(model: str) -> bool:
    return bool(model) and not model.startswith(SHIPPED) and local_folder(model) is None


def _download(
    use: str, repository: str, kind: Literal["model", "dataset"], part: str, revision: str | None
) -> Download:
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    folder = cache / f"{kind}s--{repository.replace('/', '--')}" / "snapshots"
    here = any((snapshot / part).exists() for snapshot in folder.glob("*"))
    return Download(use, repository, kind, part, revision or "", here)
