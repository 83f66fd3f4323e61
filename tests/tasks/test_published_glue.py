"""GLUE as its own download has it, under a folder of data: nine folders of TSV files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from streamlab.tasks.examples import TaskData
from streamlab.tasks.glue import GLUE
from streamlab.tasks.load import load_task
from streamlab.tasks.settings import DataSettings, TaskSettings
from streamlab.tasks.sources.hub import HubReach
from streamlab.tasks.types.example import Example

Rows = Sequence[Sequence[str]]

# Headers and first columns as they are in the published files, texts of our own.
PARSES = ["( a b )", "( c d )", "(ROOT (S a b))", "(ROOT (S c d))"]
MNLI = [
    "index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse",
    "sentence1_parse", "sentence2_parse", "sentence1", "sentence2", "label1",
]  # fmt: skip
STSB = [
    "index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1",
    "sentence2", "score",
]  # fmt: skip
FILES: dict[str, Rows] = {
    "CoLA/train": [["gj04", "1", "", "They left."], ["gj04", "0", "*", 'They "leaves.']],
    "CoLA/dev": [["gj04", "0", "*", "Them left."], ["bc01", "1", "", "She left."]],
    "SST-2/train": [["sentence", "label"], ["a fine film ", "1"], ["dull ", "0"]],
    "SST-2/dev": [["sentence", "label"], ["no fun at all", "0"], ["so good", "1"]],
    "MRPC/train": [
        ["\ufeffQuality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
        ["1", "70", "71", 'He said "yes.', "He agreed."],
        ["0", "72", "73", "It rained.", "It snowed."],
    ],
    "MRPC/dev": [
        ["\ufeffQuality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
        ["0", "80", "81", "One.", "Two."],
        ["1", "82", "83", "Three.", "3."],
    ],
    "STS-B/train": [
        STSB,
        ["0", "main", "news", "2012", "1", "none", "none", "A man.", "A man.", "5.000"],
        ["1", "main", "news", "2012", "2", "none", "none", "A cat.", "A dog.", "1.250"],
    ],
    "STS-B/dev": [
        STSB,
        ["0", "main", "news", "2012", "1", "none", "none", "Rain.", "Snow.", "2.000"],
        ["1", "main", "news", "2012", "2", "none", "none", "Sun.", "Sun.", "4.800"],
    ],
    "QQP/train": [
        ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
        ["4", "5", "6", "a line that breaks off"],
        ["1", "2", "3", "Why?", "Why so?", "1"],
        ["7", "8", "9", "Where?", "When?", "0"],
    ],
    "QQP/dev": [
        ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
        ["1", "2", "3", "Who?", "Which?", "0"],
        ["4", "5", "6", "How?", "In what way?", "1"],
    ],
    "MNLI/train": [
        [*MNLI, "gold_label"],
        ["0", "1", "1n", "fiction", *PARSES, "All left.", "Some left.", "neutral", "entailment"],
        ["1", "2", "2n", "travel", *PARSES, "All left.", "None left.", "neutral", "contradiction"],
        ["2", "3", "3n", "travel", *PARSES, "Some left.", "All left.", "neutral", "neutral"],
    ],
    "MNLI/dev_matched": [
        [*MNLI, "label2", "label3", "label4", "label5", "gold_label"],
        ["0", "1", "1n", "fiction", *PARSES, "It rains.", "It is wet.", *5 * ["x"], "neutral"],
        ["1", "2", "2n", "fiction", *PARSES, "It rains.", "It is dry.", *5 * ["x"], "entailment"],
    ],
    "MNLI/dev_mismatched": [[*MNLI, "gold_label"]],
    "QNLI/train": [
        ["index", "question", "sentence", "label"],
        ["0", "Who left?", "Anna left.", "entailment"],
        ["1", "Who left?", "It rained.", "not_entailment"],
    ],
    "QNLI/dev": [
        ["index", "question", "sentence", "label"],
        ["0", "Who came?", "It snowed.", "not_entailment"],
        ["1", "Who came?", "Ben came.", "entailment"],
    ],
    "RTE/train": [
        ["index", "sentence1", "sentence2", "label"],
        ["0", "Anna left.", "Somebody left.", "entailment"],
        ["1", "Anna left.", "Ben left.", "not_entailment"],
    ],
    "RTE/dev": [
        ["index", "sentence1", "sentence2", "label"],
        ["0", "Ben came.", "Anna came.", "not_entailment"],
        ["1", "Ben came.", "Somebody came.", "entailment"],
    ],
    "WNLI/train": [
        ["index", "sentence1", "sentence2", "label"],
        ["0", "It was his.", "It was Ben's.", "1"],
        ["1", "It was hers.", "It was Ben's.", "0"],
    ],
    "WNLI/dev": [
        ["index", "sentence1", "sentence2", "label"],
        ["0", "It was hers.", "It was Anna's.", "1"],
        ["1", "It was his.", "It was Anna's.", "0"],
    ],
}  # fmt: skip
# What the dev files say: the class by its name, or the number.
DEV: dict[str, list[tuple[str, str | None, str | float]]] = {
    "cola": [("Them left.", None, "unacceptable"), ("She left.", None, "acceptable")],
    "sst2": [("no fun at all", None, "negative"), ("so good", None, "positive")],
    "mrpc": [("One.", "Two.", "not_equivalent"), ("Three.", "3.", "equivalent")],
    "stsb": [("Rain.", "Snow.", 2.0), ("Sun.", "Sun.", 4.8)],
    "qqp": [("Who?", "Which?", "not_duplicate"), ("How?", "In what way?", "duplicate")],
    "mnli": [
        ("It rains.", "It is wet.", "neutral"),
        ("It rains.", "It is dry.", "entailment"),
    ],
    "qnli": [
        ("Who came?", "It snowed.", "not_entailment"),
        ("Who came?", "Ben came.", "entailment"),
    ],
    "rte": [
        ("Ben came.", "Anna came.", "not_entailment"),
        ("Ben came.", "Somebody came.", "entailment"),
    ],
    "wnli": [
        ("It was hers.", "It was Anna's.", "entailment"),
        ("It was his.", "It was Anna's.", "not_entailment"),
    ],
}


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("glue_data")
    for name, rows in FILES.items():
        path = folder / f"{name}.tsv"
        path.parent.mkdir(exist_ok=True)
        lines = ("\t".join(row) + "\n" for row in (*rows, *rows[-2:]))  # some to choose by
        path.write_text("".join(lines), encoding="utf-8")
    return folder


def load(folder: Path, task: str) -> TaskData:
    return load_task(
        task,
        TaskSettings(dataset=f"glue/{task}"),
        DataSettings(),  # the sources that a scenario has if it names none
        seed=1,
        hub=HubReach(environment={"HF_HUB_OFFLINE": "1"}, cache=folder / "cache"),
        base_folder=Path("nowhere"),
        environment={"STREAMLAB_DATA": str(folder)},
    )


def as_told(task: TaskData, example: Example) -> tuple[str, str | None, str | float]:
    label = task.labels[int(example.label)] if task.labels else example.label
    return example.text, example.text2, label


@pytest.mark.parametrize("task", DEV)
def test_every_task_is_read_from_the_folder_that_was_downloaded(
    downloaded: Path, task: str
) -> None:
    data = load(downloaded, task)

    told = [as_told(data, example) for example in data.dev]
    assert data.source.kind == "files"
    assert GLUE[f"glue/{task}"].published.folder in data.source.detail
    assert told[:2] == [pytest.approx(row) if task == "stsb" else row for row in DEV[task]]


def test_a_quote_in_a_published_text_is_a_character(downloaded: Path) -> None:
    texts = {e.text for task in ("cola", "mrpc") for e in load(downloaded, task).train}
    texts |= {e.text for task in ("cola", "mrpc") for e in load(downloaded, task).validation}

    assert {'They "leaves.', 'He said "yes.'} <= texts


def test_lines_that_lack_fields_are_left_out_and_that_is_recorded(downloaded: Path) -> None:
    assert "1 malformed line left out (line 2)" in load(downloaded, "qqp").source.detail


def test_a_folder_of_ones_own_comes_before_the_published_one(downloaded: Path) -> None:
    own = downloaded / "rte"
    own.mkdir()
    for split in ("train", "dev"):
        rows = "sentence1\tsentence2\tlabel\n" + 6 * "a\tb\t0\nc\td\t1\n"
        (own / f"{split}.tsv").write_text(rows, encoding="utf-8")

    assert load(downloaded, "rte").dev[0].text == "a"


def test_a_published_file_with_a_header_of_its_own_is_read_by_it(downloaded: Path) -> None:
    folder = downloaded / "again" / "CoLA"
    folder.mkdir(parents=True)
    for split in ("train", "dev"):
        rows = "sentence\tlabel\n" + 6 * "They left.\t1\nThey leaves.\t0\n"
        (folder / f"{split}.tsv").write_text(rows, encoding="utf-8")

    assert {e.text for e in load(folder.parent, "cola").dev} == {"They left.", "They leaves."}
