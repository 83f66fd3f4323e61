"""What keeping every task costs: one base and a diff a task, against one checkpoint a task.

    ours(N) = base file + sum of the first N artifacts' files
    full(N) = sum of the first N tasks' full checkpoints
    lora(N) = base file + sum of the first N adapters' files, where a baseline stored them
    coo(N)  = base file + sum of the first N diffs as plain coordinates, computed

Full finetuning keeps N checkpoints and needs no base, so full(0) = 0 while ours(0) = the base.
Every byte counted is a file's: headers, positions, values and heads. A file that two arrivals
share counts once for each, as a checkpoint does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from streamlab.errors import RegistryError
from streamlab.figures.projection import ProjectedRow, project
from streamlab.planning.alternatives import find_coordinate_files
from streamlab.planning.measured import measure
from streamlab.planning.storage_model import running
from streamlab.registry.records import ArrivalRecord, BaseRecord, DiffRecord
from streamlab.registry.registry import Registry
from streamlab.registry.streams import own_stream


@dataclass(frozen=True)
class StorageRow:
    """The storage after `n_tasks` arrivals; the last of them is `task`, None for the base alone."""

    n_tasks: int
    task: str | None
    provider: str | None
    diff_bytes: int  # the arrival's file
    head_bytes: int  # of which the head
    ours_bytes: int
    full_bytes: int

    @property
    def ratio(self) -> float:
        """Return how many times our storage full finetuning takes; 0 for the base alone."""
        return self.full_bytes / self.ours_bytes


@dataclass(frozen=True)
class StorageSeries:
    """One seed's stream of one run, with what a figure has to say about it."""

    run: str
    seed: int
    method: str
    base: BaseRecord
    densities: tuple[float, ...]  # of each artifact, in the order of arrival
    n_synthetic: int  # arrivals whose data were synthetic
    rows: tuple[StorageRow, ...]  # n_tasks = 0, 1, ..., N
    lora_bytes: tuple[int, ...] = ()  # after 0, 1, ... adapters; empty where none was stored
    coo_bytes: tuple[int, ...] = ()  # after 0, 1, ..., N tasks; empty where one is no diff
    projected: tuple[ProjectedRow, ...] = ()


def storage_rows(
    base: BaseRecord, arrivals: Iterable[ArrivalRecord], diffs: Iterable[DiffRecord]
) -> list[StorageRow]:
    """Add up bytes after 0, 1, ..., N arrivals, in the order of arrival.

    `arrivals` are those of one seed and one method; failed ones keep nothing and are left out.
    Raises RegistryError where an arrival's artifact is not among `diffs`.
    """
    known = {diff.digest: diff for diff in diffs}
    rows = [StorageRow(0, None, None, 0, 0, base.file_bytes, 0)]
    finished = [arrival for arrival in arrivals if arrival.status == "finished"]
    for arrival in sorted(finished, key=lambda a: (a.sequence, a.id)):
        diff = known.get(arrival.digest or "")
        if diff is None:
            raise RegistryError(
                f"The artifact {arrival.digest} of arrival {arrival.id} has no record. "
                "The registry is damaged; restore it from a copy."
            )
        last = rows[-1]
        rows.append(
            StorageRow(
                n_tasks=last.n_tasks + 1,
                task=arrival.task,
                provider=arrival.provider,
                diff_bytes=diff.file_bytes,
                head_bytes=diff.head_bytes,
                ours_bytes=last.ours_bytes + diff.file_bytes,
                full_bytes=last.full_bytes + diff.full_checkpoint_bytes,
            )
        )
    return rows


def storage_series(registry: Registry, run: str, *, project_to: int | None = None) -> StorageSeries:
    """Read the storage of one run: its first seed's stream, by the scenario's own method.

    `project_to`: extrapolate to that many tasks. Raises NotInRegistryError for an unknown run,
    RegistryError where nothing has finished yet, UsageError for a projection into the past.
    """
    stream = own_stream(registry, run)
    measured = measure(registry, run)
    adapters = running(measured.adapter_files) if measured.adapter_files else ()
    plain = find_coordinate_files(measured.tasks)
    coordinates = () if plain is None else running(plain)
    return StorageSeries(
        run=stream.run.name,
        seed=stream.seed,
        method=stream.method,
        base=stream.base,
        densities=tuple(
            stream.diffs[a.digest].density for a in stream.arrivals if a.digest in stream.diffs
        ),
        n_synthetic=sum(arrival.source == "synthetic" for arrival in stream.arrivals),
        rows=tuple(storage_rows(stream.base, stream.arrivals, stream.diffs.values())),
        lora_bytes=tuple(stream.base.file_bytes + size for size in adapters),
        coo_bytes=tuple(stream.base.file_bytes + size for size in coordinates),
        projected=() if project_to is None else project(measured, project_to),
    )
