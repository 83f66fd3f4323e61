"""One side of a comparison: what was set and what came out of a run, an arrival or a diff.

Settings are leaves of nested trees under dotted paths, so that two sides can be laid beside each
other line by line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from streamlab.registry.records import ArrivalRecord, DiffRecord, RunRecord, ScoreRecord
from streamlab.registry.registry import Registry
from streamlab.views.run import run_page
from streamlab.views.scores import TaskScore, task_scores
from streamlab.views.table import Cell, Facts, Table

_NOT_ARRIVAL = ("id", "run_id", "digest", "started_at", "finished_at", "details")
_NOT_DIFF = ("id", "added_at", "tensor_counts")


@dataclass(frozen=True)
class Side:
    """What stands in one column: facts by part and dotted path, scores, and bytes by name."""

    name: str
    facts: Mapping[str, Mapping[str, Cell]]
    scores: Sequence[TaskScore]
    sizes: Mapping[str, Cell]


def run_side(registry: Registry, name: str) -> Side:
    """Return a run's side: its scenario, environment, base, data, scores and storage."""
    run = registry.run(name)
    arrivals = registry.arrivals(run=run.id)
    data = {
        f"{a.provider}.{a.task}.{a.version}": {
            "source": a.source, "detail": a.source_detail, "rows": a.examples_fingerprint,
            "n_train_examples": a.n_train_examples,
        }
        for a in arrivals
    }  # fmt: skip
    return Side(
        run.name,
        {**_of_run(registry, run), "data": leaves(data)},
        task_scores(registry.scores(run=run.id)),
        _run_sizes(registry, run),
    )


def arrival_side(registry: Registry, name: str) -> Side:
    """Return an arrival's side: its record and details, its run's settings, scores and bytes."""
    arrival = registry.arrival(int(name))
    diff = None if arrival.digest is None else registry.diff(arrival.digest)
    record = {key: value for key, value in asdict(arrival).items() if key not in _NOT_ARRIVAL}
    run = registry.run(arrival.run_id)
    return Side(
        f"arrival:{name}",
        {
            "arrival": leaves({**record, "details": arrival.details}),
            "artifact": {} if diff is None else _artifact(diff),
            **_of_run(registry, run),
        },
        _own_scores(registry, arrival),
        {} if diff is None else _sizes(diff),
    )


def diff_side(registry: Registry, name: str) -> Side:
    """Return an artifact's side: its record, its bytes, and the scores of its first arrival."""
    diff = registry.diff(name)
    arrivals = [a for a in registry.arrivals(status="finished") if a.digest == diff.digest]
    base = registry.base(diff.base_fingerprint)
    facts: dict[str, dict[str, Cell]] = {
        "artifact": _artifact(diff),
        "base": {"model": base.model, "layers": base.layers, "fingerprint": base.fingerprint},
    }
    scores = _own_scores(registry, arrivals[0]) if arrivals else []
    return Side(diff.digest[:12], facts, scores, _sizes(diff))


SIDES: Mapping[str, Callable[[Registry, str], Side]] = {
    "run": run_side,
    "arrival": arrival_side,
    "diff": diff_side,
}


def leaves(tree: Mapping[str, Any]) -> dict[str, Cell]:
    """Return the leaves of nested settings by dotted path.

    A list of plain values is one leaf; one of settings has a path for each, by its `name` where
    it has one of its own, else by its place.

    >>> leaves({"seeds": [1, 2], "baselines": [{"name": "lora", "rank": 8}]})
    {'seeds': '1, 2', 'baselines.lora.name': 'lora', 'baselines.lora.rank': 8}
    """
    return dict(_leaves(tree, ""))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Cell]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, (list, tuple)):
        if any(isinstance(item, (Mapping, list, tuple)) for item in value):
            for name, item in zip(_item_names(value), value, strict=True):
                yield from _leaves(item, f"{path}.{name}")
        else:
            yield path, ", ".join(map(str, value)) or "none"
    else:
        yield path, value if isinstance(value, (str, int, float, bool)) else None


def _item_names(items: Sequence[Any]) -> list[str]:
    named = [str(item.get("name", "")) if isinstance(item, Mapping) else "" for item in items]
    times = Counter(named)
    return [n if n and times[n] == 1 else str(place) for place, n in enumerate(named)]


def _of_run(registry: Registry, run: RunRecord) -> dict[str, Mapping[str, Cell]]:
    base = registry.base(run.base_fingerprint)
    known = {"model": base.model, "layers": base.layers, "fingerprint": base.fingerprint}
    return {
        "settings": leaves({k: v for k, v in run.scenario.items() if k != "base"}),
        "base": {**leaves(run.scenario.get("base", {})), **known},
        "environment": leaves(run.environment),
    }


def _run_sizes(registry: Registry, run: RunRecord) -> dict[str, Cell]:
    """Return the bytes of a run's page: mean and total by method, and what it all comes to."""
    found: dict[str, Cell] = {}
    for section in run_page(registry, run).sections:
        if section.key == "storage" and isinstance(section, Table):
            for row in section.records():
                found[f"{row['method']}: mean file"] = row["mean_bytes"]
                found[f"{row['method']}: all files"] = row["total_bytes"]
        elif section.key == "totals" and isinstance(section, Facts):
            found |= {fact.name: fact.value for fact in section.facts if fact.kind == "bytes"}
    return found


def _artifact(diff: DiffRecord) -> dict[str, Cell]:
    record = {**asdict(diff), "density": diff.density}
    return {
        name: value
        for name, value in record.items()
        if name not in _NOT_DIFF and not name.endswith("_bytes")
    }


def _sizes(diff: DiffRecord) -> dict[str, Cell]:
    return {name: value for name, value in asdict(diff).items() if name.endswith("_bytes")}


def _own_scores(registry: Registry, arrival: ArrivalRecord) -> list[TaskScore]:
    """Return every score taken right after an arrival, whatever its seed as the one pair."""
    scores = registry.scores(arrival_id=arrival.id)
    return [_alone(score) for score in scores if score.after_sequence == arrival.sequence]


def _alone(score: ScoreRecord) -> TaskScore:
    source = "synthetic" if score.synthetic else score.source
    return TaskScore(score.task, "", score.metric, score.split, source, {0: score.value})
