"""The rows of a study compared with its reference: differences, intervals, adjusted claims."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from streamlab.stats.differences import Difference, examples_error, holm, mean_difference
from streamlab.study.results import CellResult, Results
from streamlab.study.study import LoadedStudy, Question, Row

ByTask = Mapping[str, Mapping[int, CellResult]]


@dataclass(frozen=True, kw_only=True)
class ComparedRow:
    """One row of a study: its scores on dev, and its difference from the reference."""

    row: Row
    scores: Mapping[str, float]  # by task, the mean over seeds
    n_seeds: int  # of the task that has most
    n_pairs: int  # of a task and a seed, with the reference
    difference: Difference | None  # None for the reference itself, and without a pair
    adjusted_p: float  # of a difference of 0, for as many claims as there are rows; NaN without one
    examples_error: float  # standard error of the difference by the choice of dev examples; or NaN
    file_bytes: int  # mean of a task, head included
    head_bytes: int
    n_entries: int
    density: float  # of the backbone

    @property
    def mean(self) -> float:
        """Return the mean score over tasks."""
        return statistics.fmean(self.scores.values())


def compare_rows(loaded: LoadedStudy, results: Results) -> list[ComparedRow]:
    """Return every row of which something is recorded, in the order of the study.

    p-values are adjusted by Holm's method over all rows that have one.
    """
    found = {row: results.reported(loaded, row) for row in loaded.rows()}
    reference = next(by for row, by in found.items() if row.method == loaded.study.reference)
    return _adjusted([_compared(row, by, reference) for row, by in found.items() if by])


def answer(
    loaded: LoadedStudy, results: Results, question: Question
) -> list[tuple[ComparedRow, Row]]:
    """Return each row that a question asks about, compared with the row beside it.

    p-values are adjusted by Holm's method over the question. Pairs that have no task and seed in
    common are left out.
    """
    found = {row: results.reported(loaded, row) for row in loaded.rows()}
    pairs = loaded.study.pairs(question)
    compared = [_compared(row, found[row], found[other]) for row, other in pairs if found[row]]
    others = [other for row, other in pairs if found[row]]
    both = zip(_adjusted(compared), others, strict=True)
    return [(row, other) for row, other in both if row.difference is not None]


def _adjusted(rows: Sequence[ComparedRow]) -> list[ComparedRow]:
    """Return the rows with p-values adjusted for as many claims as have one."""
    values = [row.difference.p_value if row.difference else math.nan for row in rows]
    adjusted = iter(holm([value for value in values if not math.isnan(value)]))
    return [
        row if math.isnan(value) else replace(row, adjusted_p=next(adjusted))
        for row, value in zip(rows, values, strict=True)
    ]


def seed_means(loaded: LoadedStudy, results: Results, row: Row) -> list[float]:
    """Return a row's mean score over tasks under each seed that has all of its tasks."""
    found = results.reported(loaded, row)
    seeds = set.intersection(*(set(by_seed) for by_seed in found.values())) if found else set()
    return [statistics.fmean(by[seed].dev for by in found.values()) for seed in sorted(seeds)]


def _compared(row: Row, found: ByTask, reference: ByTask) -> ComparedRow:
    pairs = {
        task: [(r, reference[task][seed]) for seed, r in by_seed.items() if seed in there]
        for task, by_seed in found.items()
        if (there := reference.get(task, {}))
    }
    pairs = {task: each for task, each in pairs.items() if each}
    is_reference = found is reference
    difference = None
    if pairs and not is_reference:
        difference = mean_difference(
            {task: [mine.dev - other.dev for mine, other in each] for task, each in pairs.items()}
        )
    every = [result for by_seed in found.values() for result in by_seed.values()]
    files = [r.record.artifact for r in every if r.record and r.record.artifact]
    return ComparedRow(
        row=row,
        scores={
            task: statistics.fmean(r.dev for r in by_seed.values())
            for task, by_seed in found.items()
        },
        n_seeds=max(map(len, found.values())),
        n_pairs=0 if is_reference else sum(map(len, pairs.values())),
        difference=difference,
        adjusted_p=math.nan,
        examples_error=math.nan if difference is None else _examples_error(pairs),
        file_bytes=round(statistics.fmean(file.file_bytes for file in files)),
        head_bytes=round(statistics.fmean(file.head_bytes for file in files)),
        n_entries=round(statistics.fmean(file.n_entries for file in files)),
        density=statistics.fmean(file.n_entries / file.n_gated for file in files),
    )


def _examples_error(pairs: Mapping[str, list[tuple[CellResult, CellResult]]]) -> float:
    """Return the standard error by dev examples; NaN where a task's metric has no formula."""
    return examples_error(
        [
            (
                each[0][0].metric,
                statistics.fmean(mine.dev for mine, _ in each),
                statistics.fmean(other.dev for _, other in each),
                each[0][0].n_dev,
            )
            for each in pairs.values()
        ]
    )
