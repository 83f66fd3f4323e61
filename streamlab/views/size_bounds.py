"""Entropy bounds on the bytes of a stored diff's parts, and its position rule, from its file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from streamlab.errors import StreamlabError
from streamlab.home.store import ArtifactStore
from streamlab.registry.records import DiffRecord
from streamlab.registry.registry import Registry
from streamlab.views.table import Cell, Column, Fact, Facts, Page, Table

if TYPE_CHECKING:
    from streamlab.diff.format.values import ValueType
    from streamlab.diff.vector import DiffVector


def with_bounds(page: Page, registry: Registry, store: ArtifactStore) -> Page:
    """Add bounds to the bytes on a diff's page; any other page is returned unchanged.

    So is the page of a diff whose file is not in the store or cannot be read. Positions that a
    rule regenerates have no bound, and the rule is named.
    """
    if page.kind != "diff":
        return page
    found = _read(registry.artifacts.get(page.name), registry, store)
    if found is None:
        return page  # `verify` reports damaged files
    from streamlab.diff.entropy import two_part_bound, value_entropy

    diff, value_type = found
    bounds: dict[Cell, float] = {"values": value_entropy(diff, value_type) / 8}
    if diff.rule is None:
        bounds["positions"] = two_part_bound(diff) / 8
    sections = (
        _extended(part, bounds) if isinstance(part, Table) and part.key == "parts" else part
        for part in page.sections
    )
    page = replace(page, sections=tuple(sections))
    return page if diff.rule is None else _named(page, diff.rule.name)


def find_positions_bound(
    record: DiffRecord, registry: Registry, store: ArtifactStore
) -> float | None:
    """Return the two-part bound of a diff's positions in bytes.

    None without a readable file, and where a rule regenerates them.
    """
    found = _read(record, registry, store)
    if found is None or found[0].rule is not None:
        return None
    from streamlab.diff.entropy import two_part_bound

    return two_part_bound(found[0]) / 8


def _read(
    record: DiffRecord, registry: Registry, store: ArtifactStore
) -> tuple[DiffVector, ValueType] | None:
    """Return a stored diff with the type of its values; None without a readable file."""
    if record.kind != "diff" or record.digest not in store:
        return None
    # Here, so that other pages do not load the codecs.
    from streamlab.diff.format.container import open_diff

    try:
        file = open_diff(store.get(record.digest))
        layout = registry.bases.get(record.base_fingerprint).as_layout()
        return file.decode(layout), file.header.value_type
    except StreamlabError:
        return None


def _named(page: Page, rule: str) -> Page:
    """Return a page with the name of the position rule among its facts."""
    sections = (
        replace(part, facts=(*part.facts, Fact("positions by rule", rule)))
        if isinstance(part, Facts) and part.key == "facts"
        else part
        for part in page.sections
    )
    return replace(page, sections=tuple(sections))


def _extended(table: Table, bounds: dict[Cell, float]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for part, size, *rest in table.rows:
        bound = bounds.get(part)
        over = size / bound - 1 if bound and isinstance(size, int) else None
        rows.append((part, size, *rest, round(bound) if bound else None, over))
    columns = (*table.columns, Column("bound", "count"), Column("over", "share"))
    return replace(table, columns=columns, rows=tuple(rows))
