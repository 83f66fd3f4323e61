"""Scores of tasks over seeds, and paired differences between two methods or runs.

A spread is a sample standard deviation (n - 1). An arrival's own score is the primary one measured
right after it, on dev examples where there are any. A pair is one task under one seed, trained and
scored twice on the same examples, so that its difference says more than that of two means.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from streamlab.registry.records import ScoreRecord
from streamlab.views.table import Cell, Column, Table

_MOST_SEEDS = 3  # with a column each; of more, the lowest and highest are shown


@dataclass(frozen=True)
class TaskScore:
    """The scores of one task by one method over seeds."""

    task: str
    method: str
    metric: str
    split: str
    source: str  # "synthetic" for synthetic data
    by_seed: Mapping[int, float]
    majority: float | None = None  # of the majority class, the mean over seeds; None: unknown
    n_examples: int = 1  # of the split

    @property
    def margin(self) -> float | None:
        """Return how far the mean score must be above `majority` for a task to count as learned.

        That is the standard error of `majority` as a share p of n examples, sqrt(p (1 - p) / n),
        with a p of one half where `majority` is no share between 0 and 1, as a correlation of 0.
        """
        if self.majority is None:
            return None
        share = self.majority if 0 < self.majority < 1 else 0.5
        return math.sqrt(share * (1 - share) / self.n_examples)

    @property
    def learned(self) -> bool | None:
        """Return whether the mean score is above `majority` by more than `margin`."""
        if self.majority is None or self.margin is None:
            return None
        return self.mean - self.majority > self.margin

    @property
    def mean(self) -> float:
        """Return the mean over seeds."""
        return statistics.fmean(self.by_seed.values())

    @property
    def spread(self) -> float | None:
        """Return the sample standard deviation over seeds; None for one seed."""
        return statistics.stdev(self.by_seed.values()) if len(self.by_seed) > 1 else None


def own_scores(scores: Iterable[ScoreRecord]) -> dict[int, ScoreRecord]:
    """Return each arrival's own score by the arrival's id; one without a score is left out."""
    found: dict[int, ScoreRecord] = {}
    for score in scores:
        if score.is_primary:
            both = (found.get(score.arrival_id, score), score)
            found[score.arrival_id] = min(both, key=lambda s: (s.after_sequence, s.split != "dev"))
    return found


def task_scores(scores: Iterable[ScoreRecord]) -> list[TaskScore]:
    """Group the scores of one run by method and task, in the order of arrival.

    Of several versions of a task, the last counts.
    """
    seeds: dict[tuple[str, str], dict[int, ScoreRecord]] = defaultdict(dict)
    for own in own_scores(scores).values():
        seeds[own.method, own.task][own.seed] = own
    return [task_score(by_seed.values()) for by_seed in seeds.values()]


def task_score(scores: Iterable[ScoreRecord]) -> TaskScore:
    """Return scores of one task by one method, at least one and one for each seed, as one."""
    by_seed = {score.seed: score for score in scores}
    one = next(iter(by_seed.values()))
    values = {seed: score.value for seed, score in sorted(by_seed.items())}
    majorities = [score.majority for score in by_seed.values() if score.majority is not None]
    return TaskScore(
        *(one.task, one.method, one.metric, one.split, one.source, values),
        majority=statistics.fmean(majorities) if majorities else None,
        n_examples=one.n_examples,
    )


def score_table(key: str, title: str, scores: Sequence[TaskScore]) -> Table:
    """Return a table of tasks by seeds, with mean and spread where there are several seeds.

    `majority` is what the majority class scores, and `learned` whether the task is above that.
    """
    seeds = sorted({seed for score in scores for seed in score.by_seed})
    # `split` and `seeds` are left out where they say nothing new, for 80 characters.
    splits, is_crowded = {score.split for score in scores}, len(seeds) > _MOST_SEEDS
    columns = [Column("task"), Column("metric")]
    columns += [Column("split", default=splits != {"dev"}), Column("source")]
    if not is_crowded:
        columns += [Column(f"seed {seed}", "score") for seed in seeds]
    else:
        columns += [Column(name, "score") for name in ("lowest", "highest")]
    if len(seeds) > 1:
        columns += [Column("seeds", "count", default=is_crowded)]
        columns += [Column("mean", "score"), Column("spread", "score")]
    columns += [Column("majority", "score"), Column("learned", "flag")]
    return Table(key, title, tuple(columns), tuple(_row(score, seeds) for score in scores))


def _row(score: TaskScore, seeds: Sequence[int]) -> tuple[Cell, ...]:
    values = score.by_seed
    middle: tuple[Cell, ...] = tuple(values.get(seed) for seed in seeds)
    if len(seeds) > _MOST_SEEDS:
        middle = (min(values.values()), max(values.values()))
    end = (len(values), score.mean, score.spread) if len(seeds) > 1 else ()
    about = (score.task, score.metric, score.split, score.source)
    return (*about, *middle, *end, score.majority, score.learned)


@dataclass(frozen=True)
class Paired:
    """Differences of pairs, `this - other`, in the order of their seeds."""

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
        """Return the number of pairs."""
        return len(self.differences)


def paired(this: TaskScore, other: TaskScore) -> Paired:
    """Pair two sets of one task's scores by seed; seeds that only one has are left out."""
    both = [seed for seed in sorted(this.by_seed) if seed in other.by_seed]
    return Paired(tuple(this.by_seed[seed] - other.by_seed[seed] for seed in both))


def pooled(by_task: Iterable[Paired]) -> Paired:
    """Return the pairs of several tasks as one set."""
    return Paired(tuple(difference for task in by_task for difference in task.differences))
