"""How much of their masks the cells of a row have in common, measured on their stored diffs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from streamlab.config import Settings
from streamlab.diff.format.container import decode
from streamlab.diff.vector import chance_overlap
from streamlab.home.store import ArtifactStore
from streamlab.registry.registry import Registry
from streamlab.study.records import CellRecord, Digest, Text, read_lines, write_lines
from streamlab.study.results import Results
from streamlab.study.study import LoadedStudy

Share = Annotated[float, Field(ge=0, le=1)]


class Overlap(Settings):
    """The Jaccard index of the masks of two cells that differ in their task or in their seed."""

    row: Text
    first: Digest
    second: Digest
    same: Literal["task", "seed"]
    jaccard: Share
    chance: Share
    """That of two uniform random masks of these densities."""


def measured(
    loaded: LoadedStudy, results: Results, registry: Registry, store: ArtifactStore
) -> Iterator[Overlap]:
    """Yield the overlaps of all pairs of reported diffs of a row that the store has."""
    for row in loaded.rows():
        found = results.reported(loaded, row)
        records = [r.record for by_seed in found.values() for r in by_seed.values() if r.record]
        there = [
            (record, artifact)
            for record in records
            if (artifact := record.artifact) is not None
            and artifact.kind == "diff"
            and artifact.n_entries
            and artifact.digest in store
        ]
        vectors = {
            artifact.digest: decode(
                store.get(artifact.digest), registry.bases.get(record.base).as_layout()
            )
            for record, artifact in there
        }
        for (one, its), (other, others) in itertools.combinations(there, 2):
            same = _same(one, other)
            if same is None or one.base != other.base:
                continue
            first, second = vectors[its.digest], vectors[others.digest]
            yield Overlap(
                row=row.label,
                first=one.cell,
                second=other.cell,
                same=same,
                jaccard=first.overlap(second),
                chance=chance_overlap(first.density, second.density),
            )


def _same(one: CellRecord, other: CellRecord) -> Literal["task", "seed"] | None:
    if (one.task == other.task) == (one.seed == other.seed):
        return None
    return "task" if one.task == other.task else "seed"


def read_overlaps(path: Path) -> list[Overlap]:
    """Return the overlaps in a file; none where there is no file. Raises ConfigError."""
    return read_lines(path, Overlap)


def write_overlaps(path: Path, overlaps: Iterable[Overlap]) -> int:
    """Write overlaps sorted, one for each pair; returns their number. Raises StreamlabError."""
    by_pair = {(one.row, one.first, one.second): one for one in overlaps}
    return write_lines(path, [by_pair[pair] for pair in sorted(by_pair)])
