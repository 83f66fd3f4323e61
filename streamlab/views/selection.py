"""Which arrivals a person means by a word: one by its number, or all of a task or of a run.

    NUMBER | [arrival:|task:|run:]NAME

Without a KIND a number is an arrival, and a name that is both a run's and a task's is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from streamlab.errors import NotInRegistryError, UsageError
from streamlab.registry.numbers import read_arrival_number, read_number
from streamlab.registry.records import ArrivalRecord
from streamlab.registry.registry import Registry
from streamlab.units import nearest

_KINDS = ("arrival", "task", "run")


def select_arrivals(
    registry: Registry, words: Sequence[str], *, run: str | None = None, removed: bool = False
) -> tuple[ArrivalRecord, ...]:
    """Return the arrivals that words mean, each once; those of a task in `run`, or in every run.

    `removed`: whether a task or a run stands for its removed arrivals, or for the others. Raises
    NotInRegistryError where a word means nothing or two things, UsageError for an unknown kind.
    """
    found: dict[int, ArrivalRecord] = {}
    for word in words:
        for arrival in _meant(registry, word, run, removed=removed):
            found[arrival.id] = arrival
    return tuple(found.values())


def _meant(
    registry: Registry, word: str, run: str | None, *, removed: bool
) -> tuple[ArrivalRecord, ...]:
    kind, name = _kind_of(registry, word)
    if kind == "arrival":
        return (registry.arrival(read_arrival_number(name)),)
    if kind == "run":
        arrivals = registry.arrivals(run=name, removed=removed)
    else:
        arrivals = registry.arrivals(task=name, run=run, removed=removed)
    if not arrivals:
        where = "" if kind == "run" or run is None else f" in the run `{run}`"
        which = "no removed arrival" if removed else "no arrival that is not removed"
        raise NotInRegistryError(f"There is {which} of the {kind} `{name}`{where}.")
    return arrivals


def _kind_of(registry: Registry, word: str) -> tuple[str, str]:
    kind, colon, name = word.partition(":")
    if colon:
        if kind not in _KINDS:
            raise UsageError(f"There is no kind `{kind}` here. {nearest(kind, _KINDS)}")
        return kind, name
    if read_number(word) is not None:
        return "arrival", word
    runs = [record.name for record in registry.runs()]
    tasks = registry.task_names()
    kinds = [
        *(["run"] if word in {*runs, "latest"} else []),
        *(["task"] if word in tasks else []),
    ]
    if len(kinds) > 1:
        raise NotInRegistryError(f"{word!r} is a run and a task. Say `run:{word}` or `task:{word}`")
    if not kinds:
        raise NotInRegistryError(
            f"{word!r} is no arrival's number, no task and no run. {nearest(word, [*runs, *tasks])}"
        )
    return kinds[0], word
