"""The event loop: serve the arrivals of a run by the virtual clock, and yield each as recorded.

The result of an arrival is settled when its virtual time is over, whenever it was really trained,
so that nothing depends on how many are trained at once. A recorded arrival is complete: resuming
a run skips it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Self

from streamlab.arrivals.clock import Began, Ended, events
from streamlab.arrivals.service import no_history, service_us
from streamlab.errors import (
    BaseMismatchError,
    DiffError,
    OutOfMemoryError,
    ProviderError,
    RegistryError,
    TrainingError,
)
from streamlab.home.curves import CurveWriter, curve_path, writing_curve
from streamlab.methods.api import Progress
from streamlab.registry.records import ArrivalRecord, ArtifactKind
from streamlab.registry.registry import Registry
from streamlab.seeds import derived_seed
from streamlab.stream.dispatch import Dispatcher, Work
from streamlab.stream.executors import Executor
from streamlab.stream.lab import Attempt, Lab, Outcome, Times, place_on_device
from streamlab.stream.providers.behaviours import draw
from streamlab.stream.providers.provider import Answer, Order
from streamlab.stream.scenario import Scenario
from streamlab.stream.schedule import Arrival, arrivals
from streamlab.stream.scoring import scores_of, stored_outputs
from streamlab.stream.submission import session_of

Watch = Callable[[Arrival, Progress], None]
Reorder = Callable[[Sequence[Arrival]], list[Arrival]]
Identity = tuple[int, str, str, int, str]
_MISUSE = ("duplicate", "replayed")  # behaviours that use what was admitted before


def identity_of(record: ArrivalRecord) -> Identity:
    """Return the identity of a recorded arrival; see `Arrival.identity`."""
    return (record.seed, record.provider, record.task, record.version, record.method)


@dataclass
class Recorded:
    """What is recorded of a run already: it grows with the run, so that no records are held."""

    took_us: dict[Identity, int] = field(default_factory=dict)  # of arrivals that are complete
    # How long each failed attempt took, and whether it was alone; none of this process.
    failed: dict[Identity, list[tuple[int, bool]]] = field(default_factory=dict)

    @classmethod
    def of(cls, registry: Registry, run: str) -> Self:
        """Read what an earlier process recorded of a run."""
        recorded = cls()
        for record in registry.arrivals.walk(run):
            if record.status == "failed":
                failed = recorded.failed.setdefault(identity_of(record), [])
                failed.append((_recorded_us(record), bool(record.details.alone)))
            else:
                recorded.took_us[identity_of(record)] = _recorded_us(record)
        return recorded

    @property
    def n_lost(self) -> int:
        """Return the number of arrivals of which every attempt has failed so far."""
        return len(self.failed.keys() - self.took_us.keys())


@dataclass(slots=True)
class _Place:
    """The arrivals at one place of a stream, and their attempts until they are settled."""

    arrivals: Sequence[Arrival]  # the method's own, then its baselines'
    began_us: int = 0
    first_us: int = 0  # when the first attempt of this run begins
    attempts: list[tuple[Arrival, Attempt]] = field(default_factory=list)
    took: list[int] = field(default_factory=list)  # microseconds of the method's own attempts

    @property
    def own(self) -> Arrival:
        return self.arrivals[0]


@dataclass
class Stream:
    """The arrivals of one run, served in the order of virtual time."""

    lab: Lab
    executor: Executor
    watch: Watch
    reorder: Reorder
    recorded: Recorded
    _n_failed: dict[Identity, int] = field(default_factory=dict)
    _n_alone: dict[Identity, int] = field(default_factory=dict)  # of these, for want of memory
    _scored: set[tuple[int, int]] = field(default_factory=set)  # arrival, after which place
    _history: list[float] = field(default_factory=list)
    _dispatcher: Dispatcher = field(init=False)  # of the seed being served

    def outcomes(self) -> Generator[Outcome, None, None]:
        """Serve every arrival that is not recorded yet, and rescore earlier ones when due."""
        lab, scenario = self.lab, self.lab.context.scenario
        for identity, failed in self.recorded.failed.items():
            self._n_failed[identity] = len(failed)
            self._n_alone[identity] = sum(alone for _, alone in failed)
        self._scored = lab.registry.scores.places(lab.run.name)
        if scenario.queue.service == "history":
            self._history = measured_before(lab.registry, scenario, before=lab.run.id)
        everything = arrivals(scenario)
        for seed in scenario.seeds:
            stream = self.reorder([arrival for arrival in everything if arrival.seed == seed])
            places = [list(own) for _, own in groupby(stream, key=lambda a: a.sequence)]
            yield from self._of_seed(places)
            own = (a for a in stream if a.method == scenario.defaults.method)
            if all(arrival.identity in self.recorded.took_us for arrival in own):
                place_on_device(lab, seed)

    def _of_seed(self, stream: Sequence[Sequence[Arrival]]) -> Iterator[Outcome]:
        """Serve one seed's arrivals; those at one place are the method's and its baselines'.

        Work is done ahead of its turn where it can be; it is settled in the order of virtual time.
        """
        places = [_Place(arrivals) for arrivals in stream]
        self._dispatcher = Dispatcher(
            lambda number: self._attempts(places[number]),
            [place.own.provider for place in places],
            workers=self.executor.workers,
        )
        n_settled = 0
        with closing(self._dispatcher):
            for event in events(
                [place.own.arrived_us for place in places],
                lambda number: self._serve(places[number], number),
                n_slots=self.lab.context.scenario.queue.slots,
            ):
                place = places[event.number]
                if isinstance(event, Began):
                    place.began_us = event.at
                elif isinstance(event, Ended):
                    n_settled += 1
                    last = places[-1].arrivals if n_settled == len(places) else None
                    self._dispatcher.poll()
                    yield from self._end(place, event.at, last)

    def _serve(self, place: _Place, number: int) -> int:
        """Finish the work at a place, and return the microseconds that its own arrival takes."""
        done_us = self.recorded.took_us.get(place.own.identity)
        before = 0 if done_us is not None else self._cut_short_us(place.own)
        place.first_us = place.began_us + before
        self._dispatcher.finish(number)
        place.took = [self._took_us(one, t) for one, t in place.attempts if one is place.own]
        return before + sum(place.took) if done_us is None else done_us

    def _end(
        self, place: _Place, ended_us: int, last: Sequence[Arrival] | None
    ) -> Iterator[Outcome]:
        """Settle a place's attempts; `last`: the arrivals of the last place, where all are over."""
        whole = Times(place.own.arrived_us, place.began_us, ended_us)
        attempts = iter(_shared_out(whole, place.first_us, place.took))
        settled = [
            self._settle(arrival, attempt, next(attempts) if arrival is place.own else whole)
            for arrival, attempt in place.attempts
        ]
        place.attempts.clear()  # the answers' bytes
        n_rescored = self._rescore_if_due(place.arrivals, last)
        yield from settled[:-1]
        if settled:
            yield replace(settled[-1], n_rescored=n_rescored)

    def _rescore_if_due(self, place: Sequence[Arrival], last: Sequence[Arrival] | None) -> int:
        """Score the earlier arrivals again at a seed's end, and under `full` after every place."""
        if last is not None:
            return self._rescore(last[0])
        full = self.lab.context.scenario.evaluation == "full"
        return self._rescore(place[0]) if full else 0

    def _settle(self, arrival: Arrival, attempt: Attempt, times: Times) -> Outcome:
        outcome = self.lab.settle(arrival, attempt, times)
        if outcome.record.status == "failed":
            self.recorded.failed.setdefault(arrival.identity, [])
        else:
            self.recorded.took_us[arrival.identity] = _recorded_us(outcome.record)
        self._dispatcher.poll()
        return outcome

    def _attempts(self, place: _Place) -> Work:
        """Have each arrival of a place answered, or attempted often enough."""
        limit = self.lab.context.scenario.execution.attempts
        for arrival in place.arrivals:
            if arrival.identity in self.recorded.took_us:
                continue
            n_left, alone = limit - self._n_attempted(arrival) % limit, False
            while n_left:
                attempt = yield from self._attempt(arrival, place, alone=alone)
                place.attempts.append((arrival, attempt))
                if attempt.answer is not None:
                    break
                self._count_failure(arrival.identity, alone=alone)
                alone = attempt.out_of_memory and not alone  # which is one more of the same
                n_left -= not alone

    def _count_failure(self, identity: Identity, *, alone: bool) -> None:
        self._n_failed[identity] = self._n_failed.get(identity, 0) + 1
        self._n_alone[identity] = self._n_alone.get(identity, 0) + alone

    def _n_attempted(self, arrival: Arrival) -> int:
        """Return the failed attempts, each with the one alone that may have followed it."""
        return self._n_failed.get(arrival.identity, 0) - self._n_alone.get(arrival.identity, 0)

    def _attempt(
        self, arrival: Arrival, place: _Place, *, alone: bool
    ) -> Generator[Future[Answer] | None, float | None, Attempt]:
        """Submit one order, and return the attempt once its future is done."""
        lab, number = self.lab, 1 + self._n_failed.get(arrival.identity, 0)
        order = replace(self._order(arrival, number), alone=alone)
        if order.behaviour in _MISUSE:
            yield None  # until everything has been settled that this provider could misuse
            earlier = lab.ledger.misused(order, lab.store, until_us=place.began_us)
            order = replace(order, earlier=earlier)
        began_at, began = lab.clock(), time.perf_counter()
        ended: list[float] = []
        answer, reason, free_at, out_of_memory = None, None, None, False
        lab.reached("arrived")
        try:
            with writing_curve(self._curve(arrival)) as curve:
                future = self.executor.submit(order, self._watcher(arrival, curve))
                future.add_done_callback(lambda _: ended.append(time.perf_counter()))
                free_at = yield future
                answer = future.result()
            lab.reached("answered")
        except BaseMismatchError:
            raise  # the base itself is in doubt, and with it everything after it
        except (TrainingError, ProviderError, DiffError) as error:
            reason, out_of_memory = str(error), isinstance(error, OutOfMemoryError)
        return Attempt(
            number=number,
            alone=alone,
            out_of_memory=out_of_memory,
            behaviour=order.behaviour,
            began_at=began_at,
            seconds=ended[0] - max(began, free_at or 0.0),
            answer=answer,
            reason=reason,
        )

    def _order(self, arrival: Arrival, number: int) -> Order:
        """Draw how the provider behaves at this attempt; for a baseline everyone is honest."""
        scenario, session = self.lab.context.scenario, session_of(self.lab.run, arrival.seed)
        if arrival.method != scenario.defaults.method:
            return Order(arrival, session=session)
        seed = derived_seed("behaviour", *arrival.identity[:-1], number)
        behaviour = draw(scenario.providers[arrival.provider].behaviour, seed)
        return Order(arrival, behaviour, seed, session)

    def _curve(self, arrival: Arrival) -> Path:
        return curve_path(
            self.lab.home.curves,
            run=self.lab.run.name,
            seed=arrival.seed,
            provider=arrival.provider,
            task=arrival.task,
            version=arrival.version,
            method=arrival.method.label,
        )

    def _watcher(self, arrival: Arrival, curve: CurveWriter) -> Callable[[Progress], None]:
        """Return what keeps the curve and passes progress on, in the thread of this loop."""

        def show(progress: Progress) -> None:
            curve.append(asdict(progress))
            self.watch(arrival, progress)

        return lambda progress: self._dispatcher.post(partial(show, progress))

    def _took_us(self, arrival: Arrival, attempt: Attempt) -> int:
        """Return the virtual time of one attempt at the method's own training."""
        scenario = self.lab.context.scenario
        took = service_us(
            scenario.queue,
            trained_seconds=attempt.seconds,
            history=self._history,
            seed=derived_seed("service", *arrival.identity),
        )
        slowdown = scenario.providers[arrival.provider].behaviour.slowdown
        return round(took * slowdown) if attempt.behaviour == "slow" else took

    def _cut_short_us(self, arrival: Arrival) -> int:
        """Return the time of attempts that are recorded already, of a place that was cut short.

        After its last attempt a place is over; so many more failures are of another one.
        """
        failed = self.recorded.failed.get(arrival.identity, [])
        first = [number for number, (_, alone) in enumerate(failed) if not alone]
        n_left = len(first) % self.lab.context.scenario.execution.attempts
        return sum(us for us, _ in failed[first[-n_left] :]) if n_left else 0

    def _rescore(self, arrival: Arrival) -> int:
        """Score every earlier arrival of this seed again, from the store."""
        methods = self.lab.context.scenario.methods
        kinds: dict[str, ArtifactKind] = {method.label: method.artifact for method in methods}
        n_scores = 0
        earlier = self.lab.registry.arrivals.walk(
            self.lab.run.name, seed=arrival.seed, status="finished"
        )
        for record in earlier:
            if record.sequence >= arrival.sequence:
                break
            if (record.id, arrival.sequence) not in self._scored:
                n_scores += self._score_again(record, kinds[record.method], arrival.sequence)
        return n_scores

    def _score_again(self, record: ArrivalRecord, kind: ArtifactKind, after: int) -> int:
        """Score a recorded arrival after a later place; return the number of scores."""
        lab = self.lab
        if record.digest is None:
            raise RegistryError(f"Arrival {record.id} is finished and has no artifact.")
        outputs = stored_outputs(
            lab.context, record.task, record.digest, kind, lab.store, record.details
        )
        task = lab.context.reported(record.task)
        first = lab.registry.scores.list(arrival_id=record.id)
        majority = {score.metric: score.majority for score in first if score.split == "dev"}
        scores = scores_of(outputs, task, split="dev", after_sequence=after, majority=majority)
        lab.registry.arrivals.add_scores(record.id, scores)
        self._dispatcher.poll()
        return len(scores)


def measured_before(
    registry: Registry, scenario: Scenario, *, before: int | None = None
) -> list[float]:
    """Return the training times that runs recorded for a scenario's method.

    `before`: the number of a run; only earlier ones count. Raises UsageError where there are none.
    """
    records = registry.arrivals.walk(method=scenario.defaults.method.label, status="finished")
    found = [r.training_seconds for r in records if before is None or r.run_id < before]
    if not found:
        raise no_history()
    return found


def _recorded_us(record: ArrivalRecord) -> int:
    """Return the virtual time that an arrival took, earlier attempts at its place included."""
    if record.details.service_us is not None:
        return record.details.service_us
    return (record.ended_us or 0) - (record.began_us or 0)


def _shared_out(whole: Times, first_us: int, took: Sequence[int]) -> Iterator[Times]:
    """Yield the times of one attempt after the other; together they are the place's."""
    began = first_us
    for microseconds in took:
        ended = began + microseconds
        last = ended == whole.ended_us and began > whole.began_us
        served = whole.ended_us - whole.began_us if last else None
        yield Times(whole.arrived_us, began, ended, served)
        began = ended
