"""The tables, private to the registry: constraints that hold by themselves, an index per listing.

    bases <- runs <- arrivals -> providers, tasks
    bases <- diffs <- arrivals <- scores          events stand alone
    runs, arrivals <- placements
    runs, arrivals, diffs <- tags                 totals follow the arrivals

The migrations build the same tables; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
)

from streamlab.registry.declared import Tables as Tables
from streamlab.registry.declared import needed, optional, own_number, partial_index
from streamlab.registry.log_tables import EventRow as EventRow
from streamlab.registry.log_tables import PlacementRow as PlacementRow


class BaseRow(Tables):
    """A pretrained base."""

    __tablename__ = "bases"
    __table_args__ = (
        CheckConstraint(
            "n_tensors > 0 AND n_parameters > 0 AND weights_bytes > 0 AND file_bytes > 0",
            name="sizes",
        ),
    )

    id = own_number()
    fingerprint = needed(String(64), unique=True)
    model = needed(Text)
    revision = optional(Text)
    layers = optional(Integer)
    n_tensors = needed(Integer)
    n_parameters = needed(BigInteger)
    weights_bytes = needed(BigInteger)
    file_bytes = needed(BigInteger)
    layout = needed(JSON)
    initialised = needed(JSON)
    added_at = needed(Double)


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

    id = own_number()
    name = needed(Text, unique=True)
    scenario_name = needed(Text)
    number = needed(Integer)
    scenario = needed(JSON)
    scenario_digest = needed(String(64))
    base_id = needed(Integer, ForeignKey("bases.id"))
    environment = needed(JSON)
    n_expected = needed(Integer)
    status = needed(String(16))
    reason = optional(Text)
    started_at = needed(Double)
    heartbeat_at = needed(Double)
    finished_at = optional(Double)
    host = needed(Text)
    pid = needed(BigInteger)


class ProviderRow(Tables):
    """A provider's name."""

    __tablename__ = "providers"
    __table_args__ = (CheckConstraint("name <> ''", name="name"),)

    id = own_number()
    name = needed(Text, unique=True)


class TaskRow(Tables):
    """A task's name."""

    __tablename__ = "tasks"
    __table_args__ = (CheckConstraint("name <> ''", name="name"),)

    id = own_number()
    name = needed(Text, unique=True)


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

    id = own_number()
    digest = needed(String(64), unique=True)
    kind = needed(String(16))
    base_id = needed(Integer, ForeignKey("bases.id"))
    value_type = needed(String(16))
    n_gated = needed(BigInteger)
    n_entries = needed(BigInteger)
    n_head_entries = needed(BigInteger)
    file_bytes = needed(BigInteger)
    positions_bytes = needed(BigInteger)
    values_bytes = needed(BigInteger)
    head_bytes = needed(BigInteger)
    metadata_bytes = needed(BigInteger)
    full_checkpoint_bytes = needed(BigInteger)
    tensor_counts = needed(LargeBinary)  # packed, see counts.py
    added_at = needed(Double)


class ArrivalRow(Tables):
    """An arrival: finished with an artifact, failed, or quarantined by a rule.

    One with `removed_at` is left out of every listing until it is restored or gone for good.
    Each index ends in the order arrivals are listed in: run, seed, sequence, method, id.
    """

    __tablename__ = "arrivals"
    __table_args__ = (
        CheckConstraint(
            "(status = 'finished' AND diff_id IS NOT NULL AND reason IS NULL AND rule IS NULL)"
            " OR (status = 'failed' AND diff_id IS NULL AND reason IS NOT NULL AND rule IS NULL)"
            " OR (status = 'quarantined' AND diff_id IS NULL AND reason IS NOT NULL"
            " AND rule IS NOT NULL)",
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
        partial_index(
            "uq_arrivals_finished",
            *("run_id", "seed", "provider_id", "task_id", "version", "method"),
            where="status = 'finished' AND removed_at IS NULL",  # a removed one may be made anew
            unique=True,
        ),
        Index("ix_arrivals_run", "run_id", "seed", "sequence", "method", "id"),
        Index("ix_arrivals_task", "task_id", "run_id", "seed", "sequence", "method", "id"),
        Index("ix_arrivals_provider", "provider_id", "run_id", "seed", "sequence", "method", "id"),
        Index("ix_arrivals_method", "method", "run_id", "seed", "sequence", "id"),
        Index("ix_arrivals_status", "status", "run_id", "seed", "sequence", "method", "id"),
        Index("ix_arrivals_diff", "diff_id"),
        Index("ix_arrivals_run_diff", "run_id", "diff_id"),
        partial_index(
            "ix_arrivals_removed", "removed_at", "diff_id", where="removed_at IS NOT NULL"
        ),
    )

    id = own_number()
    run_id = needed(Integer, ForeignKey("runs.id"))
    seed = needed(BigInteger)
    sequence = needed(Integer)
    provider_id = needed(Integer, ForeignKey("providers.id"))
    task_id = needed(Integer, ForeignKey("tasks.id"))
    version = needed(Integer)
    method = needed(Text)
    attempt = needed(Integer)
    status = needed(String(16))
    reason = optional(Text)
    diff_id = optional(Integer, ForeignKey("diffs.id"))
    started_at = needed(Double)
    finished_at = needed(Double)
    n_steps = needed(BigInteger)
    training_seconds = needed(Double)
    evaluation_seconds = needed(Double)
    peak_memory_bytes = needed(BigInteger)
    source = needed(Text)
    source_detail = needed(Text)
    examples_fingerprint = needed(Text)
    n_train_examples = needed(BigInteger)
    details = needed(JSON)
    removed_at = optional(Double)
    arrived_us = optional(BigInteger)  # these three of the virtual clock
    began_us = optional(BigInteger)
    ended_us = optional(BigInteger)
    rule = optional(Text)  # of admission, that a quarantined submission broke
    behaviour = optional(Text)  # of the simulated provider
    declared_score = optional(Double)


class ScoreRow(Tables):
    """A score of an arrival's artifact, measured after some arrival."""

    __tablename__ = "scores"
    __table_args__ = (
        # In the order scores are listed in, below their arrival.
        UniqueConstraint("arrival_id", "after_sequence", "split", "metric"),
        CheckConstraint("n_rows > 0 AND after_sequence >= 0", name="counts"),
    )

    id = own_number()
    arrival_id = needed(Integer, ForeignKey("arrivals.id"))
    metric = needed(String(64))
    value = needed(Double)
    split = needed(String(64))
    n_rows = needed(BigInteger)
    after_sequence = needed(Integer)
    is_primary = needed(Boolean)
    added_at = needed(Double)


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

    id = own_number()
    kind = needed(String(16))
    name = needed(String(64))
    run_id = optional(Integer, ForeignKey("runs.id"))
    arrival_id = optional(Integer, ForeignKey("arrivals.id"))
    diff_id = optional(Integer, ForeignKey("diffs.id"))
    added_at = needed(Double)


class TotalRow(Tables):
    """What arrived in one run, for one task, ...; kept with every change. See `Total`."""

    __tablename__ = "totals"
    __table_args__ = (
        UniqueConstraint("grouping", "key", "kind"),
        CheckConstraint(
            "grouping IN ('all', 'run', 'task', 'provider', 'method')", name="grouping"
        ),
        CheckConstraint("kind IN ('diff', 'checkpoint', 'adapter', 'failed')", name="kind"),
    )

    id = own_number()
    grouping = needed(String(16))
    key = needed(Text)  # a number as text, a method, or empty for all there is
    kind = needed(String(16))
    n_arrivals = needed(BigInteger)
    n_files = needed(BigInteger)
    positions_bytes = needed(BigInteger)
    values_bytes = needed(BigInteger)
    head_bytes = needed(BigInteger)
    metadata_bytes = needed(BigInteger)
    stored_positions_bytes = needed(BigInteger)
    stored_values_bytes = needed(BigInteger)
    stored_head_bytes = needed(BigInteger)
    stored_metadata_bytes = needed(BigInteger)
