"""Tables, pages and notes at any width: lines break between words, and no word is cut."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
from click.testing import Result
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from streamlab.cli import output
from streamlab.cli.layout import fitted_widths, table_lines, wrapped, wrapped_note
from streamlab.cli.progress import LiveProgress
from streamlab.methods import HeadOnly
from streamlab.methods.api import Progress
from streamlab.stream.schedule import Arrival
from streamlab.views.listings import SUBJECTS

WIDTHS = (60, 80, 120)
COMMANDS = [
    *(["ls", subject] for subject in SUBJECTS),
    *(["ls", subject, "--columns", "all"] for subject in SUBJECTS),
    ["ls", "arrivals", "--removed"],
    ["ls", "scores", "--where", "task = absent and value > 90% and method = diff_pruning"],
    ["show"],
    ["show", "glue_stream-1"],
    ["show", "arrival:4"],
    ["show", "arrival:5"],
    ["show", "31f65eaf"],
    ["show", "task:mrpc", "--run", "1"],
    ["show", "base:cae662"],
    ["show", "absent"],
    ["compare", "glue_stream-1", "tiny-1"],
    ["compare", "arrival:1", "arrival:2", "arrival:3"],
    ["compare", "31f65eaf", "diff:c26a", "--all"],
    ["compare", "--sweep", "glue_stream-1", "tiny-1"],
    ["compare", "--sweep"],
    ["fit", "--budget", "100MB"],
    ["fit", "--budget", "100MB", "--run", "1"],
    ["simulate", "--tasks", "1000000"],
    *(["du", *more] for more in ([], ["--by", "part"], ["--by", "task"])),
    ["tag"],
    ["verify"],
    ["gc", "--dry-run"],
    ["purge", "--provider", "newswire", "--dry-run"],
    ["db", "current"],
    ["report", "--run", "1"],
    ["scenarios"],
    ["run", "absent.yaml"],
    ["run", "smoke", "--set", "defaults.training.epochs=many", "--set", "tasks.sst2.metric=good"],
    ["run", "smoke", "--sweep", "defaults.training.epochs="],
    ["predict", "absent", "a film"],
    ["absent"],
    ["ls", "--absent"],
]


# What they find is another thing when they are called again.
CHANGING = [
    ["doctor"],
    ["tag", "best", "arrival:1"],
    ["rm", "task:sst2", "--run", "1"],
    ["rollback", "sst2@1"],
    ["plot", "storage", "--run", "1"],
]


# Names of columns without content here, which rows that become blocks of lines leave out.
EMPTY = {"note"}


@pytest.mark.parametrize("command", [*COMMANDS, *CHANGING], ids=" ".join)
def test_no_command_cuts_a_word_at_any_width(
    command: list[str], call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(width: int) -> str:
        monkeypatch.setattr(output, "WIDTH", width)
        monkeypatch.setattr(output, "UNBOUNDED", width)
        monkeypatch.setattr(output, "for_terminal", lambda text: wrapped_note(text, width))
        monkeypatch.setenv("COLUMNS", str(width))
        result = call(*command)
        assert "Traceback" not in result.output
        return f"{result.stdout}\n{result.stderr}"

    wide = set() if command in CHANGING else set(written(10_000).split())
    for width in WIDTHS:
        narrow = written(width)
        words = set(narrow.split())
        assert not wide or words <= wide
        assert wide - words <= EMPTY
        for line in narrow.splitlines():
            assert cell_len(line) <= width or len(line.split()) == 1, line


WORDS = st.text(alphabet="abc日", min_size=1, max_size=12)
CELLS = st.lists(WORDS, min_size=1, max_size=5).map(" ".join)


@settings(deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=30), st.integers(20, 60))
def test_a_text_keeps_its_words_and_its_width(words: list[str], width: int) -> None:
    lines = wrapped(" ".join(words), width)

    assert " ".join(lines).split() == words
    assert all(cell_len(line) <= width or " " not in line for line in lines)


@settings(deadline=None)
@given(st.data(), st.integers(20, 90))
def test_a_table_keeps_its_words_and_its_width_or_says_that_it_cannot(
    data: st.DataObject, width: int
) -> None:
    n = data.draw(st.integers(1, 5))
    rows = data.draw(st.lists(st.lists(CELLS, min_size=n, max_size=n), min_size=1, max_size=4))
    right = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    names = ["a b"] * n

    widths = fitted_widths(names, rows, right, width=width, gap=1)

    if widths is None:
        return
    assert sum(widths) + n - 1 <= width
    for row, lines in zip(rows, table_lines(rows, right, widths, gap=1), strict=True):
        assert sorted(" ".join(lines).split()) == sorted(" ".join(row).split())
        assert max(map(cell_len, lines)) <= width


def test_a_number_and_its_unit_stay_on_one_line() -> None:
    lines = wrapped("sst2 has 1.10 kB after 2 h 05 min of 12 s each, and 4 books", 13)

    assert lines == [
        "sst2 has", "1.10 kB after", "2 h 05 min of", "12 s each,", "and 4 books",
    ]  # fmt: skip
    assert wrapped("all the 4 books", 9) == ["all the 4", "books"]


def test_a_note_goes_on_with_more_indentation_than_it_began_with() -> None:
    assert wrapped_note("  one two three four five six", 24) == "  one two three four\n    five six"


def test_a_line_with_a_mark_below_stays_whole() -> None:
    text = "a problem\n  one two three four five six seven\n        ^"

    assert wrapped_note(text, 20) == text


@pytest.mark.parametrize("width", WIDTHS)
def test_progress_shows_as_much_as_fits_and_cuts_no_word(width: int) -> None:
    screen = io.StringIO()
    arrival = Arrival(1, 0, "press", "a_rather_long_name_of_a_task", 1, HeadOnly())
    with LiveProgress(Console(file=screen, force_terminal=True, width=width)) as live:
        live.n_arrivals = 1
        live.wait("loading base and data")
        live.refresh()
        live.show(arrival, Progress("fixed mask", 1007, 2000, 0.25, 1.0))
        live.refresh()
        live.show(arrival, Progress("fixed mask", 2000, 2000, 0.25, 1.0))
        live.reach("admitted")
        live.refresh()

    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|,", " ", screen.getvalue())
    words = set(drawn.split())
    assert {"loading", "base", "1/1", arrival.task, "mask", "1007/2000"} <= words
    assert ("open" in words) == (width == 120)
    assert {"rounding", "storing"} <= words
