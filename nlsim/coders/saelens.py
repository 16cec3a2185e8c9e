"""SAELens coders: folders and published releases, read through the `sae-lens` package."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from nlsim.coders.coder import Activation, CoderMeta
from nlsim.coders.sparse import SparseCoder
from nlsim.coders.sparsify import read_json
from nlsim.errors import DataError, UsageError

if TYPE_CHECKING:
    from sae_lens import SAE

RELEASE = "saelens:"
CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
ACTIVATIONS: dict[str, Activation] = {
    "standard": "relu",
    "topk": "topk",
    "jumprelu": "jumprelu",
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
}


def matches(path: Path) -> bool:
    """A folder with the two files."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def meta(path: Path) -> CoderMeta:
    """Metadata from cfg.json. Raises DataError for an architecture or a normalisation that is not supported."""
    return _meta(read_json(path / CONFIG), str(path))


def read(path: Path, device: str) -> SparseCoder:
    """The coder in a folder that SAELens' `save_model` or `save_inference_model` wrote."""
    found = meta(path)
    sae_class = _sae_class()
    try:
        sae = sae_class.load_from_disk(str(path), device=device)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise DataError(f"{path} is a damaged SAELens coder", str(error).splitlines()[0]) from error
    return _converted(sae, found)


def read_release(name: str, device: str) -> SparseCoder:
    """A published coder, `RELEASE/SAE_ID`; downloads it unless the Hugging Face cache has it."""
    release, _, sae_id = name.partition("/")
    if not sae_id:
        raise UsageError(f"{RELEASE}{name} names no SAE", f"write {RELEASE}RELEASE/SAE_ID")
    sae_class = _sae_class()
    try:
        sae = sae_class.from_pretrained(release, sae_id, device=device)
    except Exception as error:  # unknown names, missing network and gated files each have types of their own
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"cannot get {sae_id} of the SAELens release {release} ({reason})", "check both names and the network"
        ) from error
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
    normalization = config.get("normalize_activations", "none")
    if normalization not in ("none", None):
        raise DataError(
            f"{where} normalises activations by {normalization}", "fold the normalisation into its weights first"
        )
    if "d_in" not in config or "d_sae" not in config:
        raise DataError(f"{where} lacks d_in or d_sae", "its cfg.json was not written by SAELens")
    details = config.get("metadata") or {}
    source, target = details.get("hook_name") or "", details.get("hook_name_out") or ""
    transcoder = "transcoder" in architecture
    return CoderMeta(
        kind="transcoder" if transcoder else "sae",
        hookpoint=f"{source} -> {target}" if transcoder and target else source,
        d_in=config["d_in"],
        d_out=config.get("d_out", config["d_in"]),
        width=config["d_sae"],
        activation=ACTIVATIONS[architecture],
        k=config.get("k"),
        skip="skip" in architecture,
        subject=details.get("model_name") or "",
    )


def _converted(sae: Any, found: CoderMeta) -> SparseCoder:
    tensors: dict[str, Tensor] = {
        "encoder_MD": sae.W_enc.T,
        "encoder_bias_M": sae.b_enc,
        "decoder_MO": sae.W_dec,
        "decoder_bias_O": sae.b_dec,
    }
    tensors = {name: tensor.detach().float() for name, tensor in tensors.items()}
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):  # activations in units of unit decoder rows
        norm_M = tensors["decoder_MO"].norm(dim=1)
        tensors["encoder_MD"] = tensors["encoder_MD"] * norm_M[:, None]
        tensors["encoder_bias_M"] = tensors["encoder_bias_M"] * norm_M
        tensors["decoder_MO"] = tensors["decoder_MO"] / norm_M[:, None]
    if sae.cfg.apply_b_dec_to_input:
        tensors["input_bias_D"] = tensors["decoder_bias_O"]
    if found.skip:
        tensors["skip_OD"] = sae.W_skip.detach().float()
    if found.activation == "jumprelu":
        tensors["threshold_M"] = sae.threshold.detach().float()
    return SparseCoder(found, tensors)
