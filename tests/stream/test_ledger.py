"""The ledger of what was admitted: what admission compares with, and what is there to misuse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from registry_samples import Clock, new_arrival, new_base, new_diff, new_run

from streamlab.home.store import ArtifactStore, FolderStore
from streamlab.methods import DiffPruning
from streamlab.registry.records import ArrivalDetails
from streamlab.registry.registry import Registry
from streamlab.stream.lab import Ledger
from streamlab.stream.providers.behaviours import Behaviour
from streamlab.stream.providers.provider import Order
from streamlab.stream.schedule import Arrival

ADMITTED = (("press", 10), ("school", 20), ("press", 30), ("wire", 30))  # and when it ended


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def registry(store: ArtifactStore, clock: Clock) -> Iterator[Registry]:
    """A run with four diffs that were admitted, and one of another seed."""
    with Registry.open("sqlite://", clock=clock) as registry:
        registry.bases.add(new_base())
        run = registry.runs.start(new_run())
        for number, (provider, ended_us) in enumerate([*ADMITTED, ("press", 5)]):
            arrival = new_arrival(
                run.id,
                seed=1 if number < len(ADMITTED) else 2,
                # Places in another order than ends.
                sequence=len(ADMITTED) - number if number < 2 else 10 + number,
                provider=provider,
                version=number + 1,
                arrived_us=0,
                began_us=0,
                ended_us=ended_us,
                details=ArrivalDetails(content=f"content {number}"),
            )
            digest = store.put(f"diff {number}".encode())
            sized = new_diff(digest=digest, file_bytes=100 + number, head_bytes=40 + number)
            registry.arrivals.add(arrival, sized, [])
        yield registry


def ledger(registry: Registry) -> Ledger:
    return Ledger(registry, "latest", "diff_pruning")


def of(provider: str, seed: int = 1) -> Arrival:
    return Arrival(seed, 99, provider, "task", 1, DiffPruning())


def test_admission_compares_with_what_the_same_seed_admitted(registry: Registry) -> None:
    known = ledger(registry).known(of("press"), "key")

    assert known.contents == {
        f"content {number}": f"`{provider}`" for number, (provider, _) in enumerate(ADMITTED)
    }
    assert (known.n_bytes, known.n_tasks, known.public_key) == (100 + 102, 2, "key")
    assert ledger(registry).known(of("press", seed=2), None).n_bytes == 104
    assert ledger(registry).known(of("nobody"), None).n_tasks == 0


def misused(
    registry: Registry, store: ArtifactStore, behaviour: Behaviour, until_us: int
) -> set[bytes]:
    """Return what a provider misuses by any of many seeds."""
    found = set()
    for seed in range(40):
        order = Order(of("press"), behaviour, seed)
        earlier = ledger(registry).misused(order, store, until_us=until_us)
        found |= {b"nothing" if earlier is None else earlier.data}
    return found


def test_what_ended_by_then_is_duplicated_whosever_it_is(
    registry: Registry, store: ArtifactStore
) -> None:
    assert misused(registry, store, "duplicate", 9) == {b"nothing"}
    assert misused(registry, store, "duplicate", 20) == {b"diff 0", b"diff 1"}
    assert misused(registry, store, "duplicate", 30) == {f"diff {n}".encode() for n in range(4)}


def test_a_provider_replays_its_own_alone(registry: Registry, store: ArtifactStore) -> None:
    assert misused(registry, store, "replayed", 20) == {b"diff 0"}
    assert misused(registry, store, "replayed", 30) == {b"diff 0", b"diff 2"}
