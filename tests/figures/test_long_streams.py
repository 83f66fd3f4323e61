"""The figures of one task, of some and of more than names have room for: nothing overlaps."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from figure_samples import check_labels, check_pictures, read_csv
from large_samples import make_home

from streamlab.figures.accuracy import AccuracyFigure
from streamlab.figures.catalogue import BY_NAME
from streamlab.figures.file_parts import BytesFigure
from streamlab.figures.heatmap import MOST_COLUMNS
from streamlab.figures.mask_overlap import OverlapFigure
from streamlab.figures.style import MOST_NAMED, drawn, house_style
from streamlab.home.folder import Home
from streamlab.registry.registry import Registry
from streamlab.views.run_source import RunSource

if TYPE_CHECKING:
    pass

N_LONG = MOST_NAMED + 21
Writer = Callable[[Registry, Home, Path], tuple[Path, ...]]

TIMELESS = ("storage", "bytes", "accuracy", "pareto", "matrix", "curves", "layers", "overlap")
COMPLETE = ("bytes", "accuracy", "pareto", "matrix", "curves", "layers")  # name every task as CSV


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Home]:
    """Streams of one task, of two, of some that fill a figure, and of too many to be named."""
    folder = tmp_path_factory.mktemp("long")
    return {n: make_home(folder / str(n), n, n_failed=min(n, 2)) for n in (1, 2, 18, 24, N_LONG)}


@pytest.fixture
def long_home(homes: dict[int, Home]) -> Home:
    return homes[N_LONG]


@pytest.fixture
def long_registry(long_home: Home) -> Iterator[Registry]:
    with reading(long_home) as opened:
        yield opened


def reading(home: Home) -> Registry:
    return Registry.open(home.registry_url, clock=time.time, read_only=True)


# One task overlaps with nothing, and is refused.
@pytest.mark.parametrize(
    ("name", "n_tasks"),
    [(name, n) for name in TIMELESS for n in (1, 2, 24, N_LONG) if (name, n) != ("overlap", 1)],
)
def test_no_two_labels_overlap(name: str, n_tasks: int, homes: dict[int, Home]) -> None:
    with reading(homes[n_tasks]) as registry, house_style():
        check_labels(BY_NAME[name].read(RunSource(registry, homes[n_tasks], "latest")).draw())


@pytest.mark.parametrize("name", ["curves", "pareto"])
def test_as_many_panels_as_there_can_be_fit_one_page(name: str, homes: dict[int, Home]) -> None:
    n_tasks, n_shared = 18, {"curves": 2, "pareto": 1}[name]
    with reading(homes[n_tasks]) as registry:
        figure = drawn(BY_NAME[name].read(RunSource(registry, homes[n_tasks], "latest")).draw)

    assert len(figure.axes) == n_tasks + n_shared
    assert figure.get_figheight() < 9.5  # inches


@pytest.mark.parametrize("name", COMPLETE)
def test_more_tasks_than_have_names_fit_one_page_and_all_are_in_the_numbers(
    name: str, long_home: Home, long_registry: Registry, tmp_path: Path
) -> None:
    source = RunSource(long_registry, long_home, "latest")
    first, second = (BY_NAME[name].read(source).write(tmp_path / at) for at in "ab")

    check_pictures(first, second)
    _, height = struct.unpack(">II", first[0].read_bytes()[16:24])
    assert height / 300 < 7.0  # inches
    assert {row["task"] for row in read_csv(first[2])} - {""} == {
        f"task_{n}" for n in range(N_LONG)
    }


def test_of_very_many_tasks_some_are_compared_the_first_and_the_last_among_them(
    long_home: Home, long_registry: Registry
) -> None:
    data = OverlapFigure.read(RunSource(long_registry, long_home, "latest"))

    assert (len(data.tasks), data.n_all, data.n_missing) == (MOST_COLUMNS, N_LONG, 0)
    assert (data.tasks[0], data.tasks[-1]) == ("task_0", f"task_{N_LONG - 1}")
    assert len(data.pairs) == MOST_COLUMNS * (MOST_COLUMNS - 1) // 2


def test_unnamed_tasks_stand_best_first_and_largest_first(
    long_home: Home, long_registry: Registry
) -> None:
    source = RunSource(long_registry, long_home, "latest")
    scores, bars = AccuracyFigure.read(source), BytesFigure.read(source)
    with house_style():
        (own, *_) = scores.draw().axes[0].get_lines()
        ends = bars.draw().axes[0].collections[-1].get_paths()[0].vertices

    by_row = [x for _, x in sorted(zip(own.get_ydata(), own.get_xdata(), strict=True))]
    assert by_row == sorted(by_row, reverse=True)
    sizes = [diff.file_bytes for _, diff in bars.stream.files]
    assert ends[:, 0].max() == pytest.approx(max(sizes))
    # The end of the lowest row is the smallest file's.
    assert ends[ends[:, 1] == N_LONG - 1][:, 0].max() == pytest.approx(min(sizes))
