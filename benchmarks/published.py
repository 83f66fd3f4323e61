"""The gated stage as published: a loop over tensors, with autograd for the L0 penalty.

Written from a description of the released code of Guo et al. (2021), for comparison only. Before
every forward the gates of every tensor are sampled and the effective weights copied into the model;
after the backward the gradients of w and alpha are computed from the model's. The additive penalty
goes through autograd. One Adam for w, one for alpha.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from streamlab.methods.api import TrainingJob

LOW, HIGH = -1.5, 1.5
PENALTY = 1.25e-7
CLIP = 1.0


class PublishedStage:
    """w, alpha and a group's alpha for each tensor, as leaves of autograd."""

    def __init__(self, job: TrainingJob) -> None:
        self.job = job
        live = list(job.backbone.values())
        self._base = [p.detach().clone() for p in live]
        self._w = [torch.zeros_like(p, requires_grad=True) for p in self._base]
        self._alpha = [torch.full_like(p, 5.0).requires_grad_() for p in self._base]
        self._group = [torch.full((1,), 5.0, requires_grad=True) for _ in live]
        head = list(job.head.values())
        self._of_w = torch.optim.AdamW([*self._w, *head], lr=1e-5, foreach=False, fused=False)
        gates = [*self._alpha, *self._group]
        self._of_alpha = torch.optim.Adam(gates, lr=0.1, foreach=False, fused=False)
        self._gates: list[tuple[Tensor, Tensor]] = []
        self._sample()

    def take_step(self, _share: float) -> None:
        """Turn the model's gradients into those of w and alpha, step, and sample the next gates."""
        live = self.job.backbone.values()
        for parameter, w, alpha, group, (z, z_group) in zip(
            live, self._w, self._alpha, self._group, self._gates, strict=True
        ):
            grad = torch.zeros_like(w) if parameter.grad is None else parameter.grad
            w.grad = grad * (z * z_group).detach()
            torch.autograd.backward(
                [z, z_group],
                [
                    grad * w.detach() * z_group.detach(),
                    (grad * w.detach() * z.detach()).sum()[None],
                ],
            )
            penalty = PENALTY * (
                torch.sigmoid(alpha - math.log(-LOW / HIGH)).sum()
                + torch.sigmoid(group - math.log(-LOW / HIGH)).sum()
            )
            penalty.backward()
        torch.nn.utils.clip_grad_norm_(self._w, CLIP)
        torch.nn.utils.clip_grad_norm_([*self._alpha, *self._group], CLIP)
        self._of_w.step()
        self._of_alpha.step()
        self._of_w.zero_grad()
        self._of_alpha.zero_grad()
        self._sample()

    def _sample(self) -> None:
        """Sample every tensor's gates and copy the effective weights into the model."""
        self._gates = []
        for parameter, base, w, alpha, group in zip(
            self.job.backbone.values(), self._base, self._w, self._alpha, self._group, strict=True
        ):
            z, z_group = _gate(alpha), _gate(group)
            self._gates.append((z, z_group))
            parameter.data.copy_(base + (z * z_group * w).detach())


def _gate(alpha: Tensor) -> Tensor:
    u = torch.rand_like(alpha).clamp(1e-4, 1.0 - 1e-4)
    s = torch.sigmoid(torch.log(u) - torch.log(1.0 - u) + alpha)
    return (s * (HIGH - LOW) + LOW).clamp(0.0, 1.0)
