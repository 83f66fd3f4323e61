"""Mask selection: the contract of a selector, and exact global top-k."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor

from streamlab.config import Settings
from streamlab.diff.format.rule_block import read_rule, write_rule
from streamlab.diff.rules import Rule, positions
from streamlab.errors import TrainingError

if TYPE_CHECKING:
    from streamlab.diff.layout import Layout
    from streamlab.methods.api import TrainingJob


@dataclass(frozen=True)
class Selection:
    """The entries that a training may change: one tensor each per tensor of the layout.

    `positions` are flat, ascending, int64; `values` are the changes to start from, of the same
    lengths; None stands for zeros. `details` are recorded with the training. `rule` regenerates
    exactly these positions, so that a file can store it in place of them; `within` regenerates
    more, and the others are stored as zeros.
    """

    positions: Sequence[Tensor]
    values: Sequence[Tensor] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)  # JSON
    rule: Rule | None = None
    within: Rule | None = None

    @classmethod
    def by(cls, rule: Rule, layout: Layout, **details: Any) -> Self:
        """Return the entries that a rule determines. Raises DiffError where it does not fit."""
        chosen = [torch.from_numpy(part.copy()) for part in positions(rule, layout)]
        return cls(chosen, details=details, rule=rule)

    @classmethod
    def by_change(cls, changes: Sequence[Tensor], k: int, details: Mapping[str, Any]) -> Self:
        """Return the k largest of flat changes, one per tensor, as values to start from.

        Raises TrainingError as `top_k` does.
        """
        chosen = top_k([change.abs() for change in changes], k)
        values = [change[p] for change, p in zip(changes, chosen, strict=True)]
        return cls(chosen, values, details)

    def state_dict(self, layout: Layout) -> dict[str, Any]:
        """Return the selection as plain containers and tensors."""
        return {
            "positions": list(self.positions),
            "values": None if self.values is None else list(self.values),
            "details": dict(self.details),
            "rule": _rule_state(self.rule, layout),
            "within": _rule_state(self.within, layout),
        }

    @classmethod
    def of_state(cls, state: Mapping[str, Any], layout: Layout) -> Self:
        """Return the selection of a `state_dict`. Raises DiffFormatError for a broken rule."""
        rules = {}
        for name in ("rule", "within"):
            given = state[name]
            if given is not None:
                data = given["block"].numpy().tobytes()
                rules[name] = read_rule(data, given["n_entries"], "pcodec", layout)
        return cls(state["positions"], state["values"], state["details"], **rules)


def _rule_state(rule: Rule | None, layout: Layout) -> dict[str, Any] | None:
    if rule is None:
        return None
    block = torch.frombuffer(bytearray(write_rule(rule, "pcodec")), dtype=torch.uint8)
    return {"block": block, "n_entries": rule.n_entries(layout)}


class MaskSelector(Settings):
    """A rule that chooses which entries of the backbone a training may change."""

    leaves_zeros: ClassVar[bool] = False
    """Whether some of the k entries that are stored are zeros: those of `within` alone."""

    name: str
    """As the scenario names it."""

    def n_entries(self, layout: Layout, density: float) -> int:
        """Return how many entries to choose at a density: round(density * d), at least 1."""
        return budget(density, layout.n_gated)

    ranks: ClassVar[bool] = False
    """Whether a selection has values to start from, the least of which can be left out."""

    def most_entries(self, layout: Layout) -> int:
        """Return how many entries there are to choose from."""
        return layout.n_gated

    def prototype(self, layout: Layout, k: int) -> Rule | None:  # noqa: ARG002
        """Return a rule that takes as many bytes as that of a selection of `k` entries, or more.

        None where positions are stored, as they are by default. Raises DiffError where the rule
        cannot have so many entries.
        """
        return None

    @abstractmethod
    def select(self, job: TrainingJob, k: int) -> Selection:
        """Choose exactly `k` entries, or some of the k entries of a rule that they are `within`.

        The result may lie on any device. The model holds the base and is in training mode, with
        dropout seeded. A selector that trains does so in `job.loop`; the fixed-mask training gets
        the steps it leaves, and resets the backbone. Raises TrainingError where fewer than `k`
        entries can be chosen.
        """


class LeavesSteps(Settings):
    """Settings of a rule that trains first, and leaves a share of all steps to the fixed mask."""

    fixed_mask_share: float = Field(default=0.6, gt=0.0, lt=1.0)
    """The share of all steps that trains the fixed mask."""

    def n_before(self, job: TrainingJob) -> int:
        """Return the number of steps before the fixed mask."""
        return job.loop.n_left - max(1, round(self.fixed_mask_share * job.loop.n_steps))


def budget(target_density: float, n_gated: int) -> int:
    """Return k = round(density * d), at least 1."""
    return max(1, round(target_density * n_gated))


def nth_largest(flat: Tensor, n: int) -> float:
    """Return the n-th largest value, or the least where there are fewer."""
    return float(flat.kthvalue(max(0, flat.numel() - n) + 1).values)


def top_k(scores: Sequence[Tensor], k: int) -> list[Tensor]:
    """Return the flat, ascending positions of the k largest scores, tensor by tensor.

    Scores must not be negative; one of 0 is never selected. Ties go to the lowest index, counted
    over all tensors in order. Raises TrainingError where fewer than k scores are above 0, or one
    is NaN or infinite.
    """
    flat = torch.cat([score.reshape(-1) for score in scores])
    n_broken = flat.numel() - int(torch.isfinite(flat).sum())
    if n_broken:
        raise TrainingError(
            f"{n_broken} of {flat.numel()} entries became NaN or infinite in training and cannot "
            "be ranked. Lower `training.learning_rate`."
        )
    n_candidates = int((flat > 0).sum())
    if n_candidates < k:
        raise TrainingError(
            f"{k} of {flat.numel()} entries are to be retained, but only {n_candidates} have "
            "changed. Train for more steps, or lower `method.target_density`."
        )
    sizes = [score.numel() for score in scores]
    return [mask.nonzero().squeeze(-1) for mask in largest(flat, k).split(sizes)]


def largest(flat: Tensor, k: int) -> Tensor:
    """Return the mask of the k largest values, (n,) bool; ties go to the lowest index."""
    threshold = nth_largest(flat, k)
    above = flat > threshold
    ties = (flat == threshold).nonzero().squeeze(-1)
    above[ties[: k - int(above.sum())]] = True
    return above
