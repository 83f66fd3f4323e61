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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Literal, get_args

from streamlab.errors import AmbiguousReferenceError, NotInRegistryError, UsageError
from streamlab.units import nearest

if TYPE_CHECKING:
    from streamlab.registry.conditions import Condition
    from streamlab.registry.records import ArrivalRecord, DiffRecord, RunRecord, TagKind
    from streamlab.registry.registry import Registry

Kind = Literal["run", "arrival", "diff", "task", "base"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LATEST = "latest"
TAGGABLE: tuple[TagKind, ...] = ("run", "arrival", "diff")

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


@dataclass(frozen=True)
class Artifact:
    """A stored artifact, and the arrival that was meant where one was."""

    diff: DiffRecord
    arrival: ArrivalRecord | None
    columns: Mapping[str, str | None] = field(default_factory=dict)  # of its task's examples


def find(registry: Registry, text: str, kinds: Sequence[Kind] = KINDS) -> Target:
    """Return the one thing of these kinds that a reference means.

    A bare number is a run or an arrival, whichever of the two comes first in `kinds`. Raises
    AmbiguousReferenceError where it means several things, NotInRegistryError where it means none,
    UsageError where it is malformed or means something of another kind.
    """
    reference = parse(text)
    if reference.kind is not None and reference.kind not in kinds:
        raise _wrong_kind(text, [reference.kind], kinds)
    number: Kind = next((kind for kind in kinds if kind in ("run", "arrival")), "run")
    found = _targets(registry, reference, number)
    fitting = [target for target in found if target.kind in kinds]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise _ambiguous(reference, fitting)
    if found:
        raise _wrong_kind(text, [target.kind for target in found], kinds)
    raise _missing(registry, reference, kinds, number)


def find_run(registry: Registry, text: str) -> RunRecord:
    """Return the run that a reference means."""
    return registry.runs.get(find(registry, text, ("run",)).name)


def find_runs(
    registry: Registry, texts: Sequence[str], *, where: Condition | None = None
) -> tuple[RunRecord, ...]:
    """Return the runs that references mean, in their order; without references every run.

    `where`: only those that it is true of. Raises NotInRegistryError where none is left.
    """
    meeting = registry.runs.list(where=where)
    found = tuple(find_run(registry, text) for text in texts) or meeting
    if where is not None:
        found = tuple(run for run in found if run in meeting)
        _refuse_empty(found, "run", named=bool(texts))
    return found


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
    target = find(registry, text, ("task", "arrival", "diff"))
    if target.kind == "task":
        return _artifact_of(registry, find_task_arrival(registry, target, among))
    if among != TaskFilter():
        raise UsageError(
            f"A run, a seed or a method restricts a task; {text!r} is one thing already."
        )
    if target.kind == "diff":
        return Artifact(registry.artifacts.get(target.name), None)
    return _artifact_of(registry, registry.arrivals.get(int(target.name)))


def find_task_arrival(registry: Registry, task: Target, among: TaskFilter) -> ArrivalRecord:
    """Return the finished arrival that a task's name means.

    It is the one of the highest version, and of these the one recorded last, by the primary
    method of the newest run that has one, an imported file included. Raises NotInRegistryError
    where there is none.
    """
    for run in _runs(registry, among.run):
        fitting = registry.arrivals.list(
            run=run.id,
            task=task.name,
            version=task.version,
            method=among.method or run.settings.primary_method,
            seed=among.seed,
            status="finished",
        )
        if fitting:
            return max(fitting, key=lambda arrival: (arrival.version, arrival.id))
    raise _not_finished(task, among)


def find_arrivals(
    registry: Registry,
    texts: Sequence[str],
    *,
    run: str | None = None,
    removed: bool = False,
    where: Condition | None = None,
) -> tuple[ArrivalRecord, ...]:
    """Return the arrivals that references mean, each once; without references those of `run`.

    A run, a diff, a task or one version of it means all its arrivals; those of a task are the
    ones in `run`, or in every run. `removed`: the removed arrivals, or the others; the latest run
    is then the newest, which their removal may have emptied. `where`: only those that it is true
    of. Raises NotInRegistryError where none is left.
    """
    if removed:
        texts = [_with_emptied(registry, text) for text in texts]
        run = None if run is None else _with_emptied(registry, run)
    within = None if run is None or texts else find_run(registry, run).name
    found = [_arrivals(registry, text, run, removed=removed) for text in texts]
    if where is not None or not texts:
        meeting = registry.arrivals.list(run=within, where=where, removed=removed)
        ids = {arrival.id for arrival in meeting}
        found = [tuple(a for a in arrivals if a.id in ids) for arrivals in found or [meeting]]
        _refuse_empty([*chain.from_iterable(found)], "arrival", named=bool(texts))
    return tuple({arrival.id: arrival for arrivals in found for arrival in arrivals}.values())


def _refuse_empty(found: Sequence[object], noun: str, *, named: bool) -> None:
    """Raise NotInRegistryError where no run or arrival meets a condition."""
    if not found:
        of_these = " of those named" if named else ""
        raise NotInRegistryError(
            f"No {noun}{of_these} meets the condition. `streamlab ls {noun}s --where` lists those "
            "that meet one."
        )


def _with_emptied(registry: Registry, text: str) -> str:
    """Return a reference that names the newest run where it says `latest`."""
    reference = parse(text)
    if reference.name != LATEST or reference.kind not in (None, "run"):
        return text
    return f"run:{registry.runs.newest().name}"


def find_version(registry: Registry, text: str, run: str | None) -> tuple[str, str, int]:
    """Return the run, the task and the version that a reference to one version means.

    A task without `run` means the latest run in which it finished.
    """
    target = find(registry, text, ("task", "arrival"))
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


def _targets(registry: Registry, reference: Reference, number: Kind) -> list[Target]:
    """Return everything that a reference can mean, each once; a bare number is a `number`."""
    kinds: Sequence[Kind] = ("run" if reference.number is None else number, "diff", "task")
    if reference.kind is not None:
        kinds = (reference.kind,)
    found = [target for kind in kinds for target in _named(registry, kind, reference)]
    found += [
        Target(tag.kind, tag.target)
        for tag in registry.tags.list(reference.name)
        if reference.kind in (None, tag.kind)
    ]
    return sorted(dict.fromkeys(found), key=lambda target: KINDS.index(target.kind))


def _named(registry: Registry, kind: Kind, reference: Reference) -> Iterator[Target]:
    """Yield what has the name itself, not by a tag."""
    if kind == "task":
        known = registry.arrivals.task_names()
        if reference.name in known:  # also where it looks like a version of another task
            yield Target("task", reference.name)
        elif reference.versioned is not None and reference.versioned[0] in known:
            yield Target("task", *reference.versioned)
    elif kind == "base":
        for base in registry.bases.list():
            if base.fingerprint.startswith(reference.name):
                yield Target("base", base.fingerprint)
    else:
        yield from _recorded(registry, kind, reference)


def _recorded(registry: Registry, kind: Kind, reference: Reference) -> Iterator[Target]:
    name = reference.name
    try:
        if kind == "run":
            yield Target("run", registry.runs.get(name).name)
        elif kind == "arrival" and reference.number is not None:
            yield Target("arrival", str(registry.arrivals.get(reference.number).id))
        elif kind == "diff" and (reference.kind is not None or reference.is_digest):
            yield Target("diff", registry.artifacts.get(name).digest)
    except NotInRegistryError as error:
        malformed = reference.kind == "diff" and not registry.tags.list(name)
        if isinstance(error, AmbiguousReferenceError) or name == LATEST or malformed:
            raise  # it says best what is wrong


def _runs(registry: Registry, run: str | None) -> Iterator[RunRecord]:
    """Yield the run of a reference, or every run from the newest on, imported files too."""
    if run is None:
        yield from reversed(registry.runs.list())
    else:
        yield find_run(registry, run)


def _arrivals(
    registry: Registry, text: str, run: str | None, *, removed: bool
) -> tuple[ArrivalRecord, ...]:
    target = find(registry, text, ("arrival", "run", "task", "diff"))
    where = None
    if target.kind == "arrival":
        return (registry.arrivals.get(int(target.name)),)
    if target.kind == "run":
        arrivals = registry.arrivals.list(run=target.name, removed=removed)
    elif target.kind == "diff":
        arrivals = registry.arrivals.list(digest=target.name, removed=removed)
    else:
        where = None if run is None else find_run(registry, run).name
        arrivals = registry.arrivals.list(
            run=where, task=target.name, version=target.version, removed=removed
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
    columns = registry.runs.get(arrival.run).settings.task(arrival.task).get("columns") or {}
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
    registry: Registry, reference: Reference, kinds: Sequence[Kind], number: Kind
) -> NotInRegistryError | UsageError:
    """Say that nothing answers to a reference, with the nearest names."""
    if reference.kind is not None:
        kinds = (reference.kind,)
    elif reference.number is not None and number in kinds:
        kinds = (number,)
    if kinds == ("arrival",):
        if reference.number is None:
            return UsageError(
                f"An arrival is known by its number, got {reference.name[:40]!r}. Try `arrival:1`."
            )
        return NotInRegistryError(
            f"The registry holds no arrival {reference.number}. `streamlab ls arrivals` lists them."
        )
    what = _MISSING.get(kinds[0], kinds[0])
    if len(kinds) > 1:  # by number and fingerprint, nothing is looked for among names
        nouns = [_MISSING.get(kind, kind) for kind in kinds if kind not in ("arrival", "base")]
        what = f"{', '.join(nouns)} or tag"
    name = reference.versioned[0] if reference.versioned else reference.name
    runs = [run.name for run in reversed(registry.runs.list())] if "run" in kinds else []
    tasks = registry.arrivals.task_names() if "task" in kinds else ()
    tags = [tag.name for tag in registry.tags.list() if tag.kind in kinds]
    known = list(dict.fromkeys([*runs, *tasks, *tags]))
    hint = f"{nearest(name, known)} " if known else ""
    return NotInRegistryError(
        f"The registry holds no {what} {name!r}. {hint}`streamlab ls` lists what there is."
    )


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
