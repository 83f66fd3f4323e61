"""The page of a run: its settings, environment and data, scores by task, and what it stores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import get_args

from streamlab.registry.device_log import (
    PlacementAction,
    PlacementRecord,
    find_full_us,
)
from streamlab.registry.own import own_method
from streamlab.registry.records import BaseRecord, ExamplesUsed, MethodStorage, RunRecord, Total
from streamlab.registry.registry import Registry
from streamlab.units import DAY_US
from streamlab.views.details import flat
from streamlab.views.scores import score_table, task_scores
from streamlab.views.table import Column, Fact, Facts, Page, Table


def run_page(registry: Registry, run: RunRecord) -> Page:
    """Show one run; the scenario as a whole is in the record."""
    base = registry.base(run.base_fingerprint)
    totals = registry.totals("run", name=run.name)
    storage = registry.method_storage(run.id)
    scores = task_scores(registry.scores(run=run.id, primary=True))
    methods = list(dict.fromkeys([own_method(run), *(score.method for score in scores)]))
    tables = [
        score_table(
            f"scores_{method}",
            f"Scores by {method}" + ("" if method == own_method(run) else " (a baseline)"),
            [score for score in scores if score.method == method],
        )
        for method in methods
    ]
    sections: tuple[Facts | Table, ...] = (
        _facts(run, base, totals),
        Facts("settings", "Settings", _settings(run)),
        Facts("environment", "Environment", tuple(flat(run.environment))),
        _data(registry.rows_used(run.id)),
        *tables,
        _storage(storage),
        _totals(run, base, storage, totals),
        *_device(registry.placements(run.id)),
    )
    return Page("run", run.name, asdict(run), sections)


def _facts(run: RunRecord, base: BaseRecord, totals: Sequence[Total]) -> Facts:
    counted = Counter[str]()
    for total in totals:
        lost = total.kind in ("failed", "quarantined")
        counted[total.kind if lost else "finished"] += total.n_arrivals
    return Facts(
        "facts",
        "",
        (
            Fact("number", run.id, "number"),
            Fact("status", run.status, "status"),
            Fact("reason", run.reason),
            Fact("started", run.started_at, "time"),
            Fact("finished", run.finished_at, "time"),
            Fact("last sign of life", run.heartbeat_at, "time"),
            Fact("arrivals finished", counted["finished"], "count"),
            Fact("arrivals expected", run.n_expected, "count"),
            Fact("failed attempts", counted["failed"], "count"),
            *_quarantined(counted["quarantined"]),
            Fact("base", base.model),
            Fact("base layers", "all" if base.layers is None else base.layers, "number"),
            Fact("base fingerprint", base.fingerprint, "digest"),
            Fact("scenario", run.scenario_name),
            Fact("scenario digest", run.scenario_digest, "digest"),
            Fact("host", run.host),
            Fact("process", run.pid, "number"),
        ),
    )


def _quarantined(count: int) -> tuple[Fact, ...]:
    """Return how many submissions were stopped, where any was."""
    return (Fact("quarantined submissions", count, "count"),) if count else ()


def _device(log: Sequence[PlacementRecord]) -> Iterator[Facts]:
    """Yield what became of the artifacts on the device, one section for each seed's."""
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
    """Return what holds for every task; each task's own settings are on the task's page."""
    elsewhere = ("version", "name", "base", "providers", "tasks")
    tree = {name: value for name, value in run.scenario.items() if name not in elsewhere}
    return tuple(flat(tree))


def _data(used: Sequence[ExamplesUsed]) -> Table:
    columns = (
        *(Column("task"), Column("provider"), Column("source"), Column("detail")),
        *(Column("train_rows", "count"), Column("rows", "digest")),
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
    own = [method for method in storage if method.method == own_method(run)]
    ours = base.file_bytes + sum(method.file_bytes for method in own)
    full = sum(method.full_checkpoint_bytes for method in own)
    facts = (
        Fact("base file", base.file_bytes, "bytes"),
        Fact(f"base + {own_method(run)}", ours, "bytes"),
        Fact("full checkpoints", full, "bytes"),
        Fact("times smaller", full / ours, "ratio"),
        Fact("artifacts on disk", sum(total.stored.file_bytes for total in totals), "bytes"),
    )
    return Facts("totals", "Storage, all seeds", facts)
