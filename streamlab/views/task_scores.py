"""Scores side by side: one row a task, one column a seed, mean and spread where there are several.

The spread is the sample standard deviation (n - 1). Only an arrival's own score counts, the one
measured right after it, on dev rows where there are any; a later one belongs to the matrix.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from streamlab.registry.records import ScoreRecord
from streamlab.views.table import Cell, Column, Table

_MOST_SEEDS = 3  # as columns of their own; of more, the lowest and the highest are shown


@dataclass(frozen=True)
class TaskScore:
    """What one task reached by one method, over the seeds."""

    task: str
    method: str
    metric: str
    split: str
    source: str  # "synthetic" where the rows were
    by_seed: Mapping[int, float]

    @property
    def mean(self) -> float:
        """Return the mean over seeds."""
        return statistics.fmean(self.by_seed.values())

    @property
    def spread(self) -> float | None:
        """Return the sample standard deviation over seeds; None for one seed."""
        return statistics.stdev(self.by_seed.values()) if len(self.by_seed) > 1 else None


def by_arrival(scores: Iterable[ScoreRecord]) -> dict[int, tuple[ScoreRecord, ...]]:
    """Sort scores by the number of their arrival."""
    found: dict[int, list[ScoreRecord]] = defaultdict(list)
    for score in scores:
        found[score.arrival_id].append(score)
    return {number: tuple(own) for number, own in found.items()}


def find_own_score(scores: Iterable[ScoreRecord]) -> ScoreRecord | None:
    """Return the score one arrival is judged by; None where it has no score."""
    primary = [score for score in scores if score.is_primary]
    return min(primary, key=lambda s: (s.after_sequence, s.split != "dev"), default=None)


def task_scores(scores: Iterable[ScoreRecord]) -> list[TaskScore]:
    """Bring the scores of one run together by method and task, in the order of arrival.

    Of several versions of a task the last counts.
    """
    seeds: dict[tuple[str, str], dict[int, ScoreRecord]] = defaultdict(dict)
    for own in map(find_own_score, by_arrival(scores).values()):
        if own is not None:
            seeds[own.method, own.task][own.seed] = own
    found = []
    for (method, task), by_seed in seeds.items():
        one = next(iter(by_seed.values()))
        values = {seed: score.value for seed, score in sorted(by_seed.items())}
        source = "synthetic" if one.synthetic else one.source
        found.append(TaskScore(task, method, one.metric, one.split, source, values))
    return found


def score_table(key: str, title: str, scores: Sequence[TaskScore]) -> Table:
    """Lay out tasks by seeds, with the mean and the spread where there are several seeds."""
    seeds = sorted({seed for score in scores for seed in score.by_seed})
    columns = [Column("task"), Column("metric"), Column("split"), Column("source")]
    if len(seeds) <= _MOST_SEEDS:
        columns += [Column(f"seed {seed}", "score") for seed in seeds]
    else:
        columns += [Column(name, "score") for name in ("lowest", "highest")]
    if len(seeds) > 1:
        columns += [Column("seeds", "count"), Column("mean", "score"), Column("spread", "score")]
    return Table(key, title, tuple(columns), tuple(_row(score, seeds) for score in scores))


def _row(score: TaskScore, seeds: Sequence[int]) -> tuple[Cell, ...]:
    values = score.by_seed
    middle: tuple[Cell, ...] = tuple(values.get(seed) for seed in seeds)
    if len(seeds) > _MOST_SEEDS:
        middle = (min(values.values()), max(values.values()))
    end = (len(values), score.mean, score.spread) if len(seeds) > 1 else ()
    return (score.task, score.metric, score.split, score.source, *middle, *end)


@dataclass(frozen=True)
class Paired:
    """The differences of pairs, `this - other`, in the order of their seeds."""

    differences: tuple[float, ...]

    @property
    def mean(self) -> float | None:
        """Return the mean difference; None without a pair."""
        return statistics.fmean(self.differences) if self.differences else None

    @property
    def spread(self) -> float | None:
        """Return the sample standard deviation of the differences; None below two pairs."""
        return statistics.stdev(self.differences) if len(self.differences) > 1 else None

    @property
    def n_pairs(self) -> int:
        """Return how many pairs there are."""
        return len(self.differences)


def paired(this: TaskScore, other: TaskScore) -> Paired:
    """Pair two lots of one task's scores by seed; a seed that one of them lacks is left out."""
    both = [seed for seed in sorted(this.by_seed) if seed in other.by_seed]
    return Paired(tuple(this.by_seed[seed] - other.by_seed[seed] for seed in both))


def together(lots: Iterable[Paired]) -> Paired:
    """Bring the pairs of several tasks together."""
    return Paired(tuple(difference for lot in lots for difference in lot.differences))
