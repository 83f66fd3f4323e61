"""Pages of `show`: one run, arrival, diff, task or base with its records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, get_args

from streamlab.errors import NotInRegistryError
from streamlab.home.store import ArtifactStore
from streamlab.registry.logs import find_full_us
from streamlab.registry.records import (
    ArrivalRecord,
    BaseRecord,
    DeviceRequests,
    DiffRecord,
    PlacementAction,
    PlacementRecord,
    RunRecord,
    Total,
)
from streamlab.registry.references import Kind, TaskFilter, find, find_run, find_task_arrival
from streamlab.registry.registry import Registry
from streamlab.units import DAY_US, nearest
from streamlab.views.class_scores import class_tables
from streamlab.views.listings import joined
from streamlab.views.run_storage import RunStorage, run_storage
from streamlab.views.score_notes import score_notes
from streamlab.views.size_bounds import with_bounds
from streamlab.views.table import Cell, Fact, Facts, Page, Table, columns, facts_of, tabulate
from streamlab.views.task_costs import cost_table, task_costs
from streamlab.views.task_scores import TaskScore, score_table, task_scores

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


_ARRIVAL = columns(
    "run, seed: number, sequence: number, provider, task, version: number, method, "
    "attempt: number, status, reason"
)
_STREAMED = columns(
    "rule, behaviour, declared score: score, arrived (virtual) = arrived_us: virtual, "
    "began (virtual) = began_us: virtual, ended (virtual) = ended_us: virtual"
)
_COSTS = columns(
    "started = started_at: time, finished = finished_at: time, removed = removed_at: time, "
    "steps = n_steps: count, training = training_seconds: seconds, "
    "evaluation = evaluation_seconds: seconds, peak memory = peak_memory_bytes: bytes"
)
_EXAMPLES = columns(
    "source, detail = source_detail, training examples = n_train_examples: count, "
    "examples fingerprint: digest"
)
_ARTIFACT = columns(
    "digest: digest, kind, value type, density: share, retained weights = n_entries: count, "
    "head weights = n_head_entries: count, file = file_bytes: bytes, "
    "full checkpoint = full_checkpoint_bytes: bytes"
)
_DIFF = columns(
    "base fingerprint: digest, value type, gated weights = n_gated: count, "
    "retained weights = n_entries: count, density: share, head weights = n_head_entries: count, "
    "file = file_bytes: bytes, full checkpoint = full_checkpoint_bytes: bytes"
)
_SCORES = columns(
    "metric, split, value: score, majority: score, examples = n_examples: count, "
    "after sequence: number, primary = is_primary, source"
)


def arrival_page(registry: Registry, arrival: ArrivalRecord) -> Page:
    """Return the page of one arrival: its costs, data, artifact and scores."""
    # Only streams with misbehaving providers or a virtual clock have these.
    streamed = (fact for fact in facts_of(arrival, _STREAMED) if fact.value is not None)
    facts = (*facts_of(arrival, _ARRIVAL), *streamed, *facts_of(arrival, _COSTS))
    sections: list[Facts | Table] = [
        Facts("facts", "", facts),
        Facts("data", "Data", facts_of(arrival, _EXAMPLES)),
    ]
    if arrival.digest is not None:
        diff = registry.artifacts.get(arrival.digest)
        sections.append(Facts("artifact", "Artifact", facts_of(diff, _ARTIFACT)))
    details = arrival.details.to_json()
    others = {name: value for name, value in details.items() if name != "confusion"}
    sections += [
        tabulate("scores", "Scores", _SCORES, registry.scores.list(arrival_id=arrival.id)),
        *class_tables(arrival),
        Facts("details", "Details", tuple(flat(others))),
    ]
    record = {**asdict(arrival), "details": details}
    return Page("arrival", str(arrival.id), record, tuple(sections))


def diff_page(registry: Registry, diff: DiffRecord) -> Page:
    """Return the page of one artifact: its bytes by part, changed tensors, and arrivals."""
    base = registry.bases.get(diff.base_fingerprint)
    facts = (
        Fact("kind", diff.kind),
        Fact("base", base.model),
        *facts_of(diff, _DIFF),
        Fact("times smaller", diff.full_checkpoint_bytes / diff.file_bytes, "ratio"),
        Fact("added", diff.added_at, "time"),
    )
    sections: tuple[Facts | Table, ...] = (
        Facts("facts", "", facts),
        _parts(diff),
        *_tensors(diff, base),
        tabulate(
            "arrivals",
            "Arrivals with this artifact",
            columns("id: number, run, seed: number, provider, task, method"),
            registry.arrivals.list(digest=diff.digest),
        ),
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
    diffs = registry.artifacts.with_digests({a.digest for a in arrivals if a.digest})
    shown = columns(
        "id: number, seed: number, version: number, method, status, density: share, "
        "file_bytes: bytes, score: score, source"
    )
    sections: tuple[Facts | Table, ...] = (
        Facts("facts", "", facts),
        tabulate("arrivals", "Arrivals", shown, joined(arrivals, diffs, scores)),
        *_score_tables(task_scores(scores)),
    )
    return Page("task", task, {"task": task, "run": record.name, **settings}, sections)


_BASE = columns(
    "tensors = n_tensors: count, parameters = n_parameters: count, weights = weights_bytes: bytes, "
    "file = file_bytes: bytes"
)


def base_page(base: BaseRecord) -> Page:
    """Return the page of one base."""
    facts = (
        Fact("model", base.model),
        Fact("revision", base.revision),
        Fact("layers", "all" if base.layers is None else base.layers, "number"),
        *facts_of(base, _BASE),
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
    `label`, or else `name`, where it is unique, else by their index.

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
    named = [
        str(item.get("label") or item.get("name", "")) if isinstance(item, Mapping) else ""
        for item in items
    ]
    times = Counter(named)
    return [n if n and times[n] == 1 else str(place) for place, n in enumerate(named)]


def _parts(diff: DiffRecord) -> Table:
    parts = ("positions", "values", "head", "metadata", "file")
    sizes = [(part, getattr(diff, f"{part}_bytes")) for part in parts]
    rows = tuple((part, size, size / diff.file_bytes) for part, size in sizes)
    return Table("parts", "Bytes by part", columns("part, bytes: count, share: share"), rows)


def _tensors(diff: DiffRecord, base: BaseRecord) -> Iterator[Table]:
    """Yield the tensors with the most retained weights, where they were counted."""
    if len(diff.tensor_counts) != len(base.layout):
        return
    pairs = zip(base.layout, diff.tensor_counts, strict=True)
    counted = [(name, shape, count) for (name, shape), count in pairs if count]
    counted.sort(key=lambda tensor: -tensor[2])
    title = f"Tensors changed: {len(counted)} of {len(base.layout)}"
    if len(counted) > _MOST_TENSORS:
        title += f"; the {_MOST_TENSORS} with the most retained weights"
    yield Table(
        "tensors",
        title,
        columns("tensor, shape, retained: count, share: share"),
        tuple(
            (name, " x ".join(map(str, shape)), count, count / diff.n_entries)
            for name, shape, count in counted[:_MOST_TENSORS]
        ),
    )


_RUN = columns(
    "number = id: number, status: status, reason, started = started_at: time, "
    "finished = finished_at: time, last heartbeat = heartbeat_at: time"
)
_PROCESS = columns("scenario = scenario_name, scenario digest: digest, host, process = pid: number")
_DATA = columns(
    "task, provider, source, detail = source_detail, train_examples = n_train_examples: count, "
    "examples = examples_fingerprint: digest"
)
_CHANGED = columns(
    "task, truncated = n_truncated: count, truncated_dev = n_truncated_dev: count, "
    "skipped = n_skipped: count, unused = n_unused: count, dev_in_train = n_repeated: count"
)
_STORAGE = columns(
    "method, files = n_files: count, mean_density: share, mean_bytes: bytes, "
    "total_bytes = file_bytes: bytes, full_checkpoints = full_checkpoint_bytes: bytes"
)


def run_page(registry: Registry, run: RunRecord) -> Page:
    """Return the page of one run; the complete scenario is in the record."""
    base = registry.bases.get(run.base_fingerprint)
    totals = registry.totals.list("run", name=run.name)
    storage = registry.totals.by_method(run.id)
    scores = task_scores(registry.scores.list(run=run.id, primary=True))
    # The settings of one task are on its own page.
    settings = run.settings.without("version", "name", "base", "providers", "tasks")
    sections: tuple[Facts | Table, ...] = (
        _facts(run, base, totals),
        Facts("settings", "Settings", tuple(flat(settings))),
        Facts("environment", "Environment", tuple(flat(run.environment))),
        tabulate("data", "Data", _DATA, registry.arrivals.examples_used(run.id)),
        tabulate(
            "examples_changed",
            "Examples truncated, skipped, unused, or in both splits",
            _CHANGED,
            registry.arrivals.examples_changed(run.id),
        ),
        *_score_tables(scores, own=run.settings.primary_method),
        score_notes(registry, run, scores),
        tabulate("storage", "Stored files by method, all seeds", _STORAGE, storage),
        cost_table(task_costs(base, storage)),
        _totals(run, run_storage(registry, run, base), totals),
        *_device(registry.placements.list(run.id)),
        _device_requests(run, registry.placements.requests(run.id)),
    )
    return Page("run", run.name, asdict(run), sections)


def _score_tables(scores: Sequence[TaskScore], own: str | None = None) -> Iterator[Table]:
    """Yield a table for each method; with `own`, the primary method, its table first."""
    for method in dict.fromkeys([*filter(None, [own]), *(score.method for score in scores)]):
        baseline = "" if own in (None, method) else " (a baseline)"
        chosen = [score for score in scores if score.method == method]
        yield score_table(f"scores_{method}", f"Scores by {method}{baseline}", chosen)


def _facts(run: RunRecord, base: BaseRecord, totals: Sequence[Total]) -> Facts:
    counted = Counter[str]()
    for total in totals:
        stored = total.kind not in ("failed", "quarantined")
        counted["finished" if stored else total.kind] += total.n_arrivals
    facts = (
        *facts_of(run, _RUN),
        Fact("arrivals finished", counted["finished"], "count"),
        Fact("arrivals expected", run.n_expected, "count"),
        Fact("failed attempts", counted["failed"], "count"),
        Fact("quarantined submissions", counted["quarantined"] or None, "count"),
        Fact("base", base.model),
        Fact("base layers", "all" if base.layers is None else base.layers, "number"),
        Fact("base fingerprint", base.fingerprint, "digest"),
        *facts_of(run, _PROCESS),
    )
    return Facts("facts", "", facts)


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


def _device_requests(run: RunRecord, requests: Sequence[DeviceRequests]) -> Table:
    """Return how each eviction policy answers the same requests, and which one the run has."""
    known = columns("seed: number, policy, in use: flag, requests: count, hits: count, "
                    "misses: count, hit rate: share")  # fmt: skip
    rows = tuple(
        (
            *(one.seed, one.policy, one.policy == run.settings.device_policy),
            *(one.n_requests, one.n_hits, one.n_misses, one.hit_rate),
        )
        for one in requests
    )
    return Table("device_requests", "Requests to the device, by eviction policy", known, rows)


def _totals(run: RunRecord, storage: RunStorage, totals: Sequence[Total]) -> Facts:
    several = len(run.settings.seeds) > 1
    facts = (
        Fact("base file", storage.base_bytes, "bytes"),
        Fact(f"base + {storage.method}", storage.total_bytes, "bytes"),
        Fact("full checkpoints", storage.full_checkpoint_bytes, "bytes"),
        Fact("times smaller", storage.ratio, "ratio"),
        Fact("all files on disk", sum(total.stored.file_bytes for total in totals), "bytes"),
    )
    return Facts("totals", f"Storage of seed {storage.seed}" if several else "Storage", facts)


_PAGES: Mapping[Kind, Callable[[Registry, str, str], Page]] = {
    "run": lambda registry, name, _: run_page(registry, registry.runs.get(name)),
    "arrival": lambda registry, name, _: arrival_page(registry, registry.arrivals.get(int(name))),
    "diff": lambda registry, name, _: diff_page(registry, registry.artifacts.get(name)),
    "task": task_page,
    "base": lambda registry, name, _: base_page(registry.bases.get(name)),
}
