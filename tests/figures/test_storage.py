"""Storage rows, the figure drawn from them, and the files written, on records made by hand."""

from __future__ import annotations

import csv
import hashlib
import itertools
import re
from pathlib import Path

import pytest
from figure_samples import check_pictures
from hypothesis import given
from hypothesis import strategies as st

from streamlab.errors import RegistryError, UsageError
from streamlab.figures.storage import (
    MOST_RUNS,
    StorageFigure,
    StorageSeries,
    separate,
    storage_rows,
)
from streamlab.figures.style import caption_of, drawn, house_style, write_figure
from streamlab.registry.records import ArrivalRecord, BaseRecord, DiffRecord

BASE = BaseRecord(
    id=1,
    added_at=0.0,
    fingerprint="ba" * 32,
    model="package:tiny_encoder",
    revision=None,
    layers=None,
    n_tensors=1,
    n_parameters=1000,
    weights_bytes=4000,
    file_bytes=4096,
    layout=(("weight", (1000,)),),
)


def diff(number: int, *, head: int = 80) -> DiffRecord:
    parts = (10 + number, 20, head, 30)
    return DiffRecord(
        id=number,
        added_at=0.0,
        digest=hashlib.sha256(bytes([number])).hexdigest(),
        kind="diff",
        base_fingerprint=BASE.fingerprint,
        value_type="bf16",
        n_gated=1000,
        n_entries=5,
        n_head_entries=head // 4,
        file_bytes=sum(parts),
        positions_bytes=parts[0],
        values_bytes=parts[1],
        head_bytes=head,
        metadata_bytes=parts[3],
        full_checkpoint_bytes=4100 + head,
        tensor_counts=(5,),
    )


def arrival(number: int, digest: str | None, *, source: str = "files") -> ArrivalRecord:
    return ArrivalRecord(
        id=number,
        run="stream-1",
        run_id=1,
        seed=1,
        sequence=number,
        provider="p",
        task=f"task{number}",
        version=1,
        method="diff_pruning",
        attempt=1,
        started_at=0.0,
        finished_at=1.0,
        n_steps=1,
        training_seconds=1.0,
        evaluation_seconds=1.0,
        peak_memory_bytes=1,
        source=source,
        source_detail="",
        examples_fingerprint="",
        n_train_examples=1,
        status="finished" if digest else "failed",
        reason=None if digest else "lost",
        rule=None,
        digest=digest,
        removed_at=None,
    )


def series(n_tasks: int, *, run: str = "stream-1", n_synthetic: int = 0) -> StorageSeries:
    diffs = [diff(number % 200) for number in range(n_tasks)]
    arrivals = [arrival(number, one.digest) for number, one in enumerate(diffs)]
    return StorageSeries(
        run=run,
        seed=1,
        method="diff_pruning",
        base=BASE,
        densities=tuple(one.density for one in diffs),
        n_synthetic=n_synthetic,
        rows=tuple(storage_rows(BASE, arrivals, diffs)),
    )


def test_no_arrival_costs_the_base_and_full_finetuning_nothing() -> None:
    (row,) = storage_rows(BASE, [], [])

    assert (row.n_tasks, row.task, row.ours_bytes, row.full_bytes) == (0, None, 4096, 0)
    assert row.ratio == 0


def test_every_arrival_adds_its_whole_file_and_a_whole_checkpoint() -> None:
    diffs = [diff(1), diff(2, head=160), diff(3)]
    arrivals = [arrival(place, one.digest) for place, one in enumerate(diffs)]

    rows = storage_rows(BASE, arrivals, diffs)

    assert [row.diff_bytes for row in rows] == [0, 141, 222, 143]
    assert [row.head_bytes for row in rows] == [0, 80, 160, 80]
    assert [row.ours_bytes for row in rows] == [4096, 4237, 4459, 4602]
    assert [row.full_bytes for row in rows] == [0, 4180, 8440, 12620]
    assert rows[-1].ratio == 12620 / 4602


def test_rows_follow_the_stream_whatever_order_the_records_come_in() -> None:
    diffs = [diff(1), diff(2), diff(3)]
    arrivals = [arrival(place, one.digest) for place, one in enumerate(diffs)]

    orders = [storage_rows(BASE, order, diffs) for order in itertools.permutations(arrivals)]

    assert all(order == orders[0] for order in orders)


def test_a_failed_arrival_keeps_nothing() -> None:
    one = diff(1)

    rows = storage_rows(BASE, [arrival(0, None), arrival(1, one.digest)], [one])

    assert [row.task for row in rows] == [None, "task1"]


def test_a_shared_file_counts_once_for_each_arrival() -> None:
    one = diff(1)

    rows = storage_rows(BASE, [arrival(0, one.digest), arrival(1, one.digest)], [one])

    assert rows[-1].ours_bytes == 4096 + 2 * one.file_bytes


def test_an_arrival_whose_artifact_has_no_record_is_refused() -> None:
    with pytest.raises(RegistryError, match="has no record"):
        storage_rows(BASE, [arrival(0, "ab" * 32)], [])


@pytest.mark.parametrize("n_tasks", [1, 3, 120])
def test_files_are_whole_and_the_same_twice(n_tasks: int, tmp_path: Path) -> None:
    first = StorageFigure((series(n_tasks),)).write(tmp_path / "a")
    second = StorageFigure((series(n_tasks),)).write(tmp_path / "b")

    check_pictures(first, second)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "storage.png",
        "storage.svg",
        "storage.csv",
    }


def test_the_csv_holds_every_row(tmp_path: Path) -> None:
    one = series(4)

    files = StorageFigure((one,)).write(tmp_path)

    with files[2].open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [int(row["n_tasks"]) for row in read] == [0, 1, 2, 3, 4]
    assert [int(row["ours_bytes"]) for row in read] == [row.ours_bytes for row in one.rows]
    assert [int(row["full_bytes"]) for row in read] == [row.full_bytes for row in one.rows]
    assert [float(row["ratio"]) for row in read] == [row.ratio for row in one.rows]


@pytest.mark.parametrize(
    ("n_synthetic", "note"),
    [(3, "synthetic data"), (2, "data of 2 of 3 tasks synthetic"), (0, "")],
)
def test_the_caption_says_what_was_synthetic(n_synthetic: int, note: str) -> None:
    written = caption_of(drawn(StorageFigure((series(3, n_synthetic=n_synthetic),)).draw))

    assert "Run stream-1, seed 1: diff_pruning at density 0.5%" in written
    assert "package:tiny_encoder" in written
    assert (note in written) if note else ("synthetic" not in written)


def test_one_panel_has_the_totals_and_the_other_what_each_task_adds_to_them() -> None:
    one = series(5)

    total, added = drawn(StorageFigure((one,)).draw).axes

    assert (total.get_yscale(), added.get_yscale()) == ("linear", "log")
    ours, full = total.get_lines()
    assert list(ours.get_xdata()) == list(range(6))
    assert list(ours.get_ydata()) == [row.ours_bytes for row in one.rows]
    assert list(full.get_ydata()) == [row.full_bytes for row in one.rows]
    ours, full = added.get_lines()
    assert list(ours.get_xdata()) == [1, 2, 3, 4, 5]
    assert list(ours.get_ydata()) == [row.diff_bytes for row in one.rows[1:]]
    assert set(full.get_ydata()) == {4180}


@pytest.mark.parametrize(
    ("budget", "marked", "words"),
    [
        (4096 + 140 + 141, ["1 fit", "2 fit"], "hold 2 tasks of stream-1, the base included"),
        (4096 + 140 + 140, ["1 fit", "1 fit"], "hold 1 tasks"),
        (4095, ["0 fit"], "do not hold the base"),
        (10**6, [], "hold all 5 tasks"),
    ],
)
def test_the_last_task_that_a_budget_holds_is_marked(
    budget: int, marked: list[str], words: str
) -> None:
    # Files of 140, 141, ... bytes on a base of 4096; checkpoints of 4180.
    figure = drawn(StorageFigure((series(5),), budget=budget).draw)

    fit = [text.get_text() for text in figure.axes[0].texts if text.get_text().endswith("fit")]
    assert fit == marked
    assert words in caption_of(figure)


def test_no_sentence_is_in_the_picture(tmp_path: Path) -> None:
    svg = StorageFigure((series(5),)).write(tmp_path)[1].read_text()

    words = [text.strip() for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]
    assert "full checkpoint" in words
    assert not [text for text in words if text.endswith(".") or len(text) > 40]
    assert "Run stream-1, seed 1" in svg.partition("<defs>")[0]  # in the metadata


def test_a_pdf_is_the_same_twice_and_holds_its_text_as_a_font(tmp_path: Path) -> None:
    one = StorageFigure((series(2),))
    written = [
        write_figure(tmp_path / at, "storage", one.draw, one.columns, one.rows(), pdf=True)
        for at in "ab"
    ]

    assert [path.suffix for path in written[0]] == [".png", ".svg", ".pdf", ".csv"]
    first, second = (paths[2].read_bytes() for paths in written)
    assert first == second
    assert first.startswith(b"%PDF")
    assert b"/FontFile2" in first or b"/TrueType" in first or b"/CIDFontType2" in first


@pytest.mark.parametrize("n_tasks", [1, 2, 9, 120])
def test_no_two_labels_overlap_and_none_leaves_the_page(n_tasks: int) -> None:
    with house_style():
        figure = StorageFigure((series(n_tasks), series(max(n_tasks - 1, 1), run="other-1"))).draw()
        figure.draw_without_rendering()
        page = figure.bbox
        for axes in figure.axes:
            boxes = [text.get_window_extent() for text in axes.texts]
            boxes += [axes.title.get_window_extent(), axes._left_title.get_window_extent()]  # type: ignore[attr-defined]
            for one, other in itertools.combinations([box for box in boxes if box.width], 2):
                assert not one.overlaps(other)
            assert all(box.x1 <= page.x1 and box.y0 >= 0 for box in boxes)


def test_runs_with_the_same_checkpoints_share_one_line_for_them() -> None:
    with house_style():
        axes = StorageFigure((series(5), series(3, run="other-1"))).draw().axes[0]

    assert len(axes.get_lines()) == 3


@pytest.mark.parametrize("n_runs", [0, MOST_RUNS + 1])
def test_too_few_or_too_many_runs_are_refused(n_runs: int) -> None:
    with pytest.raises(UsageError, match="1 to 4 runs"):
        StorageFigure((series(1),) * n_runs)


def test_this_machines_matplotlib_settings_change_nothing(tmp_path: Path) -> None:
    import matplotlib as mpl

    before = StorageFigure((series(2),)).write(tmp_path / "a")
    with mpl.rc_context({"font.size": 20.0, "axes.facecolor": "red"}):
        after = StorageFigure((series(2),)).write(tmp_path / "b")
        assert mpl.rcParams["font.size"] == 20.0

    assert before[1].read_bytes() == after[1].read_bytes()


boxes = st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 0.2)), min_size=1, max_size=6)


@given(boxes)
def test_separated_boxes_never_overlap_and_keep_their_order(
    drawn: list[tuple[float, float]],
) -> None:
    places, heights = [place for place, _ in drawn], [height for _, height in drawn]

    moved = separate(places, heights)

    order = sorted(range(len(places)), key=lambda i: moved[i])
    assert [places[i] for i in order] == sorted(places)
    for low, high in itertools.pairwise(order):
        assert moved[high] - moved[low] >= (heights[low] + heights[high]) / 2 - 1e-9
    assert all(moved[i] >= heights[i] / 2 - 1e-9 for i in order)


def test_boxes_that_do_not_touch_stay_where_they_are() -> None:
    assert separate([0.9, 0.2, 0.5], [0.1, 0.1, 0.1]) == pytest.approx([0.9, 0.2, 0.5])
