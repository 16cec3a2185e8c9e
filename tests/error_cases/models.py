"""Language models: engines here, servers, adapters."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import torch
from byte_models import byte_tokenizer, write_model
from lm_server import Reply, Server, top

from error_cases.bench import Bench, Case, Said, case


def score(*settings: str) -> Case:
    """The stage that asks a language model first."""
    return lambda bench: bench.run(*settings, until="score")


def model(bench: Bench, **tokenizer: Any) -> Path:
    """A language model of the case's own, which writes `!`."""
    return write_model(bench.tmp / "lm", byte_tokenizer(**tokenizer), says="!")


def configured(bench: Bench, **settings: Any) -> Said:
    """What is said of such a model with other settings than it was written with."""
    config = model(bench) / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **settings}))
    return bench.run(f"lm.model={config.parent}", until="score")


# Engines

case("a model without chat template where one is asked for")(score("lm.template=chat"))
case("no such GPU")(score("lm.device=cuda:7"))
case("a prompt longer than the model's context")(lambda bench: configured(bench, max_position_embeddings=64))
case("a model whose files lack weights")(lambda bench: configured(bench, num_hidden_layers=6))
case("a model far larger, by its settings, than its files")(lambda bench: configured(bench, num_hidden_layers=10**9))


@case("no engine is installed")
def _(bench: Bench) -> Said:
    bench.patch.setattr("nlsim.lm.engine._installed", lambda *_: False)
    return bench.run(until="score")


@case("a tokenizer that merges the forced opening of an answer with a digit")
def _(bench: Bench) -> Said:
    merging = model(bench, merges=[(":", "Ġ"), (":Ġ", "0")])
    return bench.run(f"lm.model={merging}", until="score")


@case("a folder without tokenizer")
def _(bench: Bench) -> Said:
    folder = model(bench)
    for path in folder.glob("*token*"):
        path.unlink()
    return bench.run(f"lm.model={folder}", until="score")


@case("an architecture that cannot be packed")
def _(bench: Bench) -> Said:
    from transformers import BloomConfig, BloomForCausalLM

    shape = {"hidden_size": 16, "n_layer": 1, "n_head": 2}
    tokenizer = byte_tokenizer()
    BloomForCausalLM(BloomConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(bench.tmp / "bloom")
    tokenizer.save_pretrained(bench.tmp / "bloom")
    return bench.run(f"lm.model={bench.tmp / 'bloom'}", "lm.engine=packed", until="score")


def full(*_: Any, **__: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory")


@case("a model larger than the GPU's memory")
def _(bench: Bench) -> Said:
    assert bench.run(until="explain").code == 0
    bench.patch.setattr("transformers.AutoModelForCausalLM.from_pretrained", full)
    return bench.run(until="score")


def room_for(rows: int) -> Case:
    """A machine whose memory holds passes of so many rows."""

    def small(bench: Bench) -> Said:
        from nlsim.lm.packed import PackedEngine

        forward, refused = PackedEngine._forward, []

        def limited(engine: Any, batch: Any, *more: Any) -> Any:
            if sum(len(piece.tokens) for piece in batch) > rows:
                refused.append(batch)
                full()
            return forward(engine, batch, *more)

        bench.patch.setattr(PackedEngine, "_forward", limited)
        said = bench.run(f"lm.model={model(bench)}", until="score")
        assert refused
        return said

    return small


case("memory runs out in between")(room_for(60))
case("not even one token fits")(room_for(0))


@case("no adapter in the bucket that `lm.adapter` names")
def _(bench: Bench) -> Said:
    return bench.run(f"lm.adapter={bench.fixture('s3_url')}", until="score")


@case("a LoRA adapter that does not fit")
def _(bench: Bench) -> Said:
    settings = {"peft_type": "LORA", "r": 2, "target_modules": ["no_such_module"], "task_type": "CAUSAL_LM"}
    adapter = bench.file("adapter/adapter_config.json", settings).parent
    return bench.run(f"lm.adapter={adapter}", until="score")


@case("an adapter asked what it was taught, or with another prompt")
def _(bench: Bench) -> Said:
    card = {"template": {"shots": 7}, "coder": "", "latents": [], "documents": []}
    return bench.run(f"simulate.lm={{adapter: {bench.file('adapter/nlsim.json', card).parent}}}", until="simulate")


@case("nothing to learn from or to judge with")
def _(bench: Bench) -> Said:
    """Every latent that is asked about is one that is learned from."""
    learning = "finetune={held_out: 0.01, steps: 1, active: 2, silent: 2}"
    rows = "corpus.rows={train: 60, explain: 24, score: 12, calibrate: 4, evaluate: 4}"
    parts = "corpus.fractions={train: 0.5, explain: 0.2, score: 0.1, calibrate: 0.1, evaluate: 0.1}"
    return bench.run("experiment=finetune", learning, rows, parts, "cache.splits=[train, explain]", until="train")


# Servers


def digits(path: str, body: dict[str, Any], number: int) -> Reply:
    """Any answer, all of its mass."""
    share = random.Random(number).uniform(0.1, 0.9)
    tops = [top("0", math.log(share)), top("1", math.log(1 - share))]
    return 200, {}, {"model": "m", "choices": [{"logprobs": {"content": [{"token": "0", "top_logprobs": tops}]}}]}


def asking(bench: Bench, server: Server, retries: int = 1, until: str = "score") -> Said:
    bench.patch.setattr("nlsim.lm.endpoint.FIRST_DELAY", 0.001)
    bench.patch.setenv("NLSIM_CACHE", str(bench.tmp / "cache"))
    endpoint = f"{{base_url: '{server.url}', retries: {retries}, concurrency: 2}}"
    return bench.run("lm={model: m, engine: openai}", f"lm.endpoint={endpoint}", until=until)


def server(reply: Any, retries: int = 1) -> Case:
    """A server that answers so."""

    def asked(bench: Bench) -> Said:
        made = Server(reply)
        try:
            return asking(bench, made, retries)
        finally:
            made.close()

    return asked


def dies(path: str, body: dict[str, Any], number: int) -> Reply:
    return digits(path, body, number) if number <= 5 else (0, {}, "")


def busy(path: str, body: dict[str, Any], number: int) -> Reply:
    return digits(path, body, number) if number % 3 else (429, {"retry-after": "0.001"}, {})


def changed(path: str, body: dict[str, Any], number: int) -> Reply:
    status, headers, answer = digits(path, body, number)
    return status, headers, {**answer, "model": "m-1" if number <= 5 else "m-2"}


case("an address that is none, or holds credentials")(
    score("lm={model: m, engine: openai, endpoint: {base_url: 'http://user:secret@host/v1'}}")
)
case("a rejected key, an unknown model, a refused request, no log-probabilities")(server(lambda *_: (401, {}, {})))
case("a server that dies midway")(server(dies))
case("too many requests")(server(busy, 50))
case("answers that miss some choices")(server(digits))
case("a server that changes its model midway")(server(changed))
case("a server that answers in another form")(server(lambda *_: (200, {}, {"choices": [3]})))


@case("the same command after that")
def _(bench: Bench) -> Said:
    made = Server(dies)
    try:
        assert asking(bench, made).code == 75
        made.reply = digits
        return asking(bench, made)
    finally:
        made.close()
