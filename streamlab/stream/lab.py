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
from streamlab.registry.records import (
    ArrivalRecord,
    ArtifactKind,
    DiffRecord,
    NewArrival,
    NewScore,
    RunRecord,
)
from streamlab.registry.registry import Registry
from streamlab.stream.admission import check_head, check_probe, verify
from streamlab.stream.artifacts import describe, serving
from streamlab.stream.content import content_digest
from streamlab.stream.context import World
from streamlab.stream.ledger import Ledger
from streamlab.stream.probe import take_probe
from streamlab.stream.providers.answer import Answer, Effort
from streamlab.stream.providers.behaviours import Behaviour
from streamlab.stream.providers.training import fresh_model
from streamlab.stream.schedule import Arrival
from streamlab.stream.scoring import score_stored
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
class Try:
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
    world: World
    home: Home
    store: ArtifactStore
    ledger: Ledger
    clock: Clock
    reached: Reached

    def settle(self, arrival: Arrival, tried: Try, times: Times) -> Outcome:
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

    def _lost(self, arrival: Arrival, tried: Try, times: Times, reason: str) -> Outcome:
        effort = Effort(n_steps=0, training_seconds=tried.seconds, peak_memory_bytes=0, details={})
        new = self._describe(arrival, tried, times, effort)
        return Outcome(arrival, self.registry.add_failure(new, reason), None, ())

    def _admit(self, arrival: Arrival, answer: Answer) -> dict[str, Any]:
        """Hold a submission against the rules; return what is recorded of it.

        Baselines are the lab's own comparisons, and pass. Raises RefusedError.
        """
        scenario, submission = self.world.scenario, answer.submission
        if arrival.method != scenario.defaults.method or arrival.method.artifact != "diff":
            _check_kind(arrival, submission)
            return {}
        key = scenario.providers[arrival.provider].public_key(arrival.seed, arrival.provider)
        diff = verify(
            submission,
            layout=self.world.base.layout,
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
        training = self.world.scenario.tasks[arrival.task].training
        model = fresh_model(self.world.base, self.world.encoded(arrival).data, training, seed=0)
        parameters = dict(model.named_parameters())
        return {name: tuple(parameters[name].shape) for name in self.world.base.head_names}

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
        tried: Try,
        answer: Answer,
        times: Times,
        facts: Mapping[str, Any],
        began: float,
    ) -> Outcome:
        """Store what was admitted, score what was stored, and write its row."""
        submission = answer.submission
        stored = describe(submission.kind, submission.data, self.world.base)
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
        task = self.world.encoded(arrival)
        training = self.world.scenario.tasks[arrival.task].training
        model = fresh_model(self.world.base, task.data, training, seed=0)
        with serving(model, submission.data, "diff", digest, self.world.base) as served:
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
            self.world.encoded(arrival),
            self.world.base,
            self.world.scenario.tasks[arrival.task].training,
            store,
            after_sequence=arrival.sequence,
            facts=facts,
        )

    def _describe(
        self,
        arrival: Arrival,
        tried: Try,
        times: Times,
        effort: Effort,
        answer: Answer | None = None,
        *,
        evaluation_seconds: float = 0.0,
    ) -> NewArrival:
        task, loaded = self.world.encoded(arrival), self.world.loaded(arrival)
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
