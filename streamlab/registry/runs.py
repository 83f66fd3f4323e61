"""Runs: their names, their life from `running` to an end, and who works on them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Literal

from sqlalchemy import Connection, Row, Select, func, insert, select, update

from streamlab.errors import NotInRegistryError, RegistryError
from streamlab.registry import bases
from streamlab.registry.heartbeat import Owner, is_dead, this_process
from streamlab.registry.names import missing
from streamlab.registry.numbers import read_number
from streamlab.registry.records import NewRun, RunRecord
from streamlab.registry.tables import BaseRow, RunRow

RunEnd = Literal["finished", "failed", "interrupted"]

_COLUMNS = [
    *(getattr(RunRow, f.name) for f in fields(RunRecord) if f.name != "base_fingerprint"),
    BaseRow.fingerprint.label("base_fingerprint"),
]


def start(connection: Connection, run: NewRun, *, now: float) -> int:
    """Add a running run of this process, named after its scenario, and return its number."""
    owner = this_process()
    return _insert(
        connection,
        run,
        number=_next_number(connection, run.scenario_name),
        status="running",
        started_at=now,
        heartbeat_at=now,
        host=owner.host,
        pid=owner.pid,
    )


def add_ended(
    connection: Connection,
    run: NewRun,
    *,
    number: int,
    started_at: float,
    finished_at: float,
    host: str,
    pid: int,
) -> int:
    """Add a run that finished elsewhere and return its number.

    It keeps its `number` within its scenario's name, or gets the next one where that is taken.
    """
    mine = (RunRow.scenario_name == run.scenario_name) & (RunRow.number == number)
    taken = connection.execute(select(RunRow.id).where(mine)).scalar() is not None
    return _insert(
        connection,
        run,
        number=_next_number(connection, run.scenario_name) if taken else number,
        status="finished",
        started_at=started_at,
        heartbeat_at=finished_at,
        finished_at=finished_at,
        host=host,
        pid=pid,
    )


def resume(connection: Connection, run_id: int, *, now: float) -> None:
    """Make an unfinished run a running one of this process.

    Raises RegistryError where it has finished or is being worked on.
    """
    run = get(connection, run_id, now=now)
    if run.status == "finished":
        raise RegistryError(
            f"The run `{run.name}` has finished; there is nothing to resume. Start a new run."
        )
    if run.status == "running":
        raise RegistryError(
            f"The run `{run.name}` is being worked on by process {run.pid} on {run.host!r}, which "
            f"gave a sign of life {now - run.heartbeat_at:.0f} s ago. Wait for it, or end it first."
        )
    owner = this_process()
    _change(
        connection,
        run_id,
        {"status": "running", "reason": None, "finished_at": None, "heartbeat_at": now}
        | {"host": owner.host, "pid": owner.pid},
    )


def beat(connection: Connection, run_id: int, *, now: float) -> None:
    """Record a sign of life. Raises RegistryError where the run is no longer this process's."""
    run = get(connection, run_id, now=now)
    if run.finished_at is not None:
        raise RegistryError(
            f"The run `{run.name}` has already ended as {run.status}; resume it to go on."
        )
    _refuse_another(run)
    _change(connection, run_id, {"heartbeat_at": now})


def finish(
    connection: Connection, run_id: int, status: RunEnd, reason: str | None, *, now: float
) -> None:
    """End a running or stale run. Raises RegistryError where it has ended or is another's."""
    run = get(connection, run_id, now=now)
    if run.finished_at is not None:
        raise RegistryError(
            f"The run `{run.name}` has already ended as {run.status} and cannot end as {status}."
        )
    if run.status == "running":
        _refuse_another(run)
    _change(
        connection,
        run_id,
        {"status": status, "reason": reason, "finished_at": now},
    )


def get(connection: Connection, run_id: int, *, now: float) -> RunRecord:
    """Return the run of a number. Raises NotInRegistryError."""
    row = connection.execute(_query().where(RunRow.id == run_id)).one_or_none()
    if row is None:
        raise missing("run", run_id, _names(connection))
    return _record(row, now=now)


def id_of(connection: Connection, ref: str | int) -> int:
    """Return the number of a run given by name, by number or as "latest".

    Raises NotInRegistryError, which lists names that come near.
    """
    found: int | None
    if ref == "latest":
        found = connection.execute(select(func.max(RunRow.id))).scalar()
        if found is None:
            raise NotInRegistryError(
                "The registry holds no run yet. Make one with `streamlab run`."
            )
        return found
    # No name is all digits, since each ends in a dash and a number.
    number = ref if isinstance(ref, int) else read_number(ref)
    wanted = RunRow.name == ref if number is None else RunRow.id == number
    found = connection.execute(select(RunRow.id).where(wanted)).scalar()
    if found is None:
        raise missing("run", ref, _names(connection))
    return found


def latest(connection: Connection, limit: int | None, *, now: float) -> tuple[RunRecord, ...]:
    """Return the last `limit` runs, oldest first; all of them where `limit` is None."""
    rows = connection.execute(_query().order_by(RunRow.id.desc()).limit(limit)).all()
    return tuple(_record(row, now=now) for row in reversed(rows))


def with_digest(connection: Connection, digest: str, *, now: float) -> tuple[RunRecord, ...]:
    """Return every run of a scenario's digest, oldest first."""
    rows = connection.execute(
        _query().where(RunRow.scenario_digest == digest).order_by(RunRow.id)
    ).all()
    return tuple(_record(row, now=now) for row in rows)


def find_unfinished(connection: Connection, digest: str, *, now: float) -> RunRecord | None:
    """Return the latest run of a scenario's digest that has not finished, if there is one."""
    unfinished = (RunRow.scenario_digest == digest) & (RunRow.status != "finished")
    query = _query().where(unfinished).order_by(RunRow.id.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else _record(row, now=now)


def _next_number(connection: Connection, scenario_name: str) -> int:
    last = select(func.max(RunRow.number)).where(RunRow.scenario_name == scenario_name)
    return (connection.execute(last).scalar() or 0) + 1


def _insert(connection: Connection, run: NewRun, *, number: int, **facts: float | str) -> int:
    values = {f.name: getattr(run, f.name) for f in fields(NewRun) if f.name != "base_fingerprint"}
    values |= {"scenario": dict(run.scenario), "environment": dict(run.environment)}
    added = insert(RunRow).values(
        **values,
        **facts,
        name=f"{run.scenario_name}-{number}",
        number=number,
        base_id=bases.id_of(connection, run.base_fingerprint),
    )
    return connection.execute(added.returning(RunRow.id)).scalar_one()


def _query() -> Select[Any]:
    return select(*_COLUMNS).join(BaseRow, BaseRow.id == RunRow.base_id, isouter=True)


def _record(row: Row[Any], *, now: float) -> RunRecord:
    values = row._asdict()
    owner = Owner(host=values["host"], pid=values["pid"])
    if values["status"] == "running" and is_dead(
        owner, heartbeat_at=values["heartbeat_at"], now=now
    ):
        values["status"] = "stale"
    return RunRecord(**values)


def _names(connection: Connection) -> list[str]:
    return list(connection.execute(select(RunRow.name).order_by(RunRow.id.desc())).scalars())


def _refuse_another(run: RunRecord) -> None:
    if Owner(host=run.host, pid=run.pid) != this_process():
        raise RegistryError(
            f"The run `{run.name}` was taken over by process {run.pid} on {run.host!r}; "
            "this process must leave it alone."
        )


def _change(connection: Connection, run_id: int, values: dict[str, Any]) -> None:
    connection.execute(update(RunRow).where(RunRow.id == run_id).values(**values))
