"""Leave it to the program to add new arrivals to the totals, a batch at a time."""

from __future__ import annotations

from alembic import op

from streamlab.registry.sqlite import TOTALS_OF_NEW_BY_THE_PROGRAM

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Drop the trigger that did so for each arrival; the totals that are there stay right."""
    if op.get_context().dialect.name == "sqlite":
        for statement in TOTALS_OF_NEW_BY_THE_PROGRAM:
            op.execute(statement)
