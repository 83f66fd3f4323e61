"""One small run that has all that figures show: two tasks, two seeds, a rival, every score."""

from __future__ import annotations

import csv
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

# Before the samples are imported.
sys.path.insert(0, str(Path(__file__).parents[1] / "stream"))

from stream_samples import Ran, carry_out, make_lab, only

HOSTILE = 'a$^b$ <script>alert("x")</script> & \u4e16\x01--'


def ran_in(folder: Path) -> Ran:
    """Carry the run out."""
    changes = {"name": "many", "seeds": [1, 2], "evaluation": "full"}
    changes |= {"rivals": ["full_finetuning"], **only("mood", "same")}
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
