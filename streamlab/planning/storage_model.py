"""The storage model: bytes of N tasks on disk by part, from n measured tasks.

    part(N)     = bytes of the first N tasks                          N <= n
                = bytes of the n tasks + (N - n) times their mean     N > n, rounded down
    base        = one base checkpoint
    positions, values, metadata, heads: the parts of the files
    registry(N) = empty + (file - empty) N / all arrivals in it
    rounding    = padding of every file's last block, 4096 bytes per block by default
    shared      = minus the files that are byte-equal to an earlier one
    copies      = (R - 1) times all of that, for R copies of everything

For N = n and a registry of this stream alone the parts add up to the bytes on disk, without the
folders of the store.

The prediction interval of m future tasks assumes independent normal sizes with the mean a and
standard deviation s of the n measured ones:

    sum = a m  +-  t(n - 1, 0.975) s sqrt(m + m^2 / n)        s^2 = s_files^2 + (b^2 - 1) / 12

m accounts for the variation of the tasks, m^2 / n for the uncertainty of the mean. The end of a
file is uniform in its last block of b bytes, which adds to s.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any, Literal

from streamlab.registry.records import NewDiff

BLOCK_BYTES = 4096
CONFIDENCE = 0.95
Basis = Literal["measured", "extrapolated", "what if"]


@dataclass(frozen=True)
class RegistryBytes:
    """The bytes of a registry's file with `n_arrivals`, and of an empty one."""

    file: int
    empty: int
    n_arrivals: int

    def at(self, n_tasks: int) -> int:
        """Return the bytes with `n_tasks` arrivals."""
        return self.empty + max(self.file - self.empty, 0) * n_tasks // max(self.n_arrivals, 1)


def in_blocks(n_bytes: int, block_bytes: int) -> int:
    """Round up to whole blocks.

    >>> in_blocks(4097, 4096)
    8192
    """
    return -(-n_bytes // block_bytes) * block_bytes


def resized(task: NewDiff, **changes: Any) -> NewDiff:
    """Return a task with other parts of its file, and their sum as its size."""
    new = replace(task, **changes)
    parts = new.positions_bytes + new.values_bytes + new.head_bytes + new.metadata_bytes
    return replace(new, file_bytes=parts)


@dataclass(frozen=True)
class Interval:
    """A 95% prediction interval of a size in bytes."""

    low: int
    high: int

    def __contains__(self, value: int) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Spread:
    """The spread of at least two measured sizes."""

    n_measured: int
    deviation: float  # bytes
    quantile: float  # of Student's t

    def half_width(self, n_future: int) -> float:
        """Return half the width of the prediction interval of `n_future` more, in bytes."""
        return self.quantile * self.deviation * math.sqrt(n_future + n_future**2 / self.n_measured)


def find_spread(sizes: Sequence[int], block_bytes: int = 1) -> Spread | None:
    """Return the spread of file sizes in whole blocks; None for fewer than two."""
    if len(sizes) < 2:
        return None
    from scipy.special import stdtrit  # deferred: takes half a second

    quantile = float(stdtrit(len(sizes) - 1, (1 + CONFIDENCE) / 2))
    deviation = math.hypot(statistics.stdev(sizes), math.sqrt((block_bytes**2 - 1) / 12))
    return Spread(len(sizes), deviation, quantile)


@dataclass(frozen=True, kw_only=True)
class Storage:
    """The bytes of one base and `n_tasks` tasks; `registry` is None if it is not a file."""

    n_tasks: int
    basis: Basis
    base: int
    positions: int
    values: int
    metadata: int
    heads: int
    registry: int | None
    rounding: int
    shared: int  # not above 0
    n_copies: int

    @property
    def files(self) -> int:
        """Return the bytes of the base and one file per task, as `plot storage` shows."""
        return self.base + self.positions + self.values + self.metadata + self.heads

    @property
    def once(self) -> int:
        """Return the bytes of one copy."""
        return self.files + (self.registry or 0) + self.rounding + self.shared

    @property
    def total(self) -> int:
        """Return the bytes on disk."""
        return self.n_copies * self.once

    def parts(self) -> dict[str, int]:
        """Return every part by name; they add up to `total`."""
        parts = {
            "base": self.base,
            "positions": self.positions,
            "values": self.values,
            "metadata": self.metadata,
            "heads": self.heads,
            "registry": self.registry,
            "rounding": self.rounding,
            "shared": self.shared or None,
            "copies": None if self.n_copies == 1 else self.total - self.once,
        }
        return {name: size for name, size in parts.items() if size is not None}


@dataclass(frozen=True, kw_only=True)
class StorageModel:
    """A base and at least one task in order of arrival; `supposed`: they are hypothetical."""

    base: int
    tasks: tuple[NewDiff, ...]
    registry: RegistryBytes | None = None
    block_bytes: int = BLOCK_BYTES
    n_copies: int = 1
    supposed: bool = False

    def at(self, n_tasks: int) -> Storage:
        """Return the bytes of `n_tasks` tasks."""
        positions, values, metadata, heads, rounding = (grown(sums, n_tasks) for sums in self._sums)
        registry = None if self.registry is None else self.registry.at(n_tasks)
        rounding += sum(
            in_blocks(size, self.block_bytes) - size for size in (self.base, registry or 0)
        )
        return Storage(
            n_tasks=n_tasks,
            basis=self.basis(n_tasks),
            base=self.base,
            positions=positions,
            values=values,
            metadata=metadata,
            heads=heads,
            registry=registry,
            rounding=rounding,
            shared=-self._shared[min(n_tasks, len(self.tasks))],
            n_copies=self.n_copies,
        )

    def basis(self, n_tasks: int) -> Basis:
        """Return how the bytes of `n_tasks` tasks are determined."""
        if self.supposed:
            return "what if"
        return "measured" if n_tasks <= len(self.tasks) else "extrapolated"

    def interval(self, n_tasks: int) -> Interval | None:
        """Return the 95% prediction interval of the total: one point where it was measured.

        None from a single measured task.
        """
        total = self.at(n_tasks).total
        n_known = 0 if self.supposed else min(n_tasks, len(self.tasks))
        if n_tasks == n_known:
            return Interval(total, total)
        if self._spread is None:
            return None
        half = self.n_copies * self._spread.half_width(n_tasks - n_known)
        # No future task takes less than 0 bytes.
        least = self.at(n_known).total
        return Interval(max(total - round(half), least), total + round(half))

    @cached_property
    def _spread(self) -> Spread | None:
        return find_spread([task.file_bytes for task in self.tasks], self.block_bytes)

    @cached_property
    def _sums(self) -> tuple[tuple[int, ...], ...]:
        """Return the bytes of 0, 1, ..., n tasks by part of the files, and of their rounding."""
        return (
            running([task.positions_bytes for task in self.tasks]),
            running([task.values_bytes for task in self.tasks]),
            running([task.metadata_bytes for task in self.tasks]),
            running([task.head_bytes for task in self.tasks]),
            running([self._on_disk(task) - task.file_bytes for task in self.tasks]),
        )

    @cached_property
    def _shared(self) -> tuple[int, ...]:
        """Return the bytes of 0, 1, ..., n tasks whose file is that of an earlier one."""
        first = {task.digest: place for place, task in reversed(list(enumerate(self.tasks)))}
        return running(
            [
                0 if first[task.digest] == place else self._on_disk(task)
                for place, task in enumerate(self.tasks)
            ]
        )

    def _on_disk(self, task: NewDiff) -> int:
        return in_blocks(task.file_bytes, self.block_bytes)


def running(sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the sums of the first 0, 1, ..., n sizes."""
    return tuple(accumulate(sizes, initial=0))


def grown(sums: Sequence[int], n_tasks: int) -> int:
    """Return the sum of the first `n_tasks` sizes, beyond the last with their mean.

    `sums`: from `running`.

    >>> grown(running([3, 5]), 1), grown(running([3, 5]), 4)
    (3, 16)
    """
    n_measured = len(sums) - 1
    if n_tasks <= n_measured:
        return sums[n_tasks]
    return sums[-1] * n_tasks // n_measured
