"""`predict --glue-submission`: the leaderboard's files, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from serving_samples import Call, caller
from stream_samples import Lab, Ran, carry_out, make_lab

from streamlab import open_home
from streamlab.errors import UsageError
from streamlab.inference.glue_submission import FILES, find_models
from streamlab.tasks.glue import GLUE

# As gluebenchmark.com lists them.
NAMES = [
    "AX.tsv", "CoLA.tsv", "MNLI-m.tsv", "MNLI-mm.tsv", "MRPC.tsv", "QNLI.tsv", "QQP.tsv", "RTE.tsv",
    "SST-2.tsv", "STS-B.tsv", "WNLI.tsv",
]  # fmt: skip
WORDS = {
    "MNLI-m": {"entailment", "neutral", "contradiction"},
    "MNLI-mm": {"entailment", "neutral", "contradiction"},
    "AX": {"entailment", "neutral", "contradiction"},
    "QNLI": {"entailment", "not_entailment"},
    "RTE": {"entailment", "not_entailment"},
}
TEXTS = ("the film was superb", "a dull book", "the meal was fine")


def write_test(path: Path, *, index: str, columns: tuple[str, ...]) -> None:
    """Write a test set of three examples, numbered from the last to the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join((index, *columns))]
    lines += ["\t".join((str(2 - n), *(text for _ in columns))) for n, text in enumerate(TEXTS)]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@pytest.fixture(scope="module")
def tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test sets as the official download has them."""
    folder = tmp_path_factory.mktemp("glue")
    two = ("sentence1", "sentence2")
    for name, index, columns in (
        ("CoLA/test", "index", ("sentence",)),
        ("SST-2/test", "index", ("sentence",)),
        ("MRPC/test", "index", ("#1 String", "#2 String")),
        ("STS-B/test", "index", two),
        ("QQP/test", "id", ("question1", "question2")),
        ("MNLI/test_matched", "index", two),
        ("MNLI/test_mismatched", "index", two),
        ("QNLI/test", "index", ("question", "sentence")),
        ("RTE/test", "index", two),
        ("WNLI/test", "index", two),
        ("diagnostic/diagnostic", "index", two),
    ):
        write_test(folder / f"{name}.tsv", index=index, columns=columns)
    return folder


def glue_task(dataset: str, lab: Lab) -> dict[str, object]:
    """Return a task on one of GLUE's datasets with as many rows as a test needs."""
    entry = GLUE[dataset]
    name = entry.hub_name
    rows = []
    for number in range(24):
        row: dict[str, object] = {"text": f"the film was {('good', 'bad', 'dull')[number % 3]}"}
        if entry.text2 is not None:
            row["text2"] = "a fine book"
        row["label"] = number % (len(entry.labels) or 5)
        rows.append(row)
    for split in ("train", "dev"):
        path = lab.folder / "rows" / name / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"dataset": dataset, "files": {"folder": f"rows/{name}"}}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    lab = make_lab(tmp_path_factory.mktemp("lab"))
    tasks = {dataset.partition("/")[2]: glue_task(dataset, lab) for dataset in GLUE}
    tree = lab.tree(name="nine", tasks=tasks, providers={"all": {"tasks": list(tasks)}})
    tree["defaults"]["training"] |= {"min_steps": 4, "epochs": 0.1}
    # Named the other way round than GLUE numbers them.
    tree["tasks"]["rte"]["labels"] = ["not_entailment", "entailment"]
    return carry_out(lab.write(tree), tmp_path_factory.mktemp("ran") / "home")


@pytest.fixture
def call(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return caller(ran.home.path)


def test_a_submission_has_every_file_of_the_leaderboard(
    call: Call, tests: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "submission"

    result = call("predict", "--glue-submission", folder, "--test-data", tests)

    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in folder.iterdir()) == NAMES
    assert result.stdout.splitlines() == [str(folder / one.file_name) for one in FILES]
    for path in folder.iterdir():
        header, *lines = (line.split("\t") for line in path.read_text().splitlines())
        assert header == ["index", "prediction"]
        assert [index for index, _ in lines] == ["0", "1", "2"]
        answers = {answer for _, answer in lines}
        if path.stem == "STS-B":
            assert all(0 <= float(answer) <= 5 for answer in answers)
        else:
            assert answers <= WORDS.get(path.stem, {"0", "1"}), path.name


def test_each_line_is_the_answer_to_the_example_of_its_index(
    call: Call, tests: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "submission"

    call("predict", "--glue-submission", folder, "--test-data", tests)
    asked = call("predict", "cola", *reversed(TEXTS), "--format", "json")
    pairs = [word for text in reversed(TEXTS) for word in ("--pair", text, text)]
    asked_pairs = call("predict", "rte", *pairs, "--format", "json")

    labels = [row["label"] for row in json.loads(asked.stdout)]
    names = GLUE["glue/cola"].labels
    written = [line.split("\t")[1] for line in (folder / "CoLA.tsv").read_text().splitlines()[1:]]
    assert written == [str(names.index(label)) for label in labels]
    written = [line.split("\t")[1] for line in (folder / "RTE.tsv").read_text().splitlines()[1:]]
    assert written == [row["label"] for row in json.loads(asked_pairs.stdout)]


def test_a_test_set_of_another_size_is_warned_of(call: Call, tests: Path, tmp_path: Path) -> None:
    result = call("predict", "--glue-submission", tmp_path / "new", "--test-data", tests)

    assert "CoLA.tsv: 3 examples\n  warning: GLUE's test set has 1,063" in result.stderr


def test_missing_test_sets_are_named_and_nothing_is_written(call: Call, tmp_path: Path) -> None:
    write_test(tmp_path / "CoLA" / "test.tsv", index="index", columns=("sentence",))

    result = call("predict", "--glue-submission", tmp_path / "new", "--test-data", tmp_path)

    assert result.exit_code == 2
    for name in set(NAMES) - {"CoLA.tsv"}:
        assert f"  {name}: " in result.stderr
    assert "CoLA.tsv" not in result.stderr
    assert not (tmp_path / "new").exists()


def test_missing_tasks_are_named(ran: Ran) -> None:

    home = open_home(ran.home.path)
    some = {name: home.task(name) for name in home.tasks() if name not in ("wnli", "mnli")}

    with pytest.raises(UsageError, match="no finished task on glue/mnli, glue/wnli"):
        find_models(some)
    with pytest.raises(UsageError, match="`rte`, `again` are all trained on glue/rte"):
        find_models({name: home.task(name) for name in home.tasks()} | {"again": home.task("rte")})


def test_a_test_set_that_is_not_whole_is_refused(call: Call, tests: Path, tmp_path: Path) -> None:
    for path in tests.rglob("*.tsv"):
        copy = tmp_path / path.relative_to(tests)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())
    part = tmp_path / "RTE" / "test.tsv"
    part.write_text("".join(part.read_text().splitlines(keepends=True)[:-1]), encoding="utf-8")

    result = call("predict", "--glue-submission", tmp_path / "new", "--test-data", tmp_path)

    assert result.exit_code == 2
    assert "are not numbered from 0 to 1" in result.stderr


def test_a_task_beside_a_submission_is_refused(call: Call, tmp_path: Path) -> None:
    result = call("predict", "sst2", "--glue-submission", tmp_path / "new")

    assert result.exit_code == 2
    assert "Leave TASK, texts, `--pair` and `--file` out" in " ".join(result.stderr.split())


def test_without_a_task_the_command_says_what_is_missing(call: Call) -> None:
    result = call("predict")

    assert result.exit_code == 2
    assert "Name a TASK" in result.stderr
