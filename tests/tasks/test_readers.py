from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab.errors import DataError, SourceError
from streamlab.tasks.examples import TaskData
from streamlab.tasks.load import load_task
from streamlab.tasks.settings import DataSettings, TaskFiles, TaskSettings
from streamlab.tasks.sources.hub import HubReach
from streamlab.tasks.sources.readers import has_class_folders, read_split

Records = Sequence[dict[str, Any]]

TRAIN: Records = [
    {"text": f'Row {number}, "quoted" — naïve', "text2": f"second; {number}", "label": number % 2}
    for number in range(12)
]
DEV: Records = [
    {"text": f"Dev {number} it's", "text2": "x'y", "label": number % 2} for number in range(4)
]


def write_jsonl(path: Path, records: Records) -> Path:
    path = path.with_suffix(".jsonl")
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def write_csv(path: Path, records: Records) -> Path:
    path = path.with_suffix(".csv")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)
    return path


def write_tsv(path: Path, records: Records) -> Path:
    path = path.with_suffix(".tsv")
    lines = [list(records[0]), *([str(cell) for cell in record.values()] for record in records)]
    path.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
    return path


def write_parquet(path: Path, records: Records) -> Path:
    path = path.with_suffix(".parquet")
    pq.write_table(pa.Table.from_pylist(list(records)), path)
    return path


def write_saved(path: Path, records: Records) -> Path:
    from datasets import Dataset
    from datasets.utils import disable_progress_bars, enable_progress_bars

    disable_progress_bars()
    Dataset.from_list(list(records)).save_to_disk(str(path))
    enable_progress_bars()
    return path


WRITERS = [write_jsonl, write_csv, write_tsv, write_parquet, write_saved]


def load(train: Path, dev: Path, **settings: Any) -> TaskData:
    return load_task(
        "mine",
        TaskSettings(dataset="mine", files=TaskFiles(train=str(train), dev=str(dev)), **settings),
        DataSettings(sources=()),
        seed=1,
        hub=HubReach(),
        base_folder=Path("nowhere"),
        environment={},
    )


@pytest.mark.parametrize("write", WRITERS)
def test_the_same_rows_in_any_format_are_the_same_task(
    tmp_path: Path, write: Callable[[Path, Records], Path]
) -> None:
    reference = load(write_jsonl(tmp_path / "train0", TRAIN), write_jsonl(tmp_path / "dev0", DEV))

    task = load(write(tmp_path / "train", TRAIN), write(tmp_path / "dev", DEV))

    assert {*task.train, *task.validation} == {*reference.train, *reference.validation}
    assert len(task.train) + len(task.validation) == len(TRAIN)
    assert [row.text for row in task.dev] == [record["text"] for record in DEV]
    assert [row.label for row in task.dev] == [record["label"] for record in DEV]
    assert (task.train, task.validation, task.dev) == (
        reference.train,
        reference.validation,
        reference.dev,
    )
    assert task.source.examples_fingerprint == reference.source.examples_fingerprint


@pytest.mark.parametrize("write", WRITERS)
def test_numbers_are_the_same_in_any_format(
    tmp_path: Path, write: Callable[[Path, Records], Path]
) -> None:
    records = [{"text": f"row {n}", "label": n / 4} for n in range(8)]

    task = load(
        write(tmp_path / "train", records), write(tmp_path / "dev", records), kind="regression"
    )

    assert [row.label for row in task.dev] == [record["label"] for record in records]
    assert all(isinstance(row.label, float) for row in task.train)


def test_one_changed_character_changes_the_fingerprint(tmp_path: Path) -> None:
    changed = [{**TRAIN[0], "text": "row 0"}, *TRAIN[1:]]
    dev = write_jsonl(tmp_path / "dev", DEV)

    first = load(write_jsonl(tmp_path / "a", TRAIN), dev)
    second = load(write_jsonl(tmp_path / "b", changed), dev)

    assert first.source.examples_fingerprint != second.source.examples_fingerprint


# Half of a surrogate pair cannot be written as UTF-8.
texts = st.text(st.characters(exclude_categories=["Cs"]))
tables = st.lists(st.fixed_dictionaries({"text": texts, "label": texts}), min_size=1)


@pytest.mark.parametrize("write", [write_jsonl, write_csv])
def test_whatever_is_in_a_text_survives(
    tmp_path_factory: pytest.TempPathFactory, write: Callable[[Path, Records], Path]
) -> None:
    folder = tmp_path_factory.mktemp("texts")

    @given(tables)
    def survives(records: list[dict[str, str]]) -> None:
        assert read_split(write(folder / "rows", records)).records == records

    survives()


@given(st.binary(max_size=200), st.sampled_from([".jsonl", ".csv", ".tsv", ".parquet"]))
def test_bytes_of_any_kind_are_records_or_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("bytes") / f"rows{suffix}"
    path.write_bytes(data)

    records: Sequence[Any] = []
    problem = ""
    try:
        records = read_split(path).records
    except DataError as error:
        problem = str(error)

    assert not problem or repr(str(path)) in problem
    assert all(isinstance(record, dict) for record in records)


def test_a_byte_order_mark_and_blank_lines_are_no_data(tmp_path: Path) -> None:
    lines = tmp_path / "rows.jsonl"
    lines.write_text('\n{"text": "a"}\n\n', encoding="utf-8-sig")
    table = tmp_path / "rows.csv"
    table.write_text("text\r\na\r\n\r\n", encoding="utf-8-sig")

    assert read_split(lines).records == read_split(table).records == [{"text": "a"}]


def test_a_quote_in_tsv_is_a_character(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text('text\tlabel\n"open\t1\nshut"\t0\n', encoding="utf-8")

    assert [record["text"] for record in read_split(path).records] == ['"open', 'shut"']


@pytest.mark.parametrize(
    ("name", "content", "fact"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', "is not UTF-8 text at line 2"),
        ("a.csv", b"text,text\na,1\n", "names a column twice"),
        ("a.csv", b'text,label\na,1\n"a,1\n', "line 3: it is malformed"),
        ("a.parquet", b"PAR1 or not", "cannot be read as Parquet"),
        ("a.xlsx", b"", "Known: .jsonl, .csv, .tsv, .parquet"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(
    tmp_path: Path, name: str, content: bytes, fact: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(DataError) as caught:
        read_split(path)

    assert fact in str(caught.value)
    assert repr(str(path)) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "line", "fact"),
    [
        ("a.jsonl", b'{"text": "a"}\n\n{"text": \n', 3, "it is not JSON"),
        ("a.jsonl", b"[1, 2]\n", 1, "it holds list, not an object"),
        ("a.jsonl", b"[" * 100_000, 1, "it is not JSON"),
        ("a.csv", b'text,label\n"a\nb",1\na,1,2\n', 4, "it has 3 fields and the header 2"),
        ("a.tsv", b"text\tlabel\na\n", 2, "it has 1 field and the header 2"),
    ],
)
def test_a_line_that_is_no_record_is_told_and_the_others_are_read(
    tmp_path: Path, name: str, content: bytes, line: int, fact: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    split = read_split(path)

    ((number, problem),) = split.malformed.items()
    assert number == line
    assert fact in problem
    with pytest.raises(DataError, match=f"{name}, line {line}: {fact}"):
        split.refuse_malformed()


def test_every_record_has_the_line_that_it_begins_in(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text,label\n\n"two\nlines",1\none,0\n', encoding="utf-8")

    assert read_split(path).lines == [3, 5]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("has_header", [False, True])
def test_files_without_a_header_line_are_read_by_names_that_are_given(
    tmp_path: Path, suffix: str, has_header: bool
) -> None:
    sign = {".csv": ",", ".tsv": "\t"}[suffix]
    rows = [["label", "text"]] * has_header + [["1", "a"], ["0", "b"]]
    path = tmp_path / f"rows{suffix}"
    path.write_text("".join(sign.join(row) + "\n" for row in rows), encoding="utf-8")

    assert read_split(path, ("label", "text")).records == [
        {"label": "1", "text": "a"},
        {"label": "0", "text": "b"},
    ]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"rows\.jsonl' does not exist"):
        read_split(tmp_path / "rows.jsonl")


def test_a_folder_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no data"):
        read_split(tmp_path)


def test_a_broken_saved_folder_is_refused(tmp_path: Path) -> None:
    for name in ("state.json", "dataset_info.json"):
        (tmp_path / name).write_text("{}")

    with pytest.raises(DataError, match="cannot be read"):
        read_split(tmp_path)


def test_a_saved_folder_knows_its_class_names_by_column(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "topic": ClassLabel(names=["b", "a"])})
    dataset = Dataset.from_dict({"text": ["x", "y"], "topic": [0, 1]}, features=features)
    dataset.save_to_disk(str(tmp_path / "saved"))

    split = read_split(tmp_path / "saved")

    assert split.class_names("topic") == ("b", "a")
    assert split.class_names("text") is None


def test_class_folders_are_rows_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("sad/2.txt", "sad/1.txt", "glad/9", ".hidden/1.txt", "__pycache__/1.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    (tmp_path / "sad" / "notes.md").write_text("no row")

    records = read_split(tmp_path).records

    assert records == [
        {"text": "text of glad/9", "label": "glad"},
        {"text": "text of sad/1.txt", "label": "sad"},
        {"text": "text of sad/2.txt", "label": "sad"},
    ]


def test_an_older_encoding_is_read_and_said(tmp_path: Path) -> None:
    (tmp_path / "sport").mkdir()
    (tmp_path / "sport" / "1.txt").write_bytes("costs £3".encode("cp1252"))

    split = read_split(tmp_path)

    assert split.records == [{"text": "costs £3", "label": "sport"}]
    assert split.note == "text files that are not UTF-8, read as Windows-1252: 1"


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "sport").mkdir()
    (tmp_path / "sport" / "1.txt").write_bytes(b"\x81\xff")

    with pytest.raises(DataError, match=r"1\.txt' is neither UTF-8 nor Windows-1252"):
        read_split(tmp_path)


def test_a_folder_of_files_has_no_class_folders(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("a")
    (tmp_path / "empty").mkdir()

    assert not has_class_folders(tmp_path)


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_text_may_be_long(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"long.{suffix}"
    path.write_text("text\n" + "film " * 30_000 + "\n")

    assert len(read_split(path).records[0]["text"]) == 150_000
