"""Remember virtual time, quarantined submissions, and what became of artifacts on a device."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

from streamlab.registry.sqlite import KEEP_PLACEMENTS, change_checks

revision = "0005"
down_revision = "0003"
branch_labels = None
depends_on = None

COLUMNS: dict[str, TypeEngine[Any]] = {
    "arrived_us": sa.BigInteger(),
    "began_us": sa.BigInteger(),
    "ended_us": sa.BigInteger(),
    "rule": sa.Text(),
    "behaviour": sa.Text(),
    "declared_score": sa.Double(),
}
FORMER_STATUS = (
    "(status = 'finished' AND diff_id IS NOT NULL AND reason IS NULL)"
    " OR (status = 'failed' AND diff_id IS NULL AND reason IS NOT NULL)"
)
STATUS = (
    "(status = 'finished' AND diff_id IS NOT NULL AND reason IS NULL AND rule IS NULL)"
    " OR (status = 'failed' AND diff_id IS NULL AND reason IS NOT NULL AND rule IS NULL)"
    " OR (status = 'quarantined' AND diff_id IS NULL AND reason IS NOT NULL"
    " AND rule IS NOT NULL)"
)
CLOCK = (
    "(arrived_us IS NULL AND began_us IS NULL AND ended_us IS NULL)"
    " OR (arrived_us IS NOT NULL AND began_us IS NOT NULL AND ended_us IS NOT NULL"
    " AND 0 <= arrived_us AND arrived_us <= began_us AND began_us <= ended_us)"
)
ACTIONS = ("stored", "evicted", "rejected", "superseded", "rolled back", "revoked")


def upgrade() -> None:
    """Add the columns, let a third status be, and make the table of placements."""
    for name, kind in COLUMNS.items():
        op.add_column("arrivals", sa.Column(name, kind, nullable=True))
    _widen_checks()
    _placements()
    if op.get_context().dialect.name == "sqlite":
        for statement in KEEP_PLACEMENTS:
            op.execute(statement)


def _widen_checks() -> None:
    if op.get_context().dialect.name == "sqlite":
        former = f"CONSTRAINT ck_arrivals_status CHECK ({FORMER_STATUS}), "
        wider = f"CONSTRAINT ck_arrivals_status CHECK ({STATUS}), "
        for statement in change_checks(
            "arrivals", former, f"{wider}\n\tCONSTRAINT ck_arrivals_clock CHECK ({CLOCK}), "
        ):
            op.execute(statement)
        return
    op.drop_constraint(op.f("ck_arrivals_status"), "arrivals")
    op.create_check_constraint(op.f("ck_arrivals_status"), "arrivals", STATUS)
    op.create_check_constraint(op.f("ck_arrivals_clock"), "arrivals", CLOCK)


def _placements() -> None:
    actions = ", ".join(f"'{action}'" for action in ACTIONS)
    op.create_table(
        "placements",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("arrival_id", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("device_bytes", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_placements")),
        sa.CheckConstraint(f"action IN ({actions})", name=op.f("ck_placements_action")),
        sa.CheckConstraint("at_us >= 0 AND device_bytes >= 0", name=op.f("ck_placements_amounts")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_placements_run_id")),
        sa.ForeignKeyConstraint(
            ["arrival_id"], ["arrivals.id"], name=op.f("fk_placements_arrival_id")
        ),
    )
    op.create_index("ix_placements_run", "placements", ["run_id", "id"])
    op.create_index("ix_placements_arrival", "placements", ["arrival_id"])
