"""Which stored artifact is meant: by a task's name, an arrival's number or a digest.

    [task:]NAME[@VERSION]    arrival:NUMBER    [diff:]DIGEST

A task's name means the arrival of the highest version, and of these the one recorded last, of
those that finished by the run's own method in the latest run that has one; a version, a run, a
seed or a method narrows it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamlab.errors import NotInRegistryError, UsageError
from streamlab.registry.names import missing
from streamlab.registry.numbers import read_arrival_number
from streamlab.registry.own import own_method

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streamlab.registry.records import ArrivalRecord, DiffRecord, RunRecord
    from streamlab.registry.registry import Registry

_DIGEST = re.compile("[0-9a-f]{6,64}")
_VERSIONED = re.compile(r"(.+)@(\d{1,9})", re.ASCII)
_KINDS = ("task", "arrival", "diff")


@dataclass(frozen=True)
class Narrowing:
    """What a task's name is looked up under; None leaves it open."""

    run: str | None = None  # a name, a number or `latest`
    seed: int | None = None
    method: str | None = None  # default: the run's own

    @property
    def is_open(self) -> bool:
        """Tell whether nothing is narrowed."""
        return self == Narrowing()


@dataclass(frozen=True)
class Chosen:
    """A stored artifact, and the arrival that was meant where one was."""

    diff: DiffRecord
    arrival: ArrivalRecord | None
    columns: Mapping[str, str | None] = field(default_factory=dict)  # of its rows, as configured


def choose(registry: Registry, word: str, narrowing: Narrowing) -> Chosen:
    """Return the artifact that `word` means.

    Raises NotInRegistryError where nothing answers to it, or more than one thing, and UsageError
    for an unknown kind, or a narrowing of what is one thing anyhow.
    """
    kind, colon, name = word.partition(":")
    if not colon:
        kind, name = _kind_of(registry, word), word
    if kind not in _KINDS:
        raise UsageError(
            f"There is no kind `{kind}` to use. Write a task's name, `arrival:NUMBER`, or "
            "`diff:` and the beginning of a digest."
        )
    if kind == "task":
        return _with_diff(registry, _arrival_of(registry, name, narrowing))
    if not narrowing.is_open:
        raise UsageError(
            f"A run, a seed or a method narrows a task's name; `{word}` is one thing already."
        )
    if kind == "diff":
        return Chosen(registry.diff(name), None)
    return _with_diff(registry, registry.arrival(read_arrival_number(name)))


def tasks_of(registry: Registry, run: str = "latest") -> tuple[str, ...]:
    """Return the tasks that finished in a run by its own method, in the order of arrival."""
    record = registry.run(run)
    found = registry.arrivals(run=record.id, method=own_method(record), status="finished")
    return tuple(dict.fromkeys(arrival.task for arrival in found))


def _kind_of(registry: Registry, word: str) -> str:
    """Tell a task's name from the beginning of a digest. Raises NotInRegistryError for both."""
    if not _DIGEST.fullmatch(word):
        return "task"
    try:
        digest = registry.diff(word).digest
    except NotInRegistryError:
        return "task"
    if registry.arrivals(task=word, limit=1):
        raise NotInRegistryError(
            f"{word!r} means more than one thing. Say which: `task:{word}`, `diff:{digest[:12]}`."
        )
    return "diff"


def _arrival_of(registry: Registry, task: str, narrowing: Narrowing) -> ArrivalRecord:
    """Return the arrival that a task's name means, with or without a version."""
    task, version = split_version(registry, task)
    for run in _runs(registry, narrowing.run):
        found = registry.arrivals(
            run=run.id, task=task, method=narrowing.method or own_method(run), status="finished"
        )
        fitting = [
            a for a in found if narrowing.seed in (None, a.seed) and version in (None, a.version)
        ]
        if fitting:
            return max(fitting, key=lambda arrival: (arrival.version, arrival.id))
    raise _not_stored(registry, task, version, narrowing)


def split_version(registry: Registry, word: str) -> tuple[str, int | None]:
    """Take `TASK[@VERSION]` apart; a task that is called so as a whole is meant as a whole."""
    found = _VERSIONED.fullmatch(word)
    if found is None or word in registry.task_names():
        return word, None
    return found[1], int(found[2])


def run_of(registry: Registry, task: str, run: str | None) -> str:
    """Return the name of the run that a task is looked up in: one given, else the latest with it.

    Raises NotInRegistryError where there is none.
    """
    for record in _runs(registry, run):
        if run is not None or registry.arrivals(run=record.id, task=task, status="finished"):
            return record.name
    raise missing("task", task, registry.task_names())


def _runs(registry: Registry, run: str | None) -> Iterable[RunRecord]:
    return reversed(registry.runs()) if run is None else (registry.run(run),)


def _not_stored(
    registry: Registry, task: str, version: int | None, narrowing: Narrowing
) -> NotInRegistryError:
    known = [summary.name for summary in registry.tasks()]
    if task not in known:
        return missing("task", task, known)
    wanted = [
        f"of version {version}" if version is not None else "",
        f"in the run `{narrowing.run}`" if narrowing.run else "",
        f"with seed {narrowing.seed}" if narrowing.seed is not None else "",
        f"by `{narrowing.method}`" if narrowing.method else "by the run's own method",
    ]
    return NotInRegistryError(
        f"The task `{task}` has no finished arrival {' '.join(filter(None, wanted))}. "
        "`streamlab ls arrivals` lists what there is."
    )


def _with_diff(registry: Registry, arrival: ArrivalRecord) -> Chosen:
    if arrival.digest is None:
        how = "failed" if arrival.rule is None else f"broke the rule `{arrival.rule}`"
        raise NotInRegistryError(
            f"Arrival {arrival.id} (task `{arrival.task}`) {how} and left nothing to use: "
            f"{arrival.reason}"
        )
    tasks = registry.run(arrival.run).scenario.get("tasks") or {}
    columns = (tasks.get(arrival.task) or {}).get("columns") or {}
    return Chosen(registry.diff(arrival.digest), arrival, columns)
