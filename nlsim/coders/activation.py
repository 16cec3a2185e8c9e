"""From pre-activations to the list of active latents: TopK, BatchTopK, GroupMax, ReLU and JumpReLU."""

import torch
from torch import Tensor

from nlsim.coders.coder import Codes

GROUP = 64  # latents per group in the two-step top-k


def largest(acts_NM: Tensor, k: int) -> Codes:
    """The `k` largest of each row, largest first.

    Wide rows are searched in two steps: the k groups of 64 latents with the largest maxima hold all of the k largest
    latents, so only those are looked at one by one. The result is exact (equal values may be taken in another order).
    """
    n, width = acts_NM.shape
    groups = width // GROUP
    if width % GROUP or groups < 4 * k:
        value_NK, index_NK = acts_NM.topk(k, dim=1)
        return Codes(index_NK, value_NK)
    group_NK = acts_NM.view(n, groups, GROUP).amax(2).topk(k, dim=1, sorted=False).indices
    first_N1 = torch.arange(0, n * groups, groups, device=acts_NM.device)[:, None]
    shortlist_NC = acts_NM.view(-1, GROUP).index_select(0, (group_NK + first_N1).view(-1)).view(n, k * GROUP)
    value_NK, place_NK = shortlist_NC.topk(k, dim=1)
    index_NK = group_NK.gather(1, place_NK // GROUP) * GROUP + place_NK % GROUP
    return Codes(index_NK, value_NK)


def top_k(pre_NM: Tensor, k: int) -> Codes:
    """TopK coder: the k largest pre-activations, negative ones as 0."""
    codes = largest(pre_NM, k)
    return Codes(codes.index_NK, codes.value_NK.relu_())


def above(pre_NM: Tensor, threshold_M: Tensor | None) -> Codes:
    """JumpReLU: z = pre · [pre > threshold] · [pre > 0]; ReLU without a threshold. Overwrites `pre_NM`.

    A BatchTopK coder is read in the same way, with the threshold that training found: taking the top of the batch
    itself would make a vector's code depend on its neighbours. The list is as long as the fullest row needs.
    """
    if threshold_M is not None:
        pre_NM.masked_fill_(pre_NM <= threshold_M, 0.0)
    pre_NM.relu_()
    longest = int(pre_NM.count_nonzero(dim=1).max()) if len(pre_NM) else 0
    return largest(pre_NM, longest)


def group_max(pre_NM: Tensor, groups: int) -> Codes:
    """GroupMax coder: the largest latent of each of `groups` equal groups of neighbours, strongest first."""
    value_NG, place_NG = pre_NM.relu().unflatten(1, (groups, -1)).max(dim=2)
    index_NG = place_NG + torch.arange(groups, device=pre_NM.device) * (pre_NM.shape[1] // groups)
    value_NG, order_NG = value_NG.sort(dim=1, descending=True)
    return Codes(index_NG.gather(1, order_NG), value_NG)


def joined(parts: list[Codes]) -> Codes:
    """Codes of consecutive chunks as one, padded with absent latents to the longest list."""
    longest = max(part.value_NK.shape[1] for part in parts)

    def padded(x_NK: Tensor) -> Tensor:
        return torch.nn.functional.pad(x_NK, (0, longest - x_NK.shape[1]))

    return Codes(
        torch.cat([padded(part.index_NK) for part in parts]), torch.cat([padded(part.value_NK) for part in parts])
    )
