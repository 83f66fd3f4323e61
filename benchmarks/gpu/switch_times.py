"""Times of decoding a diff, putting it on a model on the device, and swapping it for another."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from real_diffs import even_diff
from step_times import DENSITY, QUICK_SHAPES, SHAPES, Shape, job_for

from streamlab.diff.apply import plan
from streamlab.diff.format.container import decode, encode
from streamlab.inference.switch import Switcher


def switch_times(device: str, *, quick: bool) -> dict[str, Any]:
    """Return medians in milliseconds, and whether the base came back bit for bit, by shape."""
    shapes = QUICK_SHAPES if quick else SHAPES
    return {name: _switch(shape, device, 3 if quick else 30) for name, shape in shapes.items()}


def _switch(shape: Shape, device: str, n_repeats: int) -> dict[str, Any]:
    job = job_for(shape, device)
    diffs = {f"task{i}": even_diff(job.layout, DENSITY, seed=i) for i in range(2)}
    file = encode(diffs["task0"])

    def timed(work: Callable[[], object]) -> float:
        return _milliseconds(work, device, n_repeats)

    matched = plan(job.model, diffs["task0"])
    found = {
        "entries": diffs["task0"].n_entries,
        "file_bytes": len(file.data),
        "decode_ms": timed(lambda: decode(file.data, job.layout)),
        "plan_ms": timed(lambda: plan(job.model, diffs["task0"])),
    }
    on = [matched.put_on()]
    found["revert_then_apply_ms"] = timed(lambda: (on.pop().revert(), on.append(matched.put_on())))
    on.pop().revert()
    applies = []
    for _ in range(n_repeats + 1):
        applies.append(_milliseconds(lambda: on.append(matched.put_on()), device, 1, warm=False))
        on.pop().revert()
    found["apply_ms"] = statistics.median(applies[1:])
    switcher = Switcher(job.model, diffs)
    turns = iter(["task0", "task1"] * n_repeats)

    def swap() -> None:
        with switcher.serving(next(turns)):
            pass

    found["swap_ms"] = timed(swap)
    switcher.close()
    pairs = zip(job.backbone.values(), job.base.values(), strict=True)
    found["base_restored"] = all(torch.equal(p, b) for p, b in pairs)
    return found


def _milliseconds(
    work: Callable[[], object], device: str, n_repeats: int, *, warm: bool = True
) -> float:
    """Return the median time of calls, each until the device has finished."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    seconds = []
    for _ in range(n_repeats + warm):
        wait()
        began = time.perf_counter()
        work()
        wait()
        seconds.append(time.perf_counter() - began)
    return 1e3 * statistics.median(seconds[warm:])
