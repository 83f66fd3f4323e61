"""Latency of switching the task of a model in memory, compared with reloading the model.

all-MiniLM-L6-v2 with diffs of 0.5%, one thread: decoding a file with every check (of the slowest
trained diff), applying a diff, reverting it, swapping one for another; compared with reloading all
weights from their safetensors file, and with PEFT's LoRA (load an adapter, set it, merge it). The
swaps are among ten diffs at random, after which the base must be unchanged. A kilobyte switch
decodes a diff of less than 10 kB, matches it to the model, applies it and reverts it: seeded
positions, values and head of one bit. With --json a thousand such files are opened, every digest
checked: without decoding their entries, and decoded in one call, of a hundred rules in turn
or all of one.

    python benchmarks/switch.py --home streamlab-home
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from real_diffs import even_diff, minilm, ruled_diff, trained_diffs

from streamlab.base import Base
from streamlab.diff.apply import apply
from streamlab.diff.format.container import EncodedDiff, decode, decode_all, encode, open_diff
from streamlab.diff.layout import Layout
from streamlab.diff.rules import Seeded
from streamlab.diff.vector import DiffVector
from streamlab.inference.latency import (
    Timing,
    time_apply_and_revert,
    time_calls,
    time_reload,
    time_swaps,
)
from streamlab.inference.model import LoadedBase

N_TASKS = 10
DENSITY = 0.005
KILOBYTE_DENSITY = 0.003
N_OPENED = 1_000


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
    trained = [diff for diff, _ in trained_diffs(base, options.home).values()]
    small = kilobyte_file(base.layout, options.seed)
    loaded = LoadedBase(base)
    before = loaded.fingerprint()
    reload = time_reload(loaded, options.repeats)
    timings = [
        reload,
        time_decode(base, trained, options.repeats),
        *time_apply_and_revert(loaded, [even_diff(base.layout, DENSITY)], options.repeats),
        time_kilobyte_switch(loaded, small, options.repeats),
        *time_peft(base, options.repeats),
        time_random_swaps(loaded, options.swaps, options.seed),
    ]
    unchanged = loaded.fingerprint() == before
    if options.json:
        found = ratios(timings) | {
            "kilobyte_file_bytes": len(small.data),
            "thousand_open_seconds": time_opening(base.layout, options.seed),
            "thousand_decode_seconds": time_decoding(base.layout, options.seed, n_rules=100),
            "thousand_decode_one_rule_seconds": time_decoding(base.layout, options.seed, n_rules=1),
            "base_unchanged": unchanged,
        }
        print(json.dumps(found, indent=1))
        return
    print("| | p50 ms | p99 ms | p50 / reload |\n| --- | --- | --- | --- |")
    for timing in timings:
        ratio = timing.median / reload.median
        print(
            f"| {timing.step} | {1e3 * timing.median:.2f} | {1e3 * timing.p99:.2f} | {ratio:.3f} |"
        )
    print(f"\n{options.swaps} swaps among {N_TASKS} diffs; base unchanged: {unchanged}")


def ratios(timings: list[Timing]) -> dict[str, float]:
    """Divide medians, and the 99th percentile of a swap, by the median reload."""
    medians = {timing.step: timing.median for timing in timings}
    reload = medians.pop("reload")
    found = {"reload_ms": 1e3 * reload}
    found |= {f"{step}_over_reload": median / reload for step, median in medians.items()}
    return found | {"swap_p99_over_reload": timings[-1].p99 / reload}


def time_decode(base: Base, diffs: list[DiffVector], repeats: int) -> Timing:
    """Time decoding the file of the slowest diff."""
    files = [encode(diff) for diff in diffs]
    calls = [partial(decode, f.data, base.layout, expected_digest=f.digest) for f in files]
    timings = [Timing("decode", time_calls(call, repeats)) for call in calls]
    return max(timings, key=lambda timing: timing.median)


def kilobyte_file(layout: Layout, seed: int) -> EncodedDiff:
    """Return a file of fewer than 10,000 bytes: seeded positions, values and head of one bit."""
    rng = np.random.default_rng(seed)
    matrices = tuple(len(shape) > 1 for shape in layout.shapes)
    rule = Seeded(seed, matrices, round(KILOBYTE_DENSITY * layout.n_gated))
    diff = ruled_diff(layout, rule, rng)
    head = {name: array.copy() for name, array in diff.head.items()}
    for array in head.values():
        array[0] = 0.0  # of two classes the first is the reference
    file = encode(replace(diff, head=head), value_type="sign", head_type="sign")
    if len(file.data) > 10_000:
        raise ValueError(f"the file takes {len(file.data)} bytes of at most 10,000")
    return file


def time_kilobyte_switch(loaded: LoadedBase, file: EncodedDiff, repeats: int) -> Timing:
    """Time decoding a small file with every check, applying the diff and reverting it."""
    fingerprint = loaded.base.fingerprint

    def switch() -> None:
        diff = decode(file.data, loaded.base.layout, expected_digest=file.digest)
        apply(loaded.model, diff, expected=fingerprint).revert()

    return Timing("kilobyte_switch", time_calls(switch, repeats))


def time_opening(layout: Layout, seed: int) -> float:
    """Return the seconds that opening and checking a thousand files takes; ten differ."""
    files = [kilobyte_file(layout, seed + i) for i in range(10)] * (N_OPENED // 10)
    start = time.perf_counter()
    for file in files:
        open_diff(file.data, expected_digest=file.digest)
    return time.perf_counter() - start


def time_decoding(layout: Layout, seed: int, *, n_rules: int) -> float:
    """Return the seconds that decoding a thousand files in one call takes, of so many rules."""
    files = [kilobyte_file(layout, seed + i) for i in range(n_rules)] * (N_OPENED // n_rules)
    start = time.perf_counter()
    digests = (file.digest for file in files)
    for _ in decode_all((file.data for file in files), layout, expected_digests=digests):
        pass
    return time.perf_counter() - start


def time_peft(base: Base, repeats: int) -> list[Timing]:
    """Time bringing a LoRA adapter into use by PEFT."""
    config = LoraConfig(r=8, target_modules=["query", "value"])
    model = get_peft_model(base.build(n_outputs=2, seed=0).base_model, config)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        names = iter(f"a{i}" for i in range(repeats + 1))
        load = time_calls(lambda: model.load_adapter(folder, next(names)), repeats)
    turns = iter(["a0", "a1"] * repeats)
    switch = time_calls(lambda: model.set_adapter(next(turns)), repeats)
    merges = []
    for _ in range(repeats):
        start = time.perf_counter()
        model.merge_adapter(["a0"])
        merges.append(time.perf_counter() - start)
        model.unmerge_adapter()
    return [
        Timing("peft_load", load),
        Timing("peft_set", switch),
        Timing("peft_merge", tuple(merges)),
    ]


def time_random_swaps(loaded: LoadedBase, n_swaps: int, seed: int) -> Timing:
    """Time swaps among random tasks, never the same one twice in a row."""
    tasks = [f"task{i}" for i in range(N_TASKS)]
    diffs = {task: even_diff(loaded.base.layout, DENSITY, seed=i) for i, task in enumerate(tasks)}
    rng = random.Random(seed)  # noqa: S311 - an order of tasks need not be secret
    order = [tasks[0]]
    for _ in range(n_swaps):
        order.append(rng.choice([task for task in tasks if task != order[-1]]))
    return time_swaps(loaded, diffs, order)


if __name__ == "__main__":
    main()
