"""The figure `overlap`: positions that two tasks' diffs have in common, compared with chance.

    Jaccard = shared / union          chance = p q / (p + q - p q)

Chance is the Jaccard index of two uniform random masks of the two densities p and q. A cell shows
the Jaccard index in percent; the CSV has chance beside it. Of very many tasks some are compared,
evenly spaced along the stream, since the number of pairs grows with the square of the tasks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from streamlab.diff.format.container import decode
from streamlab.diff.vector import chance_overlap
from streamlab.errors import RegistryError
from streamlab.figures.heatmap import evenly, heat_map
from streamlab.figures.style import StreamFigure, plain
from streamlab.registry.records import DiffRecord
from streamlab.views.run_source import RunSource
from streamlab.views.table import Cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Pair:
    """Two diffs by their index; `chance` is the Jaccard index of two uniform random masks."""

    first: int
    second: int
    jaccard: float
    chance: float


@dataclass(frozen=True)
class OverlapFigure(StreamFigure):
    """One seed's diffs that are in the store, all or some, and all pairs of these."""

    name = "overlap"
    columns = (
        "run", "seed", "task", "other_task", "digest", "other_digest",
        "density", "other_density", "jaccard", "chance", "over_chance",
    )  # fmt: skip

    tasks: tuple[str, ...]
    diffs: tuple[DiffRecord, ...]  # beside the tasks
    pairs: tuple[Pair, ...]
    n_all: int  # diffs in the store, of which `diffs` is all or a selection

    @property
    def n_missing(self) -> int:
        """Return the number of files that are not in the store."""
        return len(self.stream.arrivals) - self.n_all

    @classmethod
    def read(cls, source: RunSource) -> Self:
        """Compare all pairs of the stored diffs of a run's own stream.

        Raises NotInRegistryError for an unknown run, RegistryError for fewer than two diffs,
        StoreError and DiffError for a file that is damaged.
        """
        stream, store = source.stream, source.store
        there = [
            (arrival.versioned_task, diff)
            for arrival, diff in stream.files
            if diff.kind == "diff" and diff.n_entries and diff.digest in store
        ]
        if len(there) < 2:
            raise RegistryError(
                f"Of the run `{stream.run.name}` the store has {len(there)} of the "
                f"{len(stream.arrivals)} files. An overlap needs two diffs that change "
                "something, so there is nothing to show. Name another run with `--run`, or another "
                "home with `--home`."
            )
        tasks, diffs = zip(*(there[place] for place in evenly(len(there))), strict=True)
        layout = stream.base.as_layout()
        vectors = [decode(store.get(diff.digest), layout) for diff in diffs]
        pairs = tuple(
            Pair(one, two, vectors[one].overlap(vectors[two]),
                 chance_overlap(diffs[one].density, diffs[two].density))
            for one, two in itertools.combinations(range(len(diffs)), 2)
        )  # fmt: skip
        return cls(stream, tasks, diffs, pairs, len(there))

    def rows(self) -> Iterator[Sequence[Cell]]:
        """Yield a row a pair."""
        for pair in self.pairs:
            one, two = self.diffs[pair.first], self.diffs[pair.second]
            yield (
                *(*self.who, self.tasks[pair.first], self.tasks[pair.second]),
                *(one.digest, two.digest, one.density, two.density),
                *(pair.jaccard, pair.chance, pair.jaccard / pair.chance if pair.chance else None),
            )

    def draw(self) -> Figure:
        """Draw a cell a pair, below the diagonal."""
        names = [plain(task, 14) for task in self.tasks]
        cells = {(pair.second - 1, pair.first): 100 * pair.jaccard for pair in self.pairs}
        return heat_map(
            names[1:],
            names[:-1],
            cells,
            (0.0, max([*cells.values(), 1e-9])),
            write=lambda value: f"{value:.1f}" if value < 99.95 else "100",
            title="positions in common (Jaccard, %)",
            caption=self._caption(),
        )

    def _caption(self) -> str:
        chances = [100 * pair.chance for pair in self.pairs]
        by_chance = " to ".join(dict.fromkeys(f"{v:.2g}%" for v in (min(chances), max(chances))))
        note = f" {self.n_missing} files are not in the store." if self.n_missing else ""
        if len(self.tasks) < self.n_all:
            note += f" {len(self.tasks)} of {self.n_all:,} tasks, evenly spaced."
        return (
            f"{self.head}, {self.stream.method}: measured on the stored files. Uniform "
            f"random masks of the same densities have {by_chance} in common.{note}"
        )
