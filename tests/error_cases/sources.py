"""Data sets of the hub, and coders in forms of their own."""

from __future__ import annotations

from collections.abc import Iterator

from error_cases.bench import Bench, Said, case

HUB = "corpus.source={kind: huggingface, path: owner/name}"


@case("a data set that is not there, or gated")
def _(bench: Bench) -> Said:
    def failing(*_: object, **__: object) -> None:
        raise OSError("Repository Not Found")

    bench.patch.setattr("huggingface_hub.HfApi.dataset_info", failing)
    return bench.run(HUB, until="tokens")


@case("a download that fails midway")
def _(bench: Bench) -> Said:
    class Broken:
        def __iter__(self) -> Iterator[dict[str, str]]:
            yield {"text": "The first of many documents."}
            raise ConnectionError("connection reset by peer")

    bench.patch.setattr("nlsim.corpus.huggingface._commit", lambda _: None)
    bench.patch.setattr("nlsim.corpus.huggingface._open", lambda *_: Broken())
    return bench.run(HUB, until="tokens")


@case("a Llama Scope coder in another form")
def _(bench: Bench) -> Said:
    bench.file("scope/checkpoints/final.safetensors", b"")
    folder = bench.file("scope/hyperparams.json", {"act_fn": "topk"}).parent
    return bench.run(f"coder.path={folder}", until="cache")
