"""Sample records: every field filled, and whatever a test is about given by name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from streamlab.registry.records import (
    ArrivalDetails,
    FinishedArrival,
    NewArrival,
    NewBase,
    NewDiff,
    NewRun,
    NewScore,
    ReportedDetails,
)
from streamlab.registry.registry import Registry

FINGERPRINT = "f" * 64


@dataclass
class Clock:
    """A clock that a test sets; `follow` is told the time, as another clock that is to agree."""

    now: float = 1000.0
    follow: Callable[[float], object] | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "now" and getattr(self, "follow", None):
            self.follow(value)

    def __call__(self) -> float:
        return self.now


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def new_base(**changes: Any) -> NewBase:
    base = NewBase(
        fingerprint=FINGERPRINT,
        model="package:tiny",
        revision=None,
        layers=2,
        n_tensors=3,
        n_parameters=3_000_000_000,  # past 32 bits
        weights_bytes=12_000_000_000,
        file_bytes=12_000_000_800,
        layout=(("word.weight", (30, 4)), ("layer.0.bias", (4,)), ("scale", ())),
        initialised=("layer.0.bias",),
    )
    return replace(base, **changes)


def new_run(**changes: Any) -> NewRun:
    run = NewRun(
        scenario_name="glue",
        scenario={
            "name": "glue",
            "seeds": [1],
            "defaults": {"method": {"name": "diff_pruning", "target_density": 0.005}},
        },
        scenario_digest=digest_of("glue"),
        base_fingerprint=FINGERPRINT,
        environment={"torch": "2.13.0", "threads": "2"},
        n_expected=4,
    )
    return replace(run, **changes)


def new_arrival(run_id: int, **changes: Any) -> NewArrival:
    arrival = NewArrival(
        run_id=run_id,
        seed=1,
        sequence=0,
        provider="reviews_inc",
        task="sst2",
        version=1,
        method="diff_pruning",
        attempt=1,
        started_at=1000.25,
        finished_at=1010.5,
        n_steps=189,
        training_seconds=9.5,
        evaluation_seconds=0.75,
        peak_memory_bytes=5_000_000_000,
        source="files",
        source_detail="glue/sst2",
        examples_fingerprint=digest_of("rows"),
        n_train_examples=2000,
        details=ArrivalDetails(
            reported=ReportedDetails(
                training={"densities": [0.5, 0.005], "stage": {"search": 120}},
            )
        ),
    )
    return replace(arrival, **changes)


def new_diff(name: str = "a", **changes: Any) -> NewDiff:
    diff = NewDiff(
        digest=digest_of(name),
        kind="diff",
        base_fingerprint=FINGERPRINT,
        value_type="bf16",
        n_gated=128,
        n_entries=7,
        n_head_entries=10,
        file_bytes=100,
        positions_bytes=30,
        values_bytes=14,
        head_bytes=40,
        metadata_bytes=16,
        full_checkpoint_bytes=1000,
        tensor_counts=(4, 0, 3),
    )
    return replace(diff, **changes)


def new_score(**changes: Any) -> NewScore:
    score = NewScore(
        metric="accuracy",
        value=0.875,
        majority=0.5,
        split="dev",
        n_examples=872,
        after_sequence=0,
        is_primary=True,
    )
    return replace(score, **changes)


def finished_arrival(run_id: int, sequence: int, **changes: Any) -> FinishedArrival:
    """Return an arrival whose version is its place, with an artifact of its own and a score."""
    return FinishedArrival(
        arrival=new_arrival(run_id, **{"sequence": sequence, "version": sequence} | changes),
        diff=new_diff(str(sequence)),
        scores=(new_score(after_sequence=sequence),),
    )


def write_arrivals(url: str, writer: int, n_arrivals: int) -> None:
    """Write arrivals of one run of its own, as one of several processes does."""
    with Registry.open(url, clock=Clock()) as registry:
        registry.bases.add(new_base())
        run = registry.runs.start(new_run())
        for sequence in range(n_arrivals):
            arrival = new_arrival(run.id, sequence=sequence, version=sequence, task=f"t{sequence}")
            # Every second artifact is one that all writers share.
            name = f"{sequence}" if sequence % 2 else f"{sequence} of {writer}"
            registry.arrivals.add(arrival, new_diff(name), [new_score(after_sequence=sequence)])
            registry.runs.heartbeat(run.id)
        registry.runs.finish(run.id, "finished")


def write_batches(url: str, writer: int, n_arrivals: int) -> None:  # noqa: ARG001 - as above
    """Write arrivals fifty at a time, whose artifacts all writers share."""
    with Registry.open(url, clock=Clock()) as registry:
        registry.bases.add(new_base())
        run = registry.runs.start(new_run())
        for first in range(0, n_arrivals, 50):
            batch = [finished_arrival(run.id, place) for place in range(first, first + 50)]
            registry.arrivals.add_all(batch)
        registry.runs.finish(run.id, "finished")
