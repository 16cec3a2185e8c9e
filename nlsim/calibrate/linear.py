"""(a) The published map: robust maximum times expected digit over nine."""

import numpy as np
import numpy.typing as npt


def linear_values(
    expected_LR: npt.NDArray[np.floating], robust_max_L: npt.NDArray[np.floating]
) -> npt.NDArray[np.float32]:
    """M · clip(E, 0, 9) / 9 for each latent and read, in units of activation; NaN where the prediction failed.

    M is the robust maximum: the plain one, taken at massive-norm positions, makes single latents dominate every patched
    code.
    """
    scale_L1 = np.asarray(robust_max_L, dtype=np.float32)[:, None] / 9
    return np.asarray(np.clip(expected_LR, 0, 9) * scale_L1, dtype=np.float32)
