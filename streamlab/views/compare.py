"""Runs, arrivals or diffs side by side: the settings that differ, scores by pairs, bytes.

Every score is held against that of the first side: the same task, method, metric and split,
seed by seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from streamlab.errors import UsageError
from streamlab.registry.registry import Registry
from streamlab.views.lookup import find_page
from streamlab.views.paired import Paired, paired, together
from streamlab.views.scores import TaskScore
from streamlab.views.sides import SIDES, Side
from streamlab.views.table import Cell, Column, Kind, Page, Table

_Key = tuple[str, str, str, str]  # method, task, metric, split


@dataclass(frozen=True)
class Comparison:
    """What is the same and what is not, of two sides or more."""

    kind: str
    names: tuple[str, ...]
    facts: tuple[Table, ...]  # a part each: a name, then a column for each side
    scores: tuple[Table, ...]  # a method each: a row for each task and side
    together: Table  # over all tasks
    sizes: Table

    @property
    def page(self) -> Page:
        """Return all of it under headings."""
        record = {"kind": self.kind, "names": list(self.names)}
        sections = (*self.facts, *self.scores, self.together, self.sizes)
        return Page("comparison of", ", ".join(self.names), record, sections)

    @property
    def n_pairs(self) -> int:
        """Return how many pairs of scores the differences are made of."""
        return sum(int(row[-1] or 0) for table in self.scores for row in table.rows)

    @property
    def rows(self) -> Table:
        """Return all of it as one table, a row for each value of each side."""
        columns = ("part", "name", self.kind, "value", "difference", "spread", "pairs", "source")
        rows: list[tuple[Cell, ...]] = [
            (table.key, row[0], name, value, None, None, None, None)
            for table in (*self.facts, self.sizes)
            for row in table.rows
            for name, value in zip(self.names, row[1:], strict=True)
        ]
        rows += [
            (table.key, f"{task} {metric} {split}", *rest, source)
            for table in self.scores
            for task, metric, split, source, *rest in table.rows
        ]
        rows += [
            (self.together.key, method, name, None, *rest, None)
            for method, name, _tasks, *rest in self.together.rows
        ]
        return Table("comparison", "Comparison", tuple(map(Column, columns)), tuple(rows))


def compare(
    registry: Registry, words: Sequence[str], *, run: str = "latest", everything: bool = False
) -> Comparison:
    """Compare what `words` mean (see `lookup.py`), each with the first.

    With `everything` what is equal is kept too. Raises UsageError below two, for one thing
    named twice, for things of different kinds, and NotInRegistryError.
    """
    if len(words) < 2:
        raise UsageError("A comparison needs two things or more; `streamlab ls` lists what is.")
    pages = [find_page(registry, word, run=run) for word in words]
    kinds = list(dict.fromkeys(page.kind for page in pages))
    if len(kinds) > 1 or kinds[0] not in SIDES:
        raise UsageError(
            "Runs, arrivals or diffs can be compared, each with its like; "
            f"got {' and '.join(kinds)}."
        )
    names = [page.name for page in pages]
    twice = next((word for word, n in zip(words, names, strict=True) if names.count(n) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice!r} is named twice, by this or another name. Name another.")
    sides = [SIDES[kinds[0]](registry, name) for name in names]
    return lay_out(kinds[0], sides, everything=everything)


def lay_out(kind: str, sides: Sequence[Side], *, everything: bool) -> Comparison:
    """Lay sides of one kind beside each other."""
    parts = dict.fromkeys(part for side in sides for part in side.facts)
    only = "" if everything else ": what differs"
    facts = (
        _beside(part, part.capitalize() + only, sides, _of_part(part), everything=everything)
        for part in parts
    )
    by_side = [{_key(score): score for score in side.scores} for side in sides]
    names = tuple(side.name for side in sides)
    methods = dict.fromkeys(key[0] for scores in by_side for key in scores)
    sizes = _beside("bytes", f"Bytes{only}", sides, _sizes_of, everything=everything, kind="bytes")
    return Comparison(
        kind,
        names,
        tuple(facts),
        tuple(_scores(kind, method, names, by_side) for method in methods),
        _together(kind, tuple(methods), names, by_side),
        sizes,
    )


def _of_part(part: str) -> Callable[[Side], Mapping[str, Cell]]:
    return lambda side: side.facts.get(part, {})


def _sizes_of(side: Side) -> Mapping[str, Cell]:
    return side.sizes


def _beside(
    key: str,
    title: str,
    sides: Sequence[Side],
    values_of: Callable[[Side], Mapping[str, Cell]],
    *,
    everything: bool,
    kind: Kind = "setting",
) -> Table:
    values = [values_of(side) for side in sides]
    rows = (
        (name, *(of_side.get(name) for of_side in values))
        for name in dict.fromkeys(name for of_side in values for name in of_side)
    )
    kept = tuple(row for row in rows if everything or any(cell != row[1] for cell in row[2:]))
    return Table(key, title, (Column("name"), *(Column(s.name, kind) for s in sides)), kept)


def _key(score: TaskScore) -> _Key:
    return (score.method, score.task, score.metric, score.split)


_Scores = Sequence[Mapping[_Key, TaskScore]]  # by side


def _scores(kind: str, method: str, names: Sequence[str], by_side: _Scores) -> Table:
    """Return a row for each task and each side that has it; the first has no difference."""
    columns = (
        *(Column("task"), Column("metric"), Column("split"), Column("source"), Column(kind)),
        *(Column("score", "score"), Column("difference", "change"), Column("spread", "score")),
        Column("pairs", "count"),
    )
    rows: list[tuple[Cell, ...]] = []
    for key in dict.fromkeys(k for scores in by_side for k in scores if k[0] == method):
        for place, (name, scores) in enumerate(zip(names, by_side, strict=True)):
            if key not in scores:
                continue
            score = scores[key]
            first = by_side[0].get(key) if place else None
            pairs = None if first is None else paired(score, first)
            told = (None, None, None) if pairs is None else _told(pairs)
            rows.append((*key[1:], score.source, name, score.mean, *told))
    by = f" by {method}" if method else ""
    title = f"Scores{by}, and the difference from {names[0]}" + (", seed by seed" * bool(method))
    return Table(f"scores_{method}" if method else "scores", title, columns, tuple(rows))


def _together(kind: str, methods: Sequence[str], names: Sequence[str], by_side: _Scores) -> Table:
    """Return the pairs of all tasks together, where there are several tasks."""
    columns = (
        *(Column("method"), Column(kind), Column("tasks", "count")),
        *(Column("difference", "change"), Column("spread", "score"), Column("pairs", "count")),
    )
    rows: list[tuple[Cell, ...]] = []
    for method in filter(None, methods):
        for name, scores in zip(names[1:], by_side[1:], strict=True):
            lots = list(_lots(method, scores, by_side[0]))
            if len(lots) > 1:
                rows.append((method, name, len(lots), *_told(together(lots))))
    title = f"All tasks together: the difference from {names[0]}, pair by pair"
    return Table("together", title, columns, tuple(rows))


def _lots(
    method: str, scores: Mapping[_Key, TaskScore], first: Mapping[_Key, TaskScore]
) -> Iterator[Paired]:
    for key in first:
        if key[0] == method and key in scores:
            pairs = paired(scores[key], first[key])
            if pairs.n_pairs:
                yield pairs


def _told(pairs: Paired) -> tuple[Cell, ...]:
    return (pairs.mean, pairs.spread, pairs.n_pairs)
