from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab.errors import DataError
from streamlab.tasks.column_mapping import (
    Choice,
    check_alike,
    choose_columns,
    filter_records,
    to_examples,
)
from streamlab.tasks.glue import GLUE, Entry
from streamlab.tasks.labels import ClassReader
from streamlab.tasks.settings import Columns
from streamlab.tasks.sources.api import RawSplit, Record
from streamlab.tasks.types import task_type
from streamlab.tasks.types.example import Example

CLASSES = task_type("classification")
READER = ClassReader(("no", "yes"), None, "rows.jsonl")
SINGLE = Choice("text", None, "label")


def split(*records: Record) -> RawSplit:
    return RawSplit("rows.jsonl", records)


def problems(raw: RawSplit, choice: Choice) -> tuple[str, ...]:
    return to_examples(raw, choice, READER, CLASSES)[1].first


def chosen(
    record: Record, columns: Columns | None = None, entry: Entry | None = None
) -> tuple[str, str | None, str]:
    choice = choose_columns(split(record), columns or Columns(), entry, CLASSES)
    return choice.text, choice.text2, choice.label


def test_the_usual_columns_are_found_without_being_named() -> None:
    assert chosen({"text": "a", "label": 1}) == ("text", None, "label")
    assert chosen({"text": "a", "text2": "b", "label": 1}) == ("text", "text2", "label")


def test_a_second_column_that_is_empty_throughout_makes_no_pairs() -> None:
    assert chosen({"text": "a", "text2": None, "label": 1}) == ("text", None, "label")


def test_columns_that_are_named_win() -> None:
    columns = Columns(text="q", text2="a", label="same")

    assert chosen({"text": "", "q": "a", "a": "b", "same": 1}, columns) == ("q", "a", "same")


def test_a_known_dataset_is_read_under_the_hubs_names() -> None:
    record = {"question1": "a", "question2": "b", "label": 1, "idx": 0}

    assert chosen(record, None, GLUE["glue/qqp"]) == ("question1", "question2", "label")


def test_a_known_dataset_is_read_under_our_own_names_too() -> None:
    assert chosen({"text": "a", "text2": "b", "label": 1}, None, GLUE["glue/qqp"])[1] == "text2"
    assert chosen({"text": "a", "text2": "b", "label": 1}, None, GLUE["glue/sst2"])[1] is None


@pytest.mark.parametrize("role", ["text", "text2", "label"])
def test_a_wrong_column_is_named_beside_those_there_are(role: str) -> None:
    with pytest.raises(DataError) as caught:
        chosen({"text": "a", "label": 1}, Columns(**{role: "stars"}))

    assert str(caught.value) == (
        "rows.jsonl has no column 'stars'; there are: 'text', 'label'. "
        f"Name one of them in `columns.{role}`."
    )


def test_a_pair_task_without_second_texts_is_refused() -> None:
    with pytest.raises(DataError, match=r"no column 'sentence2'.*columns\.text2"):
        chosen({"text": "a", "label": 1}, None, GLUE["glue/rte"])


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl is empty"):
        choose_columns(split(), Columns(), None, CLASSES)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("", "is empty"),
        (" \t\n", "is empty"),
        (None, "is missing"),
        (12, "must be a string, got int (12)"),
        (["a"], "must be a string, got list"),
        ("a\ud800", "half a surrogate pair"),
    ],
)
def test_a_text_that_is_none_names_its_row(text: object, fact: str) -> None:
    (problem,) = problems(split({"text": "a", "label": 1}, {"text": text, "label": 1}), SINGLE)

    assert problem.startswith("rows.jsonl, example 2: the text in 'text'")
    assert fact in problem


def test_a_second_text_is_checked_like_the_first() -> None:
    (problem,) = problems(split({"a": "x", "b": "", "label": 1}), Choice("a", "b", "label"))

    assert problem.startswith("rows.jsonl, example 1: the text in 'b' is empty")


def test_a_label_that_is_none_names_its_row_and_column() -> None:
    (problem,) = problems(split({"text": "a", "label": 7}), SINGLE)

    assert problem.startswith("rows.jsonl, example 1: the label in 'label' is 7, which")


def test_a_record_without_a_label_is_none() -> None:
    (problem,) = problems(split({"text": "a", "label": 0}, {"text": "b"}), SINGLE)

    assert "example 2: the label in 'label' is missing" in problem


def test_bad_examples_are_left_out_and_counted() -> None:
    records = [{"text": "a", "label": 0}, {"text": "", "label": 1}, {"text": "b"}]

    examples, bad = to_examples(split(*records), SINGLE, READER, CLASSES)

    assert examples == [Example("a", None, 0)]
    assert bad.n == 2
    assert bad.note.startswith("2 bad examples skipped (rows.jsonl, example 2: the text in 'text'")


def test_a_problem_has_the_line_of_its_record_and_malformed_lines_stand_among_them() -> None:
    raw = RawSplit(
        "rows.csv",
        [{"text": "a", "label": 0}, {"text": "", "label": 1}, {"text": "b", "label": 7}],
        lines=[2, 3, 9],
        malformed={5: "it has 1 field"},
    )

    found = problems(raw, SINGLE)

    assert [problem.partition(":")[0] for problem in found] == [
        f"rows.csv, line {line}" for line in (3, 5, 9)
    ]


def test_of_many_problems_the_first_are_described_and_all_are_counted() -> None:
    _, bad = to_examples(split(*50 * [{"text": "", "label": 0}]), SINGLE, READER, CLASSES)

    assert (bad.n, len(bad.first)) == (50, 10)


def test_the_lines_of_records_follow_those_that_where_keeps() -> None:
    raw = RawSplit("rows.csv", [{"a": "1"}, {"a": "2"}, {"a": "1"}], lines=[2, 3, 4])

    kept = filter_records(raw, {"a": 1})

    assert [kept.place(number)[-6:] for number in range(2)] == ["line 2", "line 4"]


@pytest.mark.parametrize("train_is_pairs", [True, False])
def test_pairs_in_one_split_only_are_refused(train_is_pairs: bool) -> None:
    splits = [split({"text": "a", "text2": "b", "label": 0}), split({"text": "a", "label": 0})]
    splits = splits if train_is_pairs else splits[::-1]
    choices = [choose_columns(one, Columns(), None, CLASSES) for one in splits]

    check_alike([splits[0], splits[0]], [choices[0], choices[0]])
    with pytest.raises(DataError, match=r"are (pairs|single texts), and those of"):
        check_alike(splits, choices)


@given(st.lists(st.tuples(st.text(), st.sampled_from(["no", "yes"]))))
def test_rows_are_the_records_in_order_or_a_text_is_refused(
    records: list[tuple[str, str]],
) -> None:
    raw = split(*({"text": text, "label": label} for text, label in records))

    if all(text.strip() for text, _ in records):
        expected = [Example(text, None, int(label == "yes")) for text, label in records]
        examples, bad = to_examples(raw, SINGLE, READER, CLASSES)
        assert (examples, bad.n, bad.note) == (expected, 0, "")
    else:
        assert any("is empty" in problem for problem in problems(raw, SINGLE))


@pytest.mark.parametrize("year", [2020, "2020"])
def test_where_compares_as_text_so_that_csv_and_json_agree(year: object) -> None:
    raw = split({"text": "a", "year": year}, {"text": "b", "year": 2021}, {"text": "c"})

    for wanted in (2020, "2020"):
        assert filter_records(raw, {"year": wanted}).records == [{"text": "a", "year": year}]


def test_where_needs_every_column_to_match() -> None:
    raw = split({"a": 1, "b": 1}, {"a": 1, "b": 2})

    assert filter_records(raw, {"a": 1, "b": 2}).records == [{"a": 1, "b": 2}]
    assert filter_records(raw, {}) is raw


def test_where_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="no record that matches `where`"):
        filter_records(split({"a": 1}), {"a": 2})


def test_where_on_an_unknown_column_lists_those_there_are() -> None:
    with pytest.raises(DataError, match=r"no column 'b'; there are: 'a'\. Name .* in `where`"):
        filter_records(split({"a": 1}), {"b": 2})


@pytest.mark.parametrize(
    ("names", "asked", "n_kept"),
    [(("a", "b"), "b", 1), (("a", "b"), 1, 1), (("2", "10", "1"), 1, 2), (("2", "10", "1"), 10, 1)],
)
def test_where_asks_for_a_class_by_its_name(
    names: tuple[str, ...], asked: str | int, n_kept: int
) -> None:
    records = [{"topic": 0}, {"topic": 1}, {"topic": 2}, {"topic": 2}][: len(names) + 1]
    source = RawSplit("x", records, names_by_column={"topic": names})

    assert len(filter_records(source, {"topic": asked}).records) == n_kept


def test_the_number_for_no_label_is_no_class_of_that_name() -> None:
    records = [{"text": "a", "label": -1}]
    source = RawSplit("x", records, names_by_column={"label": ("-1", "0")})

    with pytest.raises(ValueError, match="means `not published`"):
        source.label(source.records[0], "label")
