"""Which share of wrong labels does the probe detect, at which tolerance?

Reads a run whose providers flip labels (scenarios/label_flip.yaml), compares the score that each
declared with the one measured by the lab, prints the share of submissions that the probe would stop
at several tolerances as a Markdown table, and writes the figure and its numbers:

    streamlab run scenarios/label_flip.yaml
    python analysis/label_flip.py streamlab-home@label_flip-1 -o figures
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamlab.errors import RegistryError, StreamlabError
from streamlab.figures.style import (
    COLOURS,
    MARKERS,
    SMALL,
    add_legend,
    fit_panels,
    new_figure,
    write_figure,
)
from streamlab.registry.records import ArrivalRecord, RunRecord, ScoreRecord
from streamlab.registry.registry import Registry
from streamlab.views.export import markdown_table
from streamlab.views.provider_behaviours import wrong_labels
from streamlab.views.run_source import open_source
from streamlab.views.task_scores import own_scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TOLERANCES = (0.05, 0.1, 0.2)  # of the probe, in the metric's own unit
_COLUMNS = (
    "run", "seed", "provider", "task", "digest", "wrong_labels", "n_validation_examples",
    "declared", "metric", "split", "source", "measured", *(f"caught_at_{t:g}" for t in TOLERANCES),
)  # fmt: skip
_PANEL = 1.2  # inches


@dataclass(frozen=True)
class Flipped:
    """One admitted submission of a provider that flipped a share of its labels."""

    share: float
    declared: float
    arrival: ArrivalRecord
    score: ScoreRecord

    def is_caught(self, tolerance: float) -> bool:
        """Return whether the probe would have stopped it; see `admission.check_probe`."""
        return self.score.value < self.declared - tolerance


@dataclass(frozen=True)
class FlipFigure:
    """A run's submissions by the share of wrong labels, ascending."""

    run: str
    points: tuple[Flipped, ...]

    @property
    def by_share(self) -> Mapping[float, Sequence[Flipped]]:
        """Return the submissions of each share."""
        groups: dict[float, list[Flipped]] = defaultdict(list)
        for point in self.points:
            groups[point.share].append(point)
        return groups


def read_flips(registry: Registry, run: RunRecord) -> FlipFigure:
    """Read declared and measured scores of a run without a probe.

    Raises RegistryError where the run has no such submission, where its tasks have different
    metrics, or where the probe was on: submissions it stopped have no score to compare with.
    """
    tolerance = run.settings.probe_tolerance
    if tolerance is not None:
        raise RegistryError(
            f"The run `{run.name}` had `admission.probe_tolerance: {tolerance:g}`, and submissions "
            "that the probe stops are not scored. Run it without, to compare all tolerances."
        )
    own = own_scores(registry.scores.list(run=run.id))
    points = []
    for arrival in registry.arrivals.list(run=run.id, status="finished"):
        share, score = wrong_labels(run, arrival), own.get(arrival.id)
        if share is None or score is None or arrival.declared_score is None:
            continue
        if arrival.method == run.settings.primary_method:
            points.append(Flipped(share, arrival.declared_score, arrival, score))
    if not points:
        raise RegistryError(
            f"No provider of the run `{run.name}` declared a score after `label_flip`. "
            "scenarios/label_flip.yaml makes such a run."
        )
    metrics = sorted({point.score.metric for point in points})
    if len(metrics) > 1:
        raise RegistryError(
            f"The tasks of the run `{run.name}` have different metrics ({', '.join(metrics)}), "
            "which cannot be averaged. Run it on tasks of one metric."
        )
    ordered = sorted(points, key=lambda p: (p.share, p.arrival.seed, p.arrival.sequence))
    return FlipFigure(run.name, tuple(ordered))


def caught(points: Sequence[Flipped], tolerance: float) -> float:
    """Return the share of submissions that the probe would stop."""
    return statistics.fmean(point.is_caught(tolerance) for point in points)


def write_flips(data: FlipFigure, folder: Path) -> tuple[Path, ...]:
    """Write label_flip.png, .svg and .csv, a row a submission. Raises StoreError."""
    rows = [
        (
            *(p.arrival.run, p.arrival.seed, p.arrival.provider, p.arrival.task, p.arrival.digest),
            *(p.share, p.arrival.details.n_validation_examples, p.declared),
            *(p.score.metric, p.score.split, p.score.source, p.score.value),
            *(p.is_caught(tolerance) for tolerance in TOLERANCES),
        )
        for p in data.points
    ]
    return write_figure(folder, "label_flip", lambda: draw(data), _COLUMNS, rows)


def draw(data: FlipFigure) -> Figure:
    """Draw declared and measured scores above, and what each tolerance stops below."""
    figure, (scores, stopped) = new_figure(_caption(data), [_PANEL, _PANEL])
    _scores(scores, data)
    shares = [100 * share for share in data.by_share]
    for tolerance, colour, marker in zip(TOLERANCES, COLOURS[2:], MARKERS[2:], strict=False):
        y = [100 * caught(points, tolerance) for points in data.by_share.values()]
        stopped.plot(shares, y, color=colour, marker=marker, markersize=3.5, linewidth=1.0,
                     label=f"tolerance {tolerance:g}", clip_on=False)  # fmt: skip
    scores.set_title(f"score ({data.points[0].score.metric})")
    stopped.set_title("stopped by the probe (% of submissions)", pad=15)
    stopped.set_ylim(0, 100)
    stopped.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 0.98), ncols=3, fontsize=SMALL - 0.5
    )  # fmt: skip
    stopped.set_xlabel("labels flipped by the provider (%)")
    for axes in (scores, stopped):
        axes.set_xticks(shares)
        axes.grid()
    add_legend(figure, 2, scores.get_legend_handles_labels()[0])
    return fit_panels(figure)


def _scores(axes: Axes, data: FlipFigure) -> None:
    """Draw every submission, and lines through the means of each share."""
    for number, label in enumerate(("declared by the provider", "measured by the lab")):
        of = [
            [p.score.value if number else p.declared for p in points]
            for points in data.by_share.values()
        ]
        x, colour, marker = [100 * s for s in data.by_share], COLOURS[number], MARKERS[number]
        axes.plot(x, [statistics.fmean(values) for values in of], color=colour, marker=marker,
                  markersize=4.0, linewidth=1.0, label=label)  # fmt: skip
        single = [(share, value) for share, values in zip(x, of, strict=True) for value in values]
        axes.plot([s for s, _ in single], [v for _, v in single], linestyle="", marker=marker,
                  color=colour, markersize=2.0, alpha=0.5)  # fmt: skip
    axes.margins(y=0.12)


def _caption(data: FlipFigure) -> str:
    seeds = {point.arrival.seed for point in data.points}
    synthetic = " (synthetic)" if any(p.score.synthetic for p in data.points) else ""
    splits = ", ".join(sorted({point.score.split for point in data.points}))
    return (
        f"Run {data.run}; {len(data.points)} submissions, {len(seeds)} seeds: small markers; "
        f"large ones are means. The provider measures its score on its own examples, with the same "
        f"share of wrong labels; the lab measures on correct {splits} examples{synthetic}."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, write the figure and its numbers, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("source", metavar="HOME[@RUN]", help="default run: the latest")
    parser.add_argument("-o", "--output", type=Path, default=Path("figures"), metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        with open_source(options.source) as source:
            data = read_flips(source.registry, source.registry.runs.get(source.run))
        files = write_flips(data, options.output)
    except StreamlabError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    print(_table(data))
    for path in files:
        print(path)
    return 0


def _table(data: FlipFigure) -> str:
    header = (
        "wrong labels",
        "n",
        "declared",
        "measured",
        *(f"caught at {t:g}" for t in TOLERANCES),
    )
    rows = (
        (
            *(f"{share:.0%}", str(len(points))),
            f"{statistics.fmean(point.declared for point in points):.3f}",
            f"{statistics.fmean(point.score.value for point in points):.3f}",
            *(f"{caught(points, tolerance):.0%}" for tolerance in TOLERANCES),
        )
        for share, points in data.by_share.items()
    )
    return markdown_table(header, rows)


if __name__ == "__main__":
    sys.exit(main())
