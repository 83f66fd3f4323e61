"""How long it takes to change the task of a model in memory, beside loading all of it anew."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from streamlab.diff.apply import plan
from streamlab.errors import BaseMismatchError
from streamlab.hashing import fingerprint_tensors
from streamlab.inference.switch import Switcher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streamlab.diff.vector import DiffVector
    from streamlab.inference.model import LoadedBase
    from streamlab.inference.stored_task import StoredTask


@dataclass(frozen=True)
class Timing:
    """How long one step took, again and again."""

    step: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return the middle, in seconds."""
        return statistics.median(self.seconds)

    @property
    def p99(self) -> float:
        """Return what 99% of the times are not above, in seconds; of under 100, the longest."""
        return sorted(self.seconds)[math.ceil(0.99 * len(self.seconds)) - 1]


def measure_switching(
    loaded: LoadedBase, tasks: Mapping[str, StoredTask], *, repeats: int
) -> tuple[Timing, ...]:
    """Time reading, putting on, taking off and swapping every task's diff, `repeats` times each.

    `decode`: read a file with every check. `apply`, `revert`: put a matched diff on, take it
    off. `swap`: one task for the next, in turn; left out for a single task. `reload`: every
    weight of the classifier from its file into the model there is. Raises what reading a diff
    raises, and BaseMismatchError where the base did not come through bit for bit.
    """
    layout = loaded.base.layout
    diffs = {name: task.diff(layout) for name, task in tasks.items()}
    before = _fingerprint(loaded)
    decodes = [
        seconds
        for task in tasks.values()
        for seconds in _timed(partial(task.diff, layout), repeats)
    ]
    applies, reverts = _on_and_off(loaded, diffs, repeats)
    found = [Timing("decode", tuple(decodes)), applies, reverts]
    if len(diffs) > 1:
        found.append(_swaps(loaded, diffs, repeats))
    found.append(_reloads(loaded, repeats))
    if _fingerprint(loaded) != before:
        raise BaseMismatchError(
            "The base is not what it was before the diffs were put on and taken off; none of "
            "these times can be trusted. Report this with the diffs' digests."
        )
    return tuple(found)


def _on_and_off(
    loaded: LoadedBase, diffs: Mapping[str, DiffVector], repeats: int
) -> tuple[Timing, Timing]:
    applies, reverts = [], []
    for diff in diffs.values():
        matched = plan(loaded.model, diff, expected=loaded.base.fingerprint)
        matched.put_on().revert()  # the first time pays for pages that are new
        for _ in range(repeats):
            start = time.perf_counter()
            on = matched.put_on()
            middle = time.perf_counter()
            on.revert()
            reverts.append(time.perf_counter() - middle)
            applies.append(middle - start)
    return Timing("apply", tuple(applies)), Timing("revert", tuple(reverts))


def _swaps(loaded: LoadedBase, diffs: Mapping[str, DiffVector], repeats: int) -> Timing:
    switcher = Switcher(loaded.model, diffs, expected=loaded.base.fingerprint)
    order = list(diffs) * (repeats + 1)
    seconds = []
    for before, after in pairwise(order):
        with switcher.serving(before):
            pass
        start = time.perf_counter()
        with switcher.serving(after):
            seconds.append(time.perf_counter() - start)
    switcher.close()
    return Timing("swap", tuple(seconds[len(diffs) - 1 :]))  # without the first round


def _reloads(loaded: LoadedBase, repeats: int) -> Timing:
    from safetensors.torch import load_file, save_file

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        tensors = {name: t.clone() for name, t in loaded.model.state_dict().items()}
        save_file(tensors, path)
        seconds = _timed(lambda: loaded.model.load_state_dict(load_file(path)), repeats)
    return Timing("reload", tuple(seconds))


def _timed(work: Callable[[], object], repeats: int) -> list[float]:
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return seconds


def _fingerprint(loaded: LoadedBase) -> str:
    names = loaded.base.full_names
    return fingerprint_tensors({n: loaded.model.get_parameter(f) for n, f in names.items()})
