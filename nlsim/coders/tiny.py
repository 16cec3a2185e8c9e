"""The tiny fixtures: a small GPT-NeoX model with its own tokenizer, for tests that must take seconds."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from nlsim import log
from nlsim.base import Section
from nlsim.coders.card import HELD_OUT_ROWS, LOSS_ROWS, make_card
from nlsim.coders.config import StreamConfig, TrainCoderConfig
from nlsim.coders.file import read, write_coder
from nlsim.coders.ngram import KneserNey
from nlsim.coders.sparse import SparseCoder
from nlsim.coders.train import Job, Training
from nlsim.corpus.config import CorpusConfig, RowBudgets
from nlsim.corpus.documents import open_documents
from nlsim.corpus.rows import build_rows
from nlsim.corpus.splits import Split, assign
from nlsim.metrics.intervals import Bootstrap
from nlsim.progress import Reporter
from nlsim.subject.config import SubjectConfig
from nlsim.subject.model import Subject

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BOS = "<|endoftext|>"
SUBJECT = "tiny"
CODERS = {
    "tiny-sae": ("layers.1", TrainCoderConfig(kind="sae", width=256, k=12, dead_after=50_000)),
    "tiny-transcoder": ("layers.2.mlp", TrainCoderConfig(width=384, k=16, dead_after=50_000)),
    "tiny-skip": ("layers.2.mlp", TrainCoderConfig(skip=True, width=512, k=16, dead_after=50_000)),
}
"""Name → hookpoint and training: each kind of coder, two layers, three widths."""


class TinyConfig(Section):
    """Size and training of the tiny subject."""

    vocabulary: int = Field(default=1536, ge=257, description="Tokens, all bytes and BOS among them.")
    width: int = Field(default=128, gt=0, description="Of the residual stream.")
    layers: int = Field(default=4, gt=0, description="Blocks.")
    heads: int = Field(default=4, gt=0, description="Attention heads.")
    epochs: int = Field(default=6, gt=0, description="Passes over the training rows.")
    batch: int = Field(default=32, gt=0, description="Rows per step.")
    learning_rate: float = Field(
        default=3e-3, gt=0, description="AdamW's peak rate; it warms up and falls by a cosine."
    )
    weight_decay: float = Field(default=0.1, ge=0, description="Of the matrices.")
    dropout: float = Field(default=0.05, ge=0, lt=1, description="Of hidden states.")
    seed: int = Field(default=0, description="Of weights, order and dropout.")


class Progress(NamedTuple):
    """The state of training at one step."""

    step: int
    steps: int
    loss: float
    """Smoothed training loss, nats per token."""


def train_tokenizer(texts: Iterator[str], vocabulary: int) -> "PreTrainedTokenizerFast":
    """Byte-level BPE; every text has one spelling in tokens and the tokens give the text back."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=BOS)


class TinyTraining:
    """Trains the subject; iterate over it to carry it out step by step."""

    def __init__(self, config: TinyConfig, context: int) -> None:
        from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

        torch.manual_seed(config.seed)
        self.config = config
        self.model = GPTNeoXForCausalLM(
            GPTNeoXConfig(
                vocab_size=config.vocabulary,
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=4 * config.width,
                max_position_embeddings=2 * context,
                hidden_dropout=config.dropout,
                bos_token_id=0,
                eos_token_id=0,
                tie_word_embeddings=True,
            )
        )

    def run(self, tokens_RT: NDArray[np.int32], length_R: NDArray[np.int32]) -> Iterator[Progress]:
        """Train on rows that start with BOS."""
        config = self.config
        generator = torch.Generator().manual_seed(config.seed)
        ids_RT = torch.from_numpy(tokens_RT.astype(np.int64))
        label_RT = ids_RT.masked_fill(torch.arange(ids_RT.shape[1]) >= torch.from_numpy(length_R)[:, None], -100)
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        vectors = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)
        per_epoch = max(1, len(ids_RT) // config.batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, config.learning_rate, total_steps=per_epoch * config.epochs, pct_start=0.1, cycle_momentum=False
        )
        self.model.train()
        smooth = None
        for step in range(per_epoch * config.epochs):
            if step % per_epoch == 0:
                order_R = torch.randperm(len(ids_RT), generator=generator)
            rows_B = order_R[step % per_epoch * config.batch :][: config.batch]
            loss = self.model(input_ids=ids_RT[rows_B], labels=label_RT[rows_B], use_cache=False).loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            value = float(loss.detach())
            smooth = value if smooth is None else 0.98 * smooth + 0.02 * value
            yield Progress(step + 1, per_epoch * config.epochs, smooth)
        self.model.eval()

    def save(self, folder: Path) -> None:
        """Write the model in float16, as `from_pretrained` reads it."""
        self.model.half().save_pretrained(folder)
        self.model.float()


@torch.no_grad()
def model_losses(
    model: "torch.nn.Module", tokens_RT: NDArray[np.int32], length_R: NDArray[np.int32], batch: int = 64
) -> NDArray[np.float64]:
    """-ln P of every token but BOS, row after row, in nats."""
    parts = []
    for start in range(0, len(tokens_RT), batch):
        ids_BT = torch.from_numpy(tokens_RT[start : start + batch].astype(np.int64))
        logits_BTV = model(input_ids=ids_BT, use_cache=False).logits.float()
        loss_BT = torch.nn.functional.cross_entropy(logits_BTV[:, :-1].transpose(1, 2), ids_BT[:, 1:], reduction="none")
        used_BT = torch.arange(1, ids_BT.shape[1]) < torch.from_numpy(length_R[start : start + batch])[:, None]
        parts.append(loss_BT[used_BT].double().numpy())
    return np.concatenate(parts)


def train_fixtures(config: TinyConfig, folder: Path, reporter: Reporter) -> str:
    """Train everything on the built-in text's training documents: `tiny/` and `coders/tiny-*.safetensors` in `folder`.

    Returns the figures as Markdown, measured on held-out documents with the weights as stored.
    """
    corpus = CorpusConfig(
        rows=RowBudgets(train=1 << 20, explain=HELD_OUT_ROWS, score=0, calibrate=0, evaluate=LOSS_ROWS)
    )
    documents = list(open_documents(corpus.source))
    is_train = [assign(corpus.seed, document.name, corpus.fractions) == Split.TRAIN for document in documents]
    texts = (document.text for document, kept in zip(documents, is_train, strict=True) if kept)
    tokenizer = train_tokenizer(texts, config.vocabulary)
    tokenizer.save_pretrained(folder / SUBJECT)
    rows = build_rows(documents, tokenizer, corpus)
    train, held = rows.of(Split.TRAIN), rows.of(Split.EVALUATE)
    training = TinyTraining(config, corpus.context)
    for at in training.run(rows.tokens[train], rows.length[train]):
        reporter.update("subject", at.step, at.steps, "steps")
        if at.step % 100 == 0 or at.step == at.steps:
            log.event("training", step=f"{at.step}/{at.steps}", loss=f"{at.loss:.3f}")
    reporter.finish("subject")
    training.save(folder / SUBJECT)
    subject = Subject.load(SubjectConfig(model=str(folder / SUBJECT), device="cpu"))
    own = model_losses(subject.model, rows.tokens[held], rows.length[held])
    grams = KneserNey(rows.tokens[train], rows.length[train], config.vocabulary)
    theirs = grams.losses(rows.tokens[held], rows.length[held])
    document = np.repeat(rows.document[held], rows.length[held] - 1)
    gap = Bootstrap(document).difference(own, theirs)
    lines = [
        f"{config.layers} layers of width {config.width}, {config.vocabulary} tokens, "
        f"{sum(p.numel() for p in subject.model.parameters()):,} weights, trained on "
        f"{int((rows.length[train] - 1).sum()):,} tokens × {config.epochs} epochs.",
        "",
        f"| on {len(own):,} tokens of held-out documents | loss (nats per token) |",
        "|---|---|",
        f"| the tiny subject | {own.mean():.3f} |",
        f"| interpolated Kneser-Ney 5-gram model of the same training tokens | {theirs.mean():.3f} |",
        f"| difference [95 % interval over documents] | {gap.value:.3f} [{gap.low:.3f}, {gap.high:.3f}] |",
        "",
    ]
    jobs = [Job(name, subject.hookpoint(hookpoint), coder) for name, (hookpoint, coder) in CODERS.items()]
    stream = StreamConfig(tokens=200_000, epochs=2, batch=512)
    coding = Training(subject, rows.tokens[train], rows.length[train], jobs, stream, reporter)
    for _ in coding:
        pass
    for name, coder in coding.coders().items():
        named = SparseCoder(coder.meta.model_copy(update={"subject": f"nlsim:{SUBJECT}"}), coder.tensors)
        write_coder(named, folder / "coders" / f"{name}.safetensors", "f16")
        made = make_card(subject, rows, read(folder / "coders" / f"{name}.safetensors"), 5)
        lines += [f"### {name}", "", made.markdown()]
    return "\n".join(lines)
