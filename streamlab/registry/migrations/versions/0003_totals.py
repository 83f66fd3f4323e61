"""Keep totals by run, task, provider and method, and let adapters be stored."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from streamlab.registry.sqlite import ALLOW_ADAPTERS, KEEP_TOTALS

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

PARTS = ("positions_bytes", "values_bytes", "head_bytes", "metadata_bytes")
AMOUNTS = ("n_arrivals", "n_files", *PARTS, *(f"stored_{part}" for part in PARTS))
KEYS = {
    "all": "''",
    "run": "run_id",
    "task": "task_id",
    "provider": "provider_id",
    "method": "method",
}


def upgrade() -> None:
    """Allow another kind of artifact; make the totals of what is there, and keep them so."""
    _allow_adapters()
    op.create_table(
        "totals",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("grouping", sa.String(16), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in AMOUNTS),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_totals")),
        sa.UniqueConstraint("grouping", "key", "kind", name=op.f("uq_totals_grouping_key_kind")),
        sa.CheckConstraint(
            "grouping IN ('all', 'run', 'task', 'provider', 'method')",
            name=op.f("ck_totals_grouping"),
        ),
        sa.CheckConstraint(
            "kind IN ('diff', 'checkpoint', 'adapter', 'failed')", name=op.f("ck_totals_kind")
        ),
    )
    for grouping, key in KEYS.items():
        op.execute(_added_up(grouping, key))
    if op.get_context().dialect.name == "sqlite":
        for statement in KEEP_TOTALS:
            op.execute(statement)


def _allow_adapters() -> None:
    if op.get_context().dialect.name == "sqlite":
        for statement in ALLOW_ADAPTERS:
            op.execute(statement)
        return
    kinds = "kind IN ('diff', 'checkpoint', 'adapter')"
    op.drop_constraint(op.f("ck_diffs_kind"), "diffs")
    op.create_check_constraint(op.f("ck_diffs_kind"), "diffs", kinds)


def _added_up(grouping: str, key: str) -> str:
    logical = ", ".join(f"coalesce(sum(met.n * diffs.{part}), 0)" for part in PARTS)
    stored = ", ".join(f"coalesce(sum(diffs.{part}), 0)" for part in PARTS)
    # All of it is this file's own words.
    return (
        f"INSERT INTO totals (grouping, key, kind, {', '.join(AMOUNTS)}) "  # noqa: S608
        f"SELECT '{grouping}', CAST(met.key AS TEXT), coalesce(diffs.kind, 'failed'), "
        f"sum(met.n), count(diffs.id), {logical}, {stored} "
        f"FROM (SELECT {key} AS key, diff_id, count(*) AS n FROM arrivals "
        f"WHERE removed_at IS NULL GROUP BY {key}, diff_id) AS met "
        "LEFT JOIN diffs ON diffs.id = met.diff_id "
        "GROUP BY met.key, coalesce(diffs.kind, 'failed')"
    )
