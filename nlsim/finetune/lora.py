"""A language model with LoRA matrices: loading, losses at reads, and the adapter's files."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nlsim.errors import UsageError
from nlsim.lm.loading import device_of, dtype_of, load_model, place_of
from nlsim.subject.pretrained import load_pretrained

if TYPE_CHECKING:
    from nlsim.finetune.config import FinetuneConfig
    from nlsim.finetune.examples import Example
    from nlsim.lm.config import LmConfig

WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
"""Names that peft gives to an adapter's files."""


class Tuned:
    """A frozen model with trainable LoRA matrices."""

    def __init__(self, lm: LmConfig, settings: FinetuneConfig, seed: int) -> None:
        """Load the model of `lm`; `seed` decides the first LoRA matrices.

        Raises UsageError when peft or bitsandbytes is missing or a module is not there.
        """
        try:
            from peft import LoraConfig, get_peft_model
        except ImportError as error:
            raise UsageError("finetuning needs peft", "pip install nlsim[finetune]") from error
        base = load_model(lm) if settings.quantize == "none" else _in_8_bits(lm, settings.checkpointing)
        if settings.checkpointing and settings.quantize == "none":
            base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            base.enable_input_require_grads()
        lora = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules=list(settings.targets) or "all-linear",
            task_type="CAUSAL_LM",
        )
        torch.manual_seed(seed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # of transformers, about a name that peft uses
                self.model: Any = get_peft_model(base, lora)
        except ValueError as error:
            raise UsageError(f"finetune.targets do not fit the model ({error})", "name its linear modules") from error
        self._base: Any = self.model.get_base_model()
        self._name = lm.model
        for parameter in self.trainable:
            parameter.data = parameter.data.float()  # 16-bit sums of small steps would lose them

    @property
    def trainable(self) -> list[Tensor]:
        """The LoRA matrices."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def loss(self, examples: Sequence[Example], choices: Sequence[int]) -> tuple[Tensor, int]:
        """Summed negative log-probability (nats, full vocabulary) of the right answers, and how many there are."""
        longest = max(len(example.tokens) for example in examples)
        device = self._base.get_input_embeddings().weight.device
        tokens_BT = torch.zeros(len(examples), longest, dtype=torch.int64)
        mask_BT = torch.zeros_like(tokens_BT)
        rows, places, answers = [], [], []
        for i, example in enumerate(examples):
            tokens_BT[i, : len(example.tokens)] = torch.from_numpy(example.tokens)
            mask_BT[i, : len(example.tokens)] = 1
            rows += [i] * len(example.reads)
            places += example.reads.tolist()
            answers += [choices[answer] for answer in example.answers]
        hidden_BTD = self._base.get_decoder()(
            input_ids=tokens_BT.to(device), attention_mask=mask_BT.to(device), use_cache=False
        ).last_hidden_state
        logits_RV = self._base.get_output_embeddings()(hidden_BTD[rows, places]).float()
        target_R = torch.tensor(answers, device=logits_RV.device)
        return torch.nn.functional.cross_entropy(logits_RV, target_R, reduction="sum"), len(answers)

    def state(self) -> dict[str, Tensor]:
        """The trainable weights by name."""
        return {name: p.detach().cpu() for name, p in self.model.named_parameters() if p.requires_grad}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take trainable weights back."""
        own = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, value in state.items():
                own[name].copy_(value)

    def files(self) -> dict[str, bytes]:
        """The adapter as peft stores it; the same weights give the same bytes."""
        with TemporaryDirectory() as folder:
            self.model.save_pretrained(folder)
            settings = json.loads((Path(folder) / SETTINGS).read_text(encoding="utf-8"))
            settings["base_model_name_or_path"] = self._name
            for name, value in settings.items():
                if isinstance(value, list):
                    settings[name] = sorted(value, key=str)  # peft writes sets, in any order
            text = json.dumps(settings, indent=1, sort_keys=True) + "\n"
            return {WEIGHTS: (Path(folder) / WEIGHTS).read_bytes(), SETTINGS: text.encode()}


def _in_8_bits(lm: LmConfig, checkpointing: bool) -> Any:
    """The model with its weights in 8 bits, prepared for training on top of them."""
    try:
        import bitsandbytes  # noqa: F401 - transformers needs it
        from peft import prepare_model_for_kbit_training
        from transformers import BitsAndBytesConfig
    except ImportError as error:
        raise UsageError("finetune.quantize 8bit needs bitsandbytes", "pip install nlsim[finetune]") from error
    device = device_of(lm)
    if device.type != "cuda":
        raise UsageError("finetune.quantize 8bit needs a GPU", "set it to none")
    model = load_pretrained(
        "language model",
        place_of(lm, lm.model),
        dtype=dtype_of(lm, device),
        quantization_config=BitsAndBytesConfig(load_in_8bit=True),
        device_map={"": device},
    )
    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointing)
