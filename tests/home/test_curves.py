from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamlab.errors import StoreError
from streamlab.home.curves import curve_path, curves_of, read_curve, writing_curve

IDENTITY: dict[str, Any] = {
    "run": "glue-1",
    "seed": 1,
    "provider": "reviews_inc",
    "task": "sst2",
    "version": 1,
    "method": "diff_pruning",
}
POINTS = [{"step": 0, "loss": 0.75}, {"step": 1, "loss": 1e-300, "stage": "search", "gap": None}]


def write(path: Path, points: list[dict[str, Any]]) -> None:
    with writing_curve(path) as curve:
        for point in points:
            curve.append(point)


def test_a_curve_comes_back_point_by_point(tmp_path: Path) -> None:
    path = curve_path(tmp_path, **IDENTITY)
    write(path, POINTS)

    assert list(read_curve(path)) == POINTS
    assert len(path.read_bytes().splitlines()) == 2
    assert path == tmp_path / "glue-1" / "1,reviews_inc,sst2,1,diff_pruning.jsonl"


def test_a_curve_without_points_is_empty(tmp_path: Path) -> None:
    write(tmp_path / "curve.jsonl", [])

    assert read_curve(tmp_path / "curve.jsonl") == ()


def test_a_curve_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "curve.jsonl"
    with writing_curve(path) as curve:
        curve.append(POINTS[0])
        assert not path.exists()

    assert path.exists()


def test_a_curve_that_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    def break_off() -> None:
        with writing_curve(tmp_path / "curve.jsonl") as curve:
            curve.append(POINTS[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert list(tmp_path.iterdir()) == []


def test_a_later_attempt_replaces_the_curve(tmp_path: Path) -> None:
    path = tmp_path / "curve.jsonl"
    write(path, POINTS)
    write(path, POINTS[:1])

    assert list(read_curve(path)) == POINTS[:1]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"bytes"])
def test_a_point_that_is_no_json_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(StoreError, match="Point 1 of the curve"):
        write(tmp_path / "curve.jsonl", [POINTS[0], {"loss": value}])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_explained_where_a_curve_is_written(tmp_path: Path) -> None:
    device = Path("/dev/full")
    if not device.exists():
        pytest.skip("this system has no /dev/full")

    def fill() -> None:
        with writing_curve(tmp_path / "curve.jsonl", opener=lambda _: device.open("wb")) as curve:
            for _ in range(2000):
                curve.append({"step": 1})

    with pytest.raises(StoreError, match="the disk is full"):
        fill()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"step": 1}\n{"step"', "Line 2 .* is not JSON"),
        ("[1]\n", "Line 1 .* is not a JSON object"),
        (None, "cannot be read"),
    ],
)
def test_a_damaged_curve_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "curve.jsonl"
    if text is not None:
        path.write_text(text)

    with pytest.raises(StoreError, match=message):
        read_curve(path)


def test_the_curves_of_a_provider_are_found_by_their_names(tmp_path: Path) -> None:
    for provider in ("a", "a,b", "b", "ü.x"):
        for task in ("a", "b"):
            path = curve_path(
                tmp_path, run="r", seed=1, provider=provider, task=task, version=1, method="m"
            )
            with writing_curve(path):
                pass
    (tmp_path / "r" / "a,b.jsonl").touch()

    for provider in ("a", "a,b", "b", "ü.x"):
        expected = [
            curve_path(
                tmp_path, run="r", seed=1, provider=provider, task=task, version=1, method="m"
            )
            for task in ("a", "b")
        ]
        assert list(curves_of(tmp_path, provider=provider, run=None)) == expected
    assert list(curves_of(tmp_path, provider="r", run=None)) == []
    assert list(curves_of(tmp_path / "none", provider="a", run=None)) == []
    assert list(curves_of(tmp_path, provider=None, run="r")) == sorted((tmp_path / "r").iterdir())
    assert list(curves_of(tmp_path, provider=None, run="none")) == []


def test_no_two_arrivals_share_a_curve(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"seed": 2},
        {"version": 2},
        {"method": "lora"},
        {"run": "glue-2"},
        {"provider": "reviews_inc,sst2", "task": "x"},
        {"provider": "reviews_inc", "task": "sst2,x"},
        {"provider": "reviews_inc%2Csst2", "task": "x"},
        {"task": "long" * 100},
        {"task": "long" * 100 + "er"},
    ]

    assert len({curve_path(tmp_path, **IDENTITY | change) for change in changes}) == len(changes)


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "/abs", "a\0b", "a\nb", "é" * 200])
def test_a_curve_stays_in_its_folder_whatever_the_names(tmp_path: Path, name: str) -> None:
    path = curve_path(tmp_path, **IDENTITY | {"provider": name, "task": name, "run": f"{name}-1"})
    write(path, POINTS)

    assert path.resolve().parent.parent == tmp_path.resolve()
    assert list(read_curve(path)) == POINTS
