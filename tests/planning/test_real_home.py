"""On a real home, what is planned for the tasks measured is what lies on the disk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from stream_samples import Lab, Ran, carry_out, make_lab, only

from streamlab.errors import NotInRegistryError, RegistryError
from streamlab.figures.storage import storage_series
from streamlab.home.folder import Home, empty_file_bytes, find_file_bytes
from streamlab.planning.alternatives import FP16_BYTES, find_n_adapter_entries
from streamlab.planning.measured import BaselineFiles, Measured, measure
from streamlab.planning.simulation import simulate
from streamlab.planning.storage_model import in_blocks
from streamlab.planning.what_if import WhatIf
from streamlab.registry.records import NewArrival, given_part
from streamlab.registry.registry import Registry


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def ran(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Three tasks, no baselines: the registry holds this stream alone."""
    return carry_out(lab.scenario(name="plan"), tmp_path_factory.mktemp("plan") / "home")


@pytest.fixture
def registry(ran: Ran) -> Iterator[Registry]:
    with Registry.open(ran.home.registry_url, clock=time.time, read_only=True) as opened:
        yield opened


def measured_in(home: Home, registry: Registry) -> Measured:
    return measure(
        registry,
        "latest",
        file_bytes=find_file_bytes(home.registry_url),
        empty_bytes=empty_file_bytes(),
    )


def test_the_parts_add_up_to_the_bytes_on_disk(lab: Lab, ran: Ran, registry: Registry) -> None:
    measured = measured_in(ran.home, registry)
    n_tasks = len(measured.tasks)

    storage = measured.model().at(n_tasks)

    artifacts = [path.stat().st_size for path in ran.home.store.rglob("*") if path.is_file()]
    recorded = (ran.home.path / "registry.db").stat().st_size
    assert n_tasks == len(artifacts) == 3
    parts = storage.parts()
    assert storage.files - storage.base == sum(artifacts)
    assert parts["registry"] == recorded
    on_disk = [in_blocks(size, 4096) for size in (*artifacts, recorded, measured.base.file_bytes)]
    assert sum(parts.values()) == storage.total == sum(on_disk)
    # What the base's own library wrote of it differs by a line of its header at most.
    written = (lab.base / "model.safetensors").stat().st_size
    assert abs(written - storage.base) < 100


def test_what_failed_or_was_stopped_has_its_share_of_the_registry(ran: Ran, tmp_path: Path) -> None:
    home = Home(Path(shutil.copytree(ran.home.path, tmp_path / "home")))
    with Registry.open(home.registry_url, clock=time.time) as registry:
        first = registry.arrivals.list()[0]
        registry.arrivals.add_failed(given_part(first, NewArrival, attempt=2), "no rows")
        for attempt in (3, 4):
            registry.arrivals.add_failed(
                given_part(first, NewArrival, attempt=attempt), "far", rule="norm"
            )

        measured = measured_in(home, registry)

    assert measured.registry is not None
    assert measured.registry.n_arrivals == 3 + 1 + 2


def test_it_says_what_the_storage_figure_says(ran: Ran, registry: Registry) -> None:
    series = storage_series(registry, "latest")
    measured = measured_in(ran.home, registry)

    for row in series.rows[1:]:
        last = simulate(measured, row.n_tasks, WhatIf()).steps[-1]
        assert last.storage.files == row.ours_bytes
        assert last.full_bytes == row.full_bytes
    assert list(measured.names) == [row.task for row in series.rows[1:]]


def test_an_empty_registry_is_smaller_than_one_with_arrivals(ran: Ran) -> None:
    full = find_file_bytes(ran.home.registry_url)

    assert full is not None
    assert 0 < empty_file_bytes() <= full


def test_a_registry_in_memory_has_no_file() -> None:
    assert find_file_bytes("sqlite://") is None
    assert find_file_bytes("postgresql://somewhere/registry") is None


def test_an_unknown_run_and_a_run_without_tasks_are_refused(
    registry: Registry, tmp_path: Path
) -> None:
    with pytest.raises(NotInRegistryError):
        measure(registry, "nothing-1")
    with Registry.open(f"sqlite:///{tmp_path}/new.db", clock=time.time) as empty:
        (run,) = registry.runs.list()
        empty.bases.add(registry.bases.get(run.base_fingerprint))
        empty.runs.start(run)
        with pytest.raises(RegistryError, match="has finished, so there is nothing to show"):
            measure(empty, "latest")


def test_the_formula_of_lora_is_what_peft_writes(lab: Lab, tmp_path: Path) -> None:
    baselines = [
        {"name": "lora", "r": 8, "target_modules": ["query", "value"]},
        {"name": "peft", "peft": {"type": "lora", "target_modules": "all-linear"}, "label": "all"},
    ]
    path = lab.scenario(name="adapted", baselines=baselines, **only("mood"))

    ran = carry_out(path, tmp_path / "home")

    with Registry.open(ran.home.registry_url, clock=time.time, read_only=True) as registry:
        measured = measured_in(ran.home, registry)
        adapters = [diff for diff in registry.artifacts.list() if diff.kind == "adapter"]
    adapter, other = sorted(adapters, key=lambda diff: diff.file_bytes)
    entries = find_n_adapter_entries(measured.base.layout)
    assert entries is not None
    assert adapter.values_bytes == FP16_BYTES * entries < other.values_bytes
    assert measured.adapters == BaselineFiles("lora", (adapter.file_bytes,))
    simulated = simulate(measured, 1, WhatIf())
    assert simulated.steps[-1].adapter_bytes == measured.base.file_bytes + adapter.file_bytes
    assert simulated.adapters is not None
    assert simulated.adapters.fp16 == (adapter.file_bytes - adapter.metadata_bytes,)
