"""The lab: admit a submission, store it, score what was stored, and record it.

received -> verified -> (quarantined | admitted): nothing that broke a rule is stored with what
is served, and the row is written last.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from streamlab.errors import BaseMismatchError, DiffError, RefusedError, TrainingError
from streamlab.home.folder import Home
from streamlab.home.gc import GRACE_SECONDS
from streamlab.home.store import ArtifactStore, FolderStore
from streamlab.inference.artifact_kinds import Artifact, DiffArtifact, read_artifact
from streamlab.inference.model import logits
from streamlab.registry.records import (
    ArrivalDetails,
    ArrivalRecord,
    DiffRecord,
    NewArrival,
    NewPlacement,
    NewScore,
    PlacementRecord,
    RunRecord,
)
from streamlab.registry.registry import Registry
from streamlab.registry.validation import MAX_VALUE
from streamlab.stream.admission import (
    AdmissionContext,
    check_head,
    check_probe,
    content_digest,
    verify,
)
from streamlab.stream.device import Item, simulate_device, simulate_policies
from streamlab.stream.providers.behaviours import Behaviour, pick
from streamlab.stream.providers.provider import Answer, Effort, Order
from streamlab.stream.run_context import RunContext
from streamlab.stream.schedule import Arrival
from streamlab.stream.scoring import Outputs, Split, confusion_of, scores_of, take_probe
from streamlab.stream.submission import Submission, session_of
from streamlab.units import format_bytes, printable

Clock = Callable[[], float]

_PACK_EVERY = 1000  # artifacts, after which the older small ones are packed
# The stages of an arrival. Tests end the process at each: nothing half-done may be left behind.
POINTS = ("arrived", "answered", "admitted", "stored", "scored", "recorded")
Reached = Callable[[str], None]


@dataclass(frozen=True, repr=False)
class Outcome:
    """The outcome of one attempt: its record, and where it succeeded the artifact and scores."""

    arrival: Arrival
    record: ArrivalRecord
    diff: DiffRecord | None
    scores: tuple[NewScore, ...]
    n_rescored: int = 0  # scores taken again of earlier arrivals

    def __repr__(self) -> str:
        facts = [f"seed {self.arrival.seed}", self.record.status]
        if self.diff is None:
            facts.append(str(self.record.reason))
        else:
            dev = (s for s in self.scores if s.is_primary and s.split == "dev")
            facts += [f"{score.metric} {score.value:.4f}" for score in dev]
            facts.append(format_bytes(self.diff.file_bytes))
        who = f"{self.arrival.task!r} from {self.arrival.provider!r}, {self.arrival.method.label}"
        return printable(f"Outcome({', '.join([who, *facts])})")


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt at an arrival: the provider's answer, or why there is none."""

    number: int  # from 1, over all runs of the same arrival
    alone: bool = False  # while nothing else ran
    out_of_memory: bool = False
    behaviour: Behaviour  # drawn for the provider
    began_at: float  # seconds since the epoch
    seconds: float
    answer: Answer | None
    reason: str | None


@dataclass(frozen=True)
class Times:
    """When an arrival came, and an attempt at it began and ended, in virtual microseconds."""

    arrived_us: int
    began_us: int
    ended_us: int
    service_us: int | None = None  # of all attempts, given with the last of several


@dataclass
class Lab:
    """The lab of one run: it holds the evaluation examples, the store and the registry."""

    registry: Registry
    run: RunRecord
    context: RunContext
    home: Home
    store: ArtifactStore
    ledger: Ledger
    clock: Clock
    reached: Reached
    _n_kept: int = field(default=0, init=False)

    def settle(self, arrival: Arrival, attempt: Attempt, times: Times) -> Outcome:
        """Record one attempt; where it has an answer, admit, store and score that first.

        Raises StoreError or RegistryError where nothing can be kept.
        """
        answer = attempt.answer
        if answer is None:
            return self._fail(arrival, attempt, times, str(attempt.reason))
        began = time.perf_counter()
        try:
            admitted = self._admit(arrival, answer)
            self.reached("admitted")
            return self._keep(arrival, attempt, answer, times, admitted, began)
        except RefusedError as refused:
            new = self._describe(arrival, attempt, times, answer)
            record = self.registry.arrivals.add_failed(new, str(refused), rule=refused.rule)
            return Outcome(arrival, record, None, ())
        except BaseMismatchError:
            raise  # the base itself is in doubt, and with it everything after it
        except (TrainingError, DiffError) as error:
            return self._fail(arrival, attempt, times, str(error))

    def _fail(self, arrival: Arrival, attempt: Attempt, times: Times, reason: str) -> Outcome:
        new = self._describe(arrival, attempt, times)
        return Outcome(arrival, self.registry.arrivals.add_failed(new, reason), None, ())

    def _admit(self, arrival: Arrival, answer: Answer) -> _Admitted:
        """Check a submission by the rules of admission.

        Baselines are the lab's own comparisons, and are only read. Raises RefusedError, and
        DiffError for a baseline's artifact that cannot be read.
        """
        scenario, submission, base = self.context.scenario, answer.submission, self.context.base
        if arrival.method != scenario.defaults.method or arrival.method.artifact != "diff":
            _check_kind(arrival, submission)
            model_class = self.context.encoded(arrival).data.type.model_class
            return _Admitted(
                read_artifact(submission.kind, submission.data, base, model_class=model_class)
            )
        key = scenario.providers[arrival.provider].public_key(arrival.seed, arrival.provider)
        diff = verify(
            submission,
            layout=base.layout,
            base=base.tensors,
            settings=scenario.admission,
            known=replace(
                self.ledger.known(arrival, key), session=session_of(self.run, arrival.seed)
            ),
        )
        task, training = self.context.encoded(arrival), self.context.training(arrival.task)
        check_head(diff, self.context.classifiers.head_shapes(task, training))
        artifact = DiffArtifact(submission.data, base, diff)
        if scenario.admission.probe_tolerance is not None:
            self._check_score(arrival, submission, artifact, scenario.admission.probe_tolerance)
        return _Admitted(artifact, content_digest(diff))

    def _check_score(
        self, arrival: Arrival, submission: Submission, artifact: DiffArtifact, tolerance: float
    ) -> None:
        """Score a submission before it is stored; one that is not as declared is quarantined."""
        task, training = self.context.encoded(arrival), self.context.training(arrival.task)
        try:
            with artifact.applied_to(self.context.classifiers.clean(task, training)) as served:
                found = task.data.primary_score(logits(served.model, task.dev), task.dev.labels)
            check_probe(submission.declared_score, found, tolerance=tolerance)
        except (DiffError, RefusedError) as error:
            self._quarantine(submission)
            if isinstance(error, RefusedError):
                raise
            raise RefusedError("container", f"it cannot be put on the base: {error}") from error

    def _quarantine(self, submission: Submission) -> None:
        """Keep a submission that the probe refused, within the provider's share of quarantine."""
        kept = FolderStore(self.home.quarantine_of(submission.provider))
        n_bytes = sum(found.n_bytes for found in kept.list()) + len(submission.data)
        if n_bytes <= self.context.scenario.admission.quarantine_bytes:
            kept.put(submission.data)

    def _keep(
        self,
        arrival: Arrival,
        attempt: Attempt,
        answer: Answer,
        times: Times,
        admitted: _Admitted,
        began: float,
    ) -> Outcome:
        """Store what was admitted, score what was stored, and write its row."""
        submission, classifiers = answer.submission, self.context.classifiers
        described = admitted.artifact.describe()
        digest = self.store.put(submission.data)
        self.reached("stored")
        task, training = self.context.encoded(arrival), self.context.training(arrival.task)
        stored = read_artifact(
            submission.kind,
            self.store.get(digest),
            self.context.base,
            model_class=task.data.type.model_class,
            digest=digest,
        )
        with stored.applied_to(classifiers.clean(task, training)) as served:
            dev, validation = (logits(served.model, split) for split in (task.dev, task.validation))
        probe, after = take_probe(served, dev, training), arrival.sequence
        outputs: tuple[tuple[Split, Outputs], ...] = (("dev", dev), ("validation", validation))
        scores = [
            score
            for split, found in outputs
            for score in scores_of(
                found,
                task,
                split=split,
                after_sequence=after,
                majority=task.data.majority_scores(getattr(task, split).labels),
            )
        ]
        self.reached("scored")
        new = self._describe(arrival, attempt, times, answer)
        signature = submission.signature
        signed = admitted.content is not None and signature is not None
        details = replace(
            new.details,
            content=admitted.content,
            signature=signature.hex() if signed and signature else None,
            probe=probe,
            confusion=confusion_of(dev, task),
        )
        new = replace(new, details=details, evaluation_seconds=time.perf_counter() - began)
        record = self.registry.arrivals.add(new, described, scores)
        if digest not in self.store:  # a collection did not know yet that a row would follow
            self.store.put(submission.data)
        if admitted.content is not None:
            self.ledger.add(record, described.file_bytes)
        self.reached("recorded")
        self._n_kept += 1
        if self._n_kept % _PACK_EVERY == 0:
            self.store.pack(before=self.clock() - GRACE_SECONDS)
        return Outcome(arrival, record, self.registry.artifacts.get(digest), tuple(scores))

    def _describe(
        self, arrival: Arrival, attempt: Attempt, times: Times, answer: Answer | None = None
    ) -> NewArrival:
        """Describe an attempt for the registry; one without an answer took its whole time."""
        task, loaded = self.context.encoded(arrival), self.context.loaded(arrival)
        if answer is None:
            effort = Effort(n_steps=0, training_seconds=attempt.seconds, peak_memory_bytes=0)
            behaviour, declared = attempt.behaviour, None
        else:
            effort, behaviour = answer.effort, answer.behaviour
            declared = answer.submission.declared_score
        return NewArrival(
            run_id=self.run.id,
            seed=arrival.seed,
            sequence=arrival.sequence,
            provider=arrival.provider,
            task=arrival.task,
            version=arrival.version,
            method=arrival.method.label,
            attempt=attempt.number,
            started_at=attempt.began_at,
            finished_at=self.clock(),
            n_steps=effort.n_steps,
            training_seconds=effort.training_seconds,
            evaluation_seconds=0.0,
            peak_memory_bytes=effort.peak_memory_bytes,
            source=task.data.source.kind,
            source_detail=task.data.source.detail,
            examples_fingerprint=task.data.source.examples_fingerprint,
            n_train_examples=len(task.data.train),
            arrived_us=times.arrived_us,
            began_us=times.began_us,
            ended_us=times.ended_us,
            behaviour=None if behaviour == "honest" else behaviour,
            declared_score=None if declared is None or not abs(declared) <= MAX_VALUE else declared,
            details=ArrivalDetails(
                reported=effort.details,
                method=arrival.method.model_dump(mode="json"),
                n_validation_examples=len(task.data.validation),
                n_truncated=task.train.n_truncated,
                n_truncated_dev=task.dev.n_truncated,
                n_skipped=task.data.counts.skipped,
                n_unused=task.data.counts.unused,
                n_repeated=task.data.counts.repeated,
                class_weights=task.data.named_class_weights,
                sources_skipped=tuple(loaded.tried),
                service_us=times.service_us,
                alone=attempt.alone or None,
            ),
        )


@dataclass(frozen=True)
class _Admitted:
    """A submission's artifact, read; a diff that was admitted has the digest of its content."""

    artifact: Artifact
    content: str | None = None


def _check_kind(arrival: Arrival, submission: Submission) -> None:
    """Raise RefusedError where a submission is of another kind than its method produces."""
    expected = arrival.method.artifact
    if submission.kind != expected:
        message = (
            f"{arrival.method.label} produces a {expected}, and a {submission.kind} was submitted."
        )
        raise RefusedError("container", message)


def place_on_device(lab: Lab, seed: int) -> None:
    """Append what the log of a seed's device still lacks, and record how requests are answered.

    The whole simulation is repeated. To be called when every arrival of the seed is settled: the
    log is only ever appended to, and an arrival that failed and is tried again would belong in
    between. A log to which arrivals belong that have been removed since stays as it was.
    """
    device = lab.context.scenario.storage
    if device.budget is None:
        return
    items = _items(lab, seed)
    until_us = items[-1][0] if items else 0
    log = simulate_device(device, items, seed=seed, until_us=until_us).log
    there = [line for line in lab.registry.placements.list(lab.run.name) if line.seed == seed]
    if [_key(line) for line in there] == [_key(line) for line in log[: len(there)]]:
        requests = simulate_policies(device, items, seed=seed, until_us=until_us)
        placements = lab.registry.placements

        def record() -> None:
            placements.add(log[len(there) :])
            placements.set_requests(lab.run.id, requests)

        lab.registry.transaction(record)


def _items(lab: Lab, seed: int) -> list[tuple[int, Item]]:
    """Return what is placed on the device, and when, in order."""
    scores = {
        score.arrival_id: score.value
        for score in lab.registry.scores.list(run=lab.run.name, primary=True)
        if score.split == "dev"  # the same after every arrival, as the base is fixed
    }
    method = lab.context.scenario.defaults.method.label
    records = lab.registry.arrivals.list(run=lab.run.name, method=method, status="finished")
    own = [r for r in records if r.seed == seed and r.digest and r.ended_us is not None]
    own.sort(key=lambda record: (record.ended_us, record.sequence))
    return [
        (
            record.ended_us or 0,
            Item(
                arrival_id=record.id,
                task=record.task,
                n_bytes=lab.registry.artifacts.get(record.digest or "").file_bytes,
                score=scores[record.id],
            ),
        )
        for record in own
    ]


def _key(line: NewPlacement | PlacementRecord) -> tuple[object, ...]:
    return line.at_us, line.arrival_id, line.action, line.device_bytes, line.note


@dataclass(frozen=True, slots=True)
class _Entry:
    """A diff that was admitted: what can be misused of it."""

    ended_us: int
    provider: str
    task: str
    version: int
    digest: str
    declared_score: float | None
    signature: bytes | None


@dataclass(frozen=True)
class _Account:
    """What was admitted under one scenario seed."""

    contents: dict[str, str] = field(default_factory=dict)  # content digest -> its provider
    entries: list[_Entry] = field(default_factory=list)
    n_bytes: Counter[str] = field(default_factory=Counter)  # by provider
    n_tasks: Counter[str] = field(default_factory=Counter)


class Ledger:
    """The diffs admitted so far, in the order of virtual time; read from the registry at first."""

    def __init__(self, registry: Registry, run: str, method: str) -> None:
        """Read the arrivals of `method`, the scenario's own: baselines are not admitted."""
        self._accounts: defaultdict[int, _Account] = defaultdict(_Account)
        for record in registry.arrivals.walk(run, method=method, status="finished"):
            if record.digest is not None and record.details.content is not None:
                self.add(record, registry.artifacts.get(record.digest).file_bytes)
        for account in self._accounts.values():  # stable: those of one time stay in order of place
            account.entries.sort(key=lambda entry: entry.ended_us)

    def add(self, record: ArrivalRecord, n_bytes: int) -> None:
        """Add a diff that was admitted and recorded."""
        account, details = self._accounts[record.seed], record.details
        account.contents[str(details.content)] = f"`{record.provider}`"
        account.n_bytes[record.provider] += n_bytes
        account.n_tasks[record.provider] += 1
        entry = _Entry(
            ended_us=record.ended_us or 0,
            provider=record.provider,
            task=record.task,
            version=record.version,
            digest=str(record.digest),
            declared_score=record.declared_score,
            signature=None if details.signature is None else bytes.fromhex(details.signature),
        )
        account.entries.append(entry)

    def known(self, arrival: Arrival, public_key: str | None) -> AdmissionContext:
        """Return what admission compares a submission for `arrival` with."""
        account = self._accounts[arrival.seed]
        return AdmissionContext(
            contents=account.contents,
            n_bytes=account.n_bytes[arrival.provider],
            n_tasks=account.n_tasks[arrival.provider],
            public_key=public_key,
        )

    def misused(self, order: Order, store: ArtifactStore, *, until_us: int) -> Submission | None:
        """Return the earlier submission that a provider misuses, None where there is none yet.

        `until_us`: the virtual time by which it must have ended; a resumed run knows of later
        ones too.
        """
        own = None if order.behaviour == "duplicate" else order.arrival.provider
        earlier = [
            entry
            for entry in self._accounts[order.arrival.seed].entries
            if entry.ended_us <= until_us and own in (None, entry.provider)
        ]
        if not earlier:
            return None
        entry = earlier[pick(len(earlier), order.seed)]
        return Submission(
            provider=entry.provider,
            task=entry.task,
            version=entry.version,
            kind="diff",
            data=store.get(entry.digest),
            declared_score=entry.declared_score,
            signature=entry.signature,
        )
