"""Serve one arrival after another: ask, store, score what was stored, register; then yield.

The row is written last. A row means the work is whole, so resuming is skipping what has a row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from streamlab.errors import (
    BaseMismatchError,
    DiffError,
    ProviderError,
    RegistryError,
    TrainingError,
)
from streamlab.methods.contract import Progress
from streamlab.registry.curves import curve_path, writing_curve
from streamlab.registry.home import Home
from streamlab.registry.records import (
    ArrivalRecord,
    DiffRecord,
    NewArrival,
    NewDiff,
    NewScore,
    RunRecord,
)
from streamlab.registry.registry import Registry
from streamlab.registry.store import ArtifactStore
from streamlab.stream.arrivals import Arrival, arrivals
from streamlab.stream.artifacts import describe
from streamlab.stream.executors import Executor
from streamlab.stream.provider import Answer, Effort
from streamlab.stream.scoring import score_stored
from streamlab.stream.world import World

Clock = Callable[[], float]
Watch = Callable[[Arrival, Progress], None]

# What an arrival passes on its way. Tests end the process at each: nothing half-done may stay.
POINTS = ("arrived", "answered", "admitted", "stored", "scored", "recorded")
Reached = Callable[[str], None]
Order = Callable[[Sequence[Arrival]], list[Arrival]]


@dataclass(frozen=True)
class Outcome:
    """What one arrival came to: its record, and where it succeeded its diff and scores."""

    arrival: Arrival
    record: ArrivalRecord
    diff: DiffRecord | None
    scores: tuple[NewScore, ...]
    n_rescored: int = 0  # scores taken again of earlier arrivals


def identity_of(record: ArrivalRecord) -> tuple[int, str, str, int, str]:
    """Return what a recorded arrival is known by, as `Arrival.identity` does."""
    return (record.seed, record.provider, record.task, record.version, record.method)


@dataclass
class Stream:
    """The arrivals of one run, served one after another."""

    registry: Registry
    run: RunRecord
    world: World
    home: Home
    store: ArtifactStore
    executor: Executor
    watch: Watch
    clock: Clock
    reached: Reached
    order: Order

    def outcomes(self) -> Iterator[Outcome]:
        """Serve every arrival that has no row yet, and score the earlier ones again when due."""
        everything = arrivals(self.world.scenario)
        stream = [
            arrival
            for seed in self.world.scenario.seeds
            for arrival in self.order([a for a in everything if a.seed == seed])
        ]
        done = self._done()
        for arrival, following in zip(stream, [*stream[1:], None], strict=True):
            outcome = None if arrival.identity in done else self._serve(arrival)
            n_rescored = self._rescore(arrival) if self._is_due(arrival, following) else 0
            if outcome is not None:
                yield replace(outcome, n_rescored=n_rescored)

    def _is_due(self, arrival: Arrival, following: Arrival | None) -> bool:
        """Tell whether the earlier arrivals are to be scored again after this one."""
        if following is None or following.seed != arrival.seed:
            return True
        full = self.world.scenario.evaluation == "full"
        return full and following.sequence != arrival.sequence

    def _done(self) -> set[tuple[int, str, str, int, str]]:
        records = self.registry.arrivals(run=self.run.name, status="finished")
        return {identity_of(record) for record in records}

    def _serve(self, arrival: Arrival) -> Outcome:
        """Have one arrival learnt, and store, score and register what came of it."""
        outcome = self._attempt(arrival)
        for _ in range(1, self.world.scenario.execution.attempts):
            if outcome.diff is not None:
                break
            outcome = self._attempt(arrival)
        return outcome

    def _attempt(self, arrival: Arrival) -> Outcome:
        began_at, began = self.clock(), time.perf_counter()
        self.reached("arrived")
        try:
            answer = self._ask(arrival)
            self.reached("answered")
            answered = time.perf_counter()
            record, scores = self._take_in(arrival, answer)
        except BaseMismatchError:
            raise  # the base itself is in doubt, and with it all that would follow
        except (TrainingError, ProviderError, DiffError) as error:
            lost = Effort(
                n_steps=0,
                training_seconds=time.perf_counter() - began,
                peak_memory_bytes=0,
                details={},
            )
            new = self._describe(arrival, began_at, lost, evaluation_seconds=0.0)
            return Outcome(arrival, self.registry.add_failure(new, str(error)), None, ())
        seconds = time.perf_counter() - answered
        new = self._describe(arrival, began_at, answer.effort, evaluation_seconds=seconds)
        added = self.registry.add_arrival(new, record, scores)
        self.reached("recorded")
        return Outcome(arrival, added, self.registry.diff(record.digest), tuple(scores))

    def _ask(self, arrival: Arrival) -> Answer:
        """Have the provider learn one arrival, and keep the curve."""
        path = curve_path(
            self.home.curves,
            run=self.run.name,
            seed=arrival.seed,
            provider=arrival.provider,
            task=arrival.task,
            version=arrival.version,
            method=arrival.method.name,
        )
        with writing_curve(path) as curve:

            def watch(progress: Progress) -> None:
                curve.append(asdict(progress))
                self.watch(arrival, progress)

            return self.executor.answer(arrival, watch)

    def _take_in(self, arrival: Arrival, answer: Answer) -> tuple[NewDiff, list[NewScore]]:
        """Store a submission, and score what was stored."""
        base, submission = self.world.base, answer.submission
        record = describe(submission.kind, submission.data, base)
        self.reached("admitted")
        digest = self.store.put(submission.data)
        self.reached("stored")
        scores = score_stored(
            digest,
            submission.kind,
            self.world.encoded(arrival),
            base,
            self.world.scenario.tasks[arrival.task].training,
            self.store,
            after_sequence=arrival.sequence,
            facts=answer.effort.details,
        )
        self.reached("scored")
        return record, scores

    def _describe(
        self, arrival: Arrival, began_at: float, effort: Effort, *, evaluation_seconds: float
    ) -> NewArrival:
        task, tried = self.world.encoded(arrival), self.world.loaded(arrival).tried
        earlier = self.registry.arrivals(run=self.run.name, task=arrival.task, status="failed")
        return NewArrival(
            run_id=self.run.id,
            seed=arrival.seed,
            sequence=arrival.sequence,
            provider=arrival.provider,
            task=arrival.task,
            version=arrival.version,
            method=arrival.method.name,
            attempt=1 + sum(identity_of(record) == arrival.identity for record in earlier),
            started_at=began_at,
            finished_at=self.clock(),
            n_steps=effort.n_steps,
            training_seconds=effort.training_seconds,
            evaluation_seconds=evaluation_seconds,
            peak_memory_bytes=effort.peak_memory_bytes,
            source=task.data.source.kind,
            source_detail=task.data.source.detail,
            rows_fingerprint=task.data.source.rows_fingerprint,
            n_train_rows=len(task.data.train),
            details={
                **effort.details,
                "n_validation_rows": len(task.data.validation),
                "n_truncated": task.train.n_truncated,
                "sources_skipped": list(tried),
                "method": arrival.method.model_dump(mode="json"),
            },
        )

    def _rescore(self, arrival: Arrival) -> int:
        """Score every earlier arrival of this seed again, from the store."""
        known = {
            score.arrival_id
            for score in self.registry.scores(run=self.run.name)
            if score.after_sequence == arrival.sequence
        }
        n_scores = 0
        for record in self.registry.arrivals(run=self.run.name, status="finished"):
            later = record.seed != arrival.seed or record.sequence >= arrival.sequence
            if later or record.id in known:
                continue
            if record.digest is None:
                raise RegistryError(f"Arrival {record.id} is finished and has no artifact.")
            earlier = replace(
                arrival, provider=record.provider, task=record.task, sequence=record.sequence
            )
            scores = score_stored(
                record.digest,
                self.registry.diff(record.digest).kind,
                self.world.encoded(earlier),
                self.world.base,
                self.world.scenario.tasks[record.task].training,
                self.store,
                after_sequence=arrival.sequence,
                facts=record.details,
                splits=("dev",),
            )
            self.registry.add_scores(record.id, scores)
            n_scores += len(scores)
        return n_scores
