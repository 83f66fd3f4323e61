"""What a task costs, and a million of them: what a run stored, beside what is computed.

    a million tasks = base + 10^6 mean file        full checkpoints need no base
    LoRA            = 2 r sum of (rows + columns) over the query and value matrices, fp16, r = 8
    diff of 0.5%    = k (H(p)/p + 4) / 8, the density of the paper (Guo et al., 2021) in int4

Computed rows are without head and container.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from streamlab.diff.entropy import even_bits_per_entry
from streamlab.diff.format.values import VALUE_BITS
from streamlab.planning.alternatives import FP16_BYTES, RANK, find_n_adapter_entries
from streamlab.registry.records import BaseRecord, MethodStorage
from streamlab.views.table import Table, columns, tabulate

PAPER_DENSITY: Final = 0.005
_MILLION: Final = 1_000_000
_COSTS = columns(
    "stored = name, one_task = task_bytes: bytes, million_tasks = million_bytes: bytes, "
    "times_smaller = ratio: ratio, basis"
)


@dataclass(frozen=True, kw_only=True)
class TaskCost:
    """Bytes of a task stored in one way."""

    name: str
    task_bytes: int
    full_bytes: int  # of a full checkpoint
    base_bytes: int  # kept once; 0 where a task needs no base
    basis: Literal["measured", "computed"]

    @property
    def million_bytes(self) -> int:
        """Return the bytes of a million tasks with their base."""
        return self.base_bytes + _MILLION * self.task_bytes

    @property
    def ratio(self) -> float:
        """Return how many times smaller a million tasks are than full checkpoints."""
        return _MILLION * self.full_bytes / self.million_bytes


def task_costs(base: BaseRecord, storage: Sequence[MethodStorage]) -> list[TaskCost]:
    """Return what a task costs by every method of a run and by computed ones, the dearest first."""
    return sorted(_costs(base, storage), key=lambda cost: (-cost.task_bytes, cost.name))


def cost_table(costs: Sequence[TaskCost]) -> Table:
    """Return the table of what tasks cost."""
    return tabulate("costs", "A task, and a million tasks on one base", _COSTS, costs)


def _costs(base: BaseRecord, storage: Sequence[MethodStorage]) -> Iterator[TaskCost]:
    stored = [method for method in storage if method.n_files]
    if not stored:
        return
    full = round(
        statistics.fmean(method.full_checkpoint_bytes / method.n_files for method in stored)
    )
    measured = [(method.method, method.mean_bytes or 0) for method in stored]
    for name, n_bytes in measured:
        kept = 0 if n_bytes >= full else base.file_bytes
        yield TaskCost(
            name=name, task_bytes=n_bytes, full_bytes=full, base_bytes=kept, basis="measured"
        )
    computed = [] if any(n >= full for _, n in measured) else [("full checkpoint", full, 0)]
    entries = find_n_adapter_entries(base.layout)
    if entries is not None:
        computed.append((f"LoRA, rank {RANK}, fp16", FP16_BYTES * entries, base.file_bytes))
    if not any(_is_of_paper(method) for method in stored):
        k = round(PAPER_DENSITY * sum(math.prod(shape) for _, shape in base.layout))
        bits = k * (even_bits_per_entry(PAPER_DENSITY) + VALUE_BITS["int4"])
        computed.append(("diff of 0.5%, int4", math.ceil(bits / 8), base.file_bytes))
    for name, n_bytes, kept in computed:
        yield TaskCost(
            name=name, task_bytes=n_bytes, full_bytes=full, base_bytes=kept, basis="computed"
        )


def _is_of_paper(method: MethodStorage) -> bool:
    return method.mean_density is not None and math.isclose(
        method.mean_density, PAPER_DENSITY, rel_tol=0.1
    )
