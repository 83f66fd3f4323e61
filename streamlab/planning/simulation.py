"""Simulated storage of many tasks over time, compared with full finetuning and adapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamlab.planning.alternatives import FP16_BYTES, FP32_BYTES, find_n_adapter_entries
from streamlab.planning.capacity import MOST_TASKS, fit
from streamlab.planning.measured import BaselineFiles, Measured
from streamlab.planning.queueing import DAY, Queue
from streamlab.planning.storage_model import (
    BLOCK_BYTES,
    Interval,
    Storage,
    StorageModel,
    grown,
    running,
)
from streamlab.planning.what_if import WhatIf, suppose, width_growth


@dataclass(frozen=True)
class AdapterBytes:
    """The bytes of one adapter per task: measured, and LoRA's calculated in `fp16` and `fp32`."""

    measured: BaselineFiles | None
    fp16: tuple[int, ...]
    fp32: tuple[int, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the measured bytes, otherwise those calculated in fp16."""
        return self.measured.sizes if self.measured else self.fp16


@dataclass(frozen=True)
class Step:
    """The storage of one number of tasks, and the day on which all are trained.

    The bytes of baselines are those of their files, with the base for adapters, without registry
    and rounding.
    """

    storage: Storage
    interval: Interval | None
    full_bytes: int
    adapter_bytes: int | None  # measured, else LoRA's calculated in fp16; None if unknown
    lora_fp32_bytes: int | None  # calculated
    arrived_day: float | None
    done_day: float | None


@dataclass(frozen=True)
class Full:
    """A budget is full after `n_tasks`; the next one would arrive on `day`."""

    budget: int
    n_tasks: int
    day: float | None  # None without a rate, or after the last task


@dataclass(frozen=True)
class Simulation:
    """A simulation; its last step is the requested number of tasks."""

    measured: Measured
    what_if: WhatIf
    model: StorageModel
    adapters: AdapterBytes | None
    queue: Queue | None
    steps: tuple[Step, ...]
    full: Full | None


def simulate(
    measured: Measured,
    n_tasks: int,
    what_if: WhatIf,
    *,
    block_bytes: int = BLOCK_BYTES,
    queue: Queue | None = None,
    budget: int | None = None,
) -> Simulation:
    """Calculate the storage of `n_tasks` tasks and of fewer.

    `queue`: of as many tasks. Raises UsageError for an impossible supposition, and for a budget
    that the base exceeds.
    """
    model = suppose(measured.model(block_bytes=block_bytes), measured.base, what_if)
    adapters = find_adapter_bytes(measured, model, what_if)
    steps = tuple(_step(n, model, adapters, queue) for n in ladder(n_tasks, len(model.tasks)))
    full = None if budget is None else _full(model, budget, queue)
    return Simulation(measured, what_if, model, adapters, queue, steps, full)


def ladder(n_tasks: int, n_measured: int) -> list[int]:
    """Return the numbers of tasks to report: powers of ten, the measured number and the last.

    >>> ladder(2000, 9)
    [1, 9, 10, 100, 1000, 2000]
    """
    powers = (10**power for power in range(len(str(MOST_TASKS))))
    return sorted({n for n in (*powers, n_measured) if n < n_tasks} | {n_tasks})


def find_adapter_bytes(
    measured: Measured, model: StorageModel, what_if: WhatIf
) -> AdapterBytes | None:
    """Return the adapters of every task; None if neither measured nor calculable.

    Measured files apply to the measured base only.
    """
    entries = find_n_adapter_entries(measured.base.layout)
    files = measured.adapters
    if what_if.base_params is not None or what_if.n_classes is not None:
        files = None
    if entries is None:
        return AdapterBytes(files, (), ()) if files else None
    if what_if.base_params is not None:
        # Adapters grow with the width and, equally, the depth of the base.
        wider = width_growth(what_if.base_params / measured.base.n_parameters)
        entries = round(wider**2 * entries)
    counts = [entries + task.n_head_entries for task in model.tasks]
    return AdapterBytes(
        files,
        fp16=tuple(FP16_BYTES * count for count in counts),
        fp32=tuple(FP32_BYTES * count for count in counts),
    )


def _step(
    n_tasks: int, model: StorageModel, adapters: AdapterBytes | None, queue: Queue | None
) -> Step:
    def kept(sizes: Sequence[int], base: int) -> int | None:
        return model.n_copies * (base + grown(running(sizes), n_tasks)) if sizes else None

    full = kept([task.full_checkpoint_bytes for task in model.tasks], 0)
    assert full is not None  # noqa: S101 - a model has tasks
    return Step(
        storage=model.at(n_tasks),
        interval=model.interval(n_tasks),
        full_bytes=full,
        adapter_bytes=kept(adapters.sizes, model.base) if adapters else None,
        lora_fp32_bytes=kept(adapters.fp32, model.base) if adapters else None,
        arrived_day=float(queue.arrived[n_tasks - 1]) / DAY if queue else None,
        done_day=float(queue.all_done[n_tasks - 1]) / DAY if queue else None,
    )


def _full(model: StorageModel, budget: int, queue: Queue | None) -> Full:
    n_tasks = fit(model, budget).n_tasks
    day = None
    if queue is not None and n_tasks < len(queue.arrived):
        day = float(queue.arrived[n_tasks]) / DAY
    return Full(budget, n_tasks, day)
