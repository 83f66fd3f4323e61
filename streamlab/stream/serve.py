"""Serve one arrival after another: train, store, score what was stored, register; then yield.

The row is written last. A row means the work is whole, so resuming is skipping what has a row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from streamlab.diff.container import encode
from streamlab.diff.vector import DiffVector
from streamlab.errors import BaseMismatchError, DiffError, RegistryError, TrainingError
from streamlab.methods.contract import Progress, Trained, TrainingSettings
from streamlab.registry.curves import curve_path, writing_curve
from streamlab.registry.home import Home
from streamlab.registry.records import (
    ArrivalRecord,
    DiffRecord,
    NewArrival,
    NewScore,
    RunRecord,
)
from streamlab.registry.registry import Registry
from streamlab.registry.store import ArtifactStore
from streamlab.stream.arrivals import Arrival, arrivals
from streamlab.stream.artifacts import Artifact, pack_adapter, pack_checkpoint, pack_diff, serving
from streamlab.stream.memory import peak_bytes, reset_peak
from streamlab.stream.precision import Rounded, rounded
from streamlab.stream.probe import take_probe
from streamlab.stream.scoring import score_stored
from streamlab.stream.training import EncodedTask, fresh_model, train
from streamlab.stream.world import World

Clock = Callable[[], float]
Watch = Callable[[Arrival, Progress], None]


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
    watch: Watch
    clock: Clock

    def outcomes(self) -> Iterator[Outcome]:
        """Serve every arrival that has no row yet, and score the earlier ones again when due."""
        stream = arrivals(self.world.scenario)
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
        """Train, store, score and register one arrival."""
        started_at, started = self.clock(), time.perf_counter()
        reset_peak()
        task = self.world.encoded(arrival)
        entry = self.world.scenario.tasks[arrival.task]
        self.world.base.check_unchanged()
        try:
            trained = self._learn(arrival, task, entry.training)
            artifact, facts = self._pack(trained, arrival, task, entry.training)
            trained_at = time.perf_counter()
            digest = self.store.put(artifact.data)
            scores = score_stored(
                digest,
                artifact.record.kind,
                task,
                self.world.base,
                entry.training,
                self.store,
                after_sequence=arrival.sequence,
                facts=facts,
            )
        except BaseMismatchError:
            raise  # the base itself is in doubt, and with it all that would follow
        except (TrainingError, DiffError) as error:
            seconds = time.perf_counter() - started
            new = self._describe(arrival, started_at, seconds, 0.0, n_steps=0, details={})
            return Outcome(arrival, self.registry.add_failure(new, str(error)), None, ())
        new = self._describe(
            arrival,
            started_at,
            trained_at - started,
            time.perf_counter() - trained_at,
            n_steps=trained.n_steps,
            details={**trained.details, **facts},
        )
        record = self.registry.add_arrival(new, artifact.record, scores)
        return Outcome(arrival, record, self.registry.diff(digest), tuple(scores))

    def _learn(self, arrival: Arrival, task: EncodedTask, training: TrainingSettings) -> Trained:
        """Train one arrival and keep its curve."""
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

            return train(arrival, task, self.world.base, training, watch)

    def _pack(
        self, trained: Trained, arrival: Arrival, task: EncodedTask, training: TrainingSettings
    ) -> tuple[Artifact, dict[str, Any]]:
        """Write what is to be stored as bytes, and say how it was rounded and what it does."""
        base = self.world.base
        if trained.adapter is not None:
            config = dict(trained.adapter.config)
            return pack_adapter(trained.adapter, base), {"adapter_config": config}
        if trained.tensors is None:
            return pack_checkpoint(trained, base), {}
        facts = _serving_facts(arrival, task, training)
        diff = DiffVector(base.layout, trained.tensors, trained.head, facts)
        values = self.world.scenario.storage.values
        chosen = (
            rounded(diff, task, base, training)
            if values == "auto"
            else Rounded(encode(diff, value_type=values), values, {"values": values})
        )
        artifact = pack_diff(diff, chosen.encoded, trained, base, value_type=chosen.value_type)
        model = fresh_model(base, task.data, training, seed=0)
        with serving(model, artifact.data, "diff", artifact.record.digest, base) as served:
            probe = take_probe(served, task, training)
        return artifact, {"rounding": dict(chosen.facts), "probe": probe}

    def _describe(
        self,
        arrival: Arrival,
        started_at: float,
        training_seconds: float,
        evaluation_seconds: float,
        *,
        n_steps: int,
        details: Mapping[str, Any],
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
            started_at=started_at,
            finished_at=self.clock(),
            n_steps=n_steps,
            training_seconds=training_seconds,
            evaluation_seconds=evaluation_seconds,
            peak_memory_bytes=peak_bytes(),
            source=task.data.source.kind,
            source_detail=task.data.source.detail,
            rows_fingerprint=task.data.source.rows_fingerprint,
            n_train_rows=len(task.data.train),
            details={
                **details,
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


def _serving_facts(
    arrival: Arrival, task: EncodedTask, training: TrainingSettings
) -> dict[str, Any]:
    """Return what whoever serves the diff must know beside its weights."""
    return {
        "task": arrival.task,
        "dataset": task.data.dataset,
        "kind": task.data.kind,
        "labels": list(task.data.labels),
        "pair": task.data.train[0].text2 is not None,
        "max_length": training.max_length,
        "metric": task.data.metrics[0],
        "method": arrival.method.name,
    }
