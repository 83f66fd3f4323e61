"""The figure `overlap`: positions that two tasks' diffs have in common, compared with chance.

    Jaccard = shared / union          chance = p q / (p + q - p q)

Chance is the Jaccard index of two uniform random masks of the two densities p and q. A cell shows
the Jaccard index in percent; the CSV has chance beside it. Of very many tasks some are compared,
evenly spaced along the stream, since the number of pairs grows with the square of the tasks.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamlab.diff.format.container import decode
from streamlab.errors import RegistryError
from streamlab.figures.heatmap import MOST_NUMBERS, evenly, heat_map
from streamlab.figures.style import plain, write_figure
from streamlab.registry.records import DiffRecord
from streamlab.views.run_source import RunSource

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = (
    "run", "seed", "task", "other_task", "digest", "other_digest",
    "density", "other_density", "jaccard", "chance", "over_chance",
)  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """Two diffs by their index; `chance` is the Jaccard index of two uniform random masks."""

    first: int
    second: int
    jaccard: float
    chance: float


@dataclass(frozen=True)
class OverlapFigure:
    """One seed's diffs that are in the store, all or some, and all pairs of these."""

    run: str
    seed: int
    method: str
    tasks: tuple[str, ...]
    diffs: tuple[DiffRecord, ...]  # beside the tasks
    pairs: tuple[Pair, ...]
    n_missing: int
    n_all: int  # diffs in the store, of which `diffs` is all or a selection


def chance(one: float, two: float) -> float:
    """Return the Jaccard index of uniform random masks with densities `one` and `two`.

    >>> chance(1.0, 0.25)
    0.25
    """
    return one * two / (one + two - one * two)


def read(source: RunSource) -> OverlapFigure:
    """Compare all pairs of the stored diffs of a run's own stream.

    Raises NotInRegistryError for an unknown run, RegistryError for fewer than two diffs,
    StoreError and DiffError for a file that is damaged.
    """
    stream, store = source.registry.primary_stream(source.run), source.store
    there = [
        (arrival.task, diff)
        for arrival in stream.arrivals
        if (diff := stream.diffs[arrival.digest or ""]).kind == "diff"
        and diff.n_entries
        and diff.digest in store
    ]
    if len(there) < 2:
        raise RegistryError(
            f"Of the run `{stream.run.name}` the store has {len(there)} of the "
            f"{len(stream.arrivals)} files. An overlap needs two diffs that change "
            "something, so there is nothing to show. Name another run with `--run`, or another "
            "home with `--home`."
        )
    n_missing = len(stream.arrivals) - len(there)
    n_all, there = len(there), [there[place] for place in evenly(len(there))]
    layout = stream.base.as_layout()
    vectors = [decode(store.get(diff.digest), layout) for _, diff in there]
    pairs = tuple(
        Pair(one, two, vectors[one].overlap(vectors[two]),
             chance(there[one][1].density, there[two][1].density))
        for one, two in itertools.combinations(range(len(there)), 2)
    )  # fmt: skip
    return OverlapFigure(
        stream.run.name, stream.seed, stream.method, tuple(task for task, _ in there),
        tuple(diff for _, diff in there), pairs, n_missing, n_all,
    )  # fmt: skip


def write(data: OverlapFigure, folder: Path) -> tuple[Path, ...]:
    """Write overlap.png, overlap.svg and overlap.csv. Raises StoreError where the disk refuses."""
    rows = []
    for pair in data.pairs:
        one, two = data.diffs[pair.first], data.diffs[pair.second]
        over = pair.jaccard / pair.chance if pair.chance else None
        rows.append(
            (
                *(data.run, data.seed, data.tasks[pair.first], data.tasks[pair.second]),
                *(one.digest, two.digest, one.density, two.density),
                *(pair.jaccard, pair.chance, over),
            )
        )
    return write_figure(folder, "overlap", lambda: draw(data), _COLUMNS, rows)


def draw(data: OverlapFigure) -> Figure:
    """Draw a cell a pair, below the diagonal; call it in `house_style`."""
    names = [plain(task, 14) for task in data.tasks]
    cells = {(pair.second - 1, pair.first): 100 * pair.jaccard for pair in data.pairs}
    return heat_map(
        names[1:],
        names[:-1],
        cells,
        (0.0, max([*cells.values(), 1e-9])),
        write=lambda value: f"{value:.1f}" if value < 99.95 else "100",
        title="positions in common (Jaccard, %)",
        caption=[_caption(data)],
    )


def _caption(data: OverlapFigure) -> str:
    chances = sorted(100 * pair.chance for pair in data.pairs)
    low, high = (f"{value:.2g}%" for value in (chances[0], chances[-1]))
    by_chance = low if low == high else f"{low} to {high}"
    note = f" {data.n_missing} files are not in the store." if data.n_missing else ""
    if len(data.tasks) > MOST_NUMBERS:
        note += f" Dark: 0%, light: {100 * max(pair.jaccard for pair in data.pairs):.2g}%."
    if len(data.tasks) < data.n_all:
        note += f" {len(data.tasks)} of {data.n_all:,} tasks, evenly spaced."
    return (
        f"Run {data.run}, seed {data.seed}, {data.method}: measured on the stored files. Uniform "
        f"random masks of the same densities have {by_chance} in common.{note}"
    )
