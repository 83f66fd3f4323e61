"""Frozen records, one class a table, that the registry takes and returns.

`New...` records are given; the others are returned and carry the id the database gave them.
Times are seconds since the epoch (UTC). A digest is the SHA-256 of a file's bytes in hex.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from streamlab.diff.layout import Layout
from streamlab.errors import RegistryError
from streamlab.units import printable

if TYPE_CHECKING:
    from pydantic import ConfigDict, TypeAdapter

    from streamlab.base import Base
    from streamlab.diff.format.container import DiffFile
    from streamlab.diff.vector import DiffVector

New = TypeVar("New")
RunStatus = Literal["running", "finished", "failed", "interrupted", "stale"]
ArrivalStatus = Literal["finished", "failed", "quarantined"]
ArtifactKind = Literal["diff", "checkpoint", "adapter"]
TagKind = Literal["run", "arrival", "diff"]  # what a tag may be on; a `diff` is any artifact
Grouping = Literal["all", "run", "task", "provider", "method"]
PlacementAction = Literal["stored", "evicted", "rejected", "superseded"]
EvictionPolicy = Literal["reject", "evict_lru", "evict_worst"]

_STRICT: ConfigDict = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class NewBase:
    """One fixed pretrained base: `fingerprint` covers its backbone, never a head."""

    fingerprint: str
    model: str  # as the scenario names it
    revision: str | None
    layers: int | None  # None: all of them
    n_tensors: int
    n_parameters: int  # backbone, tied tensors once
    weights_bytes: int  # backbone as float32
    file_bytes: int  # one base checkpoint as a safetensors file
    layout: tuple[tuple[str, tuple[int, ...]], ...]  # name and shape of every backbone tensor
    initialised: tuple[str, ...] = ()  # tensors the checkpoint lacked, sampled from the seed

    def as_layout(self) -> Layout:
        """Return the base's layout. Raises ValueError where it has no tensor."""
        names, shapes = zip(*self.layout, strict=True)
        return Layout(self.fingerprint, names, shapes)


def describe_base(base: Base) -> NewBase:
    """Return the record of a loaded base."""
    return NewBase(
        fingerprint=base.fingerprint,
        model=base.settings.model,
        revision=base.settings.revision,
        layers=base.settings.layers,
        n_tensors=len(base.layout.names),
        n_parameters=base.layout.n_gated,
        weights_bytes=4 * base.layout.n_gated,
        file_bytes=base.file_bytes,
        layout=tuple(zip(base.layout.names, base.layout.shapes, strict=True)),
        initialised=base.initialised,
    )


@dataclass(frozen=True, kw_only=True)
class BaseRecord(NewBase):
    """A base as recorded."""

    id: int
    added_at: float


IMPORTED = "imported"  # the scenario and the method of an imported file, whose training is unknown


@dataclass(frozen=True)
class RecordedScenario:
    """A resolved scenario of any version of this program; what it lacks is None or empty.

    `tree`: the scenario itself, paths unexpanded.
    """

    tree: Mapping[str, Any]

    @property
    def primary_method(self) -> str:
        """Return the label of the method that the baselines are compared with."""
        method = self.tree["defaults"]["method"]
        return str(method.get("label") or method["name"])

    @property
    def is_imported_file(self) -> bool:
        """Tell whether no scenario was run: a single file was imported."""
        return self.tree.get("name") == IMPORTED and "imported" in self.tree

    @property
    def target_density(self) -> float | None:
        """Return the primary method's target density, None for a method without one."""
        found = self.tree["defaults"]["method"].get("target_density")
        return None if found is None else float(found)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Return the seeds as written, at least one."""
        return tuple(int(seed) for seed in self.tree["seeds"])

    @property
    def tasks(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the settings of every task."""
        return self.tree.get("tasks") or {}

    def task(self, name: str) -> Mapping[str, Any]:
        """Return the settings of one task as recorded, empty where it is unknown."""
        return self.tasks.get(name) or {}

    @property
    def base(self) -> Mapping[str, Any]:
        """Return the settings of the base."""
        return self.tree.get("base") or {}

    def without(self, *names: str) -> Mapping[str, Any]:
        """Return all settings but these sections."""
        return {name: value for name, value in self.tree.items() if name not in names}

    @property
    def probe_tolerance(self) -> float | None:
        """Return the difference of scores that admission's probe allows, None without a probe."""
        return (self.tree.get("admission") or {}).get("probe_tolerance")

    @property
    def device_budget(self) -> int | None:
        """Return the bytes that the simulated device has for files, None without a limit."""
        budget = (self.tree.get("storage") or {}).get("budget")
        return budget if isinstance(budget, int) else None

    @property
    def device_policy(self) -> str | None:
        """Return what the simulated device evicts, None where the scenario does not say."""
        policy = (self.tree.get("storage") or {}).get("policy")
        return policy if isinstance(policy, str) else None

    def behaviour_of(self, provider: str) -> Mapping[str, Any]:
        """Return the settings of what a provider simulates, empty for an honest one."""
        behaviour = (self.tree.get("providers") or {}).get(provider, {}).get("behaviour")
        return behaviour if isinstance(behaviour, Mapping) else {}

    def with_task_order(self, order: Sequence[str]) -> Mapping[str, Any]:
        """Return the scenario with its tasks in another order: the record keeps none."""
        return dict(self.tree) | {"tasks": {task: self.tasks[task] for task in order}}


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """One `streamlab run`: the resolved scenario, its digest and the environment."""

    scenario_name: str
    scenario: Mapping[str, Any]  # resolved, paths unexpanded
    scenario_digest: str
    base_fingerprint: str
    environment: Mapping[str, str]  # package versions, device, threads, kernel used
    n_expected: int  # arrivals the scenario asks for, seeds and baselines included

    @property
    def settings(self) -> RecordedScenario:
        """Return the settings in the scenario."""
        return RecordedScenario(self.scenario)


@dataclass(frozen=True, kw_only=True)
class RunRecord(NewRun):
    """A run as recorded; `status` is `stale` where a running one stopped its heartbeat."""

    id: int
    name: str  # "<scenario>-<n>", unique
    status: RunStatus
    reason: str | None
    started_at: float
    heartbeat_at: float
    finished_at: float | None
    host: str
    pid: int

    def __repr__(self) -> str:
        return printable(f"RunRecord({self.name!r}: {self.status}, expects {self.n_expected})")


@dataclass(frozen=True, kw_only=True)
class ReportedDetails:
    """What a provider reports of a training; the lab verifies none of it. All of it is JSON."""

    __pydantic_config__ = _STRICT

    training: Mapping[str, Any] = field(default_factory=dict)  # densities, lengths of stages
    quantization: Mapping[str, Any] | None = None  # of a diff: the value type and its agreement
    trained_score: float | None = None  # of the trained model on the validation examples
    lost_by_rounding: float | None = None  # `trained_score` minus that of the rounded diff
    peak_gpu_bytes: int | None = None  # allocated by torch, where a GPU was used


@dataclass(frozen=True, kw_only=True)
class OutputProbe:
    """What a stored diff did to the base, so that it can be seen to do the same again."""

    __pydantic_config__ = _STRICT

    n_changed: int  # backbone weights
    n_examples: int
    sha256: str  # of the outputs on these examples, comparable on the same machine only
    machine: str  # digest of the machine and its libraries


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """How often the dev examples of each class were given each answer.

    Raises ValueError where `counts` has not a row and a column for each label.
    """

    __pydantic_config__ = _STRICT

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]  # by class, then by answer, both in the order of `labels`

    def __post_init__(self) -> None:
        n_labels = len(self.labels)
        if [len(row) for row in self.counts] != n_labels * [n_labels]:
            raise ValueError("a confusion matrix has a row and a column for each label")
        if not all(0 <= count < 2**50 for row in self.counts for count in row):
            raise ValueError("a confusion matrix holds counts")


@dataclass(frozen=True, kw_only=True)
class ArrivalDetails:
    """What is recorded of an arrival beside its columns; only the lab sets what is not reported."""

    __pydantic_config__ = _STRICT

    reported: ReportedDetails = field(default_factory=ReportedDetails)
    method: Mapping[str, Any] = field(default_factory=dict)  # its settings
    n_validation_examples: int | None = None
    n_truncated: int | None = None  # training examples that were cut to `max_length`
    n_truncated_dev: int | None = None  # examples to report on, likewise
    n_skipped: int | None = None  # examples without a text or with an unknown label
    n_unused: int | None = None  # examples beyond the numbers that the settings allow
    n_repeated: int | None = None  # dev examples whose texts are in train too
    class_weights: Mapping[str, float] | None = None  # in the loss; None: all classes alike
    sources_skipped: tuple[str, ...] = ()
    service_us: int | None = None  # virtual time of all attempts, noted with the last of several
    alone: bool | None = None  # an attempt while nothing else ran, as the one before had no memory
    content: str | None = None  # digest by which copies of an admitted diff are recognised
    signature: str | None = None  # of the provider, in hex
    probe: OutputProbe | None = None
    confusion: Confusion | None = None  # of a classification with few classes

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object without the fields that are None."""
        nested = {"reported": self.reported, "probe": self.probe, "confusion": self.confusion}
        given = {name: _given(each) for name, each in nested.items() if each is not None}
        return _given(self) | given

    @classmethod
    def from_json(cls, tree: Any) -> Self:
        """Read what `to_json` returned. Raises RegistryError for anything else."""
        from pydantic import ValidationError

        from streamlab.problems import message

        try:
            return _adapter().validate_python(tree)  # type: ignore[return-value]
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "details"
            raise RegistryError(
                f"The details of an arrival cannot be read: `{place}`: {message(first)}. "
                "The registry was changed by another program."
            ) from error


def _given(record: object) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if value is not None}


@cache
def _adapter() -> TypeAdapter[ArrivalDetails]:
    from pydantic import TypeAdapter  # here, since a short command has no arrival to read

    return TypeAdapter(ArrivalDetails)


@dataclass(frozen=True, kw_only=True)
class NewArrival:
    """One task that arrived from one provider and what training it took."""

    run_id: int
    seed: int  # of the scenario; the arrival's own seed is derived from its identity
    sequence: int  # place in the stream, from 0; the same for the baselines of one arrival
    provider: str
    task: str
    version: int
    method: str
    attempt: int
    started_at: float
    finished_at: float
    n_steps: int
    training_seconds: float
    evaluation_seconds: float
    peak_memory_bytes: int
    source: str  # files, hub, package or synthetic
    source_detail: str  # path, hub id with revision, or generator and seed
    examples_fingerprint: str
    n_train_examples: int
    details: ArrivalDetails = field(default_factory=ArrivalDetails)
    # Microseconds of the run's virtual clock: all three, in this order, or none without a clock.
    arrived_us: int | None = None
    began_us: int | None = None
    ended_us: int | None = None
    behaviour: str | None = None  # what the simulated provider did
    declared_score: float | None = None  # by its provider, on the primary metric; finite


@dataclass(frozen=True, kw_only=True)
class ArrivalRecord(NewArrival):
    """An arrival as recorded.

    One that failed or was quarantined has a `reason` and no `digest`, a quarantined one also the
    `rule` of admission that it broke.
    """

    id: int
    run: str  # the run's name
    status: ArrivalStatus
    reason: str | None
    rule: str | None
    digest: str | None
    removed_at: float | None

    def __repr__(self) -> str:
        return printable(
            f"ArrivalRecord({self.id}: {self.task!r} version {self.version} of {self.run!r}, "
            f"{self.method}, seed {self.seed}, {self.status})"
        )

    @property
    def versioned_task(self) -> str:
        """Return the task, with `@` and the version where it is not the first.

        This is how commands name it.
        """
        return self.task if self.version == 1 else f"{self.task}@{self.version}"


@dataclass(frozen=True)
class ExamplesUsed:
    """The examples that arrivals of one task were trained on."""

    task: str
    provider: str
    source: str
    source_detail: str
    n_train_examples: int
    examples_fingerprint: str


@dataclass(frozen=True)
class ExamplesChanged:
    """The examples of a task that were not used as they are, by its first arrival in a run."""

    task: str
    n_truncated: int
    n_truncated_dev: int
    n_skipped: int
    n_unused: int
    n_repeated: int


@dataclass(frozen=True)
class MethodStorage:
    """Bytes of a method's artifacts, counted once per arrival, also where two share one."""

    method: str
    n_files: int
    mean_density: float | None  # None without an artifact
    file_bytes: int
    full_checkpoint_bytes: int

    @property
    def mean_bytes(self) -> int | None:
        """Return the mean bytes of a file; None without one."""
        return round(self.file_bytes / self.n_files) if self.n_files else None


@dataclass(frozen=True, kw_only=True)
class NewDiff:
    """One stored artifact: a sparse diff, or a baseline's full checkpoint."""

    digest: str
    kind: ArtifactKind
    base_fingerprint: str
    value_type: str
    n_gated: int  # d: backbone entries that may change
    n_entries: int  # k: entries that do
    n_head_entries: int
    file_bytes: int  # the parts below add up to it
    positions_bytes: int
    values_bytes: int
    head_bytes: int
    metadata_bytes: int
    full_checkpoint_bytes: int  # what one full checkpoint of the same task takes
    tensor_counts: tuple[int, ...]  # kept entries per backbone tensor, in the base's order

    @property
    def density(self) -> float:
        """Return the share of gated entries that differ from the base."""
        return self.n_entries / self.n_gated if self.n_gated else 0.0


def describe_diff(diff: DiffVector, file: DiffFile, *, full_bytes: int) -> NewDiff:
    """Return the record of a diff and the file it was decoded from.

    `full_bytes`: size of a full checkpoint of the same task.
    """
    return NewDiff(
        digest=file.digest,
        kind="diff",
        base_fingerprint=diff.layout.fingerprint,
        file_bytes=file.n_bytes,
        full_checkpoint_bytes=full_bytes,
        tensor_counts=diff.counts,
        **header_fields(file),
    )


def header_fields(file: DiffFile) -> dict[str, Any]:
    """Return the fields of a record that the file itself states, by name."""
    return {
        "value_type": file.header.value_type,
        "n_gated": file.header.d,
        "n_entries": file.header.k,
        "n_head_entries": file.n_head_entries,
        **{f"{part}_bytes": n_bytes for part, n_bytes in asdict(file.parts).items()},
    }


@dataclass(frozen=True, kw_only=True)
class DiffRecord(NewDiff):
    """A stored artifact as recorded."""

    id: int
    added_at: float

    def __repr__(self) -> str:
        return printable(f"DiffRecord({self.kind} {self.digest[:12]}, {self.file_bytes:,} bytes)")


@dataclass(frozen=True, kw_only=True)
class NewScore:
    """One metric of one stored artifact on one split, measured after some arrival.

    `after_sequence` is the place in the stream of the arrival after which it was measured:
    the arrival's own place for its first score, a later one for the accuracy matrix.
    """

    metric: str
    value: float
    # What the majority class of the training examples, or the mean of their numbers, scores as the
    # answer to every example; None where the metric is undefined for it.
    majority: float | None = None
    split: str  # dev, or validation (rows split from train)
    n_examples: int
    after_sequence: int
    is_primary: bool  # the metric the task is judged by


@dataclass(frozen=True, kw_only=True)
class FinishedArrival:
    """A complete arrival: what it took, the artifact it left, and its scores."""

    arrival: NewArrival
    diff: NewDiff
    scores: tuple[NewScore, ...]


@dataclass(frozen=True, kw_only=True)
class ScoreRecord(NewScore):
    """A score as recorded, with the arrival it belongs to."""

    id: int
    arrival_id: int
    run: str
    seed: int
    task: str
    provider: str
    method: str
    source: str
    synthetic: bool  # scored on rows made by this project's generators


@dataclass(frozen=True, kw_only=True)
class NewPlacement:
    """What became of a finished arrival's artifact on the simulated device of its run."""

    at_us: int  # of the run's virtual clock
    arrival_id: int
    action: PlacementAction
    device_bytes: int  # on the device after it
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class PlacementRecord(NewPlacement):
    """A line of the device's log, with what it is about."""

    id: int
    run: str
    seed: int
    provider: str
    task: str
    version: int
    method: str


@dataclass(frozen=True, kw_only=True)
class DeviceRequests:
    """The simulated requests to the device of a seed, as one eviction policy answers them."""

    seed: int
    policy: EvictionPolicy
    n_hits: int
    n_misses: int

    @property
    def n_requests(self) -> int:
        """Return how many requests there were."""
        return self.n_hits + self.n_misses

    @property
    def hit_rate(self) -> float | None:
        """Return the share of requests whose task was on the device, None without a request."""
        return self.n_hits / self.n_requests if self.n_requests else None


@dataclass(frozen=True, kw_only=True)
class TagRecord:
    """A name on a run, an arrival or an artifact; that field is set, and its file's digest."""

    name: str
    kind: TagKind
    run: str | None
    arrival_id: int | None
    digest: str | None
    added_at: float

    @property
    def target(self) -> str:
        """Return what the tag is on: a run's name, an arrival's id or a digest."""
        return str(self.arrival_id if self.kind == "arrival" else self.run or self.digest)


@dataclass(frozen=True)
class PrimaryStream:
    """The finished arrivals of a run's first seed by its primary method, and their artifacts."""

    run: RunRecord
    base: BaseRecord
    seed: int
    method: str
    arrivals: tuple[ArrivalRecord, ...]  # at least one, in the order of the stream
    diffs: dict[str, DiffRecord]  # by digest

    @property
    def files(self) -> tuple[tuple[ArrivalRecord, DiffRecord], ...]:
        """Return each arrival with its artifact. Raises RegistryError where one is missing."""
        missing = next((a for a in self.arrivals if a.digest not in self.diffs), None)
        if missing is not None:
            raise RegistryError(
                f"The artifact {missing.digest} of arrival {missing.id} has no record. "
                "The registry is damaged; restore it from a copy."
            )
        return tuple((arrival, self.diffs[arrival.digest or ""]) for arrival in self.arrivals)


@dataclass(frozen=True, kw_only=True)
class EventRecord:
    """One line of the append-only log."""

    id: int
    at: float
    kind: str
    subject: str  # a run's name, an arrival's number or a digest
    message: str
    version: str  # of streamlab
    digest: str | None  # of the artifact it is about


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Bytes of files by what they hold."""

    positions_bytes: int
    values_bytes: int
    head_bytes: int
    metadata_bytes: int

    @property
    def file_bytes(self) -> int:
        """Return the bytes of whole files."""
        return self.positions_bytes + self.values_bytes + self.head_bytes + self.metadata_bytes


@dataclass(frozen=True, kw_only=True)
class Total:
    """What arrived of one kind under one name: of a run, a task, a provider or a method.

    An arrival that was removed is not counted.
    """

    name: str  # empty where it is of all there is
    kind: ArtifactKind | Literal["failed", "quarantined"]
    n_arrivals: int  # attempts that left no artifact where the kind is one of the last two
    n_files: int
    logical: Parts  # a file counted once per arrival
    stored: Parts  # each file counted once


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What arrived for one task, or from one provider; what left no artifact is counted apart."""

    name: str
    n_arrivals: int  # finished, baselines included
    n_failures: int
    n_quarantined: int
    diff_bytes: int  # diffs, a file counted once per arrival
    checkpoint_bytes: int  # baselines' checkpoints, a file counted once per arrival
    adapter_bytes: int  # baselines' adapters, likewise
    stored_bytes: int  # all of these, each file counted once


def given_part(record: Any, kind: type[New], **changes: Any) -> New:
    """Return the part of a record that was once given, as the `New...` class it was given in."""
    return kind(**{f.name: getattr(record, f.name) for f in fields(kind)} | changes)  # type: ignore[arg-type]
