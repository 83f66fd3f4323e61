"""The two logs as tables: what happened, and what became of artifacts on the simulated device.

Both are only ever appended to; a line of the second goes when its arrival goes for good.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Double, ForeignKey, Index, Integer, String, Text

from streamlab.registry.declared import Tables, needed, optional, own_number


class EventRow(Tables):
    """A line of the log, which is only ever appended to."""

    __tablename__ = "events"

    id = own_number()
    at = needed(Double)
    kind = needed(String(64))
    subject = needed(Text)
    message = needed(Text)
    version = needed(String(64))
    digest = optional(String(64))  # of the artifact it is about


class PlacementRow(Tables):
    """What became of an arrival's artifact on the simulated device of its run."""

    __tablename__ = "placements"
    __table_args__ = (
        CheckConstraint(
            "action IN ('stored', 'evicted', 'rejected', 'superseded', 'rolled back', 'revoked')",
            name="action",
        ),
        CheckConstraint("at_us >= 0 AND device_bytes >= 0", name="amounts"),
        Index("ix_placements_run", "run_id", "id"),
        Index("ix_placements_arrival", "arrival_id"),
    )

    id = own_number()
    run_id = needed(Integer, ForeignKey("runs.id"))
    at_us = needed(BigInteger)  # of the run's virtual clock
    arrival_id = needed(Integer, ForeignKey("arrivals.id"))
    action = needed(String(16))
    device_bytes = needed(BigInteger)  # on the device after it
    note = needed(Text)
