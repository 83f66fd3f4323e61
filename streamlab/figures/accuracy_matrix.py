"""The figure `matrix`: the score of every task after every arrival, as a heat map with numbers.

Diffs are stored apart, so a score that changes from left to right is a defect. Only
`evaluation: full` scores every task after every arrival; other cells stay blank. Of very many tasks
the figure shows some, evenly spaced along the stream; the CSV has all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from streamlab.errors import RegistryError
from streamlab.figures.heatmap import MOST_NUMBERS, evenly, heat_map
from streamlab.figures.style import StreamFigure, plain
from streamlab.registry.records import ScoreRecord
from streamlab.views.run_source import RunSource
from streamlab.views.table import Cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class MatrixFigure(StreamFigure):
    """One seed's stream, and the scores of each arrival by the arrival they were taken after."""

    name = "matrix"
    columns = (
        "run", "seed", "place", "task", "after_place", "after_task",
        "metric", "split", "n_examples", "value",
    )  # fmt: skip

    scores: tuple[dict[int, ScoreRecord], ...]  # beside the arrivals
    tasks: dict[int, str]  # by sequence number, of failed and quarantined arrivals too

    @classmethod
    def read(cls, source: RunSource) -> Self:
        """Read the primary scores of a run's own stream, on dev examples where there are any.

        Raises NotInRegistryError for an unknown run, RegistryError where nothing has a score yet.
        """
        stream, registry = source.stream, source.registry
        found: dict[int, dict[int, ScoreRecord]] = defaultdict(dict)
        # Of two splits at one place the last one counts, which is dev.
        listed = registry.scores.list(run=stream.run.id)
        for score in sorted(listed, key=lambda s: (s.after_sequence, s.split == "dev")):
            if score.is_primary:
                found[score.arrival_id][score.after_sequence] = score
        scores = tuple(found[arrival.id] for arrival in stream.arrivals)
        if not any(scores):
            raise RegistryError(
                f"In the run `{stream.run.name}` no finished arrival has a score, so there is "
                "nothing to show. Name another run with `--run`."
            )
        arrived = registry.arrivals.list(run=stream.run.id, method=stream.method, seed=stream.seed)
        return cls(
            stream, scores, {arrival.sequence: arrival.versioned_task for arrival in arrived}
        )

    def rows(self) -> Iterator[Sequence[Cell]]:
        """Yield a row a score."""
        for arrival, scores in zip(self.stream.arrivals, self.scores, strict=True):
            for place, score in scores.items():
                where = (arrival.sequence, arrival.task, place, self.tasks.get(place))
                yield (
                    *(*self.who, *where),
                    *(score.metric, score.split, score.n_examples, score.value),
                )

    def draw(self) -> Figure:
        """Draw a row a task and a column an arrival."""
        shown = evenly(len(self.scores))
        arrivals = [self.stream.arrivals[place] for place in shown]
        by_row = [self.scores[place] for place in shown]
        names = [plain(arrival.versioned_task, 14) for arrival in arrivals]
        metrics = [next((s.metric for s in scores.values()), "none") for scores in by_row]
        # Other tasks were scored after failed and quarantined arrivals too.
        kept = {arrival.sequence for arrival in self.stream.arrivals}
        beside = sorted({place for scores in self.scores for place in scores} - kept)
        some = {beside[number] for number in evenly(len(beside), MOST_NUMBERS)}
        after = sorted({arrival.sequence for arrival in arrivals} | some)
        columns = {place: number for number, place in enumerate(after)}
        cells = {
            (row, columns[place]): score.value
            for row, scores in enumerate(by_row)
            for place, score in scores.items()
            if place in columns
        }
        n_below = sum(place >= arrival.sequence for arrival in arrivals for place in after)
        rows = [f"{name} ({plain(one, 14)})" for name, one in zip(names, metrics, strict=True)]
        return heat_map(
            rows if len(rows) <= MOST_NUMBERS else names,
            [plain(self.tasks.get(place, "?"), 14) for place in after],
            cells,
            (min([0.0, *cells.values()]), max([1.0, *cells.values()])),
            write=lambda value: f"{value:.2f}",
            title="score of the task (row) after the arrival (column)",
            caption=self._caption(len(shown), blank=len(cells) < n_below),
        )

    def _caption(self, n_shown: int, *, blank: bool) -> str:
        found = [score for scores in self.scores for score in scores.values()]
        splits = ", ".join(sorted({score.split for score in found}))
        synthetic = " (some or all synthetic)" if any(score.synthetic for score in found) else ""
        note = " Blank right of the diagonal: not scored." if blank else ""
        if n_shown < len(self.scores):
            note += f" {n_shown} of {len(self.scores):,} tasks, evenly spaced along the stream."
        return f"{self.head}, {self.stream.method}: measured on {splits} examples{synthetic}.{note}"
