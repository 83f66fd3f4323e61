"""The L0 ball: keep exactly the k entries that matter most, over all tensors together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from streamlab.errors import TrainingError


def budget(target_density: float, n_gated: int) -> int:
    """Return k = round(density * d), at least one."""
    return max(1, round(target_density * n_gated))


def nth_largest(flat: Tensor, n: int) -> float:
    """Return the n-th largest of the values, the least where there are fewer."""
    return float(flat.kthvalue(max(0, flat.numel() - n) + 1).values)


def keep_largest(scores: Sequence[Tensor], k: int) -> list[Tensor]:
    """Return the flat, ascending positions of the k largest scores, tensor by tensor.

    Ties go to the lowest index, counted over all tensors in their order. Scores are not
    negative; where fewer than k are above zero, or one is no finite number, there is nothing
    to rank, and TrainingError says so.
    """
    flat = torch.cat([score.reshape(-1) for score in scores])
    n_broken = flat.numel() - int(torch.isfinite(flat).sum())
    if n_broken:
        raise TrainingError(
            f"{n_broken} of {flat.numel()} entries are not finite after training, so that they "
            "cannot be ranked. Lower `training.learning_rate`."
        )
    n_candidates = int((flat > 0).sum())
    if n_candidates < k:
        raise TrainingError(
            f"Only {n_candidates} of {flat.numel()} entries are candidates, and {k} are to be "
            "kept. Nothing was learnt in the rest: train for more steps, or lower "
            "`method.target_density`."
        )
    threshold = nth_largest(flat, k)
    above = flat > threshold
    ties = (flat == threshold).nonzero().squeeze(-1)
    above[ties[: k - int(above.sum())]] = True
    sizes = [score.numel() for score in scores]
    return [mask.nonzero().squeeze(-1) for mask in above.split(sizes)]
