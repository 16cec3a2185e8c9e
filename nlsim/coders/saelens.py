"""SAELens coders: folders and published releases, read through the `sae-lens` package."""

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from nlsim.coders.coder import Activation, CoderMeta, Normalization
from nlsim.coders.config import RELEASE
from nlsim.coders.files import download_failure, read_json
from nlsim.coders.fold import folded_norms, gated
from nlsim.coders.sparse import SparseCoder
from nlsim.errors import DataError, UsageError, is_out_of_memory
from nlsim.foreign import reason

if TYPE_CHECKING:
    from sae_lens import SAE

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
ACTIVATIONS: dict[str, Activation] = {
    "standard": "relu",
    "gated": "jumprelu",  # see `fold.gated`
    "topk": "topk",
    "jumprelu": "jumprelu",  # also what SAELens stores of a BatchTopK or Matryoshka coder
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
}
NORMALIZATIONS: dict[str | None, Normalization] = {
    None: "none",
    "none": "none",
    "layer_norm": "layer_norm",
    "constant_norm_rescale": "constant_norm",
}


WARNING = r"\s*This SAE has non-empty model_from_pretrained_kwargs"
"""What SAELens says of a coder of a changed model; `_centred` sees to it."""
HARMLESS = {
    "center_unembed",
    "fold_ln",
    "device",
    "dtype",
    "torch_dtype",
    "n_devices",
    "revision",
    "attn_implementation",
}
"""Options of TransformerLens' models that leave every hookpoint's activations as they are. (Folding a norm's gain into
the next weights changes none: `hook_normalized` is before the gain.)"""


def matches(path: Path) -> bool:
    """A folder with the two files."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def meta(path: Path) -> CoderMeta:
    """Metadata from cfg.json, also of versions before 6. Raises DataError for what cannot be read as it was meant."""
    config = read_json(path / CONFIG)
    if config.get("finetuning_scaling_factor"):
        raise DataError(f"{path} scales its latents by factors found in finetuning", "fold them into W_dec first")
    if "metadata" not in config:
        _sae_class()  # says how to install the package where it is missing
        from sae_lens.loading.pretrained_sae_loaders import handle_config_defaulting

        config = handle_config_defaulting(config)
    return _meta(config, str(path))


def read(path: Path, device: str) -> SparseCoder:
    """The coder in a folder that SAELens' `save_model` or `save_inference_model` wrote."""
    found = meta(path)
    sae_class = _sae_class()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=WARNING)
            sae = sae_class.load_from_disk(str(path), device=device)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise DataError(f"{path} is a damaged SAELens coder", reason(error)) from error
    return _converted(sae, found)


def read_release(name: str, device: str) -> SparseCoder:
    """A published coder, `RELEASE/SAE_ID`; downloads it unless the Hugging Face cache has it."""
    release, _, sae_id = name.partition("/")
    if not sae_id:
        raise UsageError(f"{RELEASE}{name} names no SAE", f"write {RELEASE}RELEASE/SAE_ID")
    sae_class = _sae_class()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=WARNING)
            sae = sae_class.from_pretrained(release, sae_id, device=device)
    except Exception as error:  # unknown names, missing network and gated files each have types of their own
        raise download_failure(f"the SAELens coder {release}/{sae_id}", error) from error
    return _converted(sae, _meta(sae.cfg.to_dict(), f"{release}/{sae_id}"))


def _sae_class() -> "type[SAE[Any]]":
    try:
        from sae_lens import SAE
    except ImportError as error:
        raise UsageError("reading SAELens coders needs the sae-lens package", "pip install 'nlsim[saelens]'") from error
    return SAE


def _meta(config: dict[str, Any], where: str) -> CoderMeta:
    architecture = str(config.get("architecture"))
    if architecture not in ACTIVATIONS:
        raise DataError(f"{where} has the architecture {architecture}", f"supported: {', '.join(ACTIVATIONS)}")
    transcoder = "transcoder" in architecture
    normalization = config.get("normalize_activations", "none")
    if normalization not in NORMALIZATIONS or (transcoder and NORMALIZATIONS[normalization] != "none"):
        raise DataError(
            f"{where} normalises activations by {normalization}", "fold the normalisation into its weights first"
        )
    if "d_in" not in config or "d_sae" not in config:
        raise DataError(f"{where} lacks d_in or d_sae", "its cfg.json was not written by SAELens")
    details = config.get("metadata") or {}
    source, target = details.get("hook_name") or "", details.get("hook_name_out") or ""
    return CoderMeta(
        kind="transcoder" if transcoder else "sae",
        hookpoint=f"{source} -> {target}" if transcoder and target else source,
        d_in=config["d_in"],
        d_out=config.get("d_out", config["d_in"]),
        width=config["d_sae"],
        activation=ACTIVATIONS[architecture],
        k=config.get("k"),
        normalization=_centred(NORMALIZATIONS[normalization], transcoder, details, where),
        skip="skip" in architecture,
        subject=details.get("model_name") or "",
    )


def _centred(normalization: Normalization, transcoder: bool, details: dict[str, Any], where: str) -> Normalization:
    """What has to be done to the activations of the plain model, for a coder of a model that was changed on loading.

    TransformerLens can centre all weights that write to the residual stream, which takes the mean off every vector of
    the stream and off what modules add to it. Layer norms do that themselves. Raises DataError for other changes.
    """
    changes = {name for name, value in (details.get("model_from_pretrained_kwargs") or {}).items() if value}
    hook = str(details.get("hook_name") or "")
    stream = re.search(r"hook_(resid_|mlp_out|attn_out|embed)", hook) is not None
    if "center_writing_weights" in changes and stream and not transcoder and normalization != "constant_norm":
        changes.remove("center_writing_weights")
        normalization = "centred" if normalization == "none" else normalization
    if left := sorted(changes - HARMLESS):
        raise DataError(
            f"{where} was trained on a model changed by {', '.join(left)}", "use a coder of the plain model"
        )
    return normalization


def _converted(sae: Any, found: CoderMeta) -> SparseCoder:
    def tensor(name: str) -> Tensor:
        weights: Tensor = getattr(sae, name)
        return weights.detach().float()

    tensors = {"decoder_MO": tensor("W_dec"), "decoder_bias_O": tensor("b_dec")}
    if sae.cfg.architecture() == "gated":
        tensors |= gated(tensor("W_enc").T, tensor("r_mag"), tensor("b_gate"), tensor("b_mag"))
    else:
        tensors |= {"encoder_MD": tensor("W_enc").T, "encoder_bias_M": tensor("b_enc")}
        if found.activation == "jumprelu":
            tensors["threshold_M"] = tensor("threshold")
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):  # activations in units of unit decoder rows
        tensors = folded_norms(tensors)
    if sae.cfg.apply_b_dec_to_input:
        tensors["input_bias_D"] = tensors["decoder_bias_O"]
    if found.skip:
        tensors["skip_OD"] = tensor("W_skip")
    return SparseCoder(found, tensors)
