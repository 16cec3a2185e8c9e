"""What counts as want of memory."""

import errno

import numpy as np
import pytest
import torch

from nlsim.errors import TransientError, is_out_of_memory


def test_memory_that_runs_out() -> None:
    with pytest.raises(MemoryError) as array:
        np.empty(1 << 60, np.int8)
    with pytest.raises(RuntimeError) as tensor:
        torch.empty(1 << 60, dtype=torch.int8)
    for error in (array.value, tensor.value, torch.OutOfMemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory")):
        assert is_out_of_memory(error), error


def test_what_only_speaks_of_it() -> None:
    said = "can't allocate memory"
    for error in (TransientError(said), ValueError(said), OSError(errno.ENOENT, said), RuntimeError("no")):
        assert not is_out_of_memory(error), error
