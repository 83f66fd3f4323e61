"""Serve the arrivals of a run by the virtual clock: ask, then settle; yield as each is recorded.

A task begins when a slot is free, and is really learnt at that moment; what came of it is settled
when its virtual time is over. A row means the work is whole, so resuming is skipping what has one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby

from streamlab.arrivals.clock import Began, Ended, events
from streamlab.arrivals.service import no_history, service_us
from streamlab.errors import (
    BaseMismatchError,
    DiffError,
    ProviderError,
    RegistryError,
    TrainingError,
)
from streamlab.home.curves import curve_path, writing_curve
from streamlab.methods.api import Progress
from streamlab.registry.records import ArrivalRecord, ArtifactKind
from streamlab.registry.registry import Registry
from streamlab.seeds import derived_seed
from streamlab.stream.executors.serial import Executor
from streamlab.stream.lab import Attempt, Lab, Outcome, Times, place_on_device
from streamlab.stream.providers.behaviours import draw
from streamlab.stream.providers.provider import Answer, Order
from streamlab.stream.scenario import Scenario
from streamlab.stream.schedule import Arrival, arrivals
from streamlab.stream.scoring import scores_of, stored_outputs

Watch = Callable[[Arrival, Progress], None]
Reorder = Callable[[Sequence[Arrival]], list[Arrival]]
Identity = tuple[int, str, str, int, str]
_MISUSE = ("duplicate", "replayed")  # behaviours that need what was admitted before


def identity_of(record: ArrivalRecord) -> Identity:
    """Return what a recorded arrival is known by, as `Arrival.identity` does."""
    return (record.seed, record.provider, record.task, record.version, record.method)


@dataclass
class _Place:
    """The arrivals at one place of a stream, and what came of them before it is over."""

    arrivals: Sequence[Arrival]  # the method's own, then its baselines'
    began_us: int = 0
    first_us: int = 0  # when the first attempt began that is made now
    tried: list[tuple[Arrival, Attempt]] = field(default_factory=list)
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
    _done: dict[Identity, ArrivalRecord] = field(default_factory=dict)
    _n_failed: dict[Identity, int] = field(default_factory=dict)
    _failed: dict[Identity, list[ArrivalRecord]] = field(default_factory=dict)  # before it began
    _scored: set[tuple[int, int]] = field(default_factory=set)  # arrival, after which place
    _history: list[float] = field(default_factory=list)

    def outcomes(self) -> Iterator[Outcome]:
        """Serve every arrival that has no row yet, and score the earlier ones again when due."""
        lab, scenario = self.lab, self.lab.context.scenario
        for record in lab.registry.arrivals.list(run=lab.run.name):
            identity = identity_of(record)
            if record.status == "failed":
                self._n_failed[identity] = self._n_failed.get(identity, 0) + 1
                self._failed.setdefault(identity, []).append(record)
            else:
                self._done[identity] = record
        scores = lab.registry.scores.list(run=lab.run.name)
        self._scored = {(score.arrival_id, score.after_sequence) for score in scores}
        if scenario.queue.service == "history":
            self._history = measured_before(lab.registry, scenario, before=lab.run.id)
        everything = arrivals(scenario)
        for seed in scenario.seeds:
            stream = self.reorder([arrival for arrival in everything if arrival.seed == seed])
            places = [list(own) for _, own in groupby(stream, key=lambda a: a.sequence)]
            yield from self._of_seed(places)
            own = (a for a in stream if a.method == scenario.defaults.method)
            if all(arrival.identity in self._done for arrival in own):
                place_on_device(lab, seed)

    def _of_seed(self, stream: Sequence[Sequence[Arrival]]) -> Iterator[Outcome]:
        """Serve one seed's arrivals; those at one place are the method's and its baselines'."""
        places = [_Place(arrivals) for arrivals in stream]
        n_settled = 0
        for event in events(
            [place.own.arrived_us for place in places],
            lambda number: self._serve(places[number]),
            n_slots=self.lab.context.scenario.queue.slots,
        ):
            place = places[event.number]
            if isinstance(event, Began):
                place.began_us = event.at
            elif isinstance(event, Ended):
                n_settled += 1
                last = places[-1].arrivals if n_settled == len(places) else None
                yield from self._end(place, event.at, last)

    def _serve(self, place: _Place) -> int:
        """Have a place's arrivals learnt, and return the microseconds that its own one takes."""
        done = self._done.get(place.own.identity)
        before = 0 if done is not None else self._cut_short_us(place.own)
        place.first_us = place.began_us + before
        place.tried = [
            (arrival, attempt)
            for arrival in place.arrivals
            if arrival.identity not in self._done
            for attempt in self._attempts(arrival, place.began_us)
        ]
        place.took = [self._took_us(one, t) for one, t in place.tried if one is place.own]
        return before + sum(place.took) if done is None else _recorded_us(done)

    def _end(
        self, place: _Place, ended_us: int, last: Sequence[Arrival] | None
    ) -> Iterator[Outcome]:
        """Settle a place's attempts; `last`: the arrivals of the last place, where all are over."""
        whole = Times(place.own.arrived_us, place.began_us, ended_us)
        attempts = iter(_shared_out(whole, place.first_us, place.took))
        settled = [
            self._settle(arrival, attempt, next(attempts) if arrival is place.own else whole)
            for arrival, attempt in place.tried
        ]
        place.tried.clear()  # the answers' bytes
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
        if outcome.record.status != "failed":
            self._done[arrival.identity] = outcome.record
        return outcome

    def _attempts(self, arrival: Arrival, began_us: int) -> Iterator[Attempt]:
        """Ask for one arrival until there is an answer, or it was tried often enough."""
        attempts = self.lab.context.scenario.execution.attempts
        for _ in range(attempts - self._n_failed.get(arrival.identity, 0) % attempts):
            attempt = self._ask(arrival, began_us)
            yield attempt
            if attempt.answer is not None:
                return
            self._n_failed[arrival.identity] = attempt.number

    def _ask(self, arrival: Arrival, began_us: int) -> Attempt:
        lab = self.lab
        began_at, began = lab.clock(), time.perf_counter()
        number = 1 + self._n_failed.get(arrival.identity, 0)
        order = self._order(arrival, number, began_us)
        answer, reason = None, None
        lab.reached("arrived")
        try:
            answer = self._learn(order)
            lab.reached("answered")
        except BaseMismatchError:
            raise  # the base itself is in doubt, and with it all that would follow
        except (TrainingError, ProviderError, DiffError) as error:
            reason = str(error)
        return Attempt(
            number=number,
            behaviour=order.behaviour,
            began_at=began_at,
            seconds=time.perf_counter() - began,
            answer=answer,
            reason=reason,
        )

    def _order(self, arrival: Arrival, number: int, began_us: int) -> Order:
        """Say how the provider behaves at this attempt; for a baseline everyone is honest."""
        scenario = self.lab.context.scenario
        if arrival.method != scenario.defaults.method:
            return Order(arrival)
        seed = derived_seed("behaviour", *arrival.identity[:-1], number)
        behaviour = draw(scenario.providers[arrival.provider].behaviour, seed)
        if behaviour not in _MISUSE:
            return Order(arrival, behaviour, seed)
        ledger, store = self.lab.ledger, self.lab.store
        earlier = ledger.submissions(arrival.seed, store, until_us=began_us)
        return Order(arrival, behaviour, seed, earlier)

    def _learn(self, order: Order) -> Answer:
        """Have the provider learn one arrival, and keep the curve."""
        arrival = order.arrival
        path = curve_path(
            self.lab.home.curves,
            run=self.lab.run.name,
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

            return self.executor.answer(order, watch)

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
        failed = self._failed.get(arrival.identity, [])
        n_left = len(failed) % self.lab.context.scenario.execution.attempts
        return sum(_recorded_us(record) for record in failed[len(failed) - n_left :])

    def _rescore(self, arrival: Arrival) -> int:
        """Score every earlier arrival of this seed again, from the store."""
        methods = self.lab.context.scenario.methods
        kinds: dict[str, ArtifactKind] = {method.name: method.artifact for method in methods}
        n_scores = 0
        for record in self.lab.registry.arrivals.list(run=self.lab.run.name, status="finished"):
            later = record.seed != arrival.seed or record.sequence >= arrival.sequence
            if later or (record.id, arrival.sequence) in self._scored:
                continue
            if record.digest is None:
                raise RegistryError(f"Arrival {record.id} is finished and has no artifact.")
            earlier = replace(
                arrival,
                provider=record.provider,
                task=record.task,
                version=record.version,
                sequence=record.sequence,
            )
            outputs = stored_outputs(
                self.lab.context,
                earlier,
                record.digest,
                kinds[record.method],
                self.lab.store,
                record.details,
                splits=("dev",),
            )
            task = self.lab.context.encoded(earlier)
            scores = scores_of(outputs, task, after_sequence=arrival.sequence)
            self.lab.registry.arrivals.add_scores(record.id, scores)
            n_scores += len(scores)
        return n_scores


def measured_before(
    registry: Registry, scenario: Scenario, *, before: int | None = None
) -> list[float]:
    """Return the training times that runs recorded for a scenario's method.

    `before`: the number of a run; only earlier ones count. Raises UsageError where there are none.
    """
    records = registry.arrivals.list(method=scenario.defaults.method.name, status="finished")
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
