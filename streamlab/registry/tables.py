"""The tables, private to the registry: constraints that hold by themselves, an index per listing.

    bases <- runs <- arrivals -> providers, tasks
    bases <- diffs <- arrivals <- scores          events stand alone
    runs, arrivals, diffs <- tags

The migrations build the same tables; a test compares the two.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Tables(DeclarativeBase):
    """Hold the metadata; every constraint has a name, so that a migration can change it."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - read once, by SQLAlchemy
        dict[str, Any]: JSON,
        list[Any]: JSON,
        float: Double,
    }


class BaseRow(Tables):
    """A pretrained base."""

    __tablename__ = "bases"
    __table_args__ = (
        CheckConstraint(
            "n_tensors > 0 AND n_parameters > 0 AND weights_bytes > 0 AND file_bytes > 0",
            name="sizes",
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64), unique=True)
    model: Mapped[str] = mapped_column(Text)
    revision: Mapped[str | None] = mapped_column(Text)
    layers: Mapped[int | None]
    n_tensors: Mapped[int]
    n_parameters: Mapped[int] = mapped_column(BigInteger)
    weights_bytes: Mapped[int] = mapped_column(BigInteger)
    file_bytes: Mapped[int] = mapped_column(BigInteger)
    layout: Mapped[list[Any]]
    initialised: Mapped[list[Any]]
    added_at: Mapped[float]


class RunRow(Tables):
    """A run; `number` counts within its scenario's name."""

    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("scenario_name", "number"),
        CheckConstraint(
            "status IN ('running', 'finished', 'failed', 'interrupted')", name="status"
        ),
        CheckConstraint(
            "(status = 'running' AND finished_at IS NULL)"
            " OR (status <> 'running' AND finished_at IS NOT NULL)",
            name="finished_at",
        ),
        CheckConstraint("number > 0 AND n_expected >= 0", name="counts"),
        Index("ix_runs_scenario_digest", "scenario_digest", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    scenario_name: Mapped[str] = mapped_column(Text)
    number: Mapped[int]
    scenario: Mapped[dict[str, Any]]
    scenario_digest: Mapped[str] = mapped_column(String(64))
    base_id: Mapped[int] = mapped_column(ForeignKey("bases.id"))
    environment: Mapped[dict[str, Any]]
    n_expected: Mapped[int]
    status: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(Text)
    started_at: Mapped[float]
    heartbeat_at: Mapped[float]
    finished_at: Mapped[float | None]
    host: Mapped[str] = mapped_column(Text)
    pid: Mapped[int] = mapped_column(BigInteger)


class ProviderRow(Tables):
    """A provider's name."""

    __tablename__ = "providers"
    __table_args__ = (CheckConstraint("name <> ''", name="name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)


class TaskRow(Tables):
    """A task's name."""

    __tablename__ = "tasks"
    __table_args__ = (CheckConstraint("name <> ''", name="name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)


class DiffRow(Tables):
    """A stored artifact; several arrivals may share it."""

    __tablename__ = "diffs"
    __table_args__ = (
        CheckConstraint("kind IN ('diff', 'checkpoint')", name="kind"),
        CheckConstraint("n_entries BETWEEN 0 AND n_gated AND n_head_entries >= 0", name="entries"),
        CheckConstraint(
            "positions_bytes >= 0 AND values_bytes >= 0 AND head_bytes >= 0"
            " AND metadata_bytes >= 0 AND full_checkpoint_bytes >= 0"
            " AND positions_bytes + values_bytes + head_bytes + metadata_bytes = file_bytes",
            name="bytes",
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    kind: Mapped[str] = mapped_column(String(16))
    base_id: Mapped[int] = mapped_column(ForeignKey("bases.id"))
    value_type: Mapped[str] = mapped_column(String(16))
    n_gated: Mapped[int] = mapped_column(BigInteger)
    n_entries: Mapped[int] = mapped_column(BigInteger)
    n_head_entries: Mapped[int] = mapped_column(BigInteger)
    file_bytes: Mapped[int] = mapped_column(BigInteger)
    positions_bytes: Mapped[int] = mapped_column(BigInteger)
    values_bytes: Mapped[int] = mapped_column(BigInteger)
    head_bytes: Mapped[int] = mapped_column(BigInteger)
    metadata_bytes: Mapped[int] = mapped_column(BigInteger)
    full_checkpoint_bytes: Mapped[int] = mapped_column(BigInteger)
    tensor_counts: Mapped[bytes] = mapped_column(LargeBinary)  # packed, see counts.py
    added_at: Mapped[float]


# One that was removed may be made anew.
_FINISHED = text("status = 'finished' AND removed_at IS NULL")
_REMOVED = text("removed_at IS NOT NULL")


class ArrivalRow(Tables):
    """An arrival: finished with an artifact, or failed with a reason.

    One with `removed_at` is left out of every listing until it is restored or gone for good.
    Each index ends in the order arrivals are listed in: run, seed, sequence, method, id.
    """

    __tablename__ = "arrivals"
    __table_args__ = (
        CheckConstraint(
            "(status = 'finished' AND diff_id IS NOT NULL AND reason IS NULL)"
            " OR (status = 'failed' AND diff_id IS NULL AND reason IS NOT NULL)",
            name="status",
        ),
        CheckConstraint(
            "sequence >= 0 AND version >= 0 AND attempt >= 0 AND n_steps >= 0"
            " AND n_train_rows >= 0 AND peak_memory_bytes >= 0"
            " AND training_seconds >= 0 AND evaluation_seconds >= 0",
            name="amounts",
        ),
        Index(
            "uq_arrivals_finished",
            *("run_id", "seed", "provider_id", "task_id", "version", "method"),
            unique=True,
            sqlite_where=_FINISHED,
            postgresql_where=_FINISHED,
        ),
        Index("ix_arrivals_run", "run_id", "seed", "sequence", "method", "id"),
        Index("ix_arrivals_task", "task_id", "run_id", "seed", "sequence", "method", "id"),
        Index("ix_arrivals_provider", "provider_id", "run_id", "seed", "sequence", "method", "id"),
        Index("ix_arrivals_method", "method", "run_id", "seed", "sequence", "id"),
        Index("ix_arrivals_status", "status", "run_id", "seed", "sequence", "method", "id"),
        Index("ix_arrivals_diff", "diff_id"),
        Index("ix_arrivals_run_diff", "run_id", "diff_id"),
        Index(
            "ix_arrivals_removed",
            *("removed_at", "diff_id"),
            sqlite_where=_REMOVED,
            postgresql_where=_REMOVED,
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    seed: Mapped[int] = mapped_column(BigInteger)
    sequence: Mapped[int]
    provider_id: Mapped[int] = mapped_column(ForeignKey("providers.id"))
    task_id: Mapped[int] = mapped_column(ForeignKey("tasks.id"))
    version: Mapped[int]
    method: Mapped[str] = mapped_column(Text)
    attempt: Mapped[int]
    status: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(Text)
    diff_id: Mapped[int | None] = mapped_column(ForeignKey("diffs.id"))
    started_at: Mapped[float]
    finished_at: Mapped[float]
    n_steps: Mapped[int] = mapped_column(BigInteger)
    training_seconds: Mapped[float]
    evaluation_seconds: Mapped[float]
    peak_memory_bytes: Mapped[int] = mapped_column(BigInteger)
    source: Mapped[str] = mapped_column(Text)
    source_detail: Mapped[str] = mapped_column(Text)
    rows_fingerprint: Mapped[str] = mapped_column(Text)
    n_train_rows: Mapped[int] = mapped_column(BigInteger)
    details: Mapped[dict[str, Any]]
    removed_at: Mapped[float | None]


class ScoreRow(Tables):
    """A score of an arrival's artifact, measured after some arrival."""

    __tablename__ = "scores"
    __table_args__ = (
        # In the order scores are listed in, below their arrival.
        UniqueConstraint("arrival_id", "after_sequence", "split", "metric"),
        CheckConstraint("n_rows > 0 AND after_sequence >= 0", name="counts"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    arrival_id: Mapped[int] = mapped_column(ForeignKey("arrivals.id"))
    metric: Mapped[str] = mapped_column(String(64))
    value: Mapped[float]
    split: Mapped[str] = mapped_column(String(64))
    n_rows: Mapped[int] = mapped_column(BigInteger)
    after_sequence: Mapped[int]
    is_primary: Mapped[bool]
    added_at: Mapped[float]


class TagRow(Tables):
    """A name that a person gave to one run, arrival or artifact."""

    __tablename__ = "tags"
    __table_args__ = (
        UniqueConstraint("kind", "name"),
        CheckConstraint("name <> ''", name="name"),
        CheckConstraint(
            "(kind = 'run' AND run_id IS NOT NULL AND arrival_id IS NULL AND diff_id IS NULL)"
            " OR (kind = 'arrival' AND arrival_id IS NOT NULL AND run_id IS NULL"
            " AND diff_id IS NULL)"
            " OR (kind = 'diff' AND diff_id IS NOT NULL AND run_id IS NULL"
            " AND arrival_id IS NULL)",
            name="kind",
        ),
        Index("ix_tags_arrival", "arrival_id"),
        Index("ix_tags_diff", "diff_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(64))
    run_id: Mapped[int | None] = mapped_column(ForeignKey("runs.id"))
    arrival_id: Mapped[int | None] = mapped_column(ForeignKey("arrivals.id"))
    diff_id: Mapped[int | None] = mapped_column(ForeignKey("diffs.id"))
    added_at: Mapped[float]


class EventRow(Tables):
    """A line of the log, which is only ever appended to."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float]
    kind: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text)
    version: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str | None] = mapped_column(String(64))  # of the artifact it is about
