"""How long does it take to change the task of a model in memory, beside loading it anew?

all-MiniLM-L6-v2 with diffs of 0.5%, one thread: reading a file with every check (of the trained
diff that takes longest), putting a diff on, taking it off, swapping one for another; beside a
reload of all weights from their safetensors file, and beside PEFT's LoRA (load an adapter, set
it, merge it). Then thousands of swaps among ten diffs, and whether the base is what it was.

    python benchmarks/switch.py --home streamlab-home
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from real_diffs import even_diff, minilm, trained_diffs
from safetensors.torch import load_file, save_file

from streamlab.base import Base
from streamlab.diff.apply import plan
from streamlab.diff.format.container import decode, encode
from streamlab.diff.vector import DiffVector
from streamlab.hashing import fingerprint_tensors
from streamlab.inference.switch import Switcher

N_TASKS = 10
DENSITY = 0.005

Seconds = list[float]


def main() -> None:
    """Print the table, or with --json one flat object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path, help="read the diffs stored here")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--swaps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    base = minilm()
    trained = trained_diffs(base, options.home)
    times = {"reload": time_reload(base, options.repeats)}
    times |= time_diff(base, [diff for diff, _ in trained.values()], options.repeats)
    times |= time_peft(base, options.repeats)
    times["swap"], base_unchanged = swap_about(base, options.swaps, options.seed)
    found = ratios(times) | {"base_unchanged": base_unchanged}
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print("| | p50 ms | p99 ms | p50 / reload |\n| --- | --- | --- | --- |")
    whole = statistics.median(times["reload"])
    for name, seconds in times.items():
        p50, p99 = statistics.median(seconds), _p99(seconds)
        print(f"| {name} | {1e3 * p50:.2f} | {1e3 * p99:.2f} | {p50 / whole:.3f} |")
    print(f"\n{options.swaps} swaps among {N_TASKS} diffs; base unchanged: {base_unchanged}")


def ratios(times: dict[str, Seconds]) -> dict[str, float | bool]:
    """Divide medians, and the 99th percentile of a swap, by the median reload."""
    whole = statistics.median(times["reload"])
    found: dict[str, float | bool] = {"reload_ms": 1e3 * whole}
    for name, seconds in times.items():
        if name != "reload":
            found[f"{name}_over_reload"] = statistics.median(seconds) / whole
    return found | {"swap_p99_over_reload": _p99(times["swap"]) / whole}


def time_reload(base: Base, repeats: int) -> Seconds:
    """Load every weight of the classifier from its file into the model there is."""
    model = base.classifier(n_outputs=2, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file(model.state_dict(), path)
        return _timed(lambda: model.load_state_dict(load_file(path)), repeats)


def time_diff(base: Base, diffs: list[DiffVector], repeats: int) -> dict[str, Seconds]:
    """Time reading, putting on and taking off; reading is that of the slowest diff."""
    reads = []
    for diff in diffs:
        file = encode(diff)

        def read(data: bytes = file.data, digest: str = file.digest) -> object:
            return decode(data, base.layout, expected_digest=digest)

        reads.append(_timed(read, repeats))
    even = even_diff(base.layout, DENSITY)
    matched = plan(base.classifier(n_outputs=2, seed=0), even)
    applies, reverts = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        on = matched.put_on()
        applied = time.perf_counter()
        on.revert()
        reverts.append(time.perf_counter() - applied)
        applies.append(applied - start)
    return {"decode": max(reads, key=statistics.median), "apply": applies, "revert": reverts}


def time_peft(base: Base, repeats: int) -> dict[str, Seconds]:
    """Time what PEFT does to bring a LoRA adapter into use."""
    config = LoraConfig(r=8, target_modules=["query", "value"])
    model = get_peft_model(base.classifier(n_outputs=2, seed=0).base_model, config)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        names = iter(f"a{i}" for i in range(repeats + 1))
        times = {"peft_load": _timed(lambda: model.load_adapter(folder, next(names)), repeats)}
    turns = iter(["a0", "a1"] * repeats)
    times["peft_set"] = _timed(lambda: model.set_adapter(next(turns)), repeats)
    merges = []
    for _ in range(repeats):
        start = time.perf_counter()
        model.merge_adapter(["a0"])
        merges.append(time.perf_counter() - start)
        model.unmerge_adapter()
    return times | {"peft_merge": merges}


def swap_about(base: Base, n_swaps: int, seed: int) -> tuple[Seconds, bool]:
    """Serve random tasks in turn, never the same twice; tell whether the base came through."""
    model = base.classifier(n_outputs=2, seed=0)
    tensors = {name: model.get_parameter(full) for name, full in base.full_names.items()}
    before = fingerprint_tensors(tensors)
    tasks = [f"task{i}" for i in range(N_TASKS)]
    diffs = {task: even_diff(base.layout, DENSITY, seed=i) for i, task in enumerate(tasks)}
    switcher = Switcher(model, diffs)
    rng = random.Random(seed)  # noqa: S311 - an order of tasks need not be secret
    seconds, task = [], tasks[0]
    for _ in range(n_swaps):
        task = rng.choice([other for other in tasks if other != task])
        start = time.perf_counter()
        with switcher.serving(task):
            seconds.append(time.perf_counter() - start)
    changed = fingerprint_tensors(tensors) != before
    switcher.close()
    return seconds, changed and fingerprint_tensors(tensors) == before


def _timed(work: Callable[[], object], repeats: int) -> Seconds:
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return seconds


def _p99(seconds: Seconds) -> float:
    return sorted(seconds)[min(len(seconds) - 1, round(0.99 * len(seconds)))]


if __name__ == "__main__":
    main()
