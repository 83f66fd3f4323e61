"""What one seed of a run takes on disk by its own method, and how much less than checkpoints.

Each seed is a stream of its own beside one base. Counted over several seeds, the base would be
shared by trainings of the same tasks, and the ratio would grow with the number of seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamlab.registry.records import BaseRecord, RunRecord
from streamlab.registry.registry import Registry


@dataclass(frozen=True, kw_only=True)
class RunStorage:
    """Bytes of one seed's files by the own method, of the base, and of as many checkpoints."""

    method: str
    seed: int
    n_files: int
    files_bytes: int
    base_bytes: int
    full_checkpoint_bytes: int

    @property
    def total_bytes(self) -> int:
        """Return the bytes of the base and all files."""
        return self.base_bytes + self.files_bytes

    @property
    def ratio(self) -> float:
        """Return how many times smaller that is than full checkpoints; 0 without a file."""
        return self.full_checkpoint_bytes / self.total_bytes


def run_storage(registry: Registry, run: RunRecord, base: BaseRecord) -> RunStorage:
    """Return the storage of a run's first seed."""
    method, seed = run.settings.primary_method, run.settings.seeds[0]
    by_method = registry.totals.by_method(run.id, seed=seed)
    own = next((storage for storage in by_method if storage.method == method), None)
    return RunStorage(
        method=method,
        seed=seed,
        n_files=own.n_files if own else 0,
        files_bytes=own.file_bytes if own else 0,
        base_bytes=base.file_bytes,
        full_checkpoint_bytes=own.full_checkpoint_bytes if own else 0,
    )
