"""Latency of switching the task of a model in memory, compared with reloading the model."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

from streamlab.diff.apply import plan
from streamlab.diff.vector import DiffVector
from streamlab.errors import BaseMismatchError
from streamlab.inference.model import LoadedBase
from streamlab.inference.stored_task import StoredTask
from streamlab.inference.switch import Switcher

Seconds = tuple[float, ...]


@dataclass(frozen=True)
class Timing:
    """The durations of one repeated step."""

    step: str
    seconds: Seconds

    @property
    def median(self) -> float:
        """Return the median in seconds."""
        return statistics.median(self.seconds)

    @property
    def p99(self) -> float:
        """Return the 99th percentile in seconds; the maximum of fewer than 100 durations."""
        return sorted(self.seconds)[math.ceil(0.99 * len(self.seconds)) - 1]


def measure_switching(
    loaded: LoadedBase, tasks: Mapping[str, StoredTask], *, repeats: int
) -> tuple[Timing, ...]:
    """Time every step of switching among tasks, `repeats` times per task.

    `decode`: read and check a file. `apply`, `revert`: put a matched diff on the model, take it
    off. `swap`: replace one task's diff by the next one's; absent for a single task. `reload`: load
    every weight of the classifier from its file. Raises what reading a diff raises, and
    BaseMismatchError where the base was not restored bit for bit.
    """
    layout = loaded.base.layout
    diffs = {name: task.diff(layout) for name, task in tasks.items()}
    before = loaded.fingerprint()
    decodes = [time_calls(partial(task.diff, layout), repeats) for task in tasks.values()]
    timings = [
        Timing("decode", tuple(seconds for durations in decodes for seconds in durations)),
        *time_apply_and_revert(loaded, diffs.values(), repeats),
    ]
    if len(diffs) > 1:
        # The first round is a warm-up.
        swaps = time_swaps(loaded, diffs, list(diffs) * (repeats + 1))
        timings.append(Timing("swap", swaps.seconds[len(diffs) - 1 :]))
    timings.append(time_reload(loaded, repeats))
    if loaded.fingerprint() != before:
        raise BaseMismatchError(
            "The base was not restored bit for bit after the diffs were applied and reverted; "
            "these times are invalid. Report this with the diffs' digests."
        )
    return tuple(timings)


def time_calls(work: Callable[[], object], repeats: int) -> Seconds:
    """Return the durations of `repeats` calls, after one call as a warm-up."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return tuple(seconds)


def time_apply_and_revert(
    loaded: LoadedBase, diffs: Iterable[DiffVector], repeats: int
) -> tuple[Timing, Timing]:
    """Time applying and reverting each diff, matched to the model beforehand."""
    applies, reverts = [], []
    for diff in diffs:
        matched = plan(loaded.model, diff, expected=loaded.base.fingerprint)
        matched.put_on().revert()  # warm-up: allocates memory pages
        for _ in range(repeats):
            start = time.perf_counter()
            on = matched.put_on()
            middle = time.perf_counter()
            on.revert()
            reverts.append(time.perf_counter() - middle)
            applies.append(middle - start)
    return Timing("apply", tuple(applies)), Timing("revert", tuple(reverts))


def time_swaps(loaded: LoadedBase, diffs: Mapping[str, DiffVector], order: list[str]) -> Timing:
    """Time each change from one task of `order` to the next."""
    switcher = Switcher(loaded.model, diffs, expected=loaded.base.fingerprint)
    seconds = []
    for before, after in pairwise(order):
        with switcher.serving(before):
            pass
        start = time.perf_counter()
        with switcher.serving(after):
            seconds.append(time.perf_counter() - start)
    switcher.close()
    return Timing("swap", tuple(seconds))


def time_reload(loaded: LoadedBase, repeats: int) -> Timing:
    """Time loading every weight of the classifier from a file into the existing model."""
    from safetensors.torch import load_file, save_file

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        tensors = {name: t.clone() for name, t in loaded.model.state_dict().items()}
        save_file(tensors, path)
        seconds = time_calls(lambda: loaded.model.load_state_dict(load_file(path)), repeats)
    return Timing("reload", seconds)
