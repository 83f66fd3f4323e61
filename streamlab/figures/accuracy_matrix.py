"""The figure `matrix`: the score of every task after every arrival, as a heat map with numbers.

Diffs are stored apart, so a score that changes from left to right is a defect. Only
`evaluation: full` scores every task after every arrival; other cells stay blank. Of very many tasks
the figure shows some, evenly spaced along the stream; the CSV has all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamlab.errors import RegistryError
from streamlab.figures.heatmap import MOST_NUMBERS, evenly, heat_map
from streamlab.figures.style import plain, write_figure
from streamlab.registry.records import ArrivalRecord, ScoreRecord
from streamlab.views.run_source import RunSource

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = (
    "run", "seed", "place", "task", "after_place", "after_task",
    "metric", "split", "n_examples", "value",
)  # fmt: skip


@dataclass(frozen=True)
class MatrixFigure:
    """One seed's arrivals in order, and the scores of each by the arrival they were taken after."""

    run: str
    seed: int
    method: str
    arrivals: tuple[ArrivalRecord, ...]
    scores: tuple[dict[int, ScoreRecord], ...]  # beside the arrivals
    tasks: dict[int, str]  # by sequence number, of failed and quarantined arrivals too


def read(source: RunSource) -> MatrixFigure:
    """Read the primary scores of a run's own stream, on dev examples where there are any.

    Raises NotInRegistryError for an unknown run, RegistryError where nothing has a score yet.
    """
    registry = source.registry
    stream = registry.primary_stream(source.run)
    found: dict[int, list[ScoreRecord]] = defaultdict(list)
    for score in registry.scores.list(run=stream.run.id):
        found[score.arrival_id].append(score)
    scores = tuple(_by_place(found[arrival.id]) for arrival in stream.arrivals)
    if not any(scores):
        raise RegistryError(
            f"In the run `{stream.run.name}` no finished arrival has a score, so there is nothing "
            "to show. Name another run with `--run`."
        )
    arrived = registry.arrivals.list(run=stream.run.id, method=stream.method, seed=stream.seed)
    tasks = {arrival.sequence: arrival.task for arrival in arrived}
    return MatrixFigure(stream.run.name, stream.seed, stream.method, stream.arrivals, scores, tasks)


def _by_place(scores: list[ScoreRecord]) -> dict[int, ScoreRecord]:
    """Sort the primary scores of one arrival by place; of two splits dev counts."""
    primary = [score for score in scores if score.is_primary]
    ordered = sorted(primary, key=lambda s: (s.after_sequence, s.split == "dev"))
    return {score.after_sequence: score for score in ordered}


def write(data: MatrixFigure, folder: Path) -> tuple[Path, ...]:
    """Write matrix.png, matrix.svg and matrix.csv. Raises StoreError where the disk refuses."""
    rows = [
        (
            *(data.run, data.seed, arrival.sequence, arrival.task, place, data.tasks.get(place)),
            *(score.metric, score.split, score.n_examples, score.value),
        )
        for arrival, scores in zip(data.arrivals, data.scores, strict=True)
        for place, score in scores.items()
    ]
    return write_figure(folder, "matrix", lambda: draw(data), _COLUMNS, rows)


def draw(data: MatrixFigure) -> Figure:
    """Draw a row a task and a column an arrival; call it in `house_style`."""
    shown = evenly(len(data.arrivals))
    arrivals = [data.arrivals[place] for place in shown]
    by_row = [data.scores[place] for place in shown]
    names = [plain(arrival.task, 14) for arrival in arrivals]
    metrics = [next((s.metric for s in scores.values()), "none") for scores in by_row]
    # Other tasks were scored after failed and quarantined arrivals too.
    kept = {arrival.sequence for arrival in data.arrivals}
    beside = {place for scores in data.scores for place in scores} - kept
    after = sorted({arrival.sequence for arrival in arrivals} | _some(beside))
    columns = {place: number for number, place in enumerate(after)}
    cells = {
        (row, columns[place]): score.value
        for row, scores in enumerate(by_row)
        for place, score in scores.items()
        if place in columns
    }
    rows = [f"{name} ({metric})" for name, metric in zip(names, metrics, strict=True)]
    return heat_map(
        rows if len(rows) <= MOST_NUMBERS else names,
        [plain(data.tasks.get(place, "?"), 14) for place in after],
        cells,
        (min([0.0, *cells.values()]), max([1.0, *cells.values()])),
        write=lambda value: f"{value:.2f}",
        title="score of the task (row) after the arrival (column)",
        caption=[_caption(data, blank=len(cells) < _below_diagonal(arrivals, after))],
    )


def _some(places: set[int]) -> set[int]:
    """Return some of very many places, the last one in any case."""
    ordered = sorted(places)
    return {ordered[number] for number in evenly(len(ordered), MOST_NUMBERS)}


def _below_diagonal(arrivals: Sequence[ArrivalRecord], after: Sequence[int]) -> int:
    """Count the cells from each row's own place on."""
    return sum(place >= arrival.sequence for arrival in arrivals for place in after)


def _caption(data: MatrixFigure, *, blank: bool) -> str:
    found = [score for scores in data.scores for score in scores.values()]
    splits = ", ".join(sorted({score.split for score in found}))
    synthetic = " (some or all synthetic)" if any(score.synthetic for score in found) else ""
    note = " Blank right of the diagonal: not scored." if blank else ""
    low = f"{min([0.0, *(score.value for score in found)]):.2g}"
    n_all, n_shown = len(data.arrivals), len(evenly(len(data.arrivals)))
    some = (
        f" {n_shown} of {n_all:,} tasks, evenly spaced along the stream." if n_shown < n_all else ""
    )
    return (
        f"Run {data.run}, seed {data.seed}, {data.method}: measured on {splits} examples"
        f"{synthetic}; scores from {low} (dark) to 1 (light).{note}{some}"
    )
