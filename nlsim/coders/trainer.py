"""Training of one sparse coder from batches of (input, target) vectors; where they come from does not matter here."""

from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from nlsim.coders.coder import CoderMeta
from nlsim.coders.config import TrainCoderConfig
from nlsim.coders.file import write_coder
from nlsim.coders.sparse import SparseCoder
from nlsim.errors import DataError

RIDGE = 1e-3  # of the least-squares skip connection, relative to the inputs' mean square
FIRST_SIZE = 0.25  # length of a transcoder's first encoder rows; at 1 the first activations are far too large
AUX_LATENTS = 2  # dead latents asked to explain the error, as a multiple of k
MOMENTUM = 0.99  # of the running threshold of a BatchTopK coder


class Pair(NamedTuple):
    """What a module read and wrote at N tokens; for an SAE both are what it wrote."""

    input_ND: Tensor
    target_NO: Tensor


class Scale(NamedTuple):
    """x ↦ (x - mean) / size, with one size for all components so that directions keep their angles."""

    mean_D: Tensor
    size: float

    @classmethod
    def of(cls, x_ND: Tensor) -> "Scale":
        """The scale that gives `x` zero mean and a mean square of 1 per component."""
        mean_D = x_ND.mean(0)
        size = float((x_ND - mean_D).square().mean().sqrt())
        if not size > 0:
            raise DataError(
                "the activations to train on are constant or not finite", "check the hookpoint and the subject"
            )
        return cls(mean_D, size)

    def __call__(self, x_ND: Tensor) -> Tensor:
        return (x_ND - self.mean_D) / self.size


class Trainer:
    """Adam on the normalised mean squared error, with unit decoder rows and the AuxK loss of Gao et al. (2024, §A.2).

    Inputs and targets are standardised with the statistics of the first sample; `coder()` folds them into the weights.
    """

    def __init__(self, config: TrainCoderConfig, meta: CoderMeta, sample: Pair, steps: int) -> None:
        """`sample`: some thousand tokens to take the scale, the skip connection and the first directions from."""
        self.config, self.meta, self.steps, self.step_number = config, meta, steps, 0
        self.k = config.k
        device = sample.input_ND.device
        self.generator = torch.Generator().manual_seed(config.seed)
        self.input_scale, self.target_scale = Scale.of(sample.input_ND), Scale.of(sample.target_NO)
        x_ND, y_NO = self.input_scale(sample.input_ND), self.target_scale(sample.target_NO)
        skip_OD = torch.zeros(meta.d_out, meta.d_in, device=device)
        if meta.skip and config.skip_start == "least_squares":
            skip_OD = least_squares(x_ND, y_NO)
        self.skip_OD = skip_OD
        encoder_MD = unit(torch.randn(meta.width, meta.d_in, generator=self.generator)).to(device)
        chosen_M = torch.randint(len(x_ND), (meta.width,), generator=self.generator).to(device)
        if meta.kind == "sae":
            decoder_MO = encoder_MD.clone()
        else:  # a first guess at what each direction should write: the rest that a token with much of it leaves
            encoder_MD = unit(x_ND[chosen_M] + 0.1 * encoder_MD) * FIRST_SIZE
            decoder_MO = unit((y_NO - x_ND @ skip_OD.T)[chosen_M] + 1e-6)
        self.encoder_MD, self.decoder_MO = encoder_MD, decoder_MO
        self.encoder_bias_M = torch.zeros(meta.width, device=device)
        self.decoder_bias_O = torch.zeros(meta.d_out, device=device)
        self.idle_M = torch.zeros(meta.width, dtype=torch.int64, device=device)
        self.threshold = 0.0
        parameters = [self.encoder_MD, self.encoder_bias_M, self.decoder_MO, self.decoder_bias_O]
        if meta.skip:
            parameters.append(self.skip_OD)
        for parameter in parameters:
            parameter.requires_grad_()
        self.optimizer = torch.optim.Adam(parameters, lr=config.learning_rate, fused=True)

    def step(self, batch: Pair) -> float:
        """One optimiser step; returns the batch's FVU."""
        x_ND, y_NO = self.input_scale(batch.input_ND.float()), self.target_scale(batch.target_NO.float())
        acts_NM = torch.addmm(self.encoder_bias_M, x_ND, self.encoder_MD.T).relu()
        kept_NM = self._keep(acts_NM)
        variance = (y_NO - y_NO.mean(0)).square().sum().clamp_min(1e-12)
        error_NO = y_NO - torch.addmm(self.decoder_bias_O, kept_NM, self.decoder_MO)
        penalty = y_NO.new_zeros(())
        if self.meta.skip:
            skipped_NO = x_ND @ self.skip_OD.T
            error_NO = error_NO - skipped_NO
            penalty = self.config.skip_penalty * skipped_NO.square().sum() / variance
        fvu = error_NO.square().sum() / variance
        loss = fvu + penalty + self.config.auxk * self._aux_loss(acts_NM, error_NO.detach())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        with torch.no_grad():
            self._project_decoder_gradient()
            for group in self.optimizer.param_groups:
                group["lr"] = self.config.learning_rate * self._schedule()
            self.optimizer.step()
            self.decoder_MO.copy_(unit(self.decoder_MO))
            self.idle_M += len(x_ND)
            self.idle_M[(kept_NM > 0).any(0)] = 0
        self.step_number += 1
        return float(fvu.detach())

    @property
    def dead(self) -> int:
        """Latents that have not fired for `dead_after` tokens."""
        return int((self.idle_M >= self.config.dead_after).sum())

    def _keep(self, acts_NM: Tensor) -> Tensor:
        """Activations with all but the strongest set to 0."""
        if self.meta.activation == "topk":
            value_NK, index_NK = acts_NM.topk(self.k, dim=1, sorted=False)
            return torch.zeros_like(acts_NM).scatter(1, index_NK, value_NK)
        least = float(acts_NM.detach().flatten().topk(self.k * len(acts_NM), sorted=False).values.min())
        momentum = MOMENTUM if self.step_number else 0.0
        self.threshold = momentum * self.threshold + (1 - momentum) * least
        return acts_NM * (acts_NM >= least)

    def _aux_loss(self, acts_NM: Tensor, error_NO: Tensor) -> Tensor:
        """How badly the dead latents alone explain what the living ones left over; 0 when none is dead."""
        dead_M, dead = self.idle_M >= self.config.dead_after, self.dead
        if dead == 0 or self.config.auxk == 0:
            return error_NO.new_zeros(())
        acts_NA = acts_NM[:, dead_M]
        value_NK, index_NK = acts_NA.topk(min(AUX_LATENTS * self.k, dead), dim=1, sorted=False)
        z_NA = torch.zeros_like(acts_NA).scatter(1, index_NK, value_NK)
        rest_NO = error_NO - z_NA @ self.decoder_MO[dead_M]
        return rest_NO.square().sum() / error_NO.square().sum().clamp_min(1e-12)

    def _project_decoder_gradient(self) -> None:
        """Take out the part along each decoder row, which rescaling to unit length would undo anyway."""
        if (gradient_MO := self.decoder_MO.grad) is not None:
            gradient_MO -= (gradient_MO * self.decoder_MO).sum(1, keepdim=True) * self.decoder_MO

    def _schedule(self) -> float:
        """Factor on the learning rate: linear rise, plateau, linear fall to 0."""
        part = (self.step_number + 1) / self.steps
        rise = part / self.config.warmup if self.config.warmup else 1.0
        fall = (1 - part + 1 / self.steps) / self.config.decay if self.config.decay else 1.0
        return min(1.0, rise, fall)

    @torch.no_grad()
    def coder(self) -> SparseCoder:
        """The coder as it stands, for raw inputs and targets: y = size·ŷ(scale(x)) + mean, with unit decoder rows."""
        (x_mean_D, x_size), (y_mean_O, y_size) = self.input_scale, self.target_scale
        encoder_MD = self.encoder_MD * (y_size / x_size)  # activations in units of the target
        tensors = {
            "encoder_MD": encoder_MD,
            "encoder_bias_M": self.encoder_bias_M * y_size - encoder_MD @ x_mean_D,
            "decoder_MO": self.decoder_MO,
            "decoder_bias_O": self.decoder_bias_O * y_size + y_mean_O,
        }
        if self.meta.skip:
            skip_OD = self.skip_OD * (y_size / x_size)
            tensors["skip_OD"] = skip_OD
            tensors["decoder_bias_O"] = tensors["decoder_bias_O"] - skip_OD @ x_mean_D
        if self.meta.activation == "batchtopk":
            tensors["threshold_M"] = torch.full_like(self.encoder_bias_M, self.threshold * y_size)
        return SparseCoder(self.meta, {name: tensor.detach().clone() for name, tensor in tensors.items()})

    def save(self, place: Path, dtype: Literal["f16", "f32"] = "f32") -> Path:
        """Write the coder to `place` with .safetensors added, and return that file."""
        path = place.with_name(f"{place.name}.safetensors")
        write_coder(self.coder(), path, dtype)
        return path


def least_squares(x_ND: Tensor, y_NO: Tensor) -> Tensor:
    """W [O, D] that minimises |y - x Wᵀ|² with a slight ridge; x and y have zero mean."""
    gram_DD = x_ND.T @ x_ND
    ridge = RIDGE * float(gram_DD.diagonal().mean())
    gram_DD.diagonal().add_(ridge)
    return torch.linalg.solve(gram_DD, x_ND.T @ y_NO).T.contiguous()


def unit(x_MD: Tensor) -> Tensor:
    """Rows scaled to length 1."""
    return x_MD / x_MD.norm(dim=1, keepdim=True).clamp_min(1e-12)
