"""Configurations, text, coders, files of other tools, stores."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch
import workers
from safetensors.torch import load_file, save_file

from error_cases.bench import Bench, Case, Said, case

# Configuration and commands

case("no such configuration file")(lambda bench: bench.nlsim("run", bench.tmp / "none.yaml"))
case("not YAML, or no settings in it")(lambda bench: bench.nlsim("plan", bench.file("a.yaml", "a: [b")))
case("an unknown key")(lambda bench: bench.nlsim("plan", bench.small("lm: {modell: x}")))
case("a wrong value")(lambda bench: bench.nlsim("plan", bench.small("seed: -1")))
case("a malformed `--set`")(lambda bench: bench.nlsim("plan", bench.small(), "--set", "seed"))
case("an unknown stage or shard")(lambda bench: bench.toy("--until", "sqares"))
case("settings of a kind that do not fit")(
    lambda bench: bench.nlsim("plan", bench.small("kinds: {top: {explain: {buget: 2}}}"))
)
case("a kind that is not there")(
    lambda bench: bench.nlsim("plan", bench.small("continuations: {documents: 1, kinds: [tall]}"))
)
case("a malformed `--price`")(lambda bench: bench.nlsim("plan", bench.small(), "--compare", "--price", "H100"))


@case("no prompts for the interactive page")
def _(bench: Bench) -> Said:
    assert bench.toy("--until", "numbers").code == 0
    return bench.nlsim("report", "--page", "interactive", "--run", bench.tmp / "run")


@case("a stage whose input is not complete")
def _(bench: Bench) -> Said:
    assert bench.toy("--until", "numbers").code == 0
    return bench.nlsim("stage", "total", "--run", bench.tmp / "run", "--shard-index", 0)


@case("SIGTERM or Ctrl-C")
def _(bench: Bench) -> Said:
    import toy

    work = toy.Numbers.execute

    def interrupted(stage: Any, context: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        work(stage, context)

    bench.patch.setattr(toy.Numbers, "execute", interrupted)
    return bench.toy()


# Text, models, coders


@case("a split that gets no document")
def _(bench: Bench) -> Said:
    one = bench.file("one.txt", " ".join(["the cat runs near a storm"] * 40))
    return bench.run(f"corpus.source.paths=[{one}]", until="tokens")


case("no such file")(lambda bench: bench.run("corpus.source.paths=[/no/such/*.txt]", until="tokens"))


@case("a missing column")
def _(bench: Bench) -> Said:
    import pyarrow as pa
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.table({"words": ["a"]}), bench.tmp / "t.parquet")
    return bench.run(f"corpus.source.paths=[{bench.tmp / 't.parquet'}]", until="tokens")


def subject(bench: Bench) -> Path:
    """A copy of the planted model."""
    return Path(shutil.copytree(bench.folder / "subject", bench.tmp / "subject"))


@case("a damaged model folder")
def _(bench: Bench) -> Said:
    weights = subject(bench) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return bench.run(f"subject.model={weights.parent}", until="cache")


@case("a tokenizer that is not the model's")
def _(bench: Bench) -> Said:
    """One of its words has a number that the model has no embedding for."""
    path = subject(bench) / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    words = tokenizer["model"]["vocab"]
    words[next(word for word in words if word.endswith("the"))] = 999
    path.write_text(json.dumps(tokenizer))
    return bench.run(f"subject.model={path.parent}", until="cache")


def with_coder(bench: Bench, path: Path | str) -> Said:
    return bench.run(f"coder.path={path}", "coder.hookpoint=h.0.mlp", until="cache")


@case("weights that are not finite")
def _(bench: Bench) -> Said:
    from safetensors import safe_open

    with safe_open(bench.folder / "coder.safetensors", "pt") as file:
        metadata = file.metadata()
    weights = load_file(bench.folder / "coder.safetensors")
    weights["encoder_bias_M"][3] = float("nan")
    save_file(weights, bench.tmp / "coder.safetensors", metadata)
    return with_coder(bench, bench.tmp / "coder.safetensors")


def download(error: str) -> Case:
    def failing(bench: Bench) -> Said:
        def fail(*_: Any, **__: Any) -> str:
            raise OSError(error)

        bench.patch.setattr("huggingface_hub.snapshot_download", fail)
        return with_coder(bench, "hub:owner/name")

    return failing


case("a gated model or coder without a token")(download("401 Client Error: gated repo"))
case("no network, and not downloaded before")(download("Max retries exceeded"))


class Sneaky:
    """Unpickling it would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.putenv, ("NLSIM_PWNED", "1"))


@case("a coder that holds pickled code")
def _(bench: Bench) -> Said:
    return with_coder(bench, bench.file("coder/ae.pt", pickle.dumps({"bias": Sneaky()}, protocol=2)).parent)


def dictionary(bench: Bench, **more: Any) -> Path:
    """A coder as dictionary_learning saves it."""
    weights = {"encoder.weight": torch.zeros(8, 4), "encoder.bias": torch.zeros(8), "decoder.weight": torch.zeros(4, 8)}
    torch.save({**weights, "b_dec": torch.zeros(4), "k": torch.tensor(2), **more}, bench.file("coder/ae.pt", b""))
    bench.file("coder/config.json", {"trainer": {"dict_class": "BatchTopKSAE"}})
    return bench.tmp / "coder"


@case("a coder that was not downloaded whole")
def _(bench: Bench) -> Said:
    file = dictionary(bench) / "ae.pt"
    file.write_bytes(file.read_bytes()[:-200])
    return with_coder(bench, file.parent)


@case("a coder larger than memory")
def _(bench: Bench) -> Said:
    sysconf = os.sysconf
    bench.patch.setattr(os, "sysconf", lambda name: 1 if name == "SC_AVPHYS_PAGES" else sysconf(name))
    return with_coder(bench, bench.folder / "coder.safetensors")


@case("a coder whose activations depend on the batch")
def _(bench: Bench) -> Said:
    return with_coder(bench, dictionary(bench, threshold=torch.tensor(-1.0)))


@case("a coder of whole numbers (quantized)")
def _(bench: Bench) -> Said:
    weights = load_file(bench.folder / "coder.safetensors")
    arrays = {"W_enc": weights["encoder_MD"].T, "W_dec": weights["decoder_MO"], "b_enc": weights["encoder_bias_M"]}
    arrays |= {"b_dec": torch.zeros(weights["decoder_MO"].shape[1]), "threshold": torch.ones(len(arrays["b_enc"]))}
    (bench.tmp / "layer_0").mkdir()
    whole = {name: value.numpy().astype(np.int8) for name, value in arrays.items()}
    np.savez(bench.tmp / "layer_0" / "params.npz", **whole)
    return with_coder(bench, bench.tmp / "layer_0")


def saelens(bench: Bench, **config: Any) -> Said:
    bench.file("coder/sae_weights.safetensors", b"")
    return with_coder(bench, bench.file("coder/cfg.json", {"d_in": 4, "d_sae": 8, **config}).parent)


case("a SAELens coder that would be read wrongly")(lambda bench: saelens(bench, architecture="temporal", metadata={}))
case("factors found in finetuning, in an old SAELens coder")(
    lambda bench: saelens(bench, finetuning_scaling_factor=True)
)


# Other packages' and tools' files

case("a plugin that is not installed")(lambda bench: bench.run("explain.method=plugin:none", until="explain"))


@case("a plugin's scorer that answers nonsense")
def _(bench: Bench) -> Said:
    bench.file("site/nonsense.py", "class Scorer:\n    asks = 'detection'\n    def __init__(self, *_): pass\n"
               "    def probabilities(self, explanation, questions): return [2.0]\n")  # fmt: skip
    bench.file("site/nonsense-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: nonsense\nVersion: 1\n")
    bench.file("site/nonsense-1.dist-info/entry_points.txt", "[nlsim.scorers]\nnonsense = nonsense:Scorer\n")
    bench.patch.syspath_prepend(str(bench.tmp / "site"))
    return bench.run("score.scorers=['plugin:nonsense']", until="score")


@case("a folder that is no delphi cache, or lacks a part")
def _(bench: Bench) -> Said:
    return bench.nlsim("import", "cache", bench.file("cache/0_7.txt", "").parent)


def cache(bench: Bench, latent: int, token: int) -> Said:
    """A run on a delphi cache of forty rows with one activation."""
    from safetensors.numpy import save_file as save

    rng = np.random.default_rng(0)
    arrays = {
        "locations": np.array([[0, 1, latent]], np.uint32),
        "activations": np.array([1.5], np.float16),
        "tokens": np.concatenate([np.zeros((40, 1), np.int64), rng.integers(2, 40, (40, 40))], axis=1),
    }
    arrays["tokens"][3, 3] = token
    (bench.tmp / "h.0.mlp").mkdir()
    save(arrays, bench.tmp / "h.0.mlp" / "0_17.safetensors")
    source = f"corpus.source={{kind: tokens, path: {bench.tmp / 'h.0.mlp'}}}"
    rows = "corpus.rows={train: 0, explain: 40, score: 40, calibrate: 40, evaluate: 40}"
    return bench.run(source, rows, f"cache.imported={bench.tmp / 'h.0.mlp'}", until="cache")


case("a cache of another coder or other tokens")(lambda bench: cache(bench, 40, 5))
case("rows of tokens made with another tokenizer, or too long")(lambda bench: cache(bench, 1, 5000))


@case("explanations of other tools in no known form")
def _(bench: Bench) -> Said:
    said = bench.nlsim("import", "explanations", bench.file("e.json", [1, 2]), "--to", bench.tmp / "out.json")
    assert not (bench.tmp / "out.json").exists()
    return said


@case("published results in another form")
def _(bench: Bench) -> Said:
    return bench.nlsim("import", "article", bench.file("results/ce_loss_1.0.json", {"loss_base": [1]}).parent)


case("nothing to compare, or no such run")(lambda bench: bench.nlsim("diff", bench.tmp / "a", bench.tmp / "b"))


# Stores

case("`~name` of nobody, in a path")(
    lambda bench: bench.nlsim("run", bench.small(), "--run", "~no-such-user/runs", "--until", "corpus")
)


@case("no credentials")
def _(bench: Bench) -> Said:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        bench.patch.delenv(name)
    settings = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "HOME": "/nonexistent"}
    for name, value in {**settings, "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}.items():
        bench.patch.setenv(name, value)
    return bench.nlsim("status", "s3://bucket/run")


@case("the endpoint is not S3")
def _(bench: Bench) -> Said:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers["content-length"] or 0))
            self.send_response(404)
            self.end_headers()
            self.wfile.write(b"<html><body>There is no such page.</body></html>")

        do_PUT = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    settings = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_MAX_ATTEMPTS": "1"}
    for name, value in {**settings, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}.items():
        bench.patch.setenv(name, value)
    try:
        bench.fixture("toy_pipeline")
        return bench.nlsim("run", bench.small(), "--run", "s3://bucket/run")
    finally:
        server.shutdown()
        server.server_close()


@case("a damaged commit record")
def _(bench: Bench) -> Said:
    assert bench.toy("--until", "numbers").code == 0
    record = next((bench.tmp / "run").glob("numbers/*/_commit/000000.json"))
    record.chmod(0o644)
    record.write_bytes(record.read_bytes().replace(b'"values":10', b'"values":11'))
    return bench.toy("--until", "squares")


@case("a stored configuration that was altered, or an `--update` that was cut short")
def _(bench: Bench) -> Said:
    assert bench.toy("--until", "numbers").code == 0
    config = bench.tmp / "run" / "config.yaml"
    config.write_bytes(config.read_bytes().replace(b"seed: 0", b"seed: 1", 1))
    return bench.nlsim("run", "--run", bench.tmp / "run", "--until", "squares")


@case("memory that runs out in a shard")
def _(bench: Bench) -> Said:
    bench.patch.setenv("TOY_FAIL", "0")
    bench.patch.setenv("TOY_FAIL_BY", "memory")
    return bench.toy("--until", "squares")


@case("a worker process that was killed")
def _(bench: Bench) -> Said:
    bench.patch.setattr("nlsim.pipeline.runner._work", workers.die)
    return bench.toy("--until", "numbers", "--workers", 2)
