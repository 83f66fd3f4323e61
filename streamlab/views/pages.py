"""Pages of `show`: one run, arrival, diff, task or base with its records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, get_args

from streamlab.errors import NotInRegistryError
from streamlab.home.store import ArtifactStore
from streamlab.registry.placements import find_full_us
from streamlab.registry.records import (
    ArrivalRecord,
    BaseRecord,
    DiffRecord,
    ExamplesUsed,
    MethodStorage,
    PlacementAction,
    PlacementRecord,
    RunRecord,
    ScoreRecord,
    Total,
)
from streamlab.registry.references import Kind, TaskFilter, find, find_run, find_task_arrival
from streamlab.registry.registry import Registry
from streamlab.units import DAY_US, nearest
from streamlab.views.size_bounds import with_bounds
from streamlab.views.table import Cell, Column, Fact, Facts, Page, Table
from streamlab.views.task_scores import by_arrival, find_own_score, score_table, task_scores

_MOST_TENSORS = 12


def find_page(
    registry: Registry, reference: str, *, run: str = "latest", store: ArtifactStore | None = None
) -> Page:
    """Return the page of what a reference means; a task is looked up in `run`.

    With a store, a diff's page also has lower bounds on the bytes of its parts.
    """
    target = find(registry, reference)
    within = find_run(registry, run).name if target.kind == "task" else run
    if target.version is not None:
        return arrival_page(registry, find_task_arrival(registry, target, TaskFilter(within)))
    page = _PAGES[target.kind](registry, target.name, within)
    return page if store is None else with_bounds(page, registry, store)


def arrival_page(registry: Registry, arrival: ArrivalRecord) -> Page:
    """Return the page of one arrival: its costs, data, artifact and scores."""
    facts = (
        Fact("run", arrival.run),
        Fact("seed", arrival.seed, "number"),
        Fact("sequence", arrival.sequence, "number"),
        Fact("provider", arrival.provider),
        Fact("task", arrival.task),
        Fact("version", arrival.version, "number"),
        Fact("method", arrival.method),
        Fact("attempt", arrival.attempt, "number"),
        Fact("status", arrival.status),
        Fact("reason", arrival.reason),
        *_streamed(arrival),
        Fact("started", arrival.started_at, "time"),
        Fact("finished", arrival.finished_at, "time"),
        Fact("removed", arrival.removed_at, "time"),
        Fact("steps", arrival.n_steps, "count"),
        Fact("training", arrival.training_seconds, "seconds"),
        Fact("evaluation", arrival.evaluation_seconds, "seconds"),
        Fact("peak memory", arrival.peak_memory_bytes, "bytes"),
    )
    data = (
        Fact("source", arrival.source),
        Fact("detail", arrival.source_detail),
        Fact("training examples", arrival.n_train_examples, "count"),
        Fact("examples fingerprint", arrival.examples_fingerprint, "digest"),
    )
    sections: list[Facts | Table] = [
        Facts("facts", "", facts),
        Facts("data", "Data", data),
    ]
    if arrival.digest is not None:
        sections.append(_artifact_facts(registry.artifacts.get(arrival.digest)))
    sections.append(_scores(registry.scores.list(arrival_id=arrival.id)))
    sections.append(Facts("details", "Details", tuple(flat(arrival.details.to_json()))))
    record = {**asdict(arrival), "details": arrival.details.to_json()}
    return Page("arrival", str(arrival.id), record, tuple(sections))


def _streamed(arrival: ArrivalRecord) -> Iterator[Fact]:
    """Yield facts that only streams with misbehaving providers or a virtual clock have."""
    times = ("arrived", "began", "ended")
    facts = (
        Fact("rule", arrival.rule),
        Fact("behaviour", arrival.behaviour),
        Fact("declared score", arrival.declared_score, "score"),
        *(Fact(f"{time} (virtual)", getattr(arrival, f"{time}_us"), "virtual") for time in times),
    )
    yield from (fact for fact in facts if fact.value is not None)


def diff_page(registry: Registry, diff: DiffRecord) -> Page:
    """Return the page of one artifact: its bytes by part, changed tensors, and arrivals."""
    base = registry.bases.get(diff.base_fingerprint)
    facts = (
        Fact("kind", diff.kind),
        Fact("base", base.model),
        Fact("base fingerprint", diff.base_fingerprint, "digest"),
        Fact("value type", diff.value_type),
        Fact("gated weights", diff.n_gated, "count"),
        Fact("retained weights", diff.n_entries, "count"),
        Fact("density", diff.density, "share"),
        Fact("head weights", diff.n_head_entries, "count"),
        Fact("file", diff.file_bytes, "bytes"),
        Fact("full checkpoint", diff.full_checkpoint_bytes, "bytes"),
        Fact("times smaller", diff.full_checkpoint_bytes / diff.file_bytes, "ratio"),
        Fact("added", diff.added_at, "time"),
    )
    arrivals = Table(
        "arrivals",
        "Arrivals with this artifact",
        (
            *(Column("id", "number"), Column("run"), Column("seed", "number")),
            *(Column("provider"), Column("task"), Column("method")),
        ),
        tuple(
            (a.id, a.run, a.seed, a.provider, a.task, a.method)
            for a in registry.arrivals.list(digest=diff.digest)
        ),
    )
    sections: tuple[Facts | Table, ...] = (
        Facts("facts", "", facts),
        _parts(diff),
        *_tensors(diff, base),
        arrivals,
    )
    return Page("diff", diff.digest, asdict(diff), sections)


def task_page(registry: Registry, task: str, run: str) -> Page:
    """Return the page of one task in one run: settings, arrivals, and scores by method.

    Raises NotInRegistryError where nothing arrived for it in that run.
    """
    record = registry.runs.get(run)
    arrivals = registry.arrivals.list(run=record.id, task=task)
    if not arrivals:
        known = sorted({arrival.task for arrival in registry.arrivals.list(run=record.id)})
        raise NotInRegistryError(
            f"Nothing arrived for the task `{task}` in the run `{record.name}`. "
            f"{nearest(task, known)} Name another run with `--run`."
        )
    settings = record.settings.task(task)
    facts = (
        Fact("run", record.name),
        Fact("provider", arrivals[0].provider),
        *(f for f in flat(settings) if not f.name.startswith("training.")),
    )
    scores = registry.scores.list(run=record.id, task=task)
    own = by_arrival(scores)
    found = registry.artifacts.with_digests(
        {arrival.digest for arrival in arrivals if arrival.digest}
    )
    diffs = {diff.digest: diff for diff in found}
    rows = tuple(
        _task_row(a, diffs.get(a.digest or ""), find_own_score(own.get(a.id, ()))) for a in arrivals
    )
    columns = (
        *(Column("id", "number"), Column("seed", "number"), Column("version", "number")),
        *(Column("method"), Column("status"), Column("density", "share")),
        *(Column("file_bytes", "bytes"), Column("score", "score"), Column("source")),
    )
    methods = dict.fromkeys(score.method for score in scores)
    tables = [
        score_table(
            f"scores_{method}", f"Scores by {method}",
            [score for score in task_scores(scores) if score.method == method],
        )
        for method in methods
    ]  # fmt: skip
    sections: tuple[Facts | Table, ...] = (
        Facts("facts", "", facts),
        Table("arrivals", "Arrivals", columns, rows),
        *tables,
    )
    return Page("task", task, {"task": task, "run": record.name, **settings}, sections)


def base_page(base: BaseRecord) -> Page:
    """Return the page of one base."""
    facts = (
        Fact("model", base.model),
        Fact("revision", base.revision),
        Fact("layers", "all" if base.layers is None else base.layers, "number"),
        Fact("tensors", base.n_tensors, "count"),
        Fact("parameters", base.n_parameters, "count"),
        Fact("weights", base.weights_bytes, "bytes"),
        Fact("file", base.file_bytes, "bytes"),
        Fact("initialised", ", ".join(base.initialised) or "none"),
        Fact("added", base.added_at, "time"),
    )
    return Page("base", base.fingerprint, asdict(base), (Facts("facts", "", facts),))


def flat(tree: Mapping[str, Any]) -> Iterator[Fact]:
    """Yield the leaves of nested settings as facts named by their dotted path."""
    yield from (Fact(path, value) for path, value in leaves(tree).items())


def leaves(tree: Mapping[str, Any]) -> dict[str, Cell]:
    """Return the leaves of nested settings by dotted path.

    A list of plain values is one leaf. Items of a list of settings have a path each, by their
    `name` where it is unique, else by their index.

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


def _artifact_facts(diff: DiffRecord) -> Facts:
    facts = (
        Fact("digest", diff.digest, "digest"),
        Fact("kind", diff.kind),
        Fact("value type", diff.value_type),
        Fact("density", diff.density, "share"),
        Fact("retained weights", diff.n_entries, "count"),
        Fact("head weights", diff.n_head_entries, "count"),
        Fact("file", diff.file_bytes, "bytes"),
        Fact("full checkpoint", diff.full_checkpoint_bytes, "bytes"),
    )
    return Facts("artifact", "Artifact", facts)


def _parts(diff: DiffRecord) -> Table:
    parts = {
        "positions": diff.positions_bytes,
        "values": diff.values_bytes,
        "head": diff.head_bytes,
        "metadata": diff.metadata_bytes,
        "file": diff.file_bytes,
    }
    return Table(
        "parts",
        "Bytes by part",
        (Column("part"), Column("bytes", "count"), Column("share", "share")),
        tuple((name, size, size / diff.file_bytes) for name, size in parts.items()),
    )


def _tensors(diff: DiffRecord, base: BaseRecord) -> Iterator[Table]:
    """Yield the tensors with the most retained weights, where they were counted."""
    if len(diff.tensor_counts) != len(base.layout):
        return
    pairs = zip(base.layout, diff.tensor_counts, strict=True)
    counted = [(name, shape, count) for (name, shape), count in pairs if count]
    counted.sort(key=lambda tensor: -tensor[2])
    touched = f"{len(counted)} of {len(base.layout)}"
    title = f"Tensors changed: {touched}"
    if len(counted) > _MOST_TENSORS:
        title += f"; the {_MOST_TENSORS} with the most retained weights"
    yield Table(
        "tensors",
        title,
        (Column("tensor"), Column("shape"), Column("retained", "count"), Column("share", "share")),
        tuple(
            (name, " x ".join(map(str, shape)), count, count / diff.n_entries)
            for name, shape, count in counted[:_MOST_TENSORS]
        ),
    )


def _scores(scores: tuple[ScoreRecord, ...]) -> Table:
    columns = (
        *(Column("metric"), Column("split"), Column("value", "score"), Column("examples", "count")),
        *(Column("after sequence", "number"), Column("primary"), Column("source")),
    )
    rows = tuple(
        (
            s.metric, s.split, s.value, s.n_examples, s.after_sequence, s.is_primary,
            "synthetic" if s.synthetic else s.source,
        )
        for s in scores
    )  # fmt: skip
    return Table("scores", "Scores", columns, rows)


def _task_row(
    arrival: ArrivalRecord, diff: DiffRecord | None, score: ScoreRecord | None
) -> tuple[Cell, ...]:
    return (
        arrival.id,
        arrival.seed,
        arrival.version,
        arrival.method,
        arrival.status,
        None if diff is None else diff.density,
        None if diff is None else diff.file_bytes,
        None if score is None else score.value,
        arrival.source,
    )


def run_page(registry: Registry, run: RunRecord) -> Page:
    """Return the page of one run; the complete scenario is in the record."""
    base = registry.bases.get(run.base_fingerprint)
    totals = registry.totals.list("run", name=run.name)
    storage = registry.totals.by_method(run.id)
    scores = task_scores(registry.scores.list(run=run.id, primary=True))
    methods = list(
        dict.fromkeys([run.settings.primary_method, *(score.method for score in scores)])
    )
    tables = [
        score_table(
            f"scores_{method}",
            f"Scores by {method}"
            + ("" if method == run.settings.primary_method else " (a baseline)"),
            [score for score in scores if score.method == method],
        )
        for method in methods
    ]
    sections: tuple[Facts | Table, ...] = (
        _facts(run, base, totals),
        Facts("settings", "Settings", _settings(run)),
        Facts("environment", "Environment", tuple(flat(run.environment))),
        _data(registry.arrivals.examples_used(run.id)),
        *tables,
        _storage(storage),
        _totals(run, base, storage, totals),
        *_device(registry.placements.list(run.id)),
    )
    return Page("run", run.name, asdict(run), sections)


def _facts(run: RunRecord, base: BaseRecord, totals: Sequence[Total]) -> Facts:
    counted = Counter[str]()
    for total in totals:
        stored = total.kind not in ("failed", "quarantined")
        counted["finished" if stored else total.kind] += total.n_arrivals
    return Facts(
        "facts",
        "",
        (
            Fact("number", run.id, "number"),
            Fact("status", run.status, "status"),
            Fact("reason", run.reason),
            Fact("started", run.started_at, "time"),
            Fact("finished", run.finished_at, "time"),
            Fact("last heartbeat", run.heartbeat_at, "time"),
            Fact("arrivals finished", counted["finished"], "count"),
            Fact("arrivals expected", run.n_expected, "count"),
            Fact("failed attempts", counted["failed"], "count"),
            Fact("quarantined submissions", counted["quarantined"] or None, "count"),
            Fact("base", base.model),
            Fact("base layers", "all" if base.layers is None else base.layers, "number"),
            Fact("base fingerprint", base.fingerprint, "digest"),
            Fact("scenario", run.scenario_name),
            Fact("scenario digest", run.scenario_digest, "digest"),
            Fact("host", run.host),
            Fact("process", run.pid, "number"),
        ),
    )


def _device(log: Sequence[PlacementRecord]) -> Iterator[Facts]:
    """Yield the events of each seed's device, counted."""
    for seed in dict.fromkeys(line.seed for line in log):
        own = [line for line in log if line.seed == seed]
        counted = Counter(line.action for line in own)
        full_us = find_full_us(own)
        facts = (
            *(Fact(action, counted[action], "count") for action in get_args(PlacementAction)),
            Fact("most bytes", max(line.device_bytes for line in own), "bytes"),
            Fact("bytes at the end", own[-1].device_bytes, "bytes"),
            Fact("full on day", None if full_us is None else 1 + full_us // DAY_US, "number"),
        )
        yield Facts(f"device_{seed}", f"Device of seed {seed}", facts)


def _settings(run: RunRecord) -> tuple[Fact, ...]:
    """Return the settings for all tasks; those of one task are on its own page."""
    return tuple(flat(run.settings.without("version", "name", "base", "providers", "tasks")))


def _data(used: Sequence[ExamplesUsed]) -> Table:
    columns = (
        *(Column("task"), Column("provider"), Column("source"), Column("detail")),
        *(Column("train_examples", "count"), Column("examples", "digest")),
    )
    rows = tuple(
        (own.task, own.provider, own.source, own.source_detail, own.n_train_examples,
         own.examples_fingerprint)
        for own in used
    )  # fmt: skip
    return Table("data", "Data", columns, rows)


def _storage(storage: Sequence[MethodStorage]) -> Table:
    columns = (
        *(Column("method"), Column("files", "count"), Column("mean_density", "share")),
        *(Column("mean_bytes", "bytes"), Column("total_bytes", "bytes")),
        Column("full_checkpoints", "bytes"),
    )
    rows = tuple(
        (
            own.method,
            own.n_files,
            own.mean_density,
            round(own.file_bytes / own.n_files) if own.n_files else None,
            own.file_bytes,
            own.full_checkpoint_bytes,
        )
        for own in storage
    )
    return Table("storage", "Stored files by method, all seeds", columns, rows)


def _totals(
    run: RunRecord, base: BaseRecord, storage: Sequence[MethodStorage], totals: Sequence[Total]
) -> Facts:
    own = [method for method in storage if method.method == run.settings.primary_method]
    ours = base.file_bytes + sum(method.file_bytes for method in own)
    full = sum(method.full_checkpoint_bytes for method in own)
    facts = (
        Fact("base file", base.file_bytes, "bytes"),
        Fact(f"base + {run.settings.primary_method}", ours, "bytes"),
        Fact("full checkpoints", full, "bytes"),
        Fact("times smaller", full / ours, "ratio"),
        Fact("artifacts on disk", sum(total.stored.file_bytes for total in totals), "bytes"),
    )
    return Facts("totals", "Storage, all seeds", facts)


_PAGES: Mapping[Kind, Callable[[Registry, str, str], Page]] = {
    "run": lambda registry, name, _: run_page(registry, registry.runs.get(name)),
    "arrival": lambda registry, name, _: arrival_page(registry, registry.arrivals.get(int(name))),
    "diff": lambda registry, name, _: diff_page(registry, registry.artifacts.get(name)),
    "task": task_page,
    "base": lambda registry, name, _: base_page(registry.bases.get(name)),
}
