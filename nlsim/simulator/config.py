"""How the simulator is trained."""

from pydantic import Field

from nlsim.base import Section
from nlsim.coders.config import CoderConfig
from nlsim.corpus.config import CorpusConfig, RowBudgets
from nlsim.subject.config import SubjectConfig


class SourceConfig(Section):
    """Where training latents come from: some models' coders and MLP neurons, read on the training documents."""

    subject: SubjectConfig = Field(description="The model.")
    coders: tuple[CoderConfig, ...] = Field((), description="Coders whose latents are used, all of them.")
    judged: tuple[CoderConfig, ...] = Field(
        (), description="Coders whose latents are never learned from, only judged with: of the kind it is made for."
    )
    neurons: tuple[str, ...] = Field(
        (), description="Modules whose input components are used as latents, e.g. layers.7.mlp.down_proj: MLP neurons."
    )
    neurons_each: int = Field(400, description="Components drawn per module.", ge=1)


class TrainSimulatorConfig(Section):
    """Data, size and schedule of a simulator. The same configuration gives the same model on the same machine."""

    sources: tuple[SourceConfig, ...] = Field(
        description="Training latents; the coders that the simulator will be judged with must not be among them.",
        min_length=1,
    )
    corpus: CorpusConfig = Field(
        default_factory=lambda: CorpusConfig(
            rows=RowBudgets(train=3000, explain=1024, score=96, calibrate=0, evaluate=0)
        ),
        description="Training reads the train split; held-out figures explain from the explain split and predict on "
        "the score split.",
    )
    held_out: float = Field(
        0.05,
        description="Share of the coders' latents not learned from: half choose the best step, half give figures.",
        gt=0,
        lt=1,
    )
    judged_latents: int = Field(128, description="Latents of each judged coder that give figures.", ge=1)
    budget: int = Field(32, description="Most tokens that an explanation lists.", ge=1)
    synthetic: int = Field(300, description="Made-up latents with random tables, for practice.", ge=0)
    vocabulary: int = Field(6144, description="Size of the vocabulary.", ge=512)
    width: int = Field(128, description="Dimensions of the residual stream.", ge=64)
    layers: int = Field(3, ge=2, description="Layers.")
    heads: int = Field(2, ge=2, description="Attention heads.")
    hidden: int = Field(384, ge=1, description="Neurons of each MLP.")
    theta: float = Field(1e6, gt=0, description="Base of the rotary positions.")
    steps: int = Field(2000, ge=1, description="Optimiser steps.")
    watch: int = Field(200, ge=1, description="Steps after which the weights are judged; the best ones are kept.")
    latents: int = Field(12, ge=1, description="Latents in a batch.")
    windows: int = Field(6, ge=1, description="Windows per latent in a batch.")
    learning_rate: float = Field(1.5e-3, gt=0, description="Adam's peak learning rate.")
    seed: int = Field(0, ge=0, description="Of the initial weights and of everything drawn.")
