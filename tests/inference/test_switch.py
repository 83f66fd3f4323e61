from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from streamlab.diff.layout import Layout
from streamlab.diff.vector import DiffVector, SparseTensor
from streamlab.errors import DiffError
from streamlab.inference.switch import Switcher

LAYOUT = Layout("ab" * 32, ("weight",), ((4, 4),))
SECONDS = 20.0  # how long a test waits for another thread before it fails


def diff_of(value: float) -> DiffVector:
    entries = SparseTensor((4, 4), np.arange(0, 16, 5), np.full(4, value, np.float32))
    return DiffVector(LAYOUT, (entries,), {}, {})


def switcher(model: nn.Module) -> Switcher:
    return Switcher(model, {"one": diff_of(1.0), "two": diff_of(2.0)})


def blank() -> nn.Linear:
    model = nn.Linear(4, 4)
    nn.init.zeros_(model.weight)
    return model


def trace(model: nn.Module) -> float:
    return float(model.get_parameter("weight").detach().trace())


def test_each_task_is_served_by_its_own_diff_alone() -> None:
    model = blank()
    tasks = switcher(model)

    for task, expected in (("one", 4.0), ("two", 8.0), ("two", 8.0), ("one", 4.0)):
        with tasks.serving(task) as served:
            assert trace(served) == expected
            assert tasks.task == task


def test_closing_leaves_the_bare_base_and_serving_may_go_on() -> None:
    model = blank()
    tasks = switcher(model)
    with tasks.serving("one"):
        pass

    tasks.close()

    assert tasks.task is None
    assert torch.count_nonzero(model.weight) == 0
    with tasks.serving("two"):
        assert trace(model) == 8.0


def test_an_unknown_task_is_refused() -> None:
    refused = pytest.raises(DiffError, match=r"no diff for 'three'\. Known tasks: one, two")
    with refused, switcher(blank()).serving("three"):
        pass


def test_a_diff_that_does_not_fit_is_refused_at_once() -> None:
    with pytest.raises(DiffError, match="no parameter `weight`"):
        Switcher(nn.Identity(), {"one": diff_of(1.0)})


def test_a_thread_may_serve_its_task_inside_itself_but_no_other() -> None:
    tasks = switcher(blank())

    with tasks.serving("one"), tasks.serving("one") as served:
        assert trace(served) == 4.0
        with pytest.raises(DiffError, match="is serving 'one'"), tasks.serving("two"):
            pass
        with pytest.raises(DiffError, match="inside its own `serving` block"):
            tasks.close()


def test_two_threads_serve_one_task_at_the_same_time() -> None:
    tasks = switcher(blank())
    both_inside = threading.Barrier(2, timeout=SECONDS)

    def serve() -> float:
        with tasks.serving("one") as served:
            both_inside.wait()
            return trace(served)

    with ThreadPoolExecutor(2) as pool:
        assert [f.result(SECONDS) for f in [pool.submit(serve) for _ in range(2)]] == [4.0, 4.0]


def test_a_switch_waits_until_nobody_reads() -> None:
    tasks = switcher(blank())
    inside, leave, asked = threading.Event(), threading.Event(), threading.Event()
    seen: list[str] = []

    def read() -> None:
        with tasks.serving("one") as served:
            inside.set()
            assert leave.wait(SECONDS)
            seen.append(f"one {trace(served)}")

    def switch() -> None:
        asked.set()
        with tasks.serving("two") as served:
            seen.append(f"two {trace(served)}")

    with ThreadPoolExecutor(2) as pool:
        reader = pool.submit(read)
        assert inside.wait(SECONDS)
        writer = pool.submit(switch)
        assert asked.wait(SECONDS)
        with pytest.raises(TimeoutError):
            writer.result(0.05)
        leave.set()
        reader.result(SECONDS)
        writer.result(SECONDS)

    assert seen == ["one 4.0", "two 8.0"]


def test_no_thread_ever_sees_a_half_switched_model() -> None:
    tasks = switcher(blank())
    sums = {"one": 4.0, "two": 8.0}

    def serve(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        right = True
        for task in rng.choice(["one", "two"], size=100).tolist():
            with tasks.serving(task) as served:
                right = right and trace(served) == sums[task]
        return right

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(serve, range(4)))
    tasks.close()
    assert tasks.task is None


def test_a_switch_that_fails_leaves_the_base_and_a_working_switcher() -> None:
    model = blank().to(torch.float16)
    tasks = Switcher(model, {"fine": diff_of(1.0), "huge": diff_of(1e6)})

    with pytest.raises(DiffError, match="would be NaN or infinite"), tasks.serving("huge"):
        pass

    assert torch.count_nonzero(model.weight) == 0
    with tasks.serving("fine") as served:
        assert trace(served) == 4.0
