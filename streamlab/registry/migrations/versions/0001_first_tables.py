"""Make the first tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from streamlab.registry.sqlite import APPEND_ONLY, STATISTICS

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

WHOLE = sa.Integer()
LONG = sa.BigInteger()
REAL: sa.Double[float] = sa.Double()
TEXT = sa.Text()
WORD = sa.String(16)
NAME = sa.String(64)
DIGEST = sa.String(64)
TREE = sa.JSON()


def upgrade() -> None:
    """Make every table with its constraints and indices."""
    _bases()
    _names("providers")
    _names("tasks")
    _events()
    _runs()
    _diffs()
    _arrivals()
    _arrival_indices()
    _scores()
    if op.get_context().dialect.name == "sqlite":
        for statement in (*APPEND_ONLY, *STATISTICS):
            op.execute(statement)


def _table(name: str, *parts: Any) -> None:
    primary = sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{name}"))
    op.create_table(name, _column("id", WHOLE), *parts, primary)


def _column(name: str, kind: Any, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=nullable)


def _check(name: str, *terms: str) -> sa.CheckConstraint:
    return sa.CheckConstraint("".join(terms), name=op.f(name))


def _unique(name: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=op.f(name))


def _foreign(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [target], name=op.f(f"fk_{table}_{column}"))


def _bases() -> None:
    _table(
        "bases",
        _column("fingerprint", DIGEST),
        _column("model", TEXT),
        _column("revision", TEXT, nullable=True),
        _column("layers", WHOLE, nullable=True),
        _column("n_tensors", WHOLE),
        _column("n_parameters", LONG),
        _column("weights_bytes", LONG),
        _column("file_bytes", LONG),
        _column("layout", TREE),
        _column("initialised", TREE),
        _column("added_at", REAL),
        _check(
            "ck_bases_sizes",
            "n_tensors > 0 AND n_parameters > 0 AND weights_bytes > 0 AND file_bytes > 0",
        ),
        _unique("uq_bases_fingerprint", "fingerprint"),
    )


def _names(table: str) -> None:
    _table(
        table,
        _column("name", TEXT),
        _check(f"ck_{table}_name", "name <> ''"),
        _unique(f"uq_{table}_name", "name"),
    )


def _events() -> None:
    _table(
        "events",
        _column("at", REAL),
        _column("kind", NAME),
        _column("subject", TEXT),
        _column("message", TEXT),
        _column("version", NAME),
    )


def _runs() -> None:
    _table(
        "runs",
        _column("name", TEXT),
        _column("scenario_name", TEXT),
        _column("number", WHOLE),
        _column("scenario", TREE),
        _column("scenario_digest", DIGEST),
        _column("base_id", WHOLE),
        _column("environment", TREE),
        _column("n_expected", WHOLE),
        _column("status", WORD),
        _column("reason", TEXT, nullable=True),
        _column("started_at", REAL),
        _column("heartbeat_at", REAL),
        _column("finished_at", REAL, nullable=True),
        _column("host", TEXT),
        _column("pid", LONG),
        _unique("uq_runs_scenario_name_number", "scenario_name", "number"),
        _check("ck_runs_status", "status IN ('running', 'finished', 'failed', 'interrupted')"),
        _check(
            "ck_runs_finished_at",
            "(status = 'running' AND finished_at IS NULL)",
            " OR (status <> 'running' AND finished_at IS NOT NULL)",
        ),
        _check("ck_runs_counts", "number > 0 AND n_expected >= 0"),
        _unique("uq_runs_name", "name"),
        _foreign("runs", "base_id", "bases.id"),
    )
    op.create_index("ix_runs_scenario_digest", "runs", ["scenario_digest", "id"])


def _diffs() -> None:
    _table(
        "diffs",
        _column("digest", DIGEST),
        _column("kind", WORD),
        _column("base_id", WHOLE),
        _column("value_type", WORD),
        _column("n_gated", LONG),
        _column("n_entries", LONG),
        _column("n_head_entries", LONG),
        _column("file_bytes", LONG),
        _column("positions_bytes", LONG),
        _column("values_bytes", LONG),
        _column("head_bytes", LONG),
        _column("metadata_bytes", LONG),
        _column("full_checkpoint_bytes", LONG),
        _column("tensor_counts", sa.LargeBinary()),
        _column("added_at", REAL),
        _check("ck_diffs_kind", "kind IN ('diff', 'checkpoint')"),
        _check("ck_diffs_entries", "n_entries BETWEEN 0 AND n_gated AND n_head_entries >= 0"),
        _check(
            "ck_diffs_bytes",
            "positions_bytes >= 0 AND values_bytes >= 0 AND head_bytes >= 0",
            " AND metadata_bytes >= 0 AND full_checkpoint_bytes >= 0",
            " AND positions_bytes + values_bytes + head_bytes + metadata_bytes = file_bytes",
        ),
        _unique("uq_diffs_digest", "digest"),
        _foreign("diffs", "base_id", "bases.id"),
    )


def _arrivals() -> None:
    _table(
        "arrivals",
        _column("run_id", WHOLE),
        _column("seed", LONG),
        _column("sequence", WHOLE),
        _column("provider_id", WHOLE),
        _column("task_id", WHOLE),
        _column("version", WHOLE),
        _column("method", TEXT),
        _column("attempt", WHOLE),
        _column("status", WORD),
        _column("reason", TEXT, nullable=True),
        _column("diff_id", WHOLE, nullable=True),
        _column("started_at", REAL),
        _column("finished_at", REAL),
        _column("n_steps", LONG),
        _column("training_seconds", REAL),
        _column("evaluation_seconds", REAL),
        _column("peak_memory_bytes", LONG),
        _column("source", TEXT),
        _column("source_detail", TEXT),
        _column("examples_fingerprint", TEXT),
        _column("n_train_examples", LONG),
        _column("details", TREE),
        _check(
            "ck_arrivals_status",
            "(status = 'finished' AND diff_id IS NOT NULL AND reason IS NULL)",
            " OR (status = 'failed' AND diff_id IS NULL AND reason IS NOT NULL)",
        ),
        _check(
            "ck_arrivals_amounts",
            "sequence >= 0 AND version >= 0 AND attempt >= 0 AND n_steps >= 0",
            " AND n_train_examples >= 0 AND peak_memory_bytes >= 0",
            " AND training_seconds >= 0 AND evaluation_seconds >= 0",
        ),
        *(
            _foreign("arrivals", f"{table[:-1]}_id", f"{table}.id")
            for table in ("runs", "providers", "tasks", "diffs")
        ),
    )


def _arrival_indices() -> None:
    finished = sa.text("status = 'finished'")
    op.create_index(
        "uq_arrivals_finished",
        "arrivals",
        ["run_id", "seed", "provider_id", "task_id", "version", "method"],
        unique=True,
        sqlite_where=finished,
        postgresql_where=finished,
    )
    order = ["run_id", "seed", "sequence", "method", "id"]
    op.create_index("ix_arrivals_run", "arrivals", order)
    op.create_index("ix_arrivals_task", "arrivals", ["task_id", *order])
    op.create_index("ix_arrivals_provider", "arrivals", ["provider_id", *order])
    op.create_index(
        "ix_arrivals_method", "arrivals", ["method", "run_id", "seed", "sequence", "id"]
    )
    op.create_index("ix_arrivals_status", "arrivals", ["status", *order])
    op.create_index("ix_arrivals_diff", "arrivals", ["diff_id"])
    op.create_index("ix_arrivals_run_diff", "arrivals", ["run_id", "diff_id"])


def _scores() -> None:
    _table(
        "scores",
        _column("arrival_id", WHOLE),
        _column("metric", NAME),
        _column("value", REAL),
        _column("split", NAME),
        _column("n_rows", LONG),
        _column("after_sequence", WHOLE),
        _column("is_primary", sa.Boolean()),
        _column("added_at", REAL),
        _unique(
            "uq_scores_arrival_id_after_sequence_split_metric",
            *("arrival_id", "after_sequence", "split", "metric"),
        ),
        _check("ck_scores_counts", "n_rows > 0 AND after_sequence >= 0"),
        _foreign("scores", "arrival_id", "arrivals.id"),
    )
