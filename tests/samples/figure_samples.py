"""One small run that has all that figures show: two tasks, two seeds, a baseline, every score."""

from __future__ import annotations

import csv
import itertools
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.text import Text

from stream_samples import Ran, carry_out, make_lab, only

HOSTILE = 'a$^b$ <script>alert("x")</script> & \u4e16\x01--'


def ran_in(folder: Path) -> Ran:
    """Carry the run out."""
    changes = {"name": "many", "seeds": [1, 2], "evaluation": "full"}
    changes |= {"baselines": ["full_finetuning"], **only("mood", "same")}
    return carry_out(make_lab(folder).scenario(**changes), folder / "home")


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a CSV file by its header."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check_pictures(first: Sequence[Path], second: Sequence[Path]) -> None:
    """Hold two writings of one figure against each other, and their pictures for whole."""
    png, svg, _ = first
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert png.read_bytes().startswith(b"\x89PNG")
    assert ET.fromstring(svg.read_text()).tag.endswith("svg")  # noqa: S314 - our own file


def drawn_labels(axis: Axis) -> list[Text]:
    """Return the labels within the axis's view, of minor ticks too."""
    low, high = sorted(axis.get_view_interval())
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    return [tick.label1 for tick in ticks if low <= tick.get_loc() <= high]


def check_labels(figure: Figure) -> None:
    """Hold the labels of each axes for apart, and every one for on the page."""
    figure.draw_without_rendering()
    page = figure.bbox
    for axes in figure.axes:
        titles = [axes.title, axes._left_title]  # type: ignore[attr-defined]
        for labels in (
            drawn_labels(axes.xaxis),
            drawn_labels(axes.yaxis),
            [*titles, *figure.legends, axes.xaxis.label],
        ):
            boxes = [label.get_window_extent() for label in labels if label.get_visible()]
            boxes = [box for box in boxes if box.width > 1 and box.height > 1]
            for one, other in itertools.combinations(boxes, 2):
                assert not one.overlaps(other), (one, other)
            assert all(box.x0 >= page.x0 and box.x1 <= page.x1 for box in boxes)
            assert all(box.y0 >= page.y0 and box.y1 <= page.y1 + 1 for box in boxes)
