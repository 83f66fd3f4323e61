"""Create the tables.

Nothing is released yet, so this version is whatever `tables.py` declares. The first release
replaces the call by the tables written out, and later versions change them from there.
"""

from __future__ import annotations

from alembic import op

from streamlab.registry.sqlite import CREATED_WITH_TABLES
from streamlab.registry.tables import Tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table with its constraints, indices and triggers."""
    Tables.metadata.create_all(op.get_bind(), checkfirst=False)
    if op.get_context().dialect.name == "sqlite":
        for statement in CREATED_WITH_TABLES:
            op.execute(statement)
