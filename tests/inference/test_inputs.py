"""Rows to be answered: which column is which, and what is refused with its row's number."""

from __future__ import annotations

from typing import Any

import pytest

from streamlab.errors import DataError
from streamlab.inference.inputs import read_lines, texts_in
from streamlab.inference.stored_task import TaskDescription, parse_description


def description(**changes: Any) -> TaskDescription:
    known = {"task": "t", "kind": "classification", "labels": ["a", "b"], "max_length": 8}
    return parse_description(known | changes)


def test_lines_are_texts_pairs_or_json() -> None:
    assert read_lines(["good\n", "\n", "bad"], origin="x") == [{"text": "good"}, {"text": "bad"}]
    assert read_lines(["a\tb\r\n"], origin="x") == [{"text": "a", "text2": "b"}]
    assert read_lines([' {"text": "a"}\n', '{"n": 1}'], origin="x") == [{"text": "a"}, {"n": 1}]


SEPARATORS = "\t\x0b\x0c\r\x00\x1c\x1d\x1e\x1f\x85\u2028\u2029"


@pytest.mark.parametrize("sign", SEPARATORS)
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_no_part_of_a_single_text_is_dropped(sign: str, end: str) -> None:
    line = f"a film{sign}but dull{end}"

    (record,) = read_lines([line], origin="x", pairs=False)

    assert record == {"text": "a film but dull"}
    assert texts_in([record], description(pair=False), {}, origin="x") == [record["text"]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "the pipe has no text"),
        (["\n", " \n"], "the pipe has no text"),
        (['{"text": "a"}', "", "good"], "Line 3 of the pipe: it is not JSON"),
        (['{"text": "a"}', "[1]"], "Line 2 of the pipe: it holds list, not an object"),
        (['{"text": "a", "text": "b"}'], "Line 1 of the pipe: it is not JSON .*'text' twice"),
        (["a\tb", "a\tb\tc"], "Line 2 of the pipe has 3 parts between tabs"),
        (['{"a":' * 100_000], "Line 1 of the pipe: it is not JSON"),
    ],
)
def test_lines_that_hold_nothing_or_no_objects_are_refused(lines: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_lines(lines, origin="the pipe")


@pytest.mark.parametrize(
    ("record", "changes", "columns", "text"),
    [
        ({"text": "x"}, {"pair": False}, {}, "x"),
        ({"text": "x", "text2": ""}, {"pair": False}, {}, "x"),
        ({"text": "x", "text2": "y"}, {"pair": True}, {}, ("x", "y")),
        ({"text": "x", "text2": "y"}, {}, {}, ("x", "y")),
        ({"text": "x", "text2": None}, {}, {}, "x"),
        ({"sentence": "x"}, {"dataset": "glue/sst2"}, {}, "x"),
        ({"sentence": "x", "text": "y"}, {"dataset": "glue/sst2"}, {}, "y"),
        ({"premise": "x", "hypothesis": "y"}, {"dataset": "glue/mnli"}, {}, ("x", "y")),
        ({"body": "x", "text": "y"}, {"pair": False}, {"text": "body", "text2": None}, "x"),
        ({"text": "y"}, {"pair": False}, {"text": "body"}, "y"),
        ({"text": "x", "b": "y"}, {"pair": True}, {"text2": "b"}, ("x", "y")),
    ],
)
def test_columns_are_the_configured_the_plain_or_the_known_ones(
    record: dict[str, Any], changes: dict[str, Any], columns: dict[str, Any], text: Any
) -> None:
    assert texts_in([record], description(**changes), columns, origin="x") == [text]


@pytest.mark.parametrize(
    ("record", "changes", "message"),
    [
        ({"body": "x"}, {}, "Row 2 of rows.jsonl: it has no column 'text'; its columns: 'body'"),
        ({}, {"dataset": "glue/sst2"}, "no column 'text' or 'sentence'; its columns: none"),
        ({"text": "x"}, {"pair": True}, "no column 'text2'"),
        ({"text": " "}, {}, "is empty"),
        ({"text": "x", "text2": "y"}, {"pair": False}, "a second text in 'text2', .* single texts"),
        ({"sentence": "x", "text2": "y"}, {"dataset": "glue/sst2"}, "a second text in 'text2'"),
        ({"text": 7}, {}, "must be a string, got int"),
        ({"text": "\udcff"}, {}, "half a surrogate pair"),
    ],
)
def test_a_row_without_its_text_is_refused(
    record: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    good = {"text": "x", "sentence": "z"} | ({"text2": "y"} if changes.get("pair") else {})

    with pytest.raises(DataError, match=message):
        texts_in([good, record], description(**changes), {}, origin="rows.jsonl")
