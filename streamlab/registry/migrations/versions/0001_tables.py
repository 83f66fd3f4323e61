"""Create the tables.

Nothing is released yet, so this version is whatever `tables.py` declares. The first release
replaces the call by the tables written out, and later versions change them from there.
"""

from __future__ import annotations

from alembic import op

from streamlab.registry.tables import Tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table with its constraints, indices and triggers."""
    config = op.get_context().config
    assert config is not None  # noqa: S101 - alembic's own, where migrations run from a config
    config.attributes["backend"].create_tables(op.get_bind(), Tables.metadata)
