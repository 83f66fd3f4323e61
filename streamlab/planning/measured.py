"""The measurements of a run that planning is based on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from streamlab.errors import UsageError
from streamlab.planning.storage_model import BLOCK_BYTES, RegistryBytes, StorageModel
from streamlab.registry.records import BaseRecord, NewDiff, PrimaryStream
from streamlab.registry.registry import Registry


@dataclass(frozen=True)
class BaselineFiles:
    """The bytes of every file of one baseline, in order of arrival; at least one."""

    method: str
    sizes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The primary stream of a run: its first seed and primary method."""

    run: str
    seed: int
    method: str
    base: BaseRecord
    tasks: tuple[NewDiff, ...]  # in order of arrival, at least one
    names: tuple[str, ...]  # of the tasks
    training_seconds: tuple[float, ...]
    adapters: BaselineFiles | None  # of the baseline that stored the smallest
    registry: RegistryBytes | None
    differences: BaselineFiles | None = None  # whole models as exact differences, likewise

    def first(self, n_tasks: int) -> Measured:
        """Return the measurements of the first `n_tasks` tasks. Raises UsageError for too many."""
        if not 1 <= n_tasks <= len(self.tasks):
            raise UsageError(
                f"The run `{self.run}` has {len(self.tasks)} finished tasks by `{self.method}`, "
                f"not {n_tasks}. Give `--first` a number from 1 to {len(self.tasks)}."
            )
        return replace(
            self,
            tasks=self.tasks[:n_tasks],
            names=self.names[:n_tasks],
            training_seconds=self.training_seconds[:n_tasks],
        )

    def model(self, *, block_bytes: int = BLOCK_BYTES) -> StorageModel:
        """Return the storage model of the measured tasks."""
        return StorageModel(
            base=self.base.file_bytes,
            tasks=self.tasks,
            registry=self.registry,
            block_bytes=block_bytes,
        )


def measure(
    registry: Registry, run: str, *, file_bytes: int | None = None, empty_bytes: int = 0
) -> Measured:
    """Read the measurements of a run's primary stream.

    `file_bytes`: of the registry's file, None if it is not a file; `empty_bytes`: of an empty
    registry. Raises NotInRegistryError for an unknown run, RegistryError if nothing has finished.
    """
    stream = registry.primary_stream(run)
    size = None
    if file_bytes is not None:
        n_rows = sum(t.n_arrivals + t.n_failures + t.n_quarantined for t in registry.totals.tasks())
        size = RegistryBytes(file_bytes, empty_bytes, n_rows)
    adapters, differences = _baselines(registry, stream)
    return Measured(
        run=stream.run.name,
        seed=stream.seed,
        method=stream.method,
        base=stream.base,
        tasks=tuple(diff for _, diff in stream.files),
        names=tuple(arrival.task for arrival in stream.arrivals),
        training_seconds=tuple(arrival.training_seconds for arrival in stream.arrivals),
        adapters=adapters,
        differences=differences,
        registry=size,
    )


def _baselines(
    registry: Registry, stream: PrimaryStream
) -> tuple[BaselineFiles | None, BaselineFiles | None]:
    """Return the smallest adapters of a baseline of the same seed, and exact differences."""
    found = registry.arrivals.list(run=stream.run.id, status="finished", seed=stream.seed)
    own = sorted(found, key=lambda arrival: (arrival.sequence, arrival.id))
    digests = [arrival.digest for arrival in own if arrival.digest]
    diffs = {diff.digest: diff for diff in registry.artifacts.with_digests(digests)}
    adapters: dict[str, list[int]] = {}
    differences: dict[str, list[int]] = {}
    for arrival in own:
        diff = diffs.get(arrival.digest or "")
        if diff is None or arrival.method == stream.method:
            continue
        if diff.kind == "adapter":
            adapters.setdefault(arrival.method, []).append(diff.file_bytes)
        elif diff.kind == "checkpoint" and diff.file_bytes < diff.full_checkpoint_bytes:
            differences.setdefault(arrival.method, []).append(diff.file_bytes)
    return _smallest(adapters), _smallest(differences)


def _smallest(sizes: Mapping[str, Sequence[int]]) -> BaselineFiles | None:
    files = (BaselineFiles(method, tuple(found)) for method, found in sizes.items())
    return min(files, key=lambda one: (fmean(one.sizes), one.method), default=None)
