"""Scores by class, and which classes are taken for which, from a recorded confusion matrix.

Precision, recall and F1 are those of scikit-learn with `zero_division=0`: 0 where nothing was
answered by a class, or there are no examples of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from streamlab.registry.records import ArrivalRecord, Confusion
from streamlab.views.table import Column, Table, columns, tabulate

_MOST_ANSWERS = 10  # that have a column each
_CLASSES = columns(
    "class = label, examples = n_examples: count, answers = n_answers: count, precision: score, "
    "recall: score, f1: score, mostly taken for = taken_for"
)


@dataclass(frozen=True)
class ClassScore:
    """How the examples of one class were answered."""

    task: str
    label: str
    n_examples: int
    n_answers: int  # that were this class, right or wrong
    n_correct: int
    taken_for: str | None  # the most frequent wrong answer, None without one

    @property
    def precision(self) -> float:
        """Return the share of the answers that are right."""
        return self.n_correct / self.n_answers if self.n_answers else 0.0

    @property
    def recall(self) -> float:
        """Return the share of the examples that are answered right."""
        return self.n_correct / self.n_examples if self.n_examples else 0.0

    @property
    def f1(self) -> float:
        """Return the harmonic mean of precision and recall."""
        return 2 * self.n_correct / (self.n_examples + self.n_answers or 1)


def class_scores(confusion: Confusion, task: str = "") -> Iterator[ClassScore]:
    """Yield the scores of every class."""
    for place, (label, row) in enumerate(zip(confusion.labels, confusion.counts, strict=True)):
        wrong = [(n, -other) for other, n in enumerate(row) if other != place]
        most, other = max(wrong, default=(0, 0))
        n_answers = sum(counts[place] for counts in confusion.counts)
        taken_for = confusion.labels[-other] if most else None
        yield ClassScore(task, label, sum(row), n_answers, row[place], taken_for)


def class_tables(arrival: ArrivalRecord) -> Iterator[Table]:
    """Yield the scores by class of an arrival, and its confusion matrix where that is not wide."""
    confusion = arrival.details.confusion
    if confusion is None:
        return
    yield tabulate("classes", "Classes, on dev", _CLASSES, class_scores(confusion))
    if len(confusion.labels) <= _MOST_ANSWERS:
        known = (Column("class"), *(Column(f"as {label}", "count") for label in confusion.labels))
        rows = zip(confusion.labels, confusion.counts, strict=True)
        title = "Confusion matrix, on dev: classes by answers"
        yield Table("confusion", title, known, tuple((label, *row) for label, row in rows))


def class_table(arrivals: Iterable[ArrivalRecord]) -> Table:
    """Return the scores by class of several arrivals, an arrival of each task after the other."""
    every = (
        score
        for arrival in arrivals
        if arrival.details.confusion is not None
        for score in class_scores(arrival.details.confusion, arrival.task)
    )
    return tabulate("classes", "Scores by class", (Column("task"), *_CLASSES), every)
