"""Errors that users meet: one line saying what was wrong and what to do about it, with the exit code of their kind."""

import errno

_NO_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "std::bad_alloc")


class NlsimError(Exception):
    """Base of all expected errors. `what` names the problem, `todo` what the user can do about it."""

    exit_code = 1

    def __init__(self, what: str, todo: str = "") -> None:
        super().__init__(what if not todo else f"{what}: {todo}")
        self.what = what
        self.todo = todo


class UsageError(NlsimError):
    """A wrong command, option or configuration. Nothing was read or written. Do not retry."""

    exit_code = 2


class DataError(NlsimError):
    """Input or stored data that cannot be used: missing, damaged, or not what the configuration says. Do not retry."""

    exit_code = 3


class IncompleteError(NlsimError):
    """Something needed has not been computed yet: shards are missing."""

    exit_code = 4


class TransientError(NlsimError):
    """A failure of the surroundings (store, endpoint, a stop request): the same call may succeed later."""

    exit_code = 75


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out. torch has its own error for it on a GPU, known by its name here, and none on a CPU."""
    if isinstance(error, NlsimError):
        return False
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NO_MEMORY)


def too_little_memory(work: str) -> TransientError:
    """What to say of work that memory was too small for."""
    return TransientError(f"not enough memory for {work}", "give it more memory, or make its shards or batches smaller")
