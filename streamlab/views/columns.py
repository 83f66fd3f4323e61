"""The columns of every listing; those that are not `default` are shown on demand.

The default ones fit into 80 characters as long as names are of ordinary length.
"""

from __future__ import annotations

from streamlab.views.table import Column

RUNS = (
    Column("id", "number", default=False),
    Column("run"),
    Column("status", "status"),
    Column("done", "count"),  # arrivals, baselines included
    Column("failed", "count"),  # attempts
    Column("quarantined", "count", default=False),
    Column("expected", "count"),
    Column("stored_bytes", "bytes"),  # each file once
    Column("started_at", "time"),
    Column("seconds", "seconds", default=False),
    Column("finished_at", "time", default=False),
    Column("heartbeat_at", "time", default=False),
    Column("scenario", default=False),
    Column("scenario_digest", "digest", default=False),
    Column("base", "digest", default=False),
    Column("host", default=False),
    Column("pid", "number", default=False),
    Column("reason", default=False),
)
ARRIVALS = (
    Column("id", "number"),
    Column("run"),
    Column("seed", "number"),
    Column("sequence", "number", default=False),
    Column("provider", default=False),
    Column("task"),
    Column("version", "number", default=False),
    Column("method"),
    Column("status", "status"),
    Column("density", "share", default=False),
    Column("file_bytes", "bytes"),
    Column("metric", default=False),
    Column("score", "score"),
    Column("source"),
    Column("source_detail", default=False),
    Column("n_train_examples", "count", default=False),
    Column("n_steps", "count", default=False),
    Column("training_seconds", "seconds", default=False),
    Column("evaluation_seconds", "seconds", default=False),
    Column("peak_memory_bytes", "bytes", default=False),
    Column("attempt", "number", default=False),
    Column("started_at", "time", default=False),
    Column("finished_at", "time", default=False),
    Column("digest", "digest", default=False),
    Column("reason", default=False),
    Column("rule", default=False),
    Column("behaviour", default=False),
    Column("declared_score", "score", default=False),
    Column("arrived_us", "virtual", default=False),
    Column("began_us", "virtual", default=False),
    Column("ended_us", "virtual", default=False),
)
REMOVED_ARRIVALS = (
    Column("id", "number"),
    Column("run"),
    Column("seed", "number"),
    Column("provider", default=False),
    Column("task"),
    Column("version", "number", default=False),
    Column("method"),
    Column("status", "status"),
    Column("removed_at", "time"),
    Column("digest", "digest", default=False),
)
DIFFS = (
    Column("digest", "digest"),
    Column("kind"),
    Column("value_type"),
    Column("n_entries", "count"),
    Column("density", "share"),
    Column("n_head_entries", "count", default=False),
    Column("file_bytes", "bytes"),
    Column("positions_bytes", "bytes", default=False),
    Column("values_bytes", "bytes", default=False),
    Column("head_bytes", "bytes", default=False),
    Column("metadata_bytes", "bytes", default=False),
    Column("full_checkpoint_bytes", "bytes", default=False),
    Column("n_gated", "count", default=False),
    Column("base", "digest", default=False),
    Column("added_at", "time", default=False),
)
SCORES = (
    Column("arrival_id", "number", default=False),
    Column("run"),
    Column("seed", "number"),
    Column("provider", default=False),
    Column("task"),
    Column("method"),
    Column("metric"),
    Column("split"),
    Column("value", "score"),
    Column("n_rows", "count", default=False),
    Column("after_sequence", "number", default=False),
    Column("is_primary", "flag", default=False),
    Column("source"),
)
SUMMARIES = (
    Column("name"),
    Column("n_arrivals", "count"),
    Column("n_failures", "count"),
    Column("n_quarantined", "count", default=False),
    Column("diff_bytes", "bytes"),
    Column("checkpoint_bytes", "bytes"),
    Column("adapter_bytes", "bytes", default=False),
    Column("stored_bytes", "bytes"),
)
PLACEMENTS = (
    Column("id", "number", default=False),
    Column("run"),
    Column("seed", "number"),
    Column("at_us", "virtual"),
    Column("task"),
    Column("version", "number"),
    Column("action"),
    Column("device_bytes", "bytes"),
    Column("note", default=False),
    Column("arrival_id", "number", default=False),
    Column("provider", default=False),
    Column("method", default=False),
)
TAGS = (
    Column("name"),
    Column("kind"),
    Column("run"),
    Column("arrival_id", "number"),
    Column("digest", "digest"),
    Column("added_at", "time"),
)
EVENTS = (
    Column("id", "number", default=False),
    Column("at", "time"),
    Column("kind"),
    Column("subject"),
    Column("message"),
    Column("digest", "digest", default=False),
    Column("version", default=False),
)
BASES = (
    Column("fingerprint", "digest"),
    Column("model"),
    Column("revision", default=False),
    Column("layers", "count"),
    Column("n_tensors", "count", default=False),
    Column("n_parameters", "count"),
    Column("weights_bytes", "bytes", default=False),
    Column("file_bytes", "bytes"),
    Column("added_at", "time", default=False),
)
