from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from streamlab.errors import BaseMismatchError
from streamlab.inference.latency import Timing, measure_switching

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamlab.inference.model import LoadedBase
    from streamlab.library.home import OpenHome


def test_every_step_is_timed_as_often_as_asked(opened: OpenHome, loaded: LoadedBase) -> None:
    tasks = {name: opened.task(name) for name in opened.tasks()}

    found = measure_switching(loaded, tasks, repeats=4)

    counts = {timing.step: len(timing.seconds) for timing in found}
    assert counts == {"decode": 12, "apply": 12, "revert": 12, "swap": 12, "reload": 4}
    assert all(0 < timing.median <= timing.p99 for timing in found)
    loaded.base.check_unchanged()
    assert loaded.task is None


def test_a_single_task_has_nothing_to_swap_with(opened: OpenHome, loaded: LoadedBase) -> None:
    found = measure_switching(loaded, {"mood": opened.task("mood")}, repeats=1)

    assert [timing.step for timing in found] == ["decode", "apply", "revert", "reload"]


def test_a_base_that_is_not_restored_is_refused(
    opened: OpenHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = opened.load_base()
    weight = next(loaded.model.parameters())
    reload = loaded.model.load_state_dict

    def damage(tensors: Mapping[str, Any]) -> object:
        done = reload(tensors)
        weight.data[0, 0] += 1
        return done

    monkeypatch.setattr(loaded.model, "load_state_dict", damage)

    with pytest.raises(BaseMismatchError, match="not restored bit for bit"):
        measure_switching(loaded, {"mood": opened.task("mood")}, repeats=1)


def test_the_99th_of_a_hundred_times_is_the_p99() -> None:
    hundred = Timing("x", tuple(float(n) for n in range(100, 0, -1)))

    assert (hundred.median, hundred.p99) == (50.5, 99.0)
    assert Timing("x", (3.0, 1.0)).p99 == 3.0
