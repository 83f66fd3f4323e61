"""Versions of a task: taking an earlier one back into use by leaving the later ones out.

What is left out is removed as by `rm`: it can be restored until it goes for good.
"""

from __future__ import annotations

from sqlalchemy import Connection

from streamlab.errors import NotInRegistryError
from streamlab.registry import arrivals, events, removal, runs
from streamlab.registry.own import own_method
from streamlab.registry.records import ArrivalRecord


def roll_back(
    connection: Connection, run_id: int, task: str, version: int, *, now: float
) -> list[ArrivalRecord]:
    """Leave out what finished of a task in a run in later versions, and return it.

    Of every seed and method. Raises NotInRegistryError where no arrival that is left has the
    version, or a seed of the run's own method lacks it, and RegistryError while the run is worked
    on.
    """
    record = runs.get(connection, run_id, now=now)
    run = record.name
    there = _finished(connection, run_id, task, removed=False)
    if version not in {arrival.version for arrival in there}:
        gone = _finished(connection, run_id, task, removed=True)
        raise _no_version(run, task, version, there, [a for a in gone if a.version == version])
    own = [arrival for arrival in there if arrival.method == own_method(record)]
    lacking = {a.seed for a in own if a.version > version}
    lacking -= {a.seed for a in own if a.version == version}
    if lacking:
        raise NotInRegistryError(
            f"Of `{task}` in the run `{run}` version {version} is not there for the seed "
            f"{', '.join(map(str, sorted(lacking)))}, so that nothing would be left in use. Go "
            "back to a version that every seed has; `streamlab ls arrivals` lists them."
        )
    later = [arrival.id for arrival in there if arrival.version > version]
    left_out = removal.remove(connection, later, now=now)
    if left_out:
        numbers = ", ".join(map(str, later))
        message = f"to version {version} in `{run}`; removed: {numbers}"
        events.append(connection, "task-rolled-back", task, message, at=now)
    return left_out


def _finished(
    connection: Connection, run_id: int, task: str, *, removed: bool
) -> tuple[ArrivalRecord, ...]:
    return arrivals.listed(
        connection,
        run_id=run_id,
        task=task,
        provider=None,
        method=None,
        status="finished",
        limit=None,
        removed=removed,
    )


def _no_version(
    run: str,
    task: str,
    version: int,
    there: tuple[ArrivalRecord, ...],
    gone: list[ArrivalRecord],
) -> NotInRegistryError:
    if gone:
        numbers = " ".join(str(arrival.id) for arrival in gone)
        hint = f"It was removed; bring it back first with `streamlab restore {numbers}`."
    elif there:
        known = ", ".join(map(str, sorted({arrival.version for arrival in there})))
        hint = f"There is version {known}."
    else:
        hint = "No arrival of it finished there; `streamlab ls arrivals` lists what did."
    return NotInRegistryError(f"The run `{run}` has no version {version} of `{task}`. {hint}")
