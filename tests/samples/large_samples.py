"""A home as a long stream leaves it: as many tasks as asked for, with files, curves and scores.

Nothing is trained. A diff keeps 1% of a base of some 20,000 entries, every task with another
taste for the base's layers; rows come through the registry's own methods.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from streamlab.diff.format.container import EncodedDiff, encode
from streamlab.diff.layout import Layout
from streamlab.diff.vector import DiffVector, SparseTensor
from streamlab.home.curves import curve_path, writing_curve
from streamlab.home.folder import Home
from streamlab.home.store import FolderStore
from streamlab.registry.records import (
    DeviceRequests,
    FinishedArrival,
    NewArrival,
    NewBase,
    NewDiff,
    NewPlacement,
    NewRun,
    NewScore,
    PlacementAction,
)
from streamlab.registry.registry import Registry
from streamlab.units import DAY_US

N_LAYERS, WIDTH, N_STEPS = 6, 24, 40
METHODS = ("diff_pruning", "full_finetuning")
KINDS = ("attention.self.query", "attention.self.value", "output.dense")
LAYOUT = Layout(
    "5a" * 32,
    (
        "embeddings.word_embeddings.weight",
        *(f"encoder.layer.{n}.{kind}.weight" for n in range(N_LAYERS) for kind in KINDS),
    ),
    ((400, WIDTH), *((WIDTH, WIDTH) for _ in range(N_LAYERS * len(KINDS)))),
)


def make_home(folder: Path, n_tasks: int, *, n_failed: int = 0, n_providers: int = 7) -> Home:
    """Fill a home with one run of `n_tasks` and a baseline; the first `n_failed` failed once.

    Virtual times are not recorded.
    """
    draw = np.random.default_rng(3)
    home = Home(folder)
    home.create()
    store = FolderStore(home.store)
    with Registry.open(home.registry_url, clock=lambda: 1.7e9) as registry:
        registry.bases.add(_base())
        run = registry.runs.start(_run(n_tasks))
        finished = []
        for place in range(n_tasks):
            own = _arrival(run.id, place, METHODS[0], place % n_providers)
            if place < n_failed:
                registry.arrivals.add_failed(own, "The loss became NaN.")
            diff = _drawn(draw, place)
            encoded = encode(diff, value_type="int8")
            store.put(encoded.data)
            _write_curve(home, run.name, own, draw)
            value = float(draw.beta(9, 2))
            finished.append(_finished(own, _record(encoded, diff), value))
            baseline = _arrival(run.id, place, METHODS[1], place % n_providers)
            better = min(value + float(draw.normal(0.01, 0.02)), 1.0)
            finished.append(_finished(baseline, _checkpoint(place), better))
        registry.arrivals.add_all(finished)
        registry.runs.finish(run.id, "finished")
    return home


def make_stream(folder: Path, n_tasks: int = 40, *, budget: int | None = 20_000) -> Home:
    """Fill a home with one run in virtual time: five providers, one place to learn at.

    Every eighth arrival fails once, every eleventh is quarantined. With a `budget` the oldest file
    goes when a new one finds no room.
    """
    draw = np.random.default_rng(5)
    home = Home(folder)
    home.create()
    at, free = 0, 0
    kept: list[tuple[int, int]] = []
    log: list[NewPlacement] = []
    with Registry.open(home.registry_url, clock=lambda: 1.7e9) as registry:
        registry.bases.add(_base())
        run = registry.runs.start(_run(n_tasks, budget))
        for place in range(n_tasks):
            at += int(draw.exponential(DAY_US / 3))
            for attempt in (1, 2) if place % 8 == 0 else (1,):
                began = max(at, free)
                free = began + int(draw.uniform(0.1, 0.5) * DAY_US)
                times = {"arrived_us": at, "began_us": began, "ended_us": free, "attempt": attempt}
                new = replace(_arrival(run.id, place, METHODS[0], place % 5), **times)
                if place % 8 == 0 and attempt == 1:
                    registry.arrivals.add_failed(new, "The provider crashed.")
                elif place % 11 == 10:
                    registry.arrivals.add_failed(new, "too far", rule="norm")
                else:
                    diff = _drawn(draw, place)
                    record = _record(encode(diff, value_type="int8"), diff)
                    added = registry.arrivals.add(new, record, [_score(place, 0.9)])
                    log += _placed(kept, added.id, record.file_bytes, free, budget)
        if budget is not None:
            registry.placements.add(log)
            registry.placements.set_requests(
                run.id,
                [
                    DeviceRequests(seed=1, policy="reject", n_hits=40, n_misses=60),
                    DeviceRequests(seed=1, policy="evict_lru", n_hits=75, n_misses=25),
                    DeviceRequests(seed=1, policy="evict_worst", n_hits=0, n_misses=100),
                ],
            )
        registry.runs.finish(run.id, "finished")
    return home


def _placed(
    kept: list[tuple[int, int]], arrival: int, size: int, at_us: int, budget: int | None
) -> Iterator[NewPlacement]:
    while budget is not None and sum(size for _, size in kept) + size > budget:
        gone, _ = kept.pop(0)
        yield _line(gone, at_us, "evicted", kept)
    kept.append((arrival, size))
    yield _line(arrival, at_us, "stored", kept)


def _line(
    arrival: int, at_us: int, action: PlacementAction, kept: list[tuple[int, int]]
) -> NewPlacement:
    held = sum(size for _, size in kept)
    return NewPlacement(at_us=at_us, arrival_id=arrival, action=action, device_bytes=held)


def _drawn(draw: np.random.Generator, place: int) -> DiffVector:
    taste = draw.dirichlet(np.ones(len(LAYOUT.names)))
    sizes = np.array(LAYOUT.sizes)
    counts = np.minimum(draw.multinomial(LAYOUT.n_gated // 100, taste), sizes // 2)
    tensors = tuple(
        SparseTensor(
            shape,
            np.sort(draw.choice(size, count, replace=False)),
            draw.normal(size=count).astype(np.float32),
        )
        for shape, size, count in zip(LAYOUT.shapes, LAYOUT.sizes, counts.tolist(), strict=True)
    )
    head = {"classifier.weight": draw.normal(size=(2 + place % 3, WIDTH)).astype(np.float32)}
    return DiffVector(LAYOUT, tensors, head, {"name": f"task_{place}"})


def _record(encoded: EncodedDiff, diff: DiffVector) -> NewDiff:
    parts = encoded.parts
    return NewDiff(
        digest=encoded.digest,
        kind="diff",
        base_fingerprint=LAYOUT.fingerprint,
        value_type="int8",
        n_gated=LAYOUT.n_gated,
        n_entries=diff.n_entries,
        n_head_entries=diff.n_head_entries,
        file_bytes=len(encoded.data),
        positions_bytes=parts.positions,
        values_bytes=parts.values,
        head_bytes=parts.head,
        metadata_bytes=parts.metadata,
        full_checkpoint_bytes=4 * LAYOUT.n_gated + 1000,
        tensor_counts=diff.counts,
    )


def _checkpoint(place: int) -> NewDiff:
    size = 4 * LAYOUT.n_gated + 1000
    return NewDiff(
        digest=_digest(f"checkpoint {place}"),
        kind="checkpoint",
        base_fingerprint=LAYOUT.fingerprint,
        value_type="fp32",
        n_gated=LAYOUT.n_gated,
        n_entries=LAYOUT.n_gated,
        n_head_entries=0,
        file_bytes=size,
        positions_bytes=0,
        values_bytes=size,
        head_bytes=0,
        metadata_bytes=0,
        full_checkpoint_bytes=size,
        tensor_counts=(),
    )


def _arrival(run_id: int, place: int, method: str, provider: int) -> NewArrival:
    started = 1.7e9 + 90.0 * place + (30.0 if method == METHODS[1] else 0.0)
    return NewArrival(
        run_id=run_id,
        seed=1,
        sequence=place,
        provider=f"provider_{provider}",
        task=f"task_{place}",
        version=1,
        method=method,
        attempt=1,
        started_at=started,
        finished_at=started + 25.0,
        n_steps=N_STEPS,
        training_seconds=20.0,
        evaluation_seconds=1.0,
        peak_memory_bytes=1_000_000,
        source="synthetic",
        source_detail="",
        examples_fingerprint=_digest(f"rows {place}"),
        n_train_examples=640,
    )


def _finished(arrival: NewArrival, diff: NewDiff, value: float) -> FinishedArrival:
    return FinishedArrival(arrival=arrival, diff=diff, scores=(_score(arrival.sequence, value),))


def _score(place: int, value: float) -> NewScore:
    return NewScore(
        metric=("accuracy", "f1", "matthews")[place % 3],
        value=value,
        split="dev",
        n_examples=200,
        after_sequence=place,
        is_primary=True,
    )


def _write_curve(home: Home, run: str, arrival: NewArrival, draw: np.random.Generator) -> None:
    path = curve_path(
        home.curves, run=run, seed=1, provider=arrival.provider, task=arrival.task,
        version=1, method=arrival.method,
    )  # fmt: skip
    with writing_curve(path) as curve:
        for step in range(N_STEPS):
            gated, evaluated = 10 <= step < 25, (step + 1) % (N_STEPS // 10) == 0
            curve.append(
                {
                    "stage": "finetune" if step < 10 else "gated" if gated else "fixed mask",
                    "step": step,
                    "loss": float(0.7 * np.exp(-step / 20) + 0.05 * draw.random()),
                    "density": float(np.exp(-(step - 10) / 4)) if gated else None,
                    "held_back_loss": float(0.8 * np.exp(-step / 30)) if evaluated else None,
                    "held_back_score": 1 - float(np.exp(-step / 9)) if evaluated else None,
                }
            )


def _run(n_tasks: int, budget: int | None = None) -> NewRun:
    return NewRun(
        scenario_name="long",
        scenario={
            "name": "long",
            "seeds": [1],
            "defaults": {"method": {"name": METHODS[0], "target_density": 0.01}},
            "baselines": [METHODS[1]],
            "storage": {"values": "auto", "budget": budget},
        },
        scenario_digest=_digest("long"),
        base_fingerprint=LAYOUT.fingerprint,
        environment={},
        n_expected=2 * n_tasks,
    )


def _base() -> NewBase:
    return NewBase(
        fingerprint=LAYOUT.fingerprint,
        model="a made-up base",
        revision=None,
        layers=N_LAYERS,
        n_tensors=len(LAYOUT.names),
        n_parameters=LAYOUT.n_gated,
        weights_bytes=4 * LAYOUT.n_gated,
        file_bytes=4 * LAYOUT.n_gated + 1000,
        layout=tuple(zip(LAYOUT.names, LAYOUT.shapes, strict=True)),
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
