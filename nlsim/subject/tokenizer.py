"""The subject's tokenizer, set up so that text means what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nlsim.errors import DataError, UsageError, is_out_of_memory
from nlsim.foreign import hub_remedy, reason
from nlsim.subject.config import SubjectConfig
from nlsim.subject.locate import Location, locate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

DAMAGED = "the folder is damaged or incomplete"


def load_tokenizer(config: SubjectConfig) -> PreTrainedTokenizerFast:
    """The model's tokenizer. A special token's spelling inside a text is tokenized as ordinary text.

    Raises DataError when it cannot be loaded, UsageError when it has no fast form (the token bytes are read from it).
    """
    from transformers import PreTrainedTokenizerFast

    tokenizer = read_tokenizer(locate(config))
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UsageError(
            f"the tokenizer of {config.model} has no tokenizer.json form", "convert it with transformers first"
        )
    tokenizer.split_special_tokens = True
    return tokenizer


def read_tokenizer(location: Location) -> Any:
    """A tokenizer of any form. Raises DataError when it cannot be loaded, or is none."""
    import transformers
    from transformers import AutoTokenizer

    transformers.utils.logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(location.path, revision=location.revision, trust_remote_code=False)
    except Exception as error:  # whatever a damaged or foreign folder makes the library raise
        if is_out_of_memory(error):
            raise
        raise load_failure("tokenizer", location, error) from error
    if not tokenizer.encode("text", add_special_tokens=False):  # made up where a folder has no tokenizer files
        raise DataError(
            f"{location.path} has no tokenizer", "save one beside it; for a language model there is also lm.tokenizer"
        )
    return tokenizer


def encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[NDArray[np.int32]]:
    """The tokens of each text, without special tokens, by as many threads as the machine has."""
    backend = tokenizer.backend_tokenizer
    backend.encode_special_tokens = True
    backend.no_truncation()
    backend.no_padding()
    return [np.asarray(e.ids, np.int32) for e in backend.encode_batch_fast(list(texts), add_special_tokens=False)]


def bos_token(tokenizer: PreTrainedTokenizerFast) -> int:
    """The token that begins every row: the tokenizer's BOS; where it has none (Qwen), its EOS; else its padding."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id):
        if token is not None:
            return int(token)
    raise UsageError("the tokenizer has no BOS, EOS or padding token", "set bos_token in its tokenizer_config.json")


def load_failure(part: str, location: Location, error: Exception) -> DataError:
    """One line for a model that cannot be loaded, with what to do about the likely cause."""
    said = reason(error)
    if location.local:
        return DataError(f"cannot load the {part} in {location.path} ({said})", DAMAGED)
    todo = "check the name and the network; `nlsim plan` prints the commands that download it elsewhere"
    if location.revision and "revision" in str(error).lower():
        todo = f"check the revision {location.revision}"
    what = f"cannot load the {part} of {location.path} from the Hugging Face hub ({said})"
    return DataError(what, hub_remedy(error, todo))
