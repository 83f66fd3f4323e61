"""How simulated providers behaved in a run, what stopped them, and what they declared."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from streamlab.registry.records import ArrivalRecord, RunRecord, ScoreRecord
from streamlab.views.table import Column, Table
from streamlab.views.task_scores import by_arrival, find_own_score

HONEST = "honest"
FLIP = "label_flip"
_DEFAULT_SHARE = 0.5  # of labels flipped, in the records of runs that do not say


def wrong_labels(run: RunRecord, arrival: ArrivalRecord) -> float | None:
    """Return the share of labels that an arrival's provider made wrong, None if it made none so."""
    if arrival.behaviour != FLIP:
        return None
    provider: Mapping[str, object] = run.scenario["providers"][arrival.provider]
    behaviour = provider.get("behaviour")
    share = behaviour.get("flipped_labels") if isinstance(behaviour, Mapping) else None
    return float(share) if isinstance(share, int | float) else _DEFAULT_SHARE


def behaviour_table(
    run: RunRecord, arrivals: Iterable[ArrivalRecord], scores: Iterable[ScoreRecord]
) -> Table:
    """Count arrivals of the own method by behaviour, the honest first; empty if all were honest.

    `declared - found` is the mean over admitted arrivals of what the provider declared less the
    score that the lab measured.
    """
    own = [a for a in arrivals if a.method == run.settings.primary_method]
    groups: dict[tuple[str, float | None], list[ArrivalRecord]] = defaultdict(list)
    for arrival in own:
        groups[arrival.behaviour or HONEST, wrong_labels(run, arrival)].append(arrival)
    columns = (
        *(Column("behaviour"), Column("wrong labels", "share"), Column("attempts", "count")),
        *(Column("admitted", "count"), Column("stopped", "count"), Column("failed", "count")),
        *(Column("stopped by"), Column("declared - found", "change")),
    )
    found = by_arrival(scores)
    rows = tuple(
        (
            *(behaviour, share, len(group)),
            *(_n(group, "finished"), _n(group, "quarantined"), _n(group, "failed")),
            *(_rules(group), _excess(group, found)),
        )
        for (behaviour, share), group in sorted(groups.items(), key=_honest_first)
    )
    misbehaved = any(behaviour != HONEST for behaviour, _ in groups)
    title = "How the simulated providers behaved, and what stopped them"
    return Table("behaviours", title, columns, rows if misbehaved else ())


def _honest_first(entry: tuple[tuple[str, float | None], object]) -> tuple[bool, str, float]:
    (behaviour, share), _ = entry
    return behaviour != HONEST, behaviour, share or 0.0


def _n(group: Sequence[ArrivalRecord], status: str) -> int:
    return sum(arrival.status == status for arrival in group)


def _rules(group: Sequence[ArrivalRecord]) -> str | None:
    rules = Counter(arrival.rule for arrival in group if arrival.rule is not None)
    return ", ".join(f"{rule} ({n})" for rule, n in rules.items()) or None


def _excess(
    group: Sequence[ArrivalRecord], found: Mapping[int, Sequence[ScoreRecord]]
) -> float | None:
    excess = []
    for arrival in group:
        score = find_own_score(found.get(arrival.id, ()))
        if score is not None and arrival.declared_score is not None:
            excess.append(arrival.declared_score - score.value)
    return statistics.fmean(excess) if excess else None
