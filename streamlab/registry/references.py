"""References: how people name a run, an arrival, a stored artifact, a task or a base.

    [KIND:]NAME

    run      latest, glue_stream-1, run:NAME, run:NUMBER
    arrival  arrival:NUMBER
    diff     diff:DIGEST with the first digits of a digest; without `diff:` at least six of them
    task     NAME, NAME@VERSION, task:NAME
    base     base:FINGERPRINT with its first digits

A tag stands for the run, arrival or diff it is on. A bare number is a run where a command asks for
runs and an arrival where it asks for arrivals. A name that fits several things is refused, and
the things are listed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from streamlab.errors import AmbiguousReferenceError, NotInRegistryError, UsageError
from streamlab.units import nearest

if TYPE_CHECKING:
    from streamlab.registry.records import ArrivalRecord, DiffRecord, RunRecord, TagKind
    from streamlab.registry.registry import Registry

Kind = Literal["run", "arrival", "diff", "task", "base"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TAGGABLE: tuple[TagKind, ...] = ("run", "arrival", "diff")
LATEST = "latest"

_DIGEST = re.compile("[0-9a-f]{6,64}")  # shorter ones need `diff:`
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)  # what a database counts to has one digit more
_VERSIONED = re.compile(r"(.+)@(\d{1,9})", re.ASCII)
_NOUNS: Mapping[Kind, str] = {
    "run": "a run", "arrival": "an arrival", "diff": "a diff", "task": "a task", "base": "a base",
}  # fmt: skip
_MISSING: Mapping[Kind, str] = {"diff": "digest", "base": "base that begins with"}


@dataclass(frozen=True)
class Reference:
    """A reference as it was written: its kind, where one was given, and the name."""

    kind: Kind | None
    name: str

    @property
    def number(self) -> int | None:
        """Return the name as the number of a run or an arrival."""
        return int(self.name) if _NUMBER.fullmatch(self.name) else None

    @property
    def is_digest(self) -> bool:
        """Tell whether the name can be the beginning of a digest without a kind."""
        return _DIGEST.fullmatch(self.name) is not None

    @property
    def versioned(self) -> tuple[str, int] | None:
        """Return the task and the version of `TASK@VERSION`."""
        found = _VERSIONED.fullmatch(self.name)
        return None if found is None else (found[1], int(found[2]))


def parse(text: str) -> Reference:
    """Take a reference apart. Raises UsageError for an unknown kind and an empty name."""
    before, colon, name = text.partition(":")
    kind = next((kind for kind in KINDS if kind == before), None)
    if colon and kind is None:
        raise UsageError(f"There is no kind `{before}`. {nearest(before, KINDS)}")
    found = Reference(kind, name if colon else text)
    if not found.name:
        raise UsageError(f"{text!r} names nothing. Give a name, as in `run:latest`.")
    return found


@dataclass(frozen=True)
class Target:
    """The one thing that a reference means.

    `name` is a run's name, an arrival's number, a whole digest or fingerprint, or a task's name.
    """

    kind: Kind
    name: str
    version: int | None = None  # of a task

    def __str__(self) -> str:
        name = self.name[:12] if self.kind in ("diff", "base") else self.name
        return f"{self.kind}:{name}" + ("" if self.version is None else f"@{self.version}")


@dataclass(frozen=True)
class TaskFilter:
    """Which of a task's arrivals its name may mean; None leaves a choice open."""

    run: str | None = None  # a reference to a run
    seed: int | None = None
    method: str | None = None  # default: the run's primary method

    @property
    def is_open(self) -> bool:
        """Tell whether every choice is left open."""
        return self == TaskFilter()


@dataclass(frozen=True)
class Artifact:
    """A stored artifact, and the arrival that was meant where one was."""

    diff: DiffRecord
    arrival: ArrivalRecord | None
    columns: Mapping[str, str | None] = field(default_factory=dict)  # of its task's examples


def find(
    registry: Registry,
    text: str,
    kinds: Sequence[Kind] = KINDS,
    *,
    numbers: Literal["run", "arrival"] = "run",
) -> Target:
    """Return the one thing of these kinds that a reference means.

    `numbers`: the kind that a bare number is of. Raises AmbiguousReferenceError where it means
    several things, NotInRegistryError where it means none, UsageError where it is malformed or
    means something of another kind.
    """
    reference = parse(text)
    wanted = kinds if reference.kind is None else (reference.kind,)
    if reference.kind is not None and reference.kind not in kinds:
        raise _wrong_kind(text, [reference.kind], kinds)
    found = _targets(registry, reference, wanted, numbers)
    if len(found) == 1:
        return found[0]
    if found:
        raise _ambiguous(reference, found)
    others = [kind for kind in KINDS if kind not in wanted] if reference.kind is None else []
    elsewhere = _targets(registry, reference, others, numbers)
    if elsewhere:
        raise _wrong_kind(text, [target.kind for target in elsewhere], kinds)
    raise _missing(registry, reference, wanted, numbers)


def find_run(registry: Registry, text: str) -> RunRecord:
    """Return the run that a reference means."""
    return registry.runs.get(find(registry, text, ("run",)).name)


def find_tagged(registry: Registry, text: str) -> tuple[TagKind, str]:
    """Return the kind and the name of the run, arrival or diff that a tag is to be put on."""
    target = find(registry, text)
    if target.version is not None:
        return "arrival", str(find_task_arrival(registry, target, TaskFilter()).id)
    kind = next((kind for kind in TAGGABLE if kind == target.kind), None)
    if kind is None:
        raise _wrong_kind(text, [target.kind], TAGGABLE)
    return kind, target.name


def split_tag(text: str) -> tuple[str, TagKind | None]:
    """Return the name and the kind of `[KIND:]TAG`. Raises UsageError for a kind without tags."""
    reference = parse(text)
    kind = next((kind for kind in TAGGABLE if kind == reference.kind), None)
    if reference.kind is not None and kind is None:
        raise UsageError(f"A tag cannot be on {_NOUNS[reference.kind]}. {_wants(TAGGABLE)}")
    return reference.name, kind


def find_artifact(registry: Registry, text: str, among: TaskFilter) -> Artifact:
    """Return the stored artifact that a reference to a task, an arrival or a diff means.

    Raises as `find` does, NotInRegistryError where an arrival left no artifact, and UsageError
    where `among` restricts what is not a task.
    """
    target = find(registry, text, ("task", "arrival", "diff"), numbers="arrival")
    if target.kind == "task":
        return _artifact_of(registry, find_task_arrival(registry, target, among))
    if not among.is_open:
        raise UsageError(
            f"A run, a seed or a method restricts a task; {text!r} is one thing already."
        )
    if target.kind == "diff":
        return Artifact(registry.artifacts.get(target.name), None)
    return _artifact_of(registry, registry.arrivals.get(int(target.name)))


def find_task_arrival(registry: Registry, task: Target, among: TaskFilter) -> ArrivalRecord:
    """Return the finished arrival that a task's name means.

    It is the one of the highest version, and of these the one recorded last, by the primary
    method of the latest run that has one. Raises NotInRegistryError where there is none.
    """
    for run in _runs(registry, among.run):
        finished = registry.arrivals.list(
            run=run.id,
            task=task.name,
            method=among.method or run.settings.primary_method,
            status="finished",
        )
        fitting = [
            arrival
            for arrival in finished
            if among.seed in (None, arrival.seed) and task.version in (None, arrival.version)
        ]
        if fitting:
            return max(fitting, key=lambda arrival: (arrival.version, arrival.id))
    raise _not_finished(task, among)


def find_arrivals(
    registry: Registry, texts: Sequence[str], *, run: str | None = None, removed: bool = False
) -> tuple[ArrivalRecord, ...]:
    """Return the arrivals that references mean, each once.

    A run, a diff, a task or one version of it means all its arrivals; those of a task are the
    ones in `run`, or in every run. `removed`: the removed arrivals, or the others.
    """
    found: dict[int, ArrivalRecord] = {}
    for text in texts:
        for arrival in _arrivals(registry, text, run, removed=removed):
            found[arrival.id] = arrival
    return tuple(found.values())


def find_version(registry: Registry, text: str, run: str | None) -> tuple[str, str, int]:
    """Return the run, the task and the version that a reference to one version means.

    A task without `run` means the latest run in which it finished.
    """
    target = find(registry, text, ("task", "arrival"), numbers="arrival")
    if target.kind == "arrival":
        arrival = registry.arrivals.get(int(target.name))
        return arrival.run, arrival.task, arrival.version
    if target.version is None:
        raise UsageError(f"Say which version of `{target.name}` to use: `{target.name}@1`.")
    for record in _runs(registry, run):
        if run is not None or registry.arrivals.list(
            run=record.id, task=target.name, status="finished", limit=1
        ):
            return record.name, target.name, target.version
    raise _not_finished(target, TaskFilter(run))


def finished_tasks(registry: Registry, run: str = LATEST) -> tuple[str, ...]:
    """Return the tasks that finished in a run by its primary method, in the order of arrival."""
    record = find_run(registry, run)
    found = registry.arrivals.list(
        run=record.id, method=record.settings.primary_method, status="finished"
    )
    return tuple(dict.fromkeys(arrival.task for arrival in found))


def _targets(
    registry: Registry, reference: Reference, kinds: Collection[Kind], numbers: Kind
) -> list[Target]:
    """Return everything of these kinds that a reference can mean, each once."""
    found = [target for kind in kinds for target in _LOOKUPS[kind](registry, reference, numbers)]
    found += [
        Target(tag.kind, tag.target)
        for tag in registry.tags.list(reference.name)
        if tag.kind in kinds
    ]
    return sorted(dict.fromkeys(found), key=lambda target: KINDS.index(target.kind))


def _as_run(registry: Registry, reference: Reference, numbers: Kind) -> Iterator[Target]:
    if reference.number is not None and "run" not in (reference.kind, numbers):
        return
    try:
        yield Target("run", registry.runs.get(reference.name).name)
    except NotInRegistryError:
        if reference.name == LATEST:
            raise  # there is no run at all


def _as_arrival(registry: Registry, reference: Reference, numbers: Kind) -> Iterator[Target]:
    if reference.number is None or "arrival" not in (reference.kind, numbers):
        return
    try:
        yield Target("arrival", str(registry.arrivals.get(reference.number).id))
    except NotInRegistryError:
        return


def _as_diff(registry: Registry, reference: Reference, numbers: Kind) -> Iterator[Target]:  # noqa: ARG001
    if reference.kind is None and not reference.is_digest:
        return
    try:
        yield Target("diff", registry.artifacts.get(reference.name).digest)
    except NotInRegistryError as error:
        given = reference.kind is not None and not registry.tags.list(reference.name)
        if given or isinstance(error, AmbiguousReferenceError):
            raise


def _as_task(registry: Registry, reference: Reference, numbers: Kind) -> Iterator[Target]:  # noqa: ARG001
    known = registry.arrivals.task_names()
    if reference.name in known:  # also where it looks like a version of another task
        yield Target("task", reference.name)
    elif reference.versioned is not None and reference.versioned[0] in known:
        yield Target("task", *reference.versioned)


def _as_base(registry: Registry, reference: Reference, numbers: Kind) -> Iterator[Target]:  # noqa: ARG001
    if reference.kind == "base":
        for base in registry.bases.list():
            if base.fingerprint.startswith(reference.name):
                yield Target("base", base.fingerprint)


_LOOKUPS: Mapping[Kind, Callable[[Registry, Reference, Kind], Iterator[Target]]] = {
    "run": _as_run,
    "task": _as_task,
    "diff": _as_diff,
    "arrival": _as_arrival,
    "base": _as_base,
}


def _runs(registry: Registry, run: str | None) -> Iterator[RunRecord]:
    """Yield the run of a reference, or every run from the latest on."""
    if run is None:
        yield from reversed(registry.runs.list())
    else:
        yield find_run(registry, run)


def _arrivals(
    registry: Registry, text: str, run: str | None, *, removed: bool
) -> tuple[ArrivalRecord, ...]:
    target = find(registry, text, ("run", "task", "diff", "arrival"), numbers="arrival")
    where = None
    if target.kind == "arrival":
        return (registry.arrivals.get(int(target.name)),)
    if target.kind == "run":
        arrivals = registry.arrivals.list(run=target.name, removed=removed)
    elif target.kind == "diff":
        arrivals = registry.arrivals.list(digest=target.name, removed=removed)
    else:
        where = None if run is None else find_run(registry, run).name
        arrivals = tuple(
            arrival
            for arrival in registry.arrivals.list(task=target.name, run=where, removed=removed)
            if target.version in (None, arrival.version)
        )
    if not arrivals:
        place = "" if where is None else f" in the run `{where}`"
        state = "has no removed arrival" if removed else "has no arrival that is not removed"
        raise NotInRegistryError(f"`{target}` {state}{place}.")
    return arrivals


def _artifact_of(registry: Registry, arrival: ArrivalRecord) -> Artifact:
    if arrival.digest is None:
        how = "failed" if arrival.rule is None else f"broke the rule `{arrival.rule}`"
        raise NotInRegistryError(
            f"Arrival {arrival.id} (task `{arrival.task}`) {how} and left nothing to use: "
            f"{arrival.reason}"
        )
    columns = registry.runs.get(arrival.run).settings.columns_of(arrival.task)
    return Artifact(registry.artifacts.get(arrival.digest), arrival, columns)


def _wants(kinds: Sequence[Kind]) -> str:
    *first, last = (_NOUNS[kind] for kind in kinds)
    listed = f"{', '.join(first)} or {last}" if first else last
    return f"Give {listed}; `streamlab ls` lists them."


def _wrong_kind(text: str, found: Sequence[Kind], wanted: Sequence[Kind]) -> UsageError:
    is_a = " and ".join(_NOUNS[kind] for kind in dict.fromkeys(found))
    return UsageError(f"{text!r} is {is_a}. {_wants(wanted)}")


def _ambiguous(reference: Reference, found: Sequence[Target]) -> AmbiguousReferenceError:
    if len({target.kind for target in found}) < len(found):
        # A run that got the name of a tag after the tag was made: `KIND:NAME` means both too.
        listed = " and ".join(f"`{target}`" for target in found)
        return AmbiguousReferenceError(
            f"{reference.name!r} is the name and a tag of two things: {listed}. Take the tag off "
            f"with `streamlab tag --remove {found[0].kind}:{reference.name}`."
        )
    listed = ", ".join(f"`{target}`" for target in found)
    return AmbiguousReferenceError(
        f"{reference.name!r} means more than one thing. Say which: {listed}."
    )


def _missing(
    registry: Registry, reference: Reference, kinds: Sequence[Kind], numbers: Kind
) -> NotInRegistryError | UsageError:
    """Say that nothing answers to a reference, with the nearest names."""
    number = reference.number is not None and numbers in kinds
    kind = reference.kind or (numbers if number else kinds[0] if len(kinds) == 1 else None)
    if kind == "arrival":
        if reference.number is None:
            return UsageError(
                f"An arrival is known by its number, got {reference.name[:40]!r}. Try `arrival:1`."
            )
        return NotInRegistryError(
            f"The registry holds no arrival {reference.number}. `streamlab ls arrivals` lists them."
        )
    nouns = [_MISSING.get(k, k) for k in kinds if k not in ("arrival", "base")]
    what = f"{', '.join(nouns)} or tag" if kind is None else _MISSING.get(kind, kind)
    name = reference.versioned[0] if reference.versioned else reference.name
    known = _names(registry, kinds)
    hint = f"{nearest(name, known)} " if known else ""
    return NotInRegistryError(
        f"The registry holds no {what} {name!r}. {hint}`streamlab ls` lists what there is."
    )


def _names(registry: Registry, kinds: Collection[Kind]) -> list[str]:
    runs = [run.name for run in reversed(registry.runs.list())] if "run" in kinds else []
    tasks = [*registry.arrivals.task_names()] if "task" in kinds else []
    tags = [tag.name for tag in registry.tags.list() if tag.kind in kinds]
    return list(dict.fromkeys([*runs, *tasks, *tags]))


def _not_finished(task: Target, among: TaskFilter) -> NotInRegistryError:
    wanted = [
        f"of version {task.version}" if task.version is not None else "",
        f"in the run `{among.run}`" if among.run else "",
        f"with seed {among.seed}" if among.seed is not None else "",
        f"by `{among.method}`" if among.method else "by the run's primary method",
    ]
    return NotInRegistryError(
        f"The task `{task.name}` has no finished arrival {' '.join(filter(None, wanted))}. "
        "`streamlab ls arrivals` lists what there is."
    )
