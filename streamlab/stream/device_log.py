"""The log of the simulated device: what the recorded arrivals of a seed come to there."""

from __future__ import annotations

from streamlab.registry.device_log import NewPlacement, PlacementRecord
from streamlab.stream.device import Item, simulate_device
from streamlab.stream.lab import Lab


def place_on_device(lab: Lab, seed: int) -> None:
    """Append what the log of a seed's device still lacks; the whole of it is drawn anew.

    To be called when every arrival of the seed has come to its end: the log is only ever added to,
    and what failed and is tried again would come in between. Where it was logged before and
    arrivals have been removed since, the log stays as it was.
    """
    device = lab.world.scenario.storage.device
    if device is None:
        return
    items = _items(lab, seed)
    until_us = items[-1][0] if items else 0
    log = simulate_device(device, items, seed=seed, until_us=until_us).log
    there = [line for line in lab.registry.placements(lab.run.name) if line.seed == seed]
    if [_told(line) for line in there] == [_told(line) for line in log[: len(there)]]:
        lab.registry.add_placements(log[len(there) :])


def _items(lab: Lab, seed: int) -> list[tuple[int, Item]]:
    """Return what comes to the device, and when, in order."""
    scores = {
        score.arrival_id: score.value
        for score in lab.registry.scores(run=lab.run.name, primary=True)
        if score.split == "dev"  # the same after every arrival, or the base was not fixed
    }
    method = lab.world.scenario.defaults.method.name
    records = lab.registry.arrivals(run=lab.run.name, method=method, status="finished")
    own = [r for r in records if r.seed == seed and r.digest and r.ended_us is not None]
    own.sort(key=lambda record: (record.ended_us, record.sequence))
    return [
        (
            record.ended_us or 0,
            Item(
                arrival_id=record.id,
                task=record.task,
                n_bytes=lab.registry.diff(record.digest or "").file_bytes,
                score=scores[record.id],
            ),
        )
        for record in own
    ]


def _told(line: NewPlacement | PlacementRecord) -> tuple[object, ...]:
    return line.at_us, line.arrival_id, line.action, line.device_bytes, line.note
