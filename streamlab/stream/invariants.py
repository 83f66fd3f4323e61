"""Checks of two invariants: the order of arrivals changes nothing, and no arrival affects another.

Each runs the scenario again, into a folder of its own, and yields one claim at a time.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from streamlab.errors import BaseMismatchError
from streamlab.home.folder import Home
from streamlab.registry.records import ArrivalRecord, RunRecord
from streamlab.registry.registry import Registry
from streamlab.stream.engine import run
from streamlab.stream.event_loop import Identity, Reorder, identity_of
from streamlab.stream.lab import Clock, Outcome
from streamlab.stream.run_context import RunContext
from streamlab.stream.scenario import LoadedScenario
from streamlab.stream.schedule import Arrival

Digests = dict[Identity, str | None]


@dataclass(frozen=True)
class Claim:
    """One fact that was checked; it holds where `found` is as expected."""

    subject: str
    holds: bool
    found: str


def check_order(
    loaded: LoadedScenario, folder: Path, *, n_shuffles: int, seed: int
) -> Iterator[Claim]:
    """Run a scenario in its own order and in others; every artifact must have the same bytes.

    `folder`: an empty one, for a home of each run. One claim per order and arrival.
    """
    listed = _digests(loaded, folder / "listed", list)
    for number in range(1, n_shuffles + 1):
        draw = random.Random(f"{seed} {number}")  # noqa: S311 - orders, not secrets
        found = _digests(loaded, folder / f"order-{number}", partial(shuffled, draw=draw))
        for identity, digest in listed.items():
            yield _same(identity, number, digest, found.get(identity))


def check_isolation(loaded: LoadedScenario, folder: Path, *, clock: Clock) -> Iterator[Claim]:
    """Run a scenario, rescoring everything after every arrival; nothing may change.

    `folder`: an empty one, for the home. One claim for the base after each arrival, and one for
    each score that was taken more than once.
    """
    scenario = loaded.scenario.model_copy(update={"evaluation": "full"})
    home = Home(folder / "isolation")
    worlds: list[RunContext] = []

    def started(_run: RunRecord, context: RunContext, _n_arrivals: int) -> None:
        worlds.append(context)

    for outcome in run(replace(loaded, scenario=scenario), home.path, started=started, clock=clock):
        yield _base_after(outcome, worlds[0])
    with Registry.open(home.registry_url, clock=clock, read_only=True) as registry:
        values = defaultdict(list)
        for score in registry.scores.list():
            values[score.arrival_id, score.split, score.metric].append(score.value)
        records = {record.id: record for record in registry.arrivals.list()}
    for (number, split, metric), taken in values.items():
        if len(taken) > 1:
            subject = f"{_name(identity_of(records[number]))}: {metric} on {split}"
            found = f"{taken[0]:.6f}, {len(taken)} times" if len(set(taken)) == 1 else str(taken)
            yield Claim(subject, len(set(taken)) == 1, found)


def shuffled(stream: Sequence[Arrival], *, draw: random.Random) -> list[Arrival]:
    """Return the arrivals of a seed in another order, with baselines kept beside their method.

    The times of arrival stay the same, for other tasks.
    """
    arrived = {arrival.sequence: arrival.arrived_us for arrival in stream}
    places = list(arrived)
    moved = draw.sample(places, len(places))
    new = {old: place for place, old in zip(places, moved, strict=True)}
    again = [
        replace(arrival, sequence=place, arrived_us=arrived[place])
        for arrival, place in ((arrival, new[arrival.sequence]) for arrival in stream)
    ]
    return sorted(again, key=lambda arrival: arrival.sequence)


def _digests(loaded: LoadedScenario, folder: Path, order: Reorder) -> Digests:
    return {
        identity_of(outcome.record): _result_of(outcome.record)
        for outcome in run(loaded, folder, order=order)
    }


def _result_of(record: ArrivalRecord) -> str | None:
    """Return an arrival's digest, or the rule that stopped it; None where it failed."""
    return f"refused by {record.rule}" if record.rule is not None else record.digest


def _same(
    identity: tuple[int, str, str, int, str], number: int, digest: str | None, found: str | None
) -> Claim:
    subject = f"order {number}: {_name(identity)}"
    if digest is None:
        return Claim(
            subject, False, "failed in the listed order, so that there is nothing to compare"
        )
    if found == digest:
        return Claim(subject, True, _short(digest))
    return Claim(subject, False, f"{_short(digest)} as listed, {_short(found or 'failed')} here")


def _short(found: str) -> str:
    return found if " " in found else found[:12]


def _base_after(outcome: Outcome, context: RunContext) -> Claim:
    subject = f"base after {_name(identity_of(outcome.record))}"
    try:
        context.base.check_unchanged()
    except BaseMismatchError as error:
        return Claim(subject, False, str(error))
    return Claim(subject, True, context.base.fingerprint[:12])


def _name(identity: Identity) -> str:
    seed, _, task, version, method = identity
    return f"{task}@{version} by {method}, seed {seed}"
