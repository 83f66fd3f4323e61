"""The tables, private to the registry: constraints that hold by themselves, an index per listing.

    bases <- runs <- arrivals -> providers, tasks
    bases <- diffs <- arrivals <- scores          events stand alone
    arrivals <- details                           runs, arrivals <- placements
    runs, arrivals, diffs <- tags                 runs <- device_requests
    totals follow the arrivals

They are declared as classes whose attributes are their columns, without SQLAlchemy's mapper:
loading it takes a quarter of the time in which a short command is to answer, and the registry
returns records of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, ClassVar, TypeVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
    select,
)
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import TypeEngine

from streamlab.registry.backends import WHERE, WHOLE
from streamlab.registry.conditions import Joined

Value = TypeVar("Value")
# What no two finished arrivals share.
UNIQUE_COLUMNS = ("run_id", "seed", "provider_id", "task_id", "version", "method")


class Tables:
    """Hold the metadata; every constraint has a name, so that a migration can change it."""

    metadata: ClassVar[MetaData] = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    __tablename__: ClassVar[str]
    __table_args__: ClassVar[Sequence[SchemaItem]] = ()
    __table__: ClassVar[Table]

    def __init_subclass__(cls) -> None:
        columns = []
        for name, value in vars(cls).items():
            if isinstance(value, Column):
                value.name = value.key = name
                columns.append(value)
        cls.__table__ = Table(cls.__tablename__, cls.metadata, *columns, *cls.__table_args__)

    @classmethod
    def __clause_element__(cls) -> Table:
        """Let the class stand for its table in a statement."""
        return cls.__table__


def primary_key(*parts: SchemaItem) -> ColumnElement[int]:
    """Return the column of a row's id; without a foreign key the database gives it."""
    return Column(WHOLE, *parts, primary_key=True)


def required(
    kind: TypeEngine[Value] | type[TypeEngine[Value]], *parts: SchemaItem, unique: bool = False
) -> ColumnElement[Value]:
    """Return a column that every row fills."""
    return Column(kind, *parts, nullable=False, unique=unique or None)


def optional(
    kind: TypeEngine[Value] | type[TypeEngine[Value]], *parts: SchemaItem
) -> ColumnElement[Value | None]:
    """Return a column that may be NULL."""
    column: ColumnElement[Any] = Column(kind, *parts, nullable=True)
    return column


class BaseRow(Tables):
    """A pretrained base."""

    __tablename__ = "bases"
    __table_args__ = (
        CheckConstraint(
            "n_tensors > 0 AND n_parameters > 0 AND weights_bytes > 0 AND file_bytes > 0",
            name="sizes",
        ),
    )

    id = primary_key()
    fingerprint = required(String(64), unique=True)
    model = required(Text)
    revision = optional(Text)
    layers = optional(WHOLE)
    n_tensors = required(WHOLE)
    n_parameters = required(BigInteger)
    weights_bytes = required(BigInteger)
    file_bytes = required(BigInteger)
    layout = required(JSON)
    initialised = required(JSON)
    added_at = required(Double)


class RunRow(Tables):
    """A run; `number` counts within its scenario's name."""

    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("scenario_name", "number"),
        CheckConstraint(
            "status IN ('running', 'finished', 'failed', 'interrupted')", name="status"
        ),
        CheckConstraint("(status = 'running') = (finished_at IS NULL)", name="finished_at"),
        CheckConstraint("number > 0 AND n_expected >= 0", name="counts"),
        Index("ix_runs_scenario_digest", "scenario_digest", "id"),
    )

    id = primary_key()
    name = required(Text, unique=True)
    scenario_name = required(Text)
    number = required(WHOLE)
    scenario = required(JSON)
    scenario_digest = required(String(64))
    base_id = required(WHOLE, ForeignKey("bases.id"))
    environment = required(JSON)
    n_expected = required(WHOLE)
    status = required(String(16))
    reason = optional(Text)
    started_at = required(Double)
    heartbeat_at = required(Double)
    finished_at = optional(Double)
    host = required(Text)
    pid = required(BigInteger)


class ProviderRow(Tables):
    """A provider's name."""

    __tablename__ = "providers"
    __table_args__ = (CheckConstraint("name <> ''", name="name"),)

    id = primary_key()
    name = required(Text, unique=True)


class TaskRow(Tables):
    """A task's name."""

    __tablename__ = "tasks"
    __table_args__ = (CheckConstraint("name <> ''", name="name"),)

    id = primary_key()
    name = required(Text, unique=True)


class DiffRow(Tables):
    """A stored artifact; several arrivals may share it."""

    __tablename__ = "diffs"
    __table_args__ = (
        CheckConstraint("kind IN ('diff', 'checkpoint', 'adapter')", name="kind"),
        CheckConstraint("n_entries BETWEEN 0 AND n_gated AND n_head_entries >= 0", name="entries"),
        CheckConstraint(
            "positions_bytes >= 0 AND values_bytes >= 0 AND head_bytes >= 0"
            " AND metadata_bytes >= 0 AND full_checkpoint_bytes >= 0"
            " AND positions_bytes + values_bytes + head_bytes + metadata_bytes = file_bytes",
            name="bytes",
        ),
    )

    id = primary_key()
    digest = required(String(64), unique=True)
    kind = required(String(16))
    base_id = required(WHOLE, ForeignKey("bases.id"))
    value_type = required(String(16))
    n_gated = required(BigInteger)
    n_entries = required(BigInteger)
    n_head_entries = required(BigInteger)
    file_bytes = required(BigInteger)
    positions_bytes = required(BigInteger)
    values_bytes = required(BigInteger)
    head_bytes = required(BigInteger)
    metadata_bytes = required(BigInteger)
    full_checkpoint_bytes = required(BigInteger)
    tensor_counts = required(LargeBinary)  # packed by `artifacts.pack_counts`
    added_at = required(Double)


class ArrivalRow(Tables):
    """An arrival: finished with an artifact, failed, or quarantined by a rule.

    One with `removed_at` is left out of every listing until it is restored or gone for good.
    Each index ends in the order arrivals are listed in: run, seed, sequence, method, id.
    """

    __tablename__ = "arrivals"
    __table_args__ = (
        CheckConstraint(
            "status IN ('finished', 'failed', 'quarantined')"
            " AND (status = 'finished') = (diff_id IS NOT NULL)"
            " AND (status = 'finished') = (reason IS NULL)"
            " AND (status = 'quarantined') = (rule IS NOT NULL)",
            name="status",
        ),
        CheckConstraint(
            "(arrived_us IS NULL AND began_us IS NULL AND ended_us IS NULL)"
            " OR (arrived_us IS NOT NULL AND began_us IS NOT NULL AND ended_us IS NOT NULL"
            " AND 0 <= arrived_us AND arrived_us <= began_us AND began_us <= ended_us)",
            name="clock",
        ),
        CheckConstraint(
            "sequence >= 0 AND version >= 0 AND attempt >= 0 AND n_steps >= 0"
            " AND n_train_examples >= 0 AND peak_memory_bytes >= 0"
            " AND training_seconds >= 0 AND evaluation_seconds >= 0",
            name="amounts",
        ),
        Index(
            "uq_arrivals_finished",
            *UNIQUE_COLUMNS,
            info={WHERE: "status = 'finished' AND removed_at IS NULL"},  # a removed one may recur
            unique=True,
        ),
        Index("ix_arrivals_run", "run_id", "seed", "sequence", "method", "id"),
        Index("ix_arrivals_task", "task_id", "run_id", "seed", "sequence", "method", "id"),
        Index("ix_arrivals_provider", "provider_id", "run_id", "seed", "sequence", "method", "id"),
        Index("ix_arrivals_method", "method", "run_id", "seed", "sequence", "id"),
        Index("ix_arrivals_status", "status", "run_id", "seed", "sequence", "method", "id"),
        Index("ix_arrivals_diff", "diff_id"),
        Index("ix_arrivals_run_diff", "run_id", "diff_id"),
        Index(
            "ix_arrivals_removed", "removed_at", "diff_id", info={WHERE: "removed_at IS NOT NULL"}
        ),
    )

    id = primary_key()
    run_id = required(WHOLE, ForeignKey("runs.id"))
    seed = required(BigInteger)
    sequence = required(WHOLE)
    provider_id = required(WHOLE, ForeignKey("providers.id"))
    task_id = required(WHOLE, ForeignKey("tasks.id"))
    version = required(WHOLE)
    method = required(Text)
    attempt = required(WHOLE)
    status = required(String(16))
    reason = optional(Text)
    diff_id = optional(WHOLE, ForeignKey("diffs.id"))
    started_at = required(Double)
    finished_at = required(Double)
    n_steps = required(BigInteger)
    training_seconds = required(Double)
    evaluation_seconds = required(Double)
    peak_memory_bytes = required(BigInteger)
    source = required(Text)
    source_detail = required(Text)
    examples_fingerprint = required(Text)
    n_train_examples = required(BigInteger)
    removed_at = optional(Double)
    arrived_us = optional(BigInteger)  # these three of the virtual clock
    began_us = optional(BigInteger)
    ended_us = optional(BigInteger)
    rule = optional(Text)  # of admission, that a quarantined submission broke
    behaviour = optional(Text)  # of the simulated provider
    declared_score = optional(Double)


class DetailsRow(Tables):
    """The details of an arrival, apart from its row: most queries go without these 2 kB."""

    __tablename__ = "details"

    arrival_id = primary_key(ForeignKey("arrivals.id"))
    details = required(JSON)


class ScoreRow(Tables):
    """A score of an arrival's artifact, measured after some arrival."""

    __tablename__ = "scores"
    __table_args__ = (
        # In the order scores are listed in, below their arrival.
        UniqueConstraint("arrival_id", "after_sequence", "split", "metric"),
        CheckConstraint("n_examples > 0 AND after_sequence >= 0", name="counts"),
    )

    id = primary_key()
    arrival_id = required(WHOLE, ForeignKey("arrivals.id"))
    metric = required(String(64))
    value = required(Double)
    majority = optional(Double)  # by answering every example with the majority class
    split = required(String(64))
    n_examples = required(BigInteger)
    after_sequence = required(WHOLE)
    is_primary = required(Boolean)
    added_at = required(Double)


class TagRow(Tables):
    """A name that a person gave to one run, arrival or artifact."""

    __tablename__ = "tags"
    __table_args__ = (
        UniqueConstraint("kind", "name"),
        CheckConstraint("name <> ''", name="name"),
        CheckConstraint(
            "kind IN ('run', 'arrival', 'diff') AND (kind = 'run') = (run_id IS NOT NULL)"
            " AND (kind = 'arrival') = (arrival_id IS NOT NULL)"
            " AND (kind = 'diff') = (diff_id IS NOT NULL)",
            name="kind",
        ),
        Index("ix_tags_arrival", "arrival_id"),
        Index("ix_tags_diff", "diff_id"),
    )

    id = primary_key()
    kind = required(String(16))
    name = required(String(64))
    run_id = optional(WHOLE, ForeignKey("runs.id"))
    arrival_id = optional(WHOLE, ForeignKey("arrivals.id"))
    diff_id = optional(WHOLE, ForeignKey("diffs.id"))
    added_at = required(Double)


class TotalRow(Tables):
    """What arrived in one run, for one task, ...; kept with every change. See `Total`."""

    __tablename__ = "totals"
    __table_args__ = (
        UniqueConstraint("grouping", "key", "kind"),
        CheckConstraint(
            "grouping IN ('all', 'run', 'task', 'provider', 'method')", name="grouping"
        ),
        CheckConstraint(
            "kind IN ('diff', 'checkpoint', 'adapter', 'failed', 'quarantined')", name="kind"
        ),
    )

    id = primary_key()
    grouping = required(String(16))
    key = required(Text)  # a number as text, a method, or empty for all there is
    kind = required(String(16))
    n_arrivals = required(BigInteger)
    n_files = required(BigInteger)
    positions_bytes = required(BigInteger)
    values_bytes = required(BigInteger)
    head_bytes = required(BigInteger)
    metadata_bytes = required(BigInteger)
    stored_positions_bytes = required(BigInteger)
    stored_values_bytes = required(BigInteger)
    stored_head_bytes = required(BigInteger)
    stored_metadata_bytes = required(BigInteger)


class EventRow(Tables):
    """A line of the log, which is only ever appended to."""

    __tablename__ = "events"

    id = primary_key()
    at = required(Double)
    kind = required(String(64))
    subject = required(Text)
    message = required(Text)
    version = required(String(64))
    digest = optional(String(64))  # of the artifact it is about


class PlacementRow(Tables):
    """What became of an arrival's artifact on the simulated device of its run."""

    __tablename__ = "placements"
    __table_args__ = (
        CheckConstraint(
            "action IN ('stored', 'evicted', 'rejected', 'superseded')",
            name="action",
        ),
        CheckConstraint("at_us >= 0 AND device_bytes >= 0", name="amounts"),
        Index("ix_placements_run", "run_id", "id"),
        Index("ix_placements_arrival", "arrival_id"),
    )

    id = primary_key()
    run_id = required(WHOLE, ForeignKey("runs.id"))
    at_us = required(BigInteger)  # of the run's virtual clock
    arrival_id = required(WHOLE, ForeignKey("arrivals.id"))
    action = required(String(16))
    device_bytes = required(BigInteger)  # on the device after it
    note = required(Text)


class DeviceRequestsRow(Tables):
    """How many requests to the simulated device of a seed were hits under one eviction policy."""

    __tablename__ = "device_requests"
    __table_args__ = (
        UniqueConstraint("run_id", "seed", "policy"),
        CheckConstraint("policy IN ('reject', 'evict_lru', 'evict_worst')", name="policy"),
        CheckConstraint("n_hits >= 0 AND n_misses >= 0", name="counts"),
    )

    id = primary_key()
    run_id = required(WHOLE, ForeignKey("runs.id"))
    seed = required(BigInteger)
    policy = required(String(16))
    n_hits = required(BigInteger)
    n_misses = required(BigInteger)


# The listings of arrivals and scores: their order, and the columns that other tables name.
IN_ORDER = (
    *(ArrivalRow.run_id, ArrivalRow.seed, ArrivalRow.sequence, ArrivalRow.method),
    ArrivalRow.id,
)
NAMES = {
    "run": Joined(ArrivalRow.run_id, RunRow.id, RunRow.name),
    "provider": Joined(ArrivalRow.provider_id, ProviderRow.id, ProviderRow.name),
    "task": Joined(ArrivalRow.task_id, TaskRow.id, TaskRow.name),
}


def with_names(query: Select[Any]) -> Select[Any]:
    """Join the runs, providers and tasks of the arrivals in a query.

    Outer joins leave the arrivals in front, so that an index gives the order.
    """
    for joined in NAMES.values():
        query = query.join(joined.id.table, joined.id == joined.key, isouter=True)
    return query


def tags_of(on: ColumnElement[Any], thing: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the names of the tags on a thing, joined by ", ": `on` holds the ids of such things.

    NULL where there is none.
    """
    found = select(func.aggregate_strings(TagRow.name, ", ")).where(on == thing)
    return found.scalar_subquery()


def columns_of(
    record: type, table: type[Tables], **others: ColumnElement[Any]
) -> dict[str, ColumnElement[Any]]:
    """Return the column of each field of a record: of `others`, its table, or its arrival."""
    names = {name: joined.column for name, joined in NAMES.items()}
    known = {**vars(ArrivalRow), **names, **vars(table), **others}
    return {field.name: known[field.name].label(field.name) for field in fields(record)}


def values_of(record: type, *, but: Collection[str] = ()) -> Callable[[Any], dict[str, Any]]:
    """Return a function that takes the fields of a record, `but` some, as values of a row."""
    names = [field.name for field in fields(record) if field.name not in but]
    values = attrgetter(*names)  # a batch has thousands
    return lambda given: dict(zip(names, values(given), strict=True))
