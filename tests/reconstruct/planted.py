"""A run whose explanations are exact: a tiny model that wrote its own text, a coder that rebuilds one of its MLPs, and
predictions that are the truth rounded to digits. Everything but the predictions comes from the real stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from nlsim.calibrate.stage import Calibrate
from nlsim.coders.coder import CoderMeta
from nlsim.coders.file import write_coder
from nlsim.coders.sparse import SparseCoder
from nlsim.config import Config, parse_config
from nlsim.corpus.splits import Split
from nlsim.latents.cache_stage import Cache
from nlsim.latents.index import LatentIndex
from nlsim.latents.index_stage import Index
from nlsim.latents.rows import TokenRows
from nlsim.pipeline.stage import Stage, StageContext
from nlsim.reconstruct.stage import Reconstruct
from nlsim.simulate.predictions import derangement
from nlsim.simulate.windows import Windows, choose_windows
from nlsim.store.artifact import Artifact
from nlsim.store.objects import open_objects

WIDTH, D, VOCAB, CONTEXT = 48, 24, 60, 24
ROWS = {Split.EXPLAIN: 120, Split.SCORE: 40, Split.CALIBRATE: 60, Split.EVALUATE: 24}


class Run(NamedTuple):
    """The artifacts of a run by stage, and its configuration."""

    config: Config
    artifacts: dict[str, Artifact]
    unexplained: tuple[int, ...]

    @property
    def index(self) -> LatentIndex:
        return LatentIndex(*(self.artifacts[name] for name in ("tokens", "cache", "index")))

    def again(self, stage: Stage, name: str, **settings: Any) -> Run:
        """The same run with one stage carried out under other settings of its section."""
        changed = self.config.model_dump()
        changed[stage.name].update(settings)
        config = parse_config(changed)
        other = Run(config, dict(self.artifacts), self.unexplained)
        execute(other, stage, name)
        return other


def execute(run: Run, stage: Stage, fingerprint: str | None = None) -> None:
    """Carry out a stage, all shards."""
    store = run.artifacts["tokens"].objects
    artifact = Artifact(store, stage.name, fingerprint or stage.name, stage.shards(run.config))
    for shard in range(artifact.shards):
        writer = artifact.begin(shard)
        inputs = {name: run.artifacts[name] for name in stage.inputs}
        stage.execute(StageContext(run.config, shard, artifact.shards, inputs, writer, lambda *_: None))
        writer.commit()
    run.artifacts[stage.name] = artifact


def planted_run(folder: Path, quality: str = "exact") -> Run:
    """`quality`: `exact` predictions, or `none`: the same answer everywhere. Two latents have no explanation."""
    model = _model(folder / "model")
    _coder(folder / "coder.safetensors", model)
    config = parse_config(
        {
            "name": "planted",
            "subject": {"model": str(folder / "model"), "device": "cpu"},
            "coder": {"path": str(folder / "coder.safetensors")},
            "simulate": {"calibration_rows": 60, "evaluation_rows": 24},
            "reconstruct": {"curve_rows": 8, "fractions": [0.1, 0.5, 1.0], "random_draws": 2, "draws": 300},
        }
    )
    store = open_objects(str(folder / "store"))
    run = Run(config, {"tokens": Artifact(store, "tokens", "tokens", 1)}, (3, 17))
    _tokens(run.artifacts["tokens"], model)
    for stage in (Cache(), Index()):
        execute(run, stage)
    _predictions(run, quality)
    _scores(run)
    execute(run, Calibrate())
    execute(run, Reconstruct())
    return run


def _model(folder: Path) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=D,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn_like(parameter) * (0.6 if parameter.shape[0] == VOCAB else 0.35))
    model.save_pretrained(folder)
    return model


def _coder(path: Path, model: LlamaForCausalLM) -> None:
    """A transcoder whose latents are the two signs of the MLP's hidden units' sum: here simply the two signs of each
    output direction, read linearly. A skip connection carries nothing."""
    # least squares of the MLP's output on its input, then one latent for each sign of each output component
    torch.manual_seed(1)
    tokens = torch.randint(1, VOCAB, (64, CONTEXT))
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    hook = model.model.layers[1].mlp.register_forward_hook(lambda _, args, out: seen.append((args[0], out)))
    with torch.no_grad():
        model(tokens)
    hook.remove()
    x, y = (part.flatten(0, 1) for part in seen[0])
    linear = torch.linalg.lstsq(torch.cat([x, torch.ones(len(x), 1)], 1), y).solution
    meta = CoderMeta(kind="transcoder", hookpoint="layers.1.mlp", d_in=D, d_out=D, width=WIDTH, activation="topk", k=12)
    weight, bias = linear[:-1].T, linear[-1]
    tensors = {
        "encoder_MD": torch.cat([weight, -weight]),
        "encoder_bias_M": torch.cat([bias, -bias]),
        "decoder_MO": torch.cat([torch.eye(D), -torch.eye(D)]),
        "decoder_bias_O": torch.zeros(D),
    }
    write_coder(SparseCoder(meta, {name: tensor.contiguous() for name, tensor in tensors.items()}), path)


@torch.no_grad()
def _tokens(artifact: Artifact, model: LlamaForCausalLM) -> None:
    """Text that the model itself writes, so that its clean loss is the least there is; documents of four rows."""
    count = sum(ROWS.values())
    torch.manual_seed(2)
    tokens = torch.zeros(count, 1, dtype=torch.long)
    while tokens.shape[1] < CONTEXT:
        tokens = torch.cat([tokens, torch.multinomial(model(tokens).logits[:, -1].softmax(-1), 1)], 1)
    length = np.full(count, CONTEXT, np.int32)
    length[::5] = CONTEXT - 6
    tokens[np.arange(CONTEXT)[None] >= length[:, None]] = 0
    writer = artifact.begin(0)
    arrays = {
        "tokens": tokens.numpy().astype(np.int32),
        "length": length,
        "document": (np.arange(count) // 4).astype(np.int32),
        "start": np.zeros(count, np.int32),
        "split": np.repeat([int(split) for split in ROWS], list(ROWS.values())).astype(np.uint8),
    }
    writer.arrays("rows", arrays)
    writer.commit()


def _predictions(run: Run, quality: str) -> None:
    index = run.index
    windows: Windows = choose_windows(TokenRows.of(run.artifacts["tokens"]), run.config.simulate, run.config.seed)
    explained = np.array([latent for latent in range(WIDTH) if latent not in run.unexplained])
    truth = np.zeros((CONTEXT * sum(ROWS.values()), WIDTH), np.float32)
    rows = np.unique(windows.row_N)
    codes = index.codes_of_rows(rows)
    truth[codes.token_N] = codes.dense(np.arange(WIDTH), WIDTH)
    relative = truth[windows.at_R][:, explained].T / np.maximum(index.table.robust_max_M[explained], 1e-6)[:, None]
    level = np.where(relative > 0, np.clip(np.ceil(9 * relative), 1, 9), 0).astype(int)
    if quality == "none":
        level[:] = 0
    share = np.full((*level.shape, 10), 0.002)
    np.put_along_axis(share, level[..., None], 1 - 0.018, axis=2)
    artifact = Artifact(run.artifacts["tokens"].objects, "simulate", "simulate", 1)
    writer = artifact.begin(0)
    writer.arrays("windows", windows._asdict())
    writer.arrays("shuffled", {"latent": explained[derangement(len(explained), 0)]})
    logprobs = np.log(share).astype(np.float16)
    for number, part in enumerate(np.array_split(np.arange(len(explained)), 2)):
        mass = np.ones(logprobs[part].shape[:2], np.float16)
        tile = {"latent": explained[part], "logprobs": logprobs[part], "mass": mass}
        writer.arrays(f"tile-{number:04d}", tile)
    status = ["failed" if latent in run.unexplained else "ok" for latent in range(WIDTH)]
    writer.table("latents", pa.table({"latent": np.arange(WIDTH), "status": status}))
    writer.commit()
    run.artifacts["simulate"] = artifact


def _scores(run: Run) -> None:
    artifact = Artifact(run.artifacts["tokens"].objects, "score", "score", 1)
    writer = artifact.begin(0)
    latent = np.setdiff1d(np.arange(WIDTH), run.unexplained)
    score = np.linspace(0.95, 0.6, len(latent))
    scorer = ["detection"] * len(latent)
    writer.table("scores", pa.table({"latent": latent, "scorer": scorer, "balanced_accuracy": score, "auc": score}))
    writer.commit()
    run.artifacts["score"] = artifact
