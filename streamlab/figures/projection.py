"""What more tasks would take, for the storage figure: files alone, as it draws them.

By the storage model of `streamlab.planning`, in blocks of one byte and without a registry, so
that it meets what is measured at the last arrival.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamlab.errors import UsageError
from streamlab.planning.alternatives import find_coordinate_files
from streamlab.planning.measured import Measured
from streamlab.planning.storage_model import StorageModel, grown, running

_MOST = 10**9
_STEPS = 24  # points on the way, evenly on a logarithmic axis


@dataclass(frozen=True)
class ProjectedRow:
    """Bytes after `n_tasks` arrivals, more than there were; no interval from one task alone."""

    n_tasks: int
    ours_bytes: int
    low_bytes: int | None
    high_bytes: int | None
    full_bytes: int
    lora_bytes: int | None
    coo_bytes: int | None  # computed


def project(measured: Measured, n_tasks: int) -> tuple[ProjectedRow, ...]:
    """Extrapolate to `n_tasks`, in steps. Raises UsageError where no more than were measured."""
    first = len(measured.tasks)
    if not first < n_tasks <= _MOST:
        raise UsageError(
            f"The run `{measured.run}` measured {first} tasks, so `--project` takes {first + 1} "
            f"to {_MOST:,}, got {n_tasks}."
        )
    model = StorageModel(base=measured.base.file_bytes, tasks=measured.tasks, block_bytes=1)
    full = running([task.full_checkpoint for task in measured.tasks])
    lora = running(measured.adapter_files) if measured.adapter_files else None
    plain = find_coordinate_files(measured.tasks)
    coo = None if plain is None else running(plain)
    ratio = n_tasks / first
    steps = {round(first * ratio ** (step / _STEPS)) for step in range(1, _STEPS)}
    places = sorted({*steps, n_tasks} - {first})
    return tuple(_row(model, full, lora, coo, place) for place in places)


def _row(
    model: StorageModel,
    full: tuple[int, ...],
    lora: tuple[int, ...] | None,
    coo: tuple[int, ...] | None,
    n_tasks: int,
) -> ProjectedRow:
    storage, interval = model.at(n_tasks), model.interval(n_tasks)
    return ProjectedRow(
        n_tasks=n_tasks,
        ours_bytes=storage.files,
        # The figure counts a shared file for each of its arrivals, the model's total once.
        low_bytes=None if interval is None else interval.low - storage.shared,
        high_bytes=None if interval is None else interval.high - storage.shared,
        full_bytes=grown(full, n_tasks),
        lora_bytes=None if lora is None else model.base + grown(lora, n_tasks),
        coo_bytes=None if coo is None else model.base + grown(coo, n_tasks),
    )
