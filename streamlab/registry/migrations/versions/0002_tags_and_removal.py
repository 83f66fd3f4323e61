"""Give things tags, let arrivals be removed, and say in the log which artifact a line is about."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from streamlab.registry.sqlite import STATISTICS_0002

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEYS = ("run", "arrival", "diff")


def upgrade() -> None:
    """Add the columns, let a removed arrival be made anew, and make the table of tags."""
    op.add_column("arrivals", sa.Column("removed_at", sa.Double(), nullable=True))
    op.add_column("events", sa.Column("digest", sa.String(64), nullable=True))
    _arrival_indices()
    _tags()
    if op.get_context().dialect.name == "sqlite":
        for statement in STATISTICS_0002:
            op.execute(statement)


def _arrival_indices() -> None:
    finished = sa.text("status = 'finished' AND removed_at IS NULL")
    removed = sa.text("removed_at IS NOT NULL")
    op.drop_index("uq_arrivals_finished", "arrivals")
    op.create_index(
        "uq_arrivals_finished",
        "arrivals",
        ["run_id", "seed", "provider_id", "task_id", "version", "method"],
        unique=True,
        sqlite_where=finished,
        postgresql_where=finished,
    )
    op.create_index(
        "ix_arrivals_removed",
        "arrivals",
        ["removed_at", "diff_id"],
        sqlite_where=removed,
        postgresql_where=removed,
    )


def _tags() -> None:
    op.create_table(
        "tags",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        *(sa.Column(f"{key}_id", sa.Integer(), nullable=True) for key in KEYS),
        sa.Column("added_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tags")),
        sa.UniqueConstraint("kind", "name", name=op.f("uq_tags_kind_name")),
        sa.CheckConstraint("name <> ''", name=op.f("ck_tags_name")),
        sa.CheckConstraint(
            "(kind = 'run' AND run_id IS NOT NULL AND arrival_id IS NULL AND diff_id IS NULL)"
            " OR (kind = 'arrival' AND arrival_id IS NOT NULL AND run_id IS NULL"
            " AND diff_id IS NULL)"
            " OR (kind = 'diff' AND diff_id IS NOT NULL AND run_id IS NULL"
            " AND arrival_id IS NULL)",
            name=op.f("ck_tags_kind"),
        ),
        *(
            sa.ForeignKeyConstraint([f"{key}_id"], [f"{key}s.id"], name=op.f(f"fk_tags_{key}_id"))
            for key in KEYS
        ),
    )
    op.create_index("ix_tags_arrival", "tags", ["arrival_id"])
    op.create_index("ix_tags_diff", "tags", ["diff_id"])
