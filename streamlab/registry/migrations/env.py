"""Run the migrations on the connection that `streamlab.registry.schema` opened.

Alembic executes this file; it is not for importing. There is no alembic.ini and no logging setup.
"""

from __future__ import annotations

from alembic import context

from streamlab.registry.schema import VERSION_TABLE
from streamlab.registry.tables import Tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Tables.metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
