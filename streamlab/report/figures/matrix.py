"""The figure `matrix`: the score of every task after every arrival, as a heat map with numbers.

Diffs are kept apart, so a row that changes from left to right would be a fault. Only
`evaluation: full` scores every task after every arrival; what was not scored then stays blank.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib import colormaps

from streamlab.errors import RegistryError
from streamlab.registry.records import ArrivalRecord, ScoreRecord
from streamlab.registry.registry import Registry
from streamlab.registry.streams import own_stream
from streamlab.report.csv_file import write_csv
from streamlab.report.figures.sheet import SMALL, WIDTH, Sheet, plain, write_figure
from streamlab.report.scores import by_arrival

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = (
    "run", "seed", "place", "task", "after_place", "after_task",
    "metric", "split", "n_rows", "value",
)  # fmt: skip
_LEFT, _RIGHT, _BELOW, _ABOVE = 1.2, 0.1, 0.3, 0.1  # inches around the panel
_ROW = 0.22  # inches
_LETTER = 0.06  # inches, of a small name
_MOST_NUMBERS = 12  # columns that numbers fit in


@dataclass(frozen=True)
class MatrixFigure:
    """One seed's arrivals in order, and of each the scores by the place after which they were."""

    run: str
    seed: int
    method: str
    arrivals: tuple[ArrivalRecord, ...]
    scores: tuple[dict[int, ScoreRecord], ...]  # beside the arrivals


def read_matrix(registry: Registry, run: str) -> MatrixFigure:
    """Read the primary scores of a run's own stream, on dev rows where there are any.

    Raises NotInRegistryError for an unknown run, RegistryError where nothing has a score yet.
    """
    stream = own_stream(registry, run)
    found = by_arrival(registry.scores(run=stream.run.id))
    scores = tuple(_by_place(found.get(arrival.id, ())) for arrival in stream.arrivals)
    if not any(scores):
        raise RegistryError(
            f"In the run `{stream.run.name}` no finished arrival has a score, so there is nothing "
            "to show. Name another run with `--run`."
        )
    return MatrixFigure(stream.run.name, stream.seed, stream.method, stream.arrivals, scores)


def _by_place(scores: tuple[ScoreRecord, ...]) -> dict[int, ScoreRecord]:
    """Sort the primary scores of one arrival by place; of two splits the dev rows count."""
    primary = [score for score in scores if score.is_primary]
    ordered = sorted(primary, key=lambda s: (s.after_sequence, s.split == "dev"))
    return {score.after_sequence: score for score in ordered}


def write_matrix(data: MatrixFigure, folder: Path) -> tuple[Path, ...]:
    """Write matrix.png, matrix.svg and matrix.csv. Raises StoreError where the disk refuses."""
    pictures = write_figure(folder, "matrix", lambda: draw(data))
    names = {arrival.sequence: arrival.task for arrival in data.arrivals}
    rows = [
        (
            *(data.run, data.seed, arrival.sequence, arrival.task, place, names.get(place)),
            *(score.metric, score.split, score.n_rows, score.value),
        )
        for arrival, scores in zip(data.arrivals, data.scores, strict=True)
        for place, score in scores.items()
    ]
    write_csv(folder / "matrix.csv", _COLUMNS, rows)
    return (*pictures, folder / "matrix.csv")


def draw(data: MatrixFigure) -> Figure:
    """Draw a row a task and a column an arrival; call it in `house_style`."""
    n_tasks = len(data.arrivals)
    height = max(n_tasks, 2) * _ROW
    names = [plain(arrival.task, 14) for arrival in data.arrivals]
    below = _BELOW + _LETTER * max(map(len, names))
    sheet = Sheet(height + below + _ABOVE, [_caption(data)])
    # No cell is wider than four are high, so that one task is no banner.
    width = min(WIDTH - _LEFT - _RIGHT, 4 * _ROW * n_tasks)
    axes = sheet.panel(_LEFT, below, width, height)
    columns = {arrival.sequence: place for place, arrival in enumerate(data.arrivals)}
    values = [score.value for scores in data.scores for score in scores.values()]
    low = min(0.0, *values)
    for row, scores in enumerate(data.scores):
        for place, score in scores.items():
            if place in columns:
                share = (score.value - low) / (max(1.0, *values) - low)
                _cell(axes, row, columns[place], score.value, share, n_tasks)
    metrics = [next((s.metric for s in scores.values()), "none") for scores in data.scores]
    axes.set_yticks(range(n_tasks), [f"{n} ({m})" for n, m in zip(names, metrics, strict=True)])
    axes.set_xticks(range(n_tasks), names, rotation=90, fontsize=SMALL - 1)
    axes.set_xlim(-0.5, n_tasks - 0.5)
    axes.set_ylim(n_tasks - 0.5, -0.5)
    axes.tick_params(length=0)
    # Below the longest of the names, which stand upright.
    sheet.figure.text(
        1 - _RIGHT / WIDTH, sheet.share(0.04), "score of the task (row) after the arrival (column)",
        fontsize=SMALL, va="bottom", ha="right",
    )  # fmt: skip
    return sheet.figure


def _cell(axes: Axes, row: int, column: int, value: float, share: float, n_tasks: int) -> None:
    colour = colormaps["cividis"](share)
    axes.bar(column, 1.0, width=1.0, bottom=row - 0.5, color=colour, edgecolor="white", lw=0.5)
    if n_tasks <= _MOST_NUMBERS:
        axes.text(
            column, row, f"{value:.2f}", ha="center", va="center",
            fontsize=SMALL if n_tasks < 7 else SMALL - 1.5,
            color="white" if share < 0.55 else "black",
        )  # fmt: skip


def _caption(data: MatrixFigure) -> str:
    found = [score for scores in data.scores for score in scores.values()]
    splits = ", ".join(sorted({score.split for score in found}))
    generated = " (some or all generated)" if any(score.generated for score in found) else ""
    n_pairs = len(data.arrivals) * (len(data.arrivals) + 1) // 2
    note = " Blank right of a row's first: not scored then." if len(found) < n_pairs else ""
    return (
        f"Run {data.run}, seed {data.seed}, {data.method}: measured on {splits} rows{generated}; "
        f"scores from 0 (dark) to 1 (light).{note}"
    )
