"""The storage figure beyond the last arrival, beside adapters, and under a budget."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from figure_samples import HOSTILE, check_labels, check_pictures, read_csv

from streamlab.errors import UsageError
from streamlab.figures.storage import StorageFigure, project, storage_series
from streamlab.figures.style import caption_of, house_style
from streamlab.planning.alternatives import find_coordinate_files
from streamlab.planning.measured import BaselineFiles, Measured, measure
from streamlab.registry.registry import Registry


@pytest.fixture
def measured(many_registry: Registry) -> Measured:
    return measure(many_registry, "latest")


def test_a_projection_adds_the_mean_file_for_every_task_to_come(measured: Measured) -> None:
    (row,) = project(measured, 3)

    sizes = [task.file_bytes for task in measured.tasks]
    parts_of_mean = [
        sum(getattr(task, f"{part}_bytes") for task in measured.tasks) * 3 // 2
        for part in ("positions", "values", "head", "metadata")
    ]
    assert row.ours_bytes == measured.base.file_bytes + sum(parts_of_mean)
    assert row.low_bytes is not None
    assert row.high_bytes is not None
    # What is stored stays; a task to come takes no less than nothing.
    assert measured.base.file_bytes + sum(sizes) <= row.low_bytes <= row.ours_bytes
    assert row.ours_bytes < row.high_bytes


def test_one_task_alone_is_projected_without_a_band(measured: Measured) -> None:
    rows = project(measured.first(1), 1_000_000)

    assert rows[-1].n_tasks == 1_000_000
    assert {(row.low_bytes, row.high_bytes) for row in rows} == {(None, None)}


@pytest.mark.parametrize("n_tasks", [0, 2, 10**10])
def test_a_projection_goes_forward(n_tasks: int, measured: Measured) -> None:
    with pytest.raises(UsageError, match=r"`--project` takes 3 to"):
        project(measured, n_tasks)


def test_adapters_stand_beside_the_diffs(measured: Measured) -> None:
    rows = project(replace(measured, adapters=BaselineFiles("vera", (100, 200))), 4)

    assert rows[-1].adapter_bytes == measured.base.file_bytes + 600


def test_projected_rows_are_called_so_and_follow_the_measured(
    many_registry: Registry, tmp_path: Path
) -> None:
    series = storage_series(many_registry, "latest", project_to=500)
    stored = [
        replace(row, adapter_bytes=size)
        for row, size in zip(series.rows, (5_000, 6_000, 7_000), strict=False)
    ]
    series = replace(series, run=HOSTILE, rows=(*stored, *series.rows[3:]))
    figure = StorageFigure((series,), budget=100_000)
    first, second = (figure.write(tmp_path / at) for at in "ab")

    check_pictures(first, second)
    rows = read_csv(first[2])
    n_tasks = [int(row["n_tasks"]) for row in rows]
    assert n_tasks == sorted(set(n_tasks))
    assert [row["basis"] for row in rows[:4]] == [*["measured"] * 3, "extrapolated"]
    assert [row["adapter_bytes"] for row in rows[:4]] == ["5000", "6000", "7000", ""]
    assert int(rows[-1]["ours_bytes"]) == series.rows[-1].ours_bytes


def test_the_caption_says_what_is_measured_and_what_is_not(many_registry: Registry) -> None:
    def caption(project_to: int | None) -> str:
        with house_style():
            series = storage_series(many_registry, "1", project_to=project_to)
            figure = StorageFigure((series,)).draw()
        return caption_of(figure)

    assert "measured" in caption(None)
    assert "extrapolated" not in caption(None)
    assert "extrapolated to 500 tasks by their mean; band: 95% interval" in caption(500)


def test_no_label_of_a_tick_overlaps_another(many_registry: Registry) -> None:
    with house_style():
        series = storage_series(many_registry, "1", project_to=1_000_000)
        figure = StorageFigure((series,), budget=10**9).draw()
        figure.draw_without_rendering()
        for axes in figure.axes:
            boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
            ends = [(box.x0, box.x1) for box in boxes if box.width]
            shown = sorted(ends)
            assert all(a[1] < b[0] for a, b in itertools.pairwise(shown))


def test_coordinates_are_computed_from_the_entries_the_type_and_the_head(
    many_registry: Registry, measured: Measured, tmp_path: Path
) -> None:
    series = storage_series(many_registry, "latest", project_to=4)

    rows = read_csv(StorageFigure((series,)).write(tmp_path)[2])

    bits = {"fp32": 32, "fp16": 16, "bf16": 16, "int8": 8, "int4": 4}
    sizes = [
        -(-task.n_entries * (32 + bits[task.value_type]) // 8) + 4 * task.n_head_entries
        for task in measured.tasks
    ]
    base = measured.base.file_bytes
    expected = [base, base + sizes[0], base + sum(sizes), base + sum(sizes) * 3 // 2]
    found = [int(row["coo_computed_bytes"]) for row in rows]
    assert found == [*expected, base + sum(sizes) * 2]


def test_what_is_no_diff_has_no_coordinates(measured: Measured) -> None:
    checkpoint = replace(measured.tasks[0], kind="checkpoint")

    assert find_coordinate_files((measured.tasks[0], checkpoint)) is None
    (row,) = project(replace(measured, tasks=(measured.tasks[0], checkpoint)), 3)
    assert row.coo_computed_bytes is None


def test_the_labels_of_every_line_are_apart(many_registry: Registry) -> None:
    series = storage_series(many_registry, "latest", project_to=10_000)
    rows = tuple(replace(row, adapter_bytes=row.coo_computed_bytes) for row in series.rows)
    last = max(row.coo_computed_bytes or 0 for row in rows if row.basis == "measured")

    with house_style():
        figure = StorageFigure((replace(series, rows=rows),), budget=last).draw()
        check_labels(figure)

    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts]
        assert len(boxes) >= 4
        assert not any(one.overlaps(two) for one, two in itertools.combinations(boxes, 2))
