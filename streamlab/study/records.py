"""The record of a cell, and the file in which a study's cells travel: sorted lines of JSON.

    studies/NAME.yaml        the study
    studies/NAME/cells.jsonl what was recorded of its cells, artifacts left out

A cell in the file counts as done wherever the study is run, as if it were in the registry there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import Field, JsonValue, StringConstraints, ValidationError

from streamlab.config import Settings
from streamlab.diff.layout import layer_of
from streamlab.errors import ConfigError, StreamlabError
from streamlab.files import read_text, write_atomically
from streamlab.hashing import canonical_json, parse_json
from streamlab.problems import message
from streamlab.registry.records import ArrivalRecord, DiffRecord, RunRecord, ScoreRecord

MAX_BYTES: Final = 5_000_000  # of a file of cells

AnyRecord = TypeVar("AnyRecord", bound=Settings)
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, StringConstraints(max_length=1000)]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]


class CellScore(Settings):
    """One metric of a cell's stored artifact on one split."""

    metric: Text
    split: Literal["dev", "validation"]
    value: float
    n_examples: Count
    is_primary: bool


class CellArtifact(Settings):
    """The stored artifact of a cell; sizes are bytes of the parts of its file."""

    digest: Digest
    kind: Literal["diff", "checkpoint", "adapter"]
    value_type: Text
    n_gated: Count
    n_entries: Count
    n_head_entries: Count
    file_bytes: Count
    positions_bytes: Count
    values_bytes: Count
    head_bytes: Count
    metadata_bytes: Count
    layers: Mapping[str, Count] = {}
    """Entries that change, by layer; of a diff."""


class CellRecord(Settings):
    """What was recorded of one cell that is done, or whose training broke down."""

    cell: Digest
    """The digest of its scenario."""
    row: Text
    setting: Mapping[str, bool | int | float | str]
    task: Text
    seed: Count
    status: Literal["finished", "failed", "quarantined"]
    reason: Text | None = None
    method: Mapping[str, JsonValue]
    """Its settings, resolved."""
    n_steps: Count
    training_seconds: float
    evaluation_seconds: float
    n_train_examples: Count
    examples: Text
    """The fingerprint of the examples."""
    source: Text
    base: Text
    """The fingerprint of the base."""
    training: Mapping[str, JsonValue] = {}
    """What the method recorded of its training."""
    environment: Mapping[str, Text]
    artifact: CellArtifact | None = None
    scores: tuple[CellScore, ...] = ()

    def score(self, split: str) -> CellScore | None:
        """Return the primary score on a split."""
        return next((s for s in self.scores if s.split == split and s.is_primary), None)


def describe_cell(
    named: Mapping[str, Any],
    run: RunRecord,
    arrival: ArrivalRecord,
    diff: DiffRecord | None,
    layout: Sequence[tuple[str, object]],
    scores: Sequence[ScoreRecord],
) -> CellRecord:
    """Return the record of a cell; `named`: its row, setting, task and seed.

    `layout`: names and shapes of the base's tensors.
    """
    mine = [score for score in scores if score.arrival_id == arrival.id]
    artifact = None
    if diff is not None:
        kept = {f: getattr(diff, f) for f in CellArtifact.model_fields if f != "layers"}
        layers = Counter[str]()
        if diff.kind == "diff":
            for (name, _), count in zip(layout, diff.tensor_counts, strict=True):
                layers[layer_of(name)] += count
        artifact = CellArtifact(**kept, layers=layers)
    return CellRecord(
        **named,
        cell=run.scenario_digest,
        status=arrival.status,
        reason=arrival.reason and arrival.reason[:1000],
        method=dict(arrival.details.method),
        n_steps=arrival.n_steps,
        training_seconds=round(arrival.training_seconds, 3),
        evaluation_seconds=round(arrival.evaluation_seconds, 3),
        n_train_examples=arrival.n_train_examples,
        examples=arrival.examples_fingerprint,
        source=arrival.source,
        base=run.base_fingerprint,
        training=dict(arrival.details.reported.training),
        environment=dict(run.environment),
        artifact=artifact,
        scores=tuple(
            CellScore(**{f: getattr(score, f) for f in CellScore.model_fields}) for score in mine
        ),
    )


def read_cells(path: Path) -> dict[str, CellRecord]:
    """Return the records in a file by their cells' digests; empty where there is no file.

    Raises ConfigError naming every line that is not a record.
    """
    return {record.cell: record for record in read_lines(path, CellRecord)}


def read_lines(path: Path, kind: type[AnyRecord]) -> list[AnyRecord]:
    """Return the records of one kind in a file of JSON lines; none where there is no file.

    Raises ConfigError naming every line that is not one.
    """
    if not path.exists():
        return []
    found, problems = [], []
    for number, line in enumerate(read_text(path, most_bytes=MAX_BYTES).splitlines(), start=1):
        try:
            found.append(kind.model_validate(parse_json(line)))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            problems.append(f"line {number}: `{place}`: {message(first, kind)}")
        except ValueError as error:
            problems.append(f"line {number}: is no JSON: {error}")
    if problems:
        raise ConfigError(str(path), problems)
    return found


def write_cells(path: Path, records: Iterable[CellRecord]) -> int:
    """Write records sorted, so that the same ones give the same bytes; returns their number.

    Raises StreamlabError where they take more than 5 MB.
    """
    ordered: list[CellRecord] = sorted(records, key=_order)
    return write_lines(path, ordered)


def write_lines(path: Path, records: Sequence[Settings]) -> int:
    """Write records as lines of JSON, atomically; returns their number. Raises StreamlabError."""
    lines = [canonical_json(record.model_dump(mode="json")) + "\n" for record in records]
    data = "".join(lines).encode()
    if len(data) > MAX_BYTES:
        raise StreamlabError(
            f"{len(lines):,} records take {len(data):,} bytes, and {path.name} may have "
            f"{MAX_BYTES:,}. Export a smaller study."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)
    return len(lines)


def _order(record: CellRecord) -> tuple[str, str, int, str, str]:
    setting = canonical_json(dict(record.setting))
    return record.row, record.task, record.seed, setting, record.cell
