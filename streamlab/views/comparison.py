"""Comparison of runs, arrivals or diffs: settings that differ, paired scores, and bytes.

Each score is compared with that of the first item for the same task, method, metric, split and
seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from streamlab.errors import UsageError
from streamlab.registry.records import ArrivalRecord, DiffRecord, RunRecord
from streamlab.registry.references import Target, TaskFilter, find, find_task_arrival
from streamlab.registry.registry import Registry
from streamlab.views.pages import leaves, run_page
from streamlab.views.table import Cell, Column, Kind, Page, Table, columns
from streamlab.views.task_scores import Paired, TaskScore, paired, pooled, task_score, task_scores

_Key = tuple[str, str, str, str]  # method, task, metric, split


@dataclass(frozen=True)
class Comparison:
    """Two or more items compared with the first."""

    kind: str
    names: tuple[str, ...]
    facts: tuple[Table, ...]  # one for each part: a name, then a column for each item
    scores: tuple[Table, ...]  # one for each method: a row for each task and item
    overall: Table  # over all tasks
    sizes: Table

    @property
    def page(self) -> Page:
        """Return the comparison as a page."""
        record = {"kind": self.kind, "names": list(self.names)}
        sections = (*self.facts, *self.scores, self.overall, self.sizes)
        return Page("comparison of", ", ".join(self.names), record, sections)

    @property
    def n_pairs(self) -> int:
        """Return the number of pairs of scores."""
        return sum(int(row[-1] or 0) for table in self.scores for row in table.rows)

    @property
    def rows(self) -> Table:
        """Return the comparison as one table, a row for each value of each item."""
        known = columns(
            f"part, name, {self.kind}, value, majority, learned, difference, spread, pairs, source"
        )
        rows: list[tuple[Cell, ...]] = [
            (table.key, row[0], name, value, None, None, None, None, None, None)
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
            (self.overall.key, method, name, None, None, None, *rest, None)
            for method, name, _tasks, *rest in self.overall.rows
        ]
        return Table("comparison", "Comparison", known, tuple(rows))


def compare(
    registry: Registry, references: Sequence[str], *, everything: bool = False
) -> Comparison:
    """Compare what references refer to, each with the first.

    `everything`: include equal values. Raises UsageError for fewer than two, for one named twice,
    or for different kinds; NotInRegistryError for an unknown one.
    """
    if len(references) < 2:
        raise UsageError("A comparison needs two or more; `streamlab ls` lists them.")
    targets = [_record_of(registry, find(registry, reference)) for reference in references]
    kinds = list(dict.fromkeys(target.kind for target in targets))
    if len(kinds) > 1 or kinds[0] not in SIDES:
        raise UsageError(
            f"Runs, arrivals or diffs can be compared, all of one kind; got {' and '.join(kinds)}."
        )
    twice = next(
        (t for t, n in zip(references, targets, strict=True) if targets.count(n) > 1), None
    )
    if twice is not None:
        raise UsageError(f"{twice!r} is named twice, by this or another name. Name another.")
    sides = [SIDES[kinds[0]](registry, target.name) for target in targets]
    return lay_out(kinds[0], sides, everything=everything)


def _record_of(registry: Registry, target: Target) -> Target:
    """Return the arrival in use of one version of a task; any other target as it is."""
    if target.version is None:
        return target
    return Target("arrival", str(find_task_arrival(registry, target, TaskFilter()).id))


def lay_out(kind: str, sides: Sequence[Side], *, everything: bool) -> Comparison:
    """Compare sides of one kind."""
    names = [side.name for side in sides]
    parts = dict.fromkeys(part for side in sides for part in side.facts)
    only = "" if everything else ": differences"
    facts = (
        _beside(
            part,
            part.capitalize() + only,
            names,
            [side.facts.get(part, {}) for side in sides],
            everything=everything,
        )
        for part in parts
    )
    by_side = [{_key(score): score for score in side.scores} for side in sides]
    methods = dict.fromkeys(key[0] for scores in by_side for key in scores)
    values = [side.sizes for side in sides]
    sizes = _beside("bytes", f"Bytes{only}", names, values, everything=everything, kind="bytes")
    return Comparison(
        kind,
        tuple(names),
        tuple(facts),
        tuple(_scores(kind, method, names, by_side) for method in methods),
        _overall(kind, methods, names, by_side),
        sizes,
    )


def _beside(
    key: str,
    title: str,
    names: Sequence[str],
    values: Sequence[Mapping[str, Cell]],
    *,
    everything: bool,
    kind: Kind = "setting",
) -> Table:
    found = dict.fromkeys(name for of_side in values for name in of_side)
    rows = ((name, *(of_side.get(name) for of_side in values)) for name in found)
    kept = tuple(row for row in rows if everything or any(cell != row[1] for cell in row[2:]))
    return Table(key, title, (Column("name"), *(Column(name, kind) for name in names)), kept)


def _key(score: TaskScore) -> _Key:
    return (score.method, score.task, score.metric, score.split)


_Scores = Sequence[Mapping[_Key, TaskScore]]  # by side


def _scores(kind: str, method: str, names: Sequence[str], by_side: _Scores) -> Table:
    """Return a row for each task and side; the first side has no difference.

    What says nothing new is left out, for 80 characters: `split` where all are of dev, and without
    a second pair `spread` and `pairs`.
    """
    rows: list[tuple[Cell, ...]] = []
    for key in dict.fromkeys(k for scores in by_side for k in scores if k[0] == method):
        for place, (name, scores) in enumerate(zip(names, by_side, strict=True)):
            if key not in scores:
                continue
            score = scores[key]
            first = by_side[0].get(key) if place else None
            difference = (None, None, None) if first is None else _difference(paired(score, first))
            beside = (score.majority, score.learned)
            rows.append((*key[1:], score.source, name, score.mean, *beside, *difference))
    split = "split" if any(row[2] != "dev" for row in rows) else "[split]"
    pairs = "spread: score, pairs: count"
    if not any(int(row[-1] or 0) > 1 for row in rows):
        pairs = "[spread: score], [pairs: count]"
    known = columns(
        f"task, metric, {split}, source, {kind}, score: score, majority: score, learned: flag, "
        f"difference: change, {pairs}"
    )
    by = f" by {method}" if method else ""
    title = f"Scores{by}, and the difference from {names[0]}" + (", seed by seed" * bool(method))
    return Table(f"scores_{method}" if method else "scores", title, known, tuple(rows))


def _overall(kind: str, methods: Iterable[str], names: Sequence[str], by_side: _Scores) -> Table:
    """Return the differences over the pairs of all tasks, where there are several tasks."""
    known = columns(
        f"method, {kind}, tasks: count, difference: change, spread: score, pairs: count"
    )
    rows: list[tuple[Cell, ...]] = []
    first = by_side[0]
    for method in filter(None, methods):
        for name, scores in zip(names[1:], by_side[1:], strict=True):
            both = (key for key in first if key[0] == method and key in scores)
            by_task = [pairs for key in both if (pairs := paired(scores[key], first[key])).n_pairs]
            if len(by_task) > 1:
                rows.append((method, name, len(by_task), *_difference(pooled(by_task))))
    title = f"All tasks: difference from {names[0]}, pair by pair"
    return Table("overall", title, known, tuple(rows))


def _difference(pairs: Paired) -> tuple[Cell, ...]:
    return (pairs.mean, pairs.spread, pairs.n_pairs)


_NOT_ARRIVAL = ("id", "run_id", "digest", "started_at", "finished_at", "details")


@dataclass(frozen=True)
class Side:
    """One item of a comparison: facts by part and dotted path, scores, and bytes by name."""

    name: str
    facts: Mapping[str, Mapping[str, Cell]]
    scores: Sequence[TaskScore]
    sizes: Mapping[str, Cell]


def run_side(registry: Registry, name: str) -> Side:
    """Return a run's side: its scenario, environment, base, data, scores and storage."""
    run = registry.runs.get(name)
    arrivals = registry.arrivals.list(run=run.id)
    data = {
        f"{a.provider}.{a.task}.{a.version}": {
            "source": a.source, "detail": a.source_detail, "examples": a.examples_fingerprint,
            "n_train_examples": a.n_train_examples,
        }
        for a in arrivals
    }  # fmt: skip
    return Side(
        run.name,
        {**_of_run(registry, run), "data": leaves(data)},
        task_scores(registry.scores.list(run=run.id)),
        _run_sizes(registry, run),
    )


def arrival_side(registry: Registry, name: str) -> Side:
    """Return an arrival's side: its record and details, its run's settings, scores and bytes."""
    arrival = registry.arrivals.get(int(name))
    diff = None if arrival.digest is None else registry.artifacts.get(arrival.digest)
    record = {key: value for key, value in asdict(arrival).items() if key not in _NOT_ARRIVAL}
    details = replace(arrival.details, confusion=None).to_json()  # on its page
    run = registry.runs.get(arrival.run_id)
    return Side(
        f"arrival:{name}",
        {
            "arrival": leaves({**record, "details": details}),
            "artifact": {} if diff is None else _artifact(diff),
            **_of_run(registry, run),
        },
        _own_scores(registry, arrival),
        {} if diff is None else _sizes(diff),
    )


def diff_side(registry: Registry, name: str) -> Side:
    """Return an artifact's side: its record, its bytes, and the scores of its first arrival."""
    diff = registry.artifacts.get(name)
    arrivals = registry.arrivals.list(status="finished", digest=diff.digest)
    facts = {"artifact": _artifact(diff), "base": _base(registry, diff.base_fingerprint)}
    scores = _own_scores(registry, arrivals[0]) if arrivals else []
    return Side(diff.digest[:12], facts, scores, _sizes(diff))


SIDES: Mapping[str, Callable[[Registry, str], Side]] = {
    "run": run_side,
    "arrival": arrival_side,
    "diff": diff_side,
}


def _of_run(registry: Registry, run: RunRecord) -> dict[str, Mapping[str, Cell]]:
    return {
        "settings": leaves(run.settings.without("base")),
        "base": leaves(run.settings.base) | _base(registry, run.base_fingerprint),
        "environment": leaves(run.environment),
    }


def _base(registry: Registry, fingerprint: str) -> dict[str, Cell]:
    base = registry.bases.get(fingerprint)
    return {"model": base.model, "layers": base.layers, "fingerprint": base.fingerprint}


def _run_sizes(registry: Registry, run: RunRecord) -> dict[str, Cell]:
    """Return the bytes of a run's page: mean and total by method, and totals."""
    page = run_page(registry, run).tree()
    by_method: dict[str, Cell] = {}
    for row in page["storage"]:
        by_method[f"{row['method']}: mean file"] = row["mean_bytes"]
        by_method[f"{row['method']}: all files"] = row["total_bytes"]
    return by_method | {n: value for n, value in page["totals"].items() if n != "times smaller"}


def _artifact(diff: DiffRecord) -> dict[str, Cell]:
    left_out = {"id", "added_at", "tensor_counts", *_sizes(diff)}
    record = {**asdict(diff), "density": diff.density}
    return {name: value for name, value in record.items() if name not in left_out}


def _sizes(diff: DiffRecord) -> dict[str, Cell]:
    return {name: value for name, value in asdict(diff).items() if name.endswith("_bytes")}


def _own_scores(registry: Registry, arrival: ArrivalRecord) -> list[TaskScore]:
    """Return the scores taken right after an arrival, paired whatever their seeds."""
    return [
        replace(task_score([score]), method="", by_seed={0: score.value})
        for score in registry.scores.list(arrival_id=arrival.id)
        if score.after_sequence == arrival.sequence
    ]
