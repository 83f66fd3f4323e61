"""Pruning of the finetuned model: a share of its weights is kept (Sanh, Wolf and Rush, 2020).

    W' = W * M(S)    M is 1 for the share v_t of a matrix's weights with the largest score S

    magnitude    S = |W|                               (Zhu and Gupta, 2018)
    movement     dL/dS = dL/dW' * W, straight through: S grows where a weight moves away from 0

    v_t = v + (1 - v) (1 - (t - t_i) / (T - t_i - t_f))^3      1 before t_i, v in the last t_f steps

As in the paper and its code, the matrices of the transformer's blocks are pruned, each by itself,
and v is a share of their weights. Embeddings stay the base's; all else is trained and not pruned.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, PositiveFloat, field_validator, model_validator
from torch import Tensor, nn

from streamlab.diff.layout import Layout
from streamlab.diff.vector import SparseTensor
from streamlab.errors import TrainingError
from streamlab.methods.adam import adam_optimizer
from streamlab.methods.api import Artifact, Method, SparseChange, TrainingJob
from streamlab.methods.masks.selection import budget, largest
from streamlab.methods.training_loop import EarlyStopping, head_values, ramp, training_mode

Criterion = Literal["magnitude", "movement"]
Part = Literal["pruned", "frozen", "dense"]


class PrunedModel(Method):
    """Finetune and prune step by step; store the weights that are kept, and zeros elsewhere."""

    artifact: ClassVar[Artifact] = "diff"

    name: Literal["pruned_model"] = "pruned_model"
    criterion: Criterion = "movement"
    """Which weights are kept: the largest, or those that move away from 0."""
    keep: float = Field(default=0.15, gt=0.0, le=1.0)
    """The share of the pruned matrices' weights that is kept, in each of them."""
    score_learning_rate: PositiveFloat = 1e-2
    """Of the scores of `movement`."""
    dense_share: float = Field(default=0.1, ge=0.0, lt=1.0)
    """The share of all steps before the first weight is pruned."""
    cooldown_share: float = Field(default=0.2, ge=0.0, lt=1.0)
    """The share of all steps after the kept share has reached `keep`; at least one step."""
    tensors: str = r"\.\d+\."
    """Which matrices are pruned: a regular expression, searched in the base's names. By default,
    those of the numbered blocks."""
    frozen: str = r"embed|wte|wpe|^shared\."
    """Which of the other tensors stay the base's: a regular expression. By default, the
    embeddings."""

    @field_validator("tensors", "frozen")
    @classmethod
    def _compiles(cls, given: str) -> str:
        try:
            re.compile(given)
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from error
        return given

    @model_validator(mode="after")
    def _leaves_steps(self) -> Self:
        if self.dense_share + self.cooldown_share >= 1.0:
            raise ValueError(
                f"`dense_share` ({self.dense_share:g}) and `cooldown_share` "
                f"({self.cooldown_share:g}) must leave steps to prune in: lower one of them"
            )
        return self

    @property
    def default_label(self) -> str:
        """Return the criterion's name, so that records tell one from the other."""
        return f"{self.criterion}_pruning"

    def parts(self, layout: Layout) -> list[Part]:
        """Tell of every tensor of the layout whether it is pruned, frozen, or trained densely."""
        return [
            "pruned" if len(shape) > 1 and re.search(self.tensors, name)
            else "frozen" if re.search(self.frozen, name)
            else "dense"
            for name, shape in zip(layout.names, layout.shapes, strict=True)
        ]  # fmt: skip

    def expected_entries(self, layout: Layout) -> int:
        """Return the number of weights that are kept, and of those that are trained densely."""
        pairs = zip(self.parts(layout), layout.sizes, strict=True)
        return sum(
            budget(self.keep, size) if part == "pruned" else size
            for part, size in pairs
            if part != "frozen"
        )

    def kept_share(self, step: int, n_steps: int) -> float:
        """Return the share that is kept after a step, from 1, of a training of `n_steps`."""
        first = round(self.dense_share * n_steps)
        last = n_steps - self._n_cooldown(n_steps)
        if step >= last:
            return self.keep
        if step <= first:
            return 1.0
        done = (step - first) / (last - first)
        return self.keep + (1.0 - self.keep) * (1.0 - done) ** 3

    def _n_cooldown(self, n_steps: int) -> int:
        return max(1, round(self.cooldown_share * n_steps))

    def train(self, job: TrainingJob) -> SparseChange:
        """Train and prune; returns exactly `expected_entries` entries, in mode `prune`.

        Raises TrainingError where the base has no matrix to prune, or the loss becomes NaN or
        infinite.
        """
        parts = dict(zip(job.backbone, self.parts(job.layout), strict=True))
        live = [p for name, p in job.backbone.items() if parts[name] == "pruned"]
        if not live:
            raise TrainingError(
                f"No matrix of the base has a name that {self.tensors!r} matches, so that there "
                "is nothing to prune. Give another expression as `method.tensors`."
            )
        dense = [p for name, p in job.backbone.items() if parts[name] == "dense"]
        for name, parameter in job.backbone.items():
            parameter.requires_grad_(parts[name] != "frozen")
        pruning = GradualPruning(live, self.criterion)
        head = list(job.head.values())
        trained = [*pruning.weights, *pruning.scores, *dense, *head]
        rates = [
            ([*pruning.weights, *dense], job.training.learning_rate),
            (head, job.training.head_learning_rate),
            (pruning.scores, self.score_learning_rate),
        ]
        _, step = adam_optimizer(
            *(pair for pair in rates if pair[0]),
            clipped=trained,
            clip_norm=job.training.clip_norm,
        )
        loop = job.loop

        def take_step(share: float) -> float:
            kept = self.kept_share(loop.n_steps - loop.n_left, loop.n_steps)
            pruning.backward()
            step(share)
            pruning.prune(kept)
            return kept

        n_before = loop.n_steps - self._n_cooldown(loop.n_steps)
        schedule = ramp(loop.n_steps, job.training.warmup_share)
        best = EarlyStopping(trained, on_restore=lambda: pruning.prune(self.keep))
        with training_mode(job):
            loop.run("pruning", schedule[:n_before], take_step)
            loop.run("cool-down", schedule[n_before:], take_step, best)
        kept = iter(pruning.masks)
        tensors = tuple(
            _stored(p, job.base[name], parts[name], next(kept) if parts[name] == "pruned" else None)
            for name, p in job.backbone.items()
        )
        return SparseChange(
            tensors=tensors,
            head=head_values(job),
            summary=loop.summary(
                steps_pruning=loop.taken["pruning"],
                steps_cooldown=loop.taken["cool-down"],
                n_pruned=sum(p.numel() for p in live),
                n_kept=sum(int(mask.sum()) for mask in pruning.masks),
            ),
            mode="prune",
        )


class GradualPruning:
    """Weights of which a share is kept; the model's own tensors hold the kept ones and zeros."""

    def __init__(self, live: Sequence[nn.Parameter], criterion: Criterion) -> None:
        """Start with the `live` tensors of the model as they are, and scores of 0."""
        self._live = list(live)
        self.weights = [nn.Parameter(p.detach().clone()) for p in live]
        moves = criterion == "movement"
        self.scores = [nn.Parameter(torch.zeros_like(p)) for p in live] if moves else []
        self.masks = [torch.ones_like(p, dtype=torch.bool) for p in live]

    @torch.no_grad()
    def backward(self) -> None:
        """Pass the gradients of the model's tensors on to weights and scores, for their steps."""
        for number, (parameter, weight, mask) in enumerate(
            zip(self._live, self.weights, self.masks, strict=True)
        ):
            gradient = parameter.grad
            if gradient is None:  # no example reached it
                gradient = torch.zeros_like(parameter)
            if self.scores:
                self.scores[number].grad = gradient * weight
            weight.grad = gradient * mask

    @torch.no_grad()
    def prune(self, share: float) -> None:
        """Keep a share of each tensor's weights, at least one, and write them into the model."""
        for number, (parameter, weight) in enumerate(zip(self._live, self.weights, strict=True)):
            score = self.scores[number] if self.scores else weight.abs()
            n_kept = budget(share, weight.numel())
            if n_kept < weight.numel():
                self.masks[number] = largest(score.reshape(-1), n_kept).view_as(weight)
            parameter.copy_(torch.where(self.masks[number], weight, 0.0))


@torch.no_grad()
def _stored(parameter: nn.Parameter, base: Tensor, part: Part, mask: Tensor | None) -> SparseTensor:
    """Return what is stored of a tensor, and round it in the model to what that gives."""
    if part == "frozen":
        kept = torch.zeros(0, dtype=torch.int64, device=parameter.device)
    elif mask is None:
        kept = torch.arange(parameter.numel(), device=parameter.device)
    else:
        kept = mask.reshape(-1).nonzero().squeeze(-1)
    flat, old = parameter.view(-1), base.to(parameter.device).reshape(-1)[kept]
    values = flat[kept] - old
    flat[kept] = old + values
    shape = tuple(parameter.shape)
    return SparseTensor(shape, kept.cpu().numpy(), values.cpu().numpy().astype(np.float32))
