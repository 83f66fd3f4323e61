"""Pages of `fit` and `simulate`: what fits a budget, and what many tasks need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streamlab.arrivals.arrival_processes import Burst, Gamma
from streamlab.planning.capacity import Backtest, DensityFit, Fit
from streamlab.planning.measured import Measured
from streamlab.planning.queueing import Queue
from streamlab.planning.simulation import Simulation, Step
from streamlab.planning.storage_model import Storage, StorageModel
from streamlab.views.table import Cell, Fact, Facts, Page, Table, columns, facts_of

PARTS = columns("part, measured_bytes: bytes, planned_bytes: bytes, share: share")
STEPS = columns(
    "n_tasks: count, basis, [files_bytes: bytes], disk_bytes: bytes, low_bytes: bytes, "
    "high_bytes: bytes, full_bytes: bytes, adapter_bytes: bytes, [lora_fp32_bytes: bytes]"
)
TIMES = columns("n_tasks: count, arrived_day: ratio, done_day: ratio, years: ratio")
ASSUMED = columns(
    "density: share, value type, base parameters = base_params: count, classes = n_classes: count"
)
MEASURED = columns(
    "run, method, seed: number, base = base.model, base parameters = base.n_parameters: count"
)
FULL = columns("budget: bytes, full after tasks = n_tasks: count, full on day = day: ratio")
_YEAR = 365.25


def fit_page(
    found: Fit | DensityFit,
    measured: Measured,
    model: StorageModel,
    check: Backtest | None,
    *,
    density: float | None = None,
) -> Page:
    """Return the page of a fit; `model` is the measured one, `density` the assumed one."""
    fits = _fitting(found, density) if isinstance(found, Fit) else _density(found)
    sections: tuple[Facts | Table, ...] = (
        _basis(measured, model),
        Facts("fit", "Fits", (*fits, Fact("basis", found.storage.basis))),
        parts_table(model.at(len(measured.tasks)), found.storage),
        *([] if check is None else [_check(check)]),
    )
    return Page("fit", measured.run, {"run": measured.run, "budget": found.budget}, sections)


def simulation_page(simulated: Simulation) -> Page:
    """Return the page of a simulation: bytes beside full finetuning and adapters, and times."""
    measured, what_if, steps = simulated.measured, simulated.what_if, simulated.steps
    copies = Fact("copies", what_if.n_copies if what_if.n_copies > 1 else None, "count")
    before = measured.model(block_bytes=simulated.model.block_bytes)
    sections: list[Facts | Table] = [
        _basis(measured, simulated.model),
        Facts("what_if", "Assumed", (*facts_of(what_if, ASSUMED), copies)),
        Table("steps", "Bytes stored", STEPS, tuple(map(_step_row, steps))),
        parts_table(before.at(len(measured.tasks)), steps[-1].storage),
        _baselines(simulated),
    ]
    if simulated.full is not None:
        sections.append(Facts("budget", "Budget", facts_of(simulated.full, FULL)))
    if simulated.queue is not None:
        sections += [_queue(simulated.queue), Table("times", "Time", TIMES, tuple(_times(steps)))]
    record = {"run": measured.run, "n_tasks": steps[-1].storage.n_tasks}
    return Page("simulation", measured.run, record, tuple(sections))


def parts_table(measured: Storage, planned: Storage) -> Table:
    """Return the parts of two storages side by side; the last row is the total."""
    before, after = measured.parts(), planned.parts()
    names = [*after, *(name for name in before if name not in after)]
    rows: list[tuple[Cell, ...]] = [
        (name, before.get(name, 0), after.get(name, 0), after.get(name, 0) / planned.total)
        for name in names
    ]
    rows.append(("total", measured.total, planned.total, 1.0))
    title = f"Bytes on disk: measured for {measured.n_tasks:,}, planned for {planned.n_tasks:,}"
    return Table("parts", title, PARTS, tuple(rows))


def _basis(measured: Measured, model: StorageModel) -> Facts:
    n_tasks = len(measured.tasks)
    densities = [task.n_entries / task.n_gated for task in measured.tasks if task.n_gated]
    facts = (
        *facts_of(measured, MEASURED),
        Fact("tasks", n_tasks, "count"),
        Fact("mean density", sum(densities) / n_tasks, "share"),
        Fact("value types", ", ".join(sorted({task.value_type for task in measured.tasks}))),
        Fact("mean file", sum(task.file_bytes for task in measured.tasks) / n_tasks, "bytes"),
        Fact("bytes per block", model.block_bytes, "count"),
    )
    return Facts("measured", "Measured", facts)


def _fitting(found: Fit, density: float | None) -> tuple[Fact, ...]:
    return (
        Fact("budget", found.budget, "bytes"),
        Fact("assumed density", density, "share"),
        Fact("tasks that fit", found.n_tasks, "count"),
        Fact("at least (95%)", found.low, "count"),
        Fact("at most (95%)", found.high, "count"),
    )


def _density(found: DensityFit) -> tuple[Fact, ...]:
    interval = found.interval
    return (
        Fact("budget", found.budget, "bytes"),
        Fact("tasks", found.n_tasks, "count"),
        # Enough digits to tell one weight more or less.
        Fact("density that fits", f"{100 * found.density:.6g}%"),
        Fact("density", found.density, "share"),
        Fact("retained weights per task", found.n_entries, "count"),
        Fact("any density up to one half fits", True if found.is_most else None),
        Fact("at least (95%)", interval.low if interval else None, "bytes"),
        Fact("at most (95%)", interval.high if interval else None, "bytes"),
    )


def _check(check: Backtest) -> Facts:
    interval = check.interval
    facts = (
        Fact("predicted", check.predicted, "bytes"),
        Fact("low (95%)", interval.low if interval else None, "bytes"),
        Fact("high (95%)", interval.high if interval else None, "bytes"),
        Fact("half-width", check.half_share, "share"),
        Fact("half-width without the base", check.half_share_of_tasks, "share"),
        Fact("measured", check.measured, "bytes"),
        Fact("covered", check.is_covered),
    )
    title = f"Check: all {check.n_tasks} tasks, from the first {check.n_first}"
    return Facts("check", title, facts)


def _step_row(step: Step) -> tuple[Cell, ...]:
    storage, interval = step.storage, step.interval
    return (
        *(storage.n_tasks, storage.basis, storage.n_copies * storage.files, storage.total),
        *((interval.low, interval.high) if interval else (None, None)),
        *(step.full_bytes, step.adapter_bytes, step.lora_fp32_bytes),
    )


def _times(steps: Sequence[Step]) -> Iterator[tuple[Cell, ...]]:
    for step in steps:
        years = None if step.done_day is None else step.done_day / _YEAR
        yield (step.storage.n_tasks, step.arrived_day, step.done_day, years)


def _baselines(simulated: Simulation) -> Facts:
    last, adapters = simulated.steps[-1], simulated.adapters
    if adapters is None:
        source = "unknown: no queries and values in this base by name"
    elif adapters.measured:
        source = f"{adapters.measured.method}, measured, {len(adapters.measured.sizes)} files"
    else:
        source = "an estimate: LoRA of rank 8 on queries and values, fp16"
    over_adapters = last.adapter_bytes / last.storage.total if last.adapter_bytes else None
    facts = (
        Fact("full finetuning", "one checkpoint per task"),
        Fact("full finetuning over ours", last.full_bytes / last.storage.total, "ratio"),
        Fact("adapters", source),
        Fact("adapters over ours", over_adapters, "ratio"),
    )
    return Facts("baselines", "Baselines", facts)


def _queue(queue: Queue) -> Facts:
    # Here, because a plan without a queue does not need numpy.
    import numpy as np

    process = queue.process
    cv = process.cv if isinstance(process, Gamma) else None
    middle, late = np.quantile(queue.waited, (0.5, 0.95))
    facts = (
        Fact("arrivals", process.process),
        Fact("arrivals per day", process.rate_per_day, "ratio"),
        Fact("coefficient of variation", cv, "ratio"),
        Fact("burst size", process.size if isinstance(process, Burst) else None, "count"),
        Fact("slots", queue.n_slots, "count"),
        Fact("seed", queue.seed, "number"),
        Fact("load", queue.load, "share"),
        Fact("mean wait", float(queue.waited.mean()), "seconds"),
        Fact("median wait", float(middle), "seconds"),
        Fact("95% wait less than", float(late), "seconds"),
        Fact("longest wait", float(queue.waited.max()), "seconds"),
    )
    return Facts("queue", "Queue", facts)
