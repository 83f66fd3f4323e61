"""A trace is read as it was written; whatever else a file holds is told by its line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab.arrivals.arrival_processes import LAST_DAY
from streamlab.arrivals.trace import COLUMNS, TraceLine, parse_trace, read_trace
from streamlab.errors import ConfigError

KNOWN = {"press": ("mood", "same"), "a, b": ("x y",)}
LINES = st.lists(
    st.builds(
        lambda day, pair: TraceLine(day, *pair),
        st.floats(0, LAST_DAY),
        st.sampled_from([(who, task) for who, tasks in KNOWN.items() for task in tasks]),
    ),
    min_size=1,
)
SUFFIX = st.sampled_from([".csv", ".jsonl"])


def written(lines: list[TraceLine], suffix: str) -> str:
    records = [{"note": "é\u2028", **vars(line)} for line in lines]
    if suffix == ".jsonl":
        return "\n\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    file = io.StringIO()
    writer = csv.DictWriter(file, ["task", "note", "day", "provider"])
    writer.writeheader()
    writer.writerows(records)
    return file.getvalue()


def problems(text: str, suffix: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_trace(text, suffix, KNOWN, origin="trace")
    assert caught.value.origin == "trace"
    return caught.value.problems


@given(LINES, SUFFIX)
def test_a_trace_is_read_as_it_was_written(lines: list[TraceLine], suffix: str) -> None:
    assert parse_trace(written(lines, suffix), suffix, KNOWN, origin="trace") == tuple(lines)


@given(st.text() | st.text(alphabet='day,proviertsk"{}:0123456789\n\r .'), SUFFIX)
def test_any_text_is_a_trace_or_is_told_line_by_line(text: str, suffix: str) -> None:
    try:
        lines = parse_trace(text, suffix, KNOWN, origin="trace")
    except ConfigError as error:
        told = [problem.partition(":")[0] for problem in error.problems]
        assert told == ["holds no arrivals; write one a line."] or all(
            place.startswith("line ") and int(place[5:]) >= 1 for place in told
        )
    else:
        assert lines


@given(LINES, st.data())
def test_exactly_the_lines_that_are_bad_are_told(
    lines: list[TraceLine], data: st.DataObject
) -> None:
    bad = data.draw(st.sets(st.integers(0, len(lines) - 1), min_size=1))
    text = "".join(
        json.dumps(vars(line) | ({"day": -1} if number in bad else {})) + "\n"
        for number, line in enumerate(lines)
    )

    told = [problem.partition(":")[0] for problem in problems(text, ".jsonl")]

    assert told == [f"line {number + 1}" for number in sorted(bad)]


def test_every_kind_of_bad_line_is_told_with_what_was_given() -> None:
    rows = [
        '{"day": 1, "provider": "press", "task": "mood"}',
        '{"day": "soon", "provider": "press", "task": "mood"}',
        '{"day": NaN, "provider": "press", "task": "mood"}',
        '{"day": true, "provider": "press", "task": "mood"}',
        f'{{"day": 1{400 * "0"}, "provider": "press", "task": "mood"}}',
        '{"day": 1, "provider": "school", "task": "mood"}',
        '{"day": 1, "provider": "press", "task": ["mood"]}',
        '{"day": 1, "task": "mood"}',
        "[1, 2]",
        "{",
    ]

    found = problems("\n".join(rows), ".jsonl")

    assert [problem.partition(":")[0] for problem in found] == [
        f"line {number}" for number in range(2, 11)
    ]
    assert found[0] == "line 2: the day must be a number from 0 to 100,000,000, got 'soon'."
    assert found[4] == (
        "line 6: the provider must be one of those with this trace (press, a, b), got 'school'."
    )
    assert found[5] == "line 7: the task must be one of 'press' (mood, same), got ['mood']."
    assert found[6] == "line 8: has no 'provider'."
    assert found[7:] == ("line 9: is not a JSON object.", "line 10: is not a JSON object.")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1: must have the columns 'day', 'provider', 'task', each once."),
        ("day,task\n1,mood\n", "line 1: must have the columns"),
        ("day,day,provider,task\n", "line 1: must have the columns"),
        ("day,provider,task\n", "holds no arrivals; write one a line."),
        ("day,provider,task\n\n1,press\n", "line 3: has 2 fields, and the header 3."),
        ('day,provider,task\n1,"press"x,mood\n', "line 2: is not CSV"),
    ],
)
def test_a_csv_that_does_not_hold_together_is_told(text: str, told: str) -> None:
    (problem,) = problems(text, ".csv")

    assert problem.startswith(told)


def test_a_line_of_csv_is_counted_as_an_editor_counts_it() -> None:
    text = 'day,provider,task,note\n1,press,mood,"two\nlines"\nnever,press,mood,\n'

    (problem,) = problems(text, ".csv")

    assert problem.startswith("line 4: the day must be a number")


def test_a_file_is_read_by_how_its_name_ends(tmp_path: Path) -> None:
    line = TraceLine(0.5, "press", "mood")
    for suffix in (".csv", ".jsonl"):
        path = tmp_path / f"trace{suffix}"
        path.write_text("\ufeff" + written([line], suffix), encoding="utf-8", newline="")
        assert read_trace(path, KNOWN) == (line,)


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("trace.txt", b"", r"must end in \.csv or \.jsonl, ends in '\.txt'"),
        ("trace.csv", None, "cannot be read: No such file or directory. Check the path"),
        ("trace.csv", b"\xff\xfe", "is not UTF-8 text. Save it as UTF-8"),
    ],
)
def test_a_file_that_is_no_trace_is_told_by_its_path(
    name: str, data: bytes | None, told: str, tmp_path: Path
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)

    with pytest.raises(ConfigError, match=told) as caught:
        read_trace(tmp_path / name, KNOWN)
    assert caught.value.origin == str(tmp_path / name)
    assert set(COLUMNS) == {"day", "provider", "task"}
