"""The baselines that need no gates: full finetuning, head only, non-adaptive pruning, BitFit."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import PositiveFloat, model_validator

from streamlab.diff.format.values import ValueType
from streamlab.diff.layout import Layout
from streamlab.diff.vector import SparseTensor
from streamlab.errors import TrainingError
from streamlab.methods.adam import adam_optimizer
from streamlab.methods.api import Artifact, Checkpoint, Method, SparseChange, TrainingJob
from streamlab.methods.fixed_mask import (
    FixedMaskMethod,
    PrunedMethod,
    RetainingMethod,
    train_fixed_mask,
)
from streamlab.methods.masks.catalogue import MaskSettings
from streamlab.methods.masks.largest_change import LargestChange
from streamlab.methods.masks.selection import MaskSelector
from streamlab.methods.masks.tensors import MatchingTensors
from streamlab.methods.rate_rule import DEFAULT_RULE
from streamlab.methods.training_loop import dense_step, head_values, training_mode


class FullFinetuning(Method):
    """Train every weight and store a whole checkpoint."""

    artifact: ClassVar[Artifact] = "checkpoint"

    name: Literal["full_finetuning"] = "full_finetuning"

    def expected_entries(self, _layout: Layout) -> None:
        """Return None: all entries."""

    def train(self, job: TrainingJob) -> Checkpoint:
        """Train backbone and head together."""
        with training_mode(job) as loop:
            trained = [*job.backbone.values(), *job.head.values()]
            loop.run_last("finetune", dense_step(job)[1], trained)
        return Checkpoint(
            backbone={name: p.detach().cpu().clone() for name, p in job.backbone.items()},
            head=head_values(job),
            summary=loop.summary(),
        )


class HeadOnly(Method):
    """Train the head on the frozen base: the least that can be stored."""

    artifact: ClassVar[Artifact] = "diff"

    name: Literal["head_only"] = "head_only"
    learning_rate: PositiveFloat = 0.1
    """Of the head. High, because the features of a frozen base hardly differ between examples."""

    def expected_entries(self, _layout: Layout) -> int:
        """Return 0."""
        return 0

    def train(self, job: TrainingJob) -> SparseChange:
        """Train the head; every weight of the backbone stays the base's.

        Raises TrainingError where there is none.
        """
        if not job.head:
            raise TrainingError(
                f"`{job.task}` has no head to train: the base's own language model head answers. "
                "Leave `head_only` out for such a task."
            )
        for parameter in job.backbone.values():
            parameter.requires_grad_(False)
        _, take_step = adam_optimizer((job.head.values(), self.learning_rate))
        with training_mode(job) as loop:
            loop.run_last("head", take_step, job.head.values())
        empty = np.zeros(0, np.int64), np.zeros(0, np.float32)
        return SparseChange(
            tensors=tuple(SparseTensor(shape, *empty) for shape in job.layout.shapes),
            head=head_values(job),
            summary=loop.summary(),
        )


class FixedMaskTraining(RetainingMethod):
    """Select a mask by a rule, and train the entries in it and the head."""

    name: Literal["fixed_mask"] = "fixed_mask"
    mask: MaskSettings
    """The rule: built in, or a plug-in. By its name alone, or with its settings. With
    `target_bytes` it may be left out: `shared`, in the matrices of layers."""
    learning_rate: PositiveFloat | Literal["auto"] = "auto"
    """Of the retained entries. `auto`: 0.01 at a density of 0.5%, elsewhere by the inverse root of
    the density."""

    @model_validator(mode="after")
    def _zeros_have_a_code(self) -> Self:
        trained = None if self.quantize is None else self.quantize.type
        if self.mask.leaves_zeros and trained in ("int2", "int4"):
            raise ValueError(
                f"the mask `{self.mask.name}` stores zeros, for which {trained!r} has no code; set "
                "`quantize.type` to `sign`, which is then stored as `ternary`"
            )
        return self

    @property
    def stored_values(self) -> ValueType | None:
        """Return `ternary` where a mask in one bit leaves zeros."""
        stored = super().stored_values
        return "ternary" if self.mask.leaves_zeros and stored is not None else stored

    @property
    def default_label(self) -> str:
        """Return the mask's name, so that records tell one rule from another."""
        return f"{self.mask.name}_mask"

    @model_validator(mode="before")
    @classmethod
    def _fill_in_mask(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("target_bytes") is not None:
            return {"mask": {"name": "shared", "tensors": "layers"}, **given}
        return given

    @property
    def selector(self) -> MaskSelector:
        """Return the mask."""
        return self.mask

    def learning_rate_at(self, density: float) -> float:
        """Return the setting, or the one that goes with the density."""
        if self.learning_rate == "auto":
            return DEFAULT_RULE.rate(density)
        return self.learning_rate


class NonAdaptive(LargestChange, PrunedMethod):
    """Finetune, retain the entries that changed most, train those (the paper's ablation)."""

    name: Literal["non_adaptive"] = "non_adaptive"


class BitFit(FixedMaskMethod):
    """Train every bias and the head (Ben Zaken et al., 2022); the biases are a fixed mask."""

    name: Literal["bitfit"] = "bitfit"
    learning_rate: PositiveFloat = 1e-3
    """Of the biases."""

    def expected_entries(self, layout: Layout) -> int:
        """Return the number of entries of all biases."""
        return _BIASES.n_candidates(layout)

    def train(self, job: TrainingJob) -> SparseChange:
        """Train the biases; raises TrainingError where the base has none."""
        k = self.expected_entries(job.layout)
        if not k:
            raise TrainingError(
                "BitFit trains biases, and the base has no tensor called `bias`. "
                "Use another method for it."
            )
        return train_fixed_mask(
            job, _BIASES, k, learning_rate=self.learning_rate, quantize=self.quantize
        )


_BIASES = MatchingTensors(tensors=r"(^|\.)bias$")
