"""SAEs trained by SAELens' own classes and losses, on activations that nlsim captures and streams."""

import dataclasses
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch

from nlsim.coders import saelens
from nlsim.coders.coder import CoderMeta
from nlsim.coders.config import StreamConfig, TrainCoderConfig
from nlsim.coders.file import DTYPES
from nlsim.coders.sparse import SparseCoder
from nlsim.coders.trainer import Pair
from nlsim.errors import UsageError

ARCHITECTURES = {
    "topk": "topk",
    "batchtopk": "batchtopk",
    "relu": "standard",
    "jumprelu": "jumprelu",
    "gated": "gated",
}
"""Our activation → SAELens' architecture."""


class SaeLensTrainer:
    """Steps SAELens' `SAETrainer` batch by batch, as its `fit` does with batches of its own.

    Vectors are scaled to an average length of √d unless `options` say otherwise; the scale is folded into the weights
    at the end. The decoder's bias starts at the vectors' mean, which may be far from 0. The learning rate rises, stays
    and falls over the same parts of the steps as in `trainer.Trainer`.
    """

    def __init__(
        self, config: TrainCoderConfig, stream: StreamConfig, meta: CoderMeta, sample: Pair, steps: int
    ) -> None:
        """`sample`: some thousand tokens to take the scale from. Raises UsageError for options that SAELens does not
        have, and where it is not installed."""
        sae_class, sae_config = _classes(config.activation)
        from sae_lens.config import SAETrainerConfig
        from sae_lens.saes.sae import SAEMetadata
        from sae_lens.training.sae_trainer import SAETrainer

        device = str(sample.input_ND.device)
        ours: dict[str, Any] = {
            "d_in": meta.d_in,
            "d_sae": meta.width,
            "device": device,
            "metadata": SAEMetadata(model_name=meta.subject, hook_name=meta.hookpoint, prepend_bos=True),
        }
        if meta.k is not None:
            ours["k"] = meta.k
        known = {field.name for field in dataclasses.fields(sae_config)} - ours.keys() - {"dtype"}
        if unknown := sorted(config.options.keys() - known):
            raise UsageError(f"no option {unknown[0]} of SAELens' {sae_config.__name__}", f"known: {sorted(known)}")
        try:
            settings = sae_config(**{"normalize_activations": "expected_average_only_in", **config.options, **ours})
        except (TypeError, ValueError) as error:
            raise UsageError(f"SAELens refuses the options ({error})", "see its documentation") from error
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            sae = sae_class(settings).to(device)
        trainer_config = SAETrainerConfig(
            total_training_samples=steps * stream.batch,
            train_batch_size_samples=stream.batch,
            lr=config.learning_rate,
            lr_end=config.learning_rate / 10,  # asked for, and without meaning for a constant rate
            lr_warm_up_steps=round(config.warmup * steps),
            lr_decay_steps=round(config.decay * steps),
            device=device,
            dead_feature_window=max(1, config.dead_after // stream.batch),
        )
        self.trainer: SAETrainer[Any, Any] = SAETrainer(trainer_config, sae, iter(()))
        x_ND = sample.input_ND.float()
        if settings.normalize_activations == "expected_average_only_in":
            self.trainer.activation_scaler.scaling_factor = meta.d_in**0.5 / float(x_ND.norm(dim=1).mean())
        with torch.no_grad():
            sae.b_dec.copy_(self.trainer.activation_scaler(x_ND).mean(0))

    def step(self, batch: Pair) -> float:
        """One optimiser step; returns the batch's FVU."""
        self.trainer.maybe_reset_sparsity()
        made = self.trainer.step(batch.input_ND.float())
        self.trainer.n_training_steps += 1
        read_ND, rebuilt_ND = made.sae_in.detach(), made.sae_out.detach()
        variance = (read_ND - read_ND.mean(0)).square().sum().clamp_min(1e-12)
        return float((read_ND - rebuilt_ND).square().sum() / variance)

    @property
    def dead(self) -> int:
        """Latents that have not fired for `dead_after` tokens."""
        return int(self.trainer.dead_neurons.sum())

    def save(self, folder: Path, dtype: Literal["f16", "f32"] = "f32") -> Path:
        """Write the folder that SAELens and `load_coder` read. No step may follow."""
        scaler, sae = self.trainer.activation_scaler, self.trainer.sae
        if scaler.scaling_factor is not None:
            sae.fold_activation_norm_scaling_factor(scaler.scaling_factor)
            scaler.scaling_factor = None
        self.trainer.set_final_sae_metadata()
        sae.cfg.dtype = str(DTYPES[dtype]).removeprefix("torch.")
        sae.to(DTYPES[dtype]).save_inference_model(str(folder))
        return folder

    def coder(self) -> SparseCoder:
        """The coder as it is read from what `save` writes. No step may follow."""
        with TemporaryDirectory(prefix="nlsim-coder-") as folder:
            return saelens.read(self.save(Path(folder)), str(self.trainer.sae.device))


def _classes(activation: str) -> tuple[Any, Any]:
    """SAELens' training class and the class of its settings."""
    try:
        from sae_lens.registry import get_sae_training_class
    except ImportError as error:
        raise UsageError("trainer: saelens needs the sae-lens package", "pip install 'nlsim[saelens]'") from error
    classes: tuple[Any, Any] = get_sae_training_class(ARCHITECTURES[activation])
    return classes
