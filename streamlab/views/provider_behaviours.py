"""Behaviours of the simulated providers of a run, counted by outcome."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from streamlab.registry.records import ArrivalRecord, RunRecord, ScoreRecord
from streamlab.views.table import Table, columns
from streamlab.views.task_scores import own_scores

HONEST = "honest"
FLIP = "label_flip"
_OUTCOMES = ("finished", "quarantined", "failed")


def wrong_labels(run: RunRecord, arrival: ArrivalRecord) -> float | None:
    """Return the share of labels that an arrival's provider flipped; None without `label_flip`."""
    share = run.settings.behaviour_of(arrival.provider).get("flipped_labels")
    return float(share) if arrival.behaviour == FLIP and isinstance(share, int | float) else None


def behaviour_table(
    run: RunRecord, arrivals: Iterable[ArrivalRecord], scores: Iterable[ScoreRecord]
) -> Table:
    """Count arrivals of the own method by behaviour, honest ones first; empty if all are honest.

    `declared - measured` is the mean over admitted arrivals of the provider's declared score minus
    the score measured by the lab.
    """
    own = [a for a in arrivals if a.method == run.settings.primary_method]
    groups: dict[tuple[str, float | None], list[ArrivalRecord]] = defaultdict(list)
    for arrival in own:
        groups[arrival.behaviour or HONEST, wrong_labels(run, arrival)].append(arrival)
    known = columns(
        "behaviour, wrong labels: share, attempts: count, admitted: count, stopped: count, "
        "failed: count, stopped by, declared - measured: change"
    )
    found = own_scores(scores)
    rows = tuple(
        (
            *(behaviour, share, len(group)),
            *(sum(a.status == status for a in group) for status in _OUTCOMES),
            *(_rules(group), _excess(group, found)),
        )
        for (behaviour, share), group in sorted(groups.items(), key=_honest_first)
    )
    misbehaved = any(behaviour != HONEST for behaviour, _ in groups)
    title = "Behaviours of the simulated providers"
    return Table("behaviours", title, known, rows if misbehaved else ())


def _honest_first(entry: tuple[tuple[str, float | None], object]) -> tuple[bool, str, float]:
    (behaviour, share), _ = entry
    return behaviour != HONEST, behaviour, share or 0.0


def _rules(group: Sequence[ArrivalRecord]) -> str | None:
    rules = Counter(arrival.rule for arrival in group if arrival.rule is not None)
    return ", ".join(f"{rule} ({n})" for rule, n in rules.items()) or None


def _excess(group: Sequence[ArrivalRecord], found: Mapping[int, ScoreRecord]) -> float | None:
    excess = [
        arrival.declared_score - found[arrival.id].value
        for arrival in group
        if arrival.id in found and arrival.declared_score is not None
    ]
    return statistics.fmean(excess) if excess else None
