"""The coder itself: two matrices, two biases, and perhaps a skip connection and thresholds."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from nlsim.coders.activation import above, group_max, joined, top_k
from nlsim.coders.coder import CoderMeta, Codes
from nlsim.errors import DataError

CHUNK_BYTES = {"cpu": 16 * 2**20}  # of one [chunk, width] float32 matrix, which a CPU's caches should hold
LARGE_CHUNK_BYTES = 128 * 2**20  # on other devices; a second matrix of this size may exist beside it

OPTIONAL = {"input_bias_D"}
EPSILON = 1e-5  # added to the standard deviation of a layer norm, as OpenAI's coders and SAELens do


class SparseCoder:
    """SAE, transcoder or skip transcoder with TopK, BatchTopK, GroupMax, ReLU or JumpReLU activations; see `Coder`.

    z = activation((x - input_bias) encoderᵀ + encoder_bias),   y = z decoder + decoder_bias (+ x skipᵀ)

    With a normalization, x is (x - shift) / scale of each vector, and y · scale + shift is what comes out.
    """

    def __init__(self, meta: CoderMeta, tensors: Mapping[str, Tensor]) -> None:
        """`tensors`: those of `shapes(meta)`; kept in float32. Raises DataError for missing, misshapen or infinite."""
        wanted = shapes(meta)
        if missing := sorted(wanted.keys() - tensors.keys() - OPTIONAL):
            raise DataError(f"the coder has no {', '.join(missing)}", "its file is incomplete; fetch or train it again")
        if unknown := sorted(tensors.keys() - wanted.keys()):
            raise DataError(f"the coder has tensors that do not go with it: {', '.join(unknown)}", "update nlsim")
        for name, tensor in tensors.items():
            shape = wanted[name]
            if tuple(tensor.shape) != shape:
                found = "×".join(map(str, tensor.shape))
                raise DataError(
                    f"the coder's {name} is {found}, not {'×'.join(map(str, shape))}",
                    "its metadata and its weights do not belong together",
                )
            if not tensor.is_floating_point():
                raise DataError(
                    f"the coder's {name} holds {str(tensor.dtype).removeprefix('torch.')}, not real numbers",
                    "quantized weights are not supported; store it as f32, bf16 or f16",
                )
            if not torch.isfinite(tensor).all():
                raise DataError(
                    f"the coder's {name} has values that are not finite", "train it again or store it as f32"
                )
        if meta.k is not None and meta.k > meta.width:
            raise DataError(f"the coder keeps k = {meta.k} of {meta.width} latents", "k must not exceed the width")
        if meta.activation in ("topk", "groupmax") and meta.k is None:
            raise DataError(
                f"the coder's activation is {meta.activation} but its k is not given", "add k to its metadata"
            )
        if meta.activation == "groupmax" and meta.width % (meta.k or 1):
            raise DataError(f"the coder's {meta.width} latents are not {meta.k} equal groups", "check its k")
        if meta.normalization != "none" and (meta.kind != "sae" or meta.skip):
            raise DataError("only SAEs can undo a normalization", "fold it into the transcoder's weights first")
        self.meta = meta
        self.tensors: dict[str, Tensor] = {name: tensor.detach().float() for name, tensor in tensors.items()}

    @property
    def decoder_MD(self) -> Tensor:
        """[width, d_out]"""
        return self.tensors["decoder_MO"]

    @property
    def device(self) -> torch.device:
        """Where its weights are; inputs must be there too."""
        return self.decoder_MD.device

    def to(self, device: torch.device | str) -> "SparseCoder":
        """The same coder with its weights on `device`."""
        return SparseCoder(self.meta, {name: tensor.to(device) for name, tensor in self.tensors.items()})

    @torch.no_grad()
    def encode(self, x_ND: Tensor) -> Codes:
        """x [N, d_in], any float type → codes. Raises DataError for a wrong width or values that are not finite."""
        self._check(x_ND)
        if len(x_ND) == 0:
            k = self.meta.k if self.meta.activation in ("topk", "groupmax") else 0
            empty = x_ND.new_zeros(0, k or 0, dtype=torch.float32)
            return Codes(empty.long(), empty)
        rows = max(1, CHUNK_BYTES.get(self.device.type, LARGE_CHUNK_BYTES) // (4 * self.meta.width))
        return joined([self._encode_chunk(chunk_ND) for chunk_ND in x_ND.split(rows)])

    def pre_activations(self, x_ND: Tensor) -> Tensor:
        """[N, width], all at once: for a few vectors only."""
        x_ND = x_ND.float()
        if self.meta.normalization != "none":
            shift_N1, scale_N1 = self._normalizer(x_ND)
            x_ND = (x_ND - shift_N1) / scale_N1
        if "input_bias_D" in self.tensors:
            x_ND = x_ND - self.tensors["input_bias_D"]
        # Faster on CPU than addmm, which first copies the bias into every row.
        return torch.mm(x_ND, self.tensors["encoder_MD"].T).add_(self.tensors["encoder_bias_M"])

    def _encode_chunk(self, x_ND: Tensor) -> Codes:
        pre_NM = self.pre_activations(x_ND)
        if self.meta.activation == "topk" and self.meta.k is not None:
            return top_k(pre_NM, self.meta.k)
        if self.meta.activation == "groupmax" and self.meta.k is not None:
            return group_max(pre_NM, self.meta.k)
        return above(pre_NM, self.tensors.get("threshold_M"))

    @torch.no_grad()
    def decode(self, codes: Codes, x_ND: Tensor) -> Tensor:
        """codes of x → y [N, d_out] float32."""
        y_NO = embedding_bag(
            codes.index_NK.long(), self.decoder_MD, per_sample_weights=codes.value_NK.float(), mode="sum"
        )
        return self._finished(y_NO.add_(self.constant(x_ND)), x_ND)

    @torch.no_grad()
    def decode_dense(self, z_NM: Tensor, x_ND: Tensor) -> Tensor:
        """activations [N, width] and x → y [N, d_out] float32."""
        return self._finished(torch.addmm(self.constant(x_ND), z_NM.float(), self.decoder_MD), x_ND)

    def constant(self, x_ND: Tensor) -> Tensor:
        """What is added to the decoded latents: the bias, plus the skip connection's part. [N, d_out] or [d_out]."""
        bias_O = self.tensors["decoder_bias_O"]
        if not self.meta.skip:
            return bias_O
        self._check(x_ND)
        return torch.addmm(bias_O, x_ND.float(), self.tensors["skip_OD"].T)

    def _finished(self, y_NO: Tensor, x_ND: Tensor) -> Tensor:
        """The normalization undone."""
        if self.meta.normalization == "none":
            return y_NO
        self._check(x_ND)
        shift_N1, scale_N1 = self._normalizer(x_ND.float())
        # The published coders divide by the standard deviation + ε and multiply by it alone: so do we.
        return y_NO * (scale_N1 - EPSILON if self.meta.normalization == "layer_norm" else scale_N1) + shift_N1

    def _normalizer(self, x_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and scale of each vector, [N, 1]."""
        if self.meta.normalization == "layer_norm":
            return x_ND.mean(1, keepdim=True), x_ND.std(1, keepdim=True) + EPSILON
        if self.meta.normalization == "centred":
            mean_N1 = x_ND.mean(1, keepdim=True)
            return mean_N1, torch.ones_like(mean_N1)
        norm_N1 = x_ND.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        return torch.zeros_like(norm_N1), norm_N1 / self.meta.d_in**0.5

    def _check(self, x_ND: Tensor) -> None:
        if x_ND.ndim != 2 or x_ND.shape[1] != self.meta.d_in:
            raise DataError(
                f"the coder reads vectors of {self.meta.d_in} components, these have shape {tuple(x_ND.shape)}",
                f"check that coder and subject belong together at {self.meta.hookpoint}",
            )
        if not torch.isfinite(x_ND).all():
            raise DataError("activations that are not finite", "run the subject in float32 or bfloat16")


def shapes(meta: CoderMeta) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of a coder with these metadata; all are required except those in `OPTIONAL`."""
    wanted: dict[str, tuple[int, ...]] = {
        "encoder_MD": (meta.width, meta.d_in),
        "encoder_bias_M": (meta.width,),
        "decoder_MO": (meta.width, meta.d_out),
        "decoder_bias_O": (meta.d_out,),
        "input_bias_D": (meta.d_in,),
    }
    if meta.skip:
        wanted["skip_OD"] = (meta.d_out, meta.d_in)
    if meta.activation in ("jumprelu", "batchtopk"):
        wanted["threshold_M"] = (meta.width,)
    return wanted
