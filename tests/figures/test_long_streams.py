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

from streamlab.figures import accuracy, layers, pareto
from streamlab.figures import accuracy_matrix as matrix
from streamlab.figures import file_parts as bytes_figure
from streamlab.figures import mask_overlap as overlap
from streamlab.figures import training_curves as curves
from streamlab.figures.heatmap import MOST_COLUMNS
from streamlab.figures.storage import storage_figure, storage_series
from streamlab.figures.style import MOST_NAMED, house_style
from streamlab.home.folder import Home
from streamlab.home.store import ArtifactStore
from streamlab.registry.registry import Registry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_LONG = MOST_NAMED + 21
Writer = Callable[[Registry, Home, Path], tuple[Path, ...]]

DRAWN: dict[str, Callable[[Registry, Home], Figure]] = {
    "storage": lambda r, _: storage_figure([storage_series(r, "latest")]),
    "bytes": lambda r, h: bytes_figure.draw(
        bytes_figure.read_bytes(r, "latest", ArtifactStore(h.store))
    ),
    "accuracy": lambda r, _: accuracy.draw(accuracy.read_accuracy(r, "latest")),
    "pareto": lambda r, _: pareto.draw(pareto.read_pareto(r, "latest")),
    "matrix": lambda r, _: matrix.draw(matrix.read_matrix(r, "latest")),
    "curves": lambda r, h: curves.draw(curves.read_curves(r, "latest", h.curves)),
    "layers": lambda r, _: layers.draw(layers.read_layers(r, "latest")),
    "overlap": lambda r, h: overlap.draw(
        overlap.read_overlap(r, "latest", ArtifactStore(h.store))
    ),
}  # fmt: skip
WRITTEN: dict[str, Writer] = {
    "bytes": lambda r, h, to: bytes_figure.write_bytes(
        bytes_figure.read_bytes(r, "latest", ArtifactStore(h.store)), to
    ),
    "accuracy": lambda r, _, to: accuracy.write_accuracy(accuracy.read_accuracy(r, "latest"), to),
    "pareto": lambda r, _, to: pareto.write_pareto(pareto.read_pareto(r, "latest"), to),
    "matrix": lambda r, _, to: matrix.write_matrix(matrix.read_matrix(r, "latest"), to),
    "curves": lambda r, h, to: curves.write_curves(
        curves.read_curves(r, "latest", h.curves), to
    ),
    "layers": lambda r, _, to: layers.write_layers(layers.read_layers(r, "latest"), to),
}  # fmt: skip


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Home]:
    """Streams of one task, of two, of some that fill a figure, and of too many to be named."""
    folder = tmp_path_factory.mktemp("long")
    return {n: make_home(folder / str(n), n, n_failed=min(n, 2)) for n in (1, 2, 24, N_LONG)}


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
    [(name, n) for name in DRAWN for n in (1, 2, 24, N_LONG) if (name, n) != ("overlap", 1)],
)
def test_no_two_labels_overlap(name: str, n_tasks: int, homes: dict[int, Home]) -> None:
    with reading(homes[n_tasks]) as registry, house_style():
        check_labels(DRAWN[name](registry, homes[n_tasks]))


@pytest.mark.parametrize("name", WRITTEN)
def test_more_tasks_than_have_names_fit_one_page_and_all_are_in_the_numbers(
    name: str, long_home: Home, long_registry: Registry, tmp_path: Path
) -> None:
    first, second = (WRITTEN[name](long_registry, long_home, tmp_path / at) for at in "ab")

    check_pictures(first, second)
    _, height = struct.unpack(">II", first[0].read_bytes()[16:24])
    assert height / 300 < 7.0  # inches
    assert {row["task"] for row in read_csv(first[2])} == {f"task_{n}" for n in range(N_LONG)}


def test_of_very_many_tasks_some_are_compared_the_first_and_the_last_among_them(
    long_home: Home, long_registry: Registry
) -> None:
    data = overlap.read_overlap(long_registry, "latest", ArtifactStore(long_home.store))

    assert (len(data.tasks), data.n_all, data.n_missing) == (MOST_COLUMNS, N_LONG, 0)
    assert (data.tasks[0], data.tasks[-1]) == ("task_0", f"task_{N_LONG - 1}")
    assert len(data.pairs) == MOST_COLUMNS * (MOST_COLUMNS - 1) // 2


def test_unnamed_tasks_stand_best_first_and_largest_first(
    long_home: Home, long_registry: Registry
) -> None:
    scores = accuracy.read_accuracy(long_registry, "latest")
    bars = bytes_figure.read_bytes(long_registry, "latest", ArtifactStore(long_home.store))
    with house_style():
        (own, *_) = accuracy.draw(scores).axes[0].get_lines()
        ends = bytes_figure.draw(bars).axes[0].collections[-1].get_paths()[0].vertices

    by_row = [x for _, x in sorted(zip(own.get_ydata(), own.get_xdata(), strict=True))]
    assert by_row == sorted(by_row, reverse=True)
    sizes = [bar.diff.file_bytes / 1e3 for bar in bars.bars]
    assert ends[:, 0].max() == pytest.approx(max(sizes))
    # The end of the lowest row is the smallest file's.
    assert ends[ends[:, 1] == N_LONG - 1][:, 0].max() == pytest.approx(min(sizes))
