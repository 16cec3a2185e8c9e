"""One core is enough for tiny models, and tests run side by side."""

import torch

torch.set_num_threads(1)
