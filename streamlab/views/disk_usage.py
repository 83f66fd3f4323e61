"""Disk usage of a home: logical bytes count a file once per arrival, physical bytes once.

Sums are aggregated by the registry, so that no arrival is read. A file shared by two tasks is
physical in both, and counted once in the sum over all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from itertools import groupby
from pathlib import Path
from typing import Literal, get_args

from streamlab.home.folder import Home
from streamlab.registry.records import Parts, Total
from streamlab.registry.registry import Registry
from streamlab.views.table import Cell, Table, columns

By = Literal["task", "provider", "method", "part", "run"]
BYS: tuple[By, ...] = get_args(By)

# `share`: of all physical bytes; `baseline_bytes`: physical bytes of checkpoints and adapters.
_BYTES = "logical_bytes: bytes, physical_bytes: bytes, share: share"
_GROUPED = f"arrivals: count, files: count, {_BYTES}, [baseline_bytes: bytes]"
_PLACES = columns("what, files: count, logical_bytes: bytes, physical_bytes: bytes")


def usage(registry: Registry, by: By) -> Table:
    """Return the bytes of stored files by task, provider, ..., the most physical bytes first.

    Removed arrivals are left out.
    """
    kinds = registry.totals.list("all")
    every = _physical(kinds)
    if by == "part":
        known, rows = columns(f"part, {_BYTES}"), _by_part(kinds, every)
    else:
        known, rows = columns(f"{by}, {_GROUPED}"), _by_name(registry.totals.list(by), every)
    table = Table("usage", f"Bytes by {by}", known, tuple(rows))
    return table.sort("physical_bytes", descending=True)


def home_usage(registry: Registry, home: Home) -> Table:
    """Return the bytes of everything in a home: files in use, removed, quarantined, curves, ..."""
    kinds = registry.totals.list("all")
    removed = registry.removal.list().artifacts
    n_curves, curve_bytes = _walked(home.curves)
    n_held, held_bytes = _walked(home.quarantine)
    n_figures, figure_bytes = _walked(home.figures)
    n_reports, report_bytes = _walked(home.reports)
    rows: list[tuple[Cell, ...]] = [
        *(_kind(kinds, kind, name) for kind, name in _KINDS),
        ("removed", len(removed), None, sum(artifact.file_bytes for artifact in removed)),
    ]
    n_cached, cached_bytes = _walked(home.cache)
    n_stored, stored_bytes = _walked(home.store)
    n_more = max(0, n_stored - _summed(rows, 1))
    more_bytes = max(0, stored_bytes - _summed(rows, 3))
    rows += [
        # Kept by a tag though removed, without a record, or partly written; see `verify`.
        ("other in store", n_more, None, more_bytes),
        ("curves", n_curves, None, curve_bytes),
        ("figures", n_figures + n_reports, None, figure_bytes + report_bytes),
        ("quarantine", n_held, None, held_bytes),
        ("registry", 1, None, registry.disk_bytes()),
    ]
    if n_cached:  # copies of files that another store has
        rows.append(("cache", n_cached, None, cached_bytes))
    n_stages, stage_bytes = _walked(home.stages)
    if n_stages:  # of studies
        rows.append(("shared stages", n_stages, None, stage_bytes))
    logical = sum(total.logical.file_bytes for total in kinds)
    rows.append(("total", _summed(rows, 1), logical, _summed(rows, 3)))
    return Table("usage", "Bytes of the home", _PLACES, tuple(rows))


def _summed(rows: Iterable[tuple[Cell, ...]], place: int) -> int:
    return sum(value for row in rows if isinstance(value := row[place], int))


_KINDS = (("diff", "diffs"), ("checkpoint", "checkpoints"), ("adapter", "adapters"))


def _kind(totals: Iterable[Total], kind: str, name: str) -> tuple[Cell, ...]:
    own = [total for total in totals if total.kind == kind]
    return (
        name,
        sum(total.n_files for total in own),
        sum(total.logical.file_bytes for total in own),
        _physical(own),
    )


def _by_name(totals: Sequence[Total], every: int) -> Iterator[tuple[Cell, ...]]:
    stored = [total for total in totals if total.kind not in ("failed", "quarantined")]
    for name, group in groupby(stored, key=lambda total: total.name):
        own = list(group)
        yield (
            name,
            sum(total.n_arrivals for total in own),
            sum(total.n_files for total in own),
            sum(total.logical.file_bytes for total in own),
            _physical(own),
            _share(_physical(own), every),
            _physical(total for total in own if total.kind != "diff"),
        )


def _by_part(totals: Sequence[Total], every: int) -> Iterator[tuple[Cell, ...]]:
    for field in fields(Parts):
        logical = sum(getattr(total.logical, field.name) for total in totals)
        stored = sum(getattr(total.stored, field.name) for total in totals)
        yield (field.name.removesuffix("_bytes"), logical, stored, _share(stored, every))


def _physical(totals: Iterable[Total]) -> int:
    return sum(total.stored.file_bytes for total in totals)


def _share(n_bytes: int, every: int) -> float | None:
    return n_bytes / every if every else None


def _walked(folder: Path) -> tuple[int, int]:
    """Return the number and the bytes of the files below a folder; ignore files that vanish."""
    n_files = n_bytes = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                n_bytes += os.lstat(f"{where}/{name}").st_size
            except FileNotFoundError:
                continue
            n_files += 1
    return n_files, n_bytes
