"""Mask selection among seeded candidates: diff pruning where a position costs about a bit.

    minimise  E_z[ loss(base + z * w) ] + lambda E||z||_0     z, w in R^k, on k seeded positions

A file stores the candidates as a rule, and a value or zero for each of them.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, PositiveFloat

from streamlab.diff.layout import Layout
from streamlab.diff.rules import Rule, Seeded
from streamlab.methods.api import TrainingJob
from streamlab.methods.fixed_mask import fixed_mask_step
from streamlab.methods.gates.candidate_stage import CandidateStage
from streamlab.methods.gates.gated_stage import GateTraining
from streamlab.methods.masks.selection import LeavesSteps, Selection, budget, largest
from streamlab.methods.masks.tensors import AmongTensors
from streamlab.methods.rate_rule import DEFAULT_RULE
from streamlab.methods.training_loop import ramp
from streamlab.seeds import derived_seed


class OpenCandidates(GateTraining, LeavesSteps, AmongTensors):
    """Select among seeded candidates those that a gate each leaves open.

    k and the density count the candidates. The values of all candidates are trained, then their
    gates too; those that stay are trained on, and the others are stored as zeros.
    """

    leaves_zeros: ClassVar[bool] = True

    name: Literal["candidates"] = "candidates"
    share: float = Field(default=0.5, gt=0.0, le=1.0)
    """The share of the candidates that stay."""
    candidate_ratio: float = Field(default=1.0, ge=1.0)
    """Expected share of open gates at the end of the gated stage, relative to `share`. Of the open
    candidates, those with the largest change stay."""
    learning_rate: PositiveFloat | Literal["auto"] = "auto"
    """Of the candidates' values, before the fixed mask. `auto`: as that of a fixed mask of the
    candidates' density."""
    warmup_share: float = Field(default=0.5, ge=0.0, lt=1.0)
    """The share of the steps before the fixed mask that trains without gates, at least one step."""

    def prototype(self, layout: Layout, k: int) -> Rule:
        """Return the rule of the candidates with another seed."""
        return Seeded(0, self.candidates(layout), k)

    def select(self, job: TrainingJob, k: int) -> Selection:
        """Train k candidates, then their gates; select the open ones, round(share * k).

        Raises TrainingError where there are fewer candidates, or the gates became NaN or infinite.
        """
        self.require(job.layout, k)
        seed, loop = derived_seed("mask", job.seed), job.loop
        rule = Seeded(seed, self.candidates(job.layout), k)
        every = Selection.by(rule, job.layout)
        n_before, n_kept = self.n_before(job), budget(self.share, k)
        n_warmup = min(max(1, round(self.warmup_share * n_before)), n_before)
        schedule = ramp(n_before, job.training.warmup_share)
        rate = self.learning_rate
        if rate == "auto":
            rate = DEFAULT_RULE.rate(k / job.layout.n_gated)
        mask, head, take_step = fixed_mask_step(job, every, learning_rate=rate, in_pytorch=True)
        loop.run("candidates", schedule[:n_warmup], take_step, holds=(mask, head))
        stage = CandidateStage(
            self,
            job,
            mask,
            head,
            n_kept=n_kept,
            learning_rate=rate,
            n_steps=n_before - n_warmup,
        )
        loop.run("gated", schedule[n_warmup:], stage.take_step, holds=(stage, mask, head))
        stage.end()
        counts = [part.numel() for part in every.positions]
        chosen = largest(stage.changes().abs(), n_kept).cpu().split(counts)
        values = mask.values.cpu().split(counts)
        return Selection(
            [p[on] for p, on in zip(every.positions, chosen, strict=True)],
            [v[on] for v, on in zip(values, chosen, strict=True)],
            {
                "mask_seed": seed,
                "kept_candidates": n_kept,
                "steps_candidates": loop.taken["candidates"],
                "steps_gated": loop.taken["gated"],
                "expected_share": stage.densities.expected,
                "deterministic_share": stage.densities.deterministic,
            },
            within=rule,
        )
