"""What the lab does with an answer: admit it or not, store it, score what was stored, record it.

received -> verified -> (quarantined | admitted): nothing that broke a rule is stored with what
serves, and the row is written last.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from streamlab.errors import BaseMismatchError, DiffError, RefusedError, TrainingError
from streamlab.home.folder import Home
from streamlab.home.store import ArtifactStore
from streamlab.registry.device_log import NewPlacement, PlacementRecord
from streamlab.registry.records import (
    ArrivalRecord,
    ArtifactKind,
    DiffRecord,
    NewArrival,
    NewScore,
    RunRecord,
)
from streamlab.registry.registry import Registry
from streamlab.stream.admission import (
    AdmissionContext,
    check_head,
    check_probe,
    content_digest,
    verify,
)
from streamlab.stream.artifacts import describe, serving
from streamlab.stream.context import RunContext, fresh_model
from streamlab.stream.device import Item, simulate_device
from streamlab.stream.providers.behaviours import Behaviour
from streamlab.stream.providers.provider import Answer, Effort
from streamlab.stream.schedule import Arrival
from streamlab.stream.scoring import score_stored, take_probe
from streamlab.stream.submission import Submission

Clock = Callable[[], float]

# What the lab notes among an arrival's details; a provider's own of these names are left out.
_OF_THE_LAB = frozenset({
    "content", "method", "n_truncated", "n_validation_examples", "probe", "service_us", "signature",
    "sources_skipped",
})  # fmt: skip

# What an arrival passes on its way. Tests end the process at each: nothing half-done may stay.
POINTS = ("arrived", "answered", "admitted", "stored", "scored", "recorded")
Reached = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What one arrival came to: its record, and where it succeeded its diff and scores."""

    arrival: Arrival
    record: ArrivalRecord
    diff: DiffRecord | None
    scores: tuple[NewScore, ...]
    n_rescored: int = 0  # scores taken again of earlier arrivals


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt at an arrival: the provider's answer, or why there is none."""

    attempt: int  # from 1, over all runs of the same arrival
    behaviour: Behaviour  # what was drawn for the provider
    began_at: float  # seconds since the epoch
    seconds: float
    answer: Answer | None
    reason: str | None


@dataclass(frozen=True)
class Times:
    """When an arrival came, and an attempt at it began and ended, in microseconds."""

    arrived_us: int
    began_us: int
    ended_us: int
    served_us: int | None = None  # of all attempts together, told with the last of several


@dataclass
class Lab:
    """The lab of one run: it holds the evaluation rows, the store and the registry."""

    registry: Registry
    run: RunRecord
    context: RunContext
    home: Home
    store: ArtifactStore
    ledger: Ledger
    clock: Clock
    reached: Reached

    def settle(self, arrival: Arrival, tried: Attempt, times: Times) -> Outcome:
        """Record one attempt; where it has an answer, admit, store and score that first.

        Raises StoreError or RegistryError where nothing can be kept.
        """
        if tried.answer is None:
            return self._lost(arrival, tried, times, str(tried.reason))
        began = time.perf_counter()
        answer = replace(tried.answer, effort=_own_effort(tried.answer.effort))
        try:
            facts = self._admit(arrival, answer)
            self.reached("admitted")
            return self._keep(arrival, tried, answer, times, facts, began)
        except RefusedError as refused:
            new = self._describe(arrival, tried, times, answer.effort, answer)
            record = self.registry.add_quarantined(new, refused.rule, str(refused))
            return Outcome(arrival, record, None, ())
        except BaseMismatchError:
            raise  # the base itself is in doubt, and with it all that would follow
        except (TrainingError, DiffError) as error:
            return self._lost(arrival, tried, times, str(error))

    def _lost(self, arrival: Arrival, tried: Attempt, times: Times, reason: str) -> Outcome:
        effort = Effort(n_steps=0, training_seconds=tried.seconds, peak_memory_bytes=0, details={})
        new = self._describe(arrival, tried, times, effort)
        return Outcome(arrival, self.registry.add_failure(new, reason), None, ())

    def _admit(self, arrival: Arrival, answer: Answer) -> dict[str, Any]:
        """Hold a submission against the rules; return what is recorded of it.

        Baselines are the lab's own comparisons, and pass. Raises RefusedError.
        """
        scenario, submission = self.context.scenario, answer.submission
        if arrival.method != scenario.defaults.method or arrival.method.artifact != "diff":
            _check_kind(arrival, submission)
            return {}
        key = scenario.providers[arrival.provider].public_key(arrival.seed, arrival.provider)
        diff = verify(
            submission,
            layout=self.context.base.layout,
            settings=scenario.admission,
            known=self.ledger.known(arrival, key),
        )
        check_head(diff, self._head_shapes(arrival))
        if scenario.admission.probe_tolerance is not None:
            self._check_score(arrival, submission, scenario.admission.probe_tolerance)
        signature = submission.signature
        return {"content": content_digest(diff)} | (
            {} if signature is None else {"signature": signature.hex()}
        )

    def _head_shapes(self, arrival: Arrival) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the head that a task's model has."""
        training = self.context.scenario.tasks[arrival.task].training
        model = fresh_model(self.context.base, self.context.encoded(arrival).data, training, seed=0)
        parameters = dict(model.named_parameters())
        return {name: tuple(parameters[name].shape) for name in self.context.base.head_names}

    def _check_score(self, arrival: Arrival, submission: Submission, tolerance: float) -> None:
        """Score a submission out of quarantine, where it stays unless its score is as declared."""
        aside = ArtifactStore(self.home.quarantine_of(arrival.provider))
        digest = aside.put(submission.data)
        try:
            scores = self._scores(arrival, submission.kind, digest, aside, {})
        except DiffError as error:
            raise RefusedError("container", f"it does not go on the base: {error}") from error
        found = next(s.value for s in scores if s.is_primary and s.split == "dev")
        check_probe(submission.declared_score, found, tolerance=tolerance)
        aside.delete(aside.path(digest))

    def _keep(
        self,
        arrival: Arrival,
        tried: Attempt,
        answer: Answer,
        times: Times,
        facts: Mapping[str, Any],
        began: float,
    ) -> Outcome:
        """Store what was admitted, score what was stored, and write its row."""
        submission = answer.submission
        stored = describe(submission.kind, submission.data, self.context.base)
        digest = self.store.put(submission.data)
        self.reached("stored")
        details = {**answer.effort.details, **facts}
        if submission.kind == "diff":
            details["probe"] = self._probe(arrival, submission, digest)
        scores = self._scores(arrival, submission.kind, digest, self.store, details)
        self.reached("scored")
        effort = Effort(
            n_steps=answer.effort.n_steps,
            training_seconds=answer.effort.training_seconds,
            peak_memory_bytes=answer.effort.peak_memory_bytes,
            details=details,
        )
        seconds = time.perf_counter() - began
        new = self._describe(arrival, tried, times, effort, answer, evaluation_seconds=seconds)
        record = self.registry.add_arrival(new, stored, scores)
        if "content" in details:
            self.ledger.add(record, stored.file_bytes)
        self.reached("recorded")
        return Outcome(arrival, record, self.registry.diff(digest), tuple(scores))

    def _probe(self, arrival: Arrival, submission: Submission, digest: str) -> dict[str, Any]:
        """Note what a stored diff does to the base, so that it can be seen to do so again."""
        task = self.context.encoded(arrival)
        training = self.context.scenario.tasks[arrival.task].training
        model = fresh_model(self.context.base, task.data, training, seed=0)
        with serving(model, submission.data, "diff", digest, self.context.base) as served:
            return take_probe(served, task, training)

    def _scores(
        self,
        arrival: Arrival,
        kind: ArtifactKind,
        digest: str,
        store: ArtifactStore,
        facts: Mapping[str, Any],
    ) -> list[NewScore]:
        return score_stored(
            digest,
            kind,
            self.context.encoded(arrival),
            self.context.base,
            self.context.scenario.tasks[arrival.task].training,
            store,
            after_sequence=arrival.sequence,
            facts=facts,
        )

    def _describe(
        self,
        arrival: Arrival,
        tried: Attempt,
        times: Times,
        effort: Effort,
        answer: Answer | None = None,
        *,
        evaluation_seconds: float = 0.0,
    ) -> NewArrival:
        task, loaded = self.context.encoded(arrival), self.context.loaded(arrival)
        behaviour = tried.behaviour if answer is None else answer.behaved
        return NewArrival(
            run_id=self.run.id,
            seed=arrival.seed,
            sequence=arrival.sequence,
            provider=arrival.provider,
            task=arrival.task,
            version=arrival.version,
            method=arrival.method.name,
            attempt=tried.attempt,
            started_at=tried.began_at,
            finished_at=self.clock(),
            n_steps=effort.n_steps,
            training_seconds=effort.training_seconds,
            evaluation_seconds=evaluation_seconds,
            peak_memory_bytes=effort.peak_memory_bytes,
            source=task.data.source.kind,
            source_detail=task.data.source.detail,
            examples_fingerprint=task.data.source.examples_fingerprint,
            n_train_examples=len(task.data.train),
            arrived_us=times.arrived_us,
            began_us=times.began_us,
            ended_us=times.ended_us,
            behaviour=None if behaviour == "honest" else behaviour,
            declared_score=None if answer is None else _finite(answer.submission.declared_score),
            details={
                **effort.details,
                "n_validation_examples": len(task.data.validation),
                "n_truncated": task.train.n_truncated,
                "sources_skipped": list(loaded.tried),
                "method": arrival.method.model_dump(mode="json"),
                **({} if times.served_us is None else {"service_us": times.served_us}),
            },
        )


def _own_effort(effort: Effort) -> Effort:
    """Return what a provider tells of its effort, but for what only the lab may note."""
    own = {name: told for name, told in effort.details.items() if name not in _OF_THE_LAB}
    return replace(effort, details=own)


def _check_kind(arrival: Arrival, submission: Submission) -> None:
    """Raise RefusedError where what came is not what the method leaves, whatever it says it is."""
    expected = arrival.method.artifact
    if submission.kind != expected:
        message = f"{arrival.method.name} leaves a {expected}, and a {submission.kind} came."
        raise RefusedError("container", message)


def _finite(declared: float | None) -> float | None:
    """Return a declared score that can be recorded; one that is no number counts as none."""
    return declared if declared is not None and math.isfinite(declared) else None


def place_on_device(lab: Lab, seed: int) -> None:
    """Append what the log of a seed's device still lacks; the whole of it is drawn anew.

    To be called when every arrival of the seed has come to its end: the log is only ever added to,
    and what failed and is tried again would come in between. Where it was logged before and
    arrivals have been removed since, the log stays as it was.
    """
    device = lab.context.scenario.storage.device
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
    method = lab.context.scenario.defaults.method.name
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


@dataclass(frozen=True)
class _Entry:
    record: ArrivalRecord
    n_bytes: int


class Ledger:
    """The diffs that were admitted, in the order of virtual time; filled anew from the rows."""

    def __init__(self, registry: Registry, run: str, method: str) -> None:
        """Read the rows of `method`, the scenario's own: baselines are not admitted."""
        self._entries = [
            _Entry(record, registry.diff(record.digest).file_bytes)
            for record in sorted(
                registry.arrivals(run=run, method=method, status="finished"),
                key=lambda record: (record.ended_us or 0, record.sequence),
            )
            if record.digest is not None and "content" in record.details
        ]

    def add(self, record: ArrivalRecord, n_bytes: int) -> None:
        """Note a diff that was admitted and has its row."""
        self._entries.append(_Entry(record, n_bytes))

    def known(self, arrival: Arrival, public_key: str | None) -> AdmissionContext:
        """Return what is known when a submission for `arrival` comes."""
        ours = [entry for entry in self._entries if entry.record.seed == arrival.seed]
        own = [entry for entry in ours if entry.record.provider == arrival.provider]
        return AdmissionContext(
            contents={e.record.details["content"]: f"`{e.record.provider}`" for e in ours},
            n_bytes=sum(entry.n_bytes for entry in own),
            n_tasks=len(own),
            public_key=public_key,
        )

    def submissions(
        self, seed: int, store: ArtifactStore, *, until_us: int
    ) -> tuple[Submission, ...]:
        """Return what was admitted under a scenario seed as it was submitted, oldest first.

        `until_us`: the virtual time by which it must have ended, since a run that is resumed
        knows of what ends later too.
        """
        return tuple(
            _submission(record, store)
            for record in (entry.record for entry in self._entries)
            if record.seed == seed and (record.ended_us or 0) <= until_us
        )


def _submission(record: ArrivalRecord, store: ArtifactStore) -> Submission:
    signature = record.details.get("signature")
    return Submission(
        provider=record.provider,
        task=record.task,
        version=record.version,
        kind="diff",
        data=store.get(str(record.digest)),
        declared_score=record.declared_score,
        signature=None if signature is None else bytes.fromhex(signature),
    )
