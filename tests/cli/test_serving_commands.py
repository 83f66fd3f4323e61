"""`predict` and `swap` on a home with a tiny base: what goes where, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from serving_samples import Call, caller, copied, examples, learn
from stream_samples import Lab, Ran, make_lab, write_rows

from streamlab import open_home
from streamlab.home.folder import Home
from streamlab.registry.records import NewArrival, NewDiff, given_part
from streamlab.registry.registry import Registry


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def ran(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return learn(lab, tmp_path_factory.mktemp("ran") / "home")


@pytest.fixture
def call(ran: Ran) -> Call:
    return caller(ran.home.path)


def expected(ran: Ran, task: str, texts: list[Any]) -> list[Any]:
    home = open_home(ran.home.path)
    with home.task(task).applied(home.load_base()) as served:
        return served.predict(texts)


def test_the_examples_of_the_help_run(
    call: Call, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").symlink_to(lab.base)
    call("export", "sst2", "-o", "sst2.sldiff")
    write_rows(tmp_path / "reviews.jsonl", [{"text": "the film was great", "label": 1}])

    for words in [*examples("predict"), *examples("swap"), *examples("merge")]:
        result = call(*words)
        assert result.exit_code == 0, (words, result.stderr)
        assert result.stdout


def test_predictions_are_those_of_the_library(call: Call, ran: Ran) -> None:
    texts = ["the film was superb", "a dull book"]

    result = call("predict", "sst2", *texts, "--format", "json")

    rows = json.loads(result.stdout)
    assert [
        {"text": text, "label": p.label, "probability": p.probability}
        | {f"p({label})": share for label, share in p.probabilities.items()}
        for text, p in zip(texts, expected(ran, "sst2", texts), strict=True)
    ] == rows
    assert result.stderr.startswith(
        "sst2: arrival 1 of glue_tiny-1, diff_pruning, seed 1, trained on examples from files; "
        "diff "
    )


def test_a_table_shows_the_label_and_csv_every_probability(call: Call) -> None:
    table = call("predict", "sst2", "good").stdout.splitlines()
    (row,) = csv.DictReader(io.StringIO(call("predict", "sst2", "good", "--format", "csv").stdout))

    assert table[0].split() == ["text", "label", "probability"]
    assert list(row) == ["text", "label", "probability", "p(0)", "p(1)"]


def test_a_pair_has_two_texts_and_a_regression_a_value(call: Call, ran: Ran) -> None:
    pair = json.loads(
        call("predict", "rte", "--pair", "a good film", "a bad one", "--format", "json").stdout
    )
    value = json.loads(call("predict", "stsb", "a good film", "--format", "json").stdout)

    assert (pair[0]["text"], pair[0]["text2"]) == ("a good film", "a bad one")
    assert value == [
        {"text": "a good film", "value": expected(ran, "stsb", ["a good film"])[0].value}
    ]


@pytest.mark.parametrize(
    "stdin",
    [
        "the film was superb\n\na dull book\n",
        '{"text": "the film was superb"}\n{"text": "a dull book", "label": 1}\n',
    ],
)
def test_standard_input_is_lines_or_json(stdin: str, call: Call) -> None:
    piped = call("predict", "sst2", "--format", "csv", stdin=stdin)
    given = call("predict", "sst2", "the film was superb", "a dull book", "--format", "csv")

    assert piped.exit_code == 0, piped.stderr
    assert piped.stdout == given.stdout


@pytest.mark.parametrize("sign", ["\t", "\r", "\f", "\v", "\x00", "\x1e", "\x85", "\u2028"])
def test_the_whole_of_a_line_is_answered(sign: str, call: Call) -> None:
    broken = call("predict", "sst2", "--format", "csv", stdin=f"\ufeffa film{sign}but dull")
    whole = call("predict", "sst2", "--format", "csv", stdin="a film but dull\n\n")

    assert broken.exit_code == 0, broken.stderr
    assert broken.stdout == whole.stdout
    assert "1 empty line skipped." in whole.stderr


def test_a_file_is_answered_whole_in_its_order_whatever_the_batch(
    call: Call, lab: Lab, ran: Ran
) -> None:
    path = lab.folder / "rows" / "same" / "dev.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    result = call("predict", "rte", "--file", path, "--batch-size", 3, "--format", "json")

    texts = [(row["text"], row["text2"]) for row in rows]
    found = json.loads(result.stdout)
    assert [(row["text"], row["text2"]) for row in found] == texts
    shares = [p.probability for p in expected(ran, "rte", texts)]
    assert [row["probability"] for row in found] == pytest.approx(shares, rel=1e-5)


def test_rows_that_were_cut_are_told(call: Call) -> None:
    result = call("predict", "sst2", "film " * 40, "good")

    assert "1 of 2 examples were truncated to 16 tokens" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "message"),
    [
        (["sst3", "x"], None, 2, "Did you mean `sst2`"),
        (
            ["sst2", "x", "--pair", "a", "b"],
            None,
            2,
            "Give only one of texts",
        ),
        (["rte", "x"], None, 2, "takes pairs of texts"),
        (["sst2", "--pair", "a", "b"], None, 2, "takes single texts"),
        (["sst2", ""], None, 2, "is empty"),
        (["sst2", "--file", "none.jsonl"], None, 2, "does not exist"),
        (["sst2"], "", 2, "standard input has no text"),
        (["sst2"], b"caf\xe9\n", 2, "half a surrogate pair"),
        (["rte"], "one\n", 2, "no column 'text2'"),
        (["sst2", "x", "--base", "/none"], None, 2, "not an existing folder"),
        (["sst2", "x", "--seed", "9"], None, 2, "with seed 9"),
        (["sst2", "x", "--batch-size", "0"], None, 2, "--batch-size"),
    ],
)
def test_what_cannot_be_answered_is_one_paragraph(
    arguments: list[str], stdin: str | bytes | None, code: int, message: str, call: Call
) -> None:
    result = call("predict", *arguments, stdin=stdin)

    assert result.exit_code == code
    assert result.stdout == ""
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_swap_times_all_tasks_of_the_latest_run(call: Call) -> None:
    result = call("swap", "--repeats", "2", "--format", "json")

    rows = {row["step"]: row for row in json.loads(result.stdout)}
    assert {step: row["n"] for step, row in rows.items()} == {
        "decode": 6, "apply": 6, "revert": 6, "swap": 6, "reload": 2,
    }  # fmt: skip
    assert rows["reload"]["p50_over_reload"] == 1
    assert all(row["p50_ms"] <= row["p99_ms"] for row in rows.values())
    assert "The base is unchanged, bit for bit" in result.stderr


def test_swap_takes_the_tasks_that_are_named(call: Call) -> None:
    result = call("swap", "sst2", "arrival:2", "--repeats", "1", "--format", "json")

    assert [row["n"] for row in json.loads(result.stdout)] == [2, 2, 2, 2, 1]
    assert call("swap", "sst3").exit_code == 2


def test_swap_takes_the_tasks_whose_arrivals_meet_a_condition(call: Call) -> None:
    found = call("swap", "--where", "task = sst2", "--repeats", "1", "--format", "json")
    nothing = call("swap", "--where", "task = absent")

    assert [line.split(":")[0] for line in found.stderr.splitlines()[:2]] == [
        "sst2", "The base is unchanged, bit for bit."
    ]  # fmt: skip
    assert nothing.exit_code == 2


def test_merge_prints_the_folder_it_wrote_and_writes_over_nothing(
    call: Call, tmp_path: Path
) -> None:
    folder = tmp_path / "model"

    first, second = (call("merge", "sst2", "--to", folder) for _ in range(2))

    assert (first.exit_code, first.stdout) == (0, f"{folder}\n")
    assert "bit for bit" in first.stderr
    assert (second.exit_code, second.stdout) == (2, "")
    assert "nothing is overwritten" in second.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("command", ["predict", "swap"])
def test_a_missing_home_is_one_paragraph(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    result = caller(tmp_path / "none")(command, "sst2", *(["x"] if command == "predict" else []))

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: There is no registry in the home")
    assert not (tmp_path / "none").exists()


def test_a_version_is_named_wherever_a_task_is(ran: Ran, tmp_path: Path) -> None:
    home = Home(copied(ran, tmp_path))
    with Registry.open(home.registry_url, clock=time.time) as registry:
        (first,) = registry.arrivals.list(task="sst2")
        diff = given_part(registry.artifacts.get(first.digest or ""), NewDiff)
        second = registry.arrivals.add(given_part(first, NewArrival, version=2), diff, [])
    call = caller(home.path)

    for word, meant in (
        ("sst2", f"sst2@2: arrival {second.id} "),
        ("sst2@2", f"sst2@2: arrival {second.id} "),
        ("sst2@1", f"sst2: arrival {first.id} "),
    ):
        assert meant in call("predict", word, "a fine film").stderr
    for words in (
        ["export", "sst2@2", "-o", str(tmp_path / "one.sldiff")],
        ["merge", "sst2@1", "--to", str(tmp_path / "merged")],
        ["swap", "sst2@1", "sst2@2", "--repeats", "1"],
    ):
        result = call(*words)
        assert result.exit_code == 0, result.stderr
    refused = call("predict", "sst2@3", "a fine film")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "`sst2` has no finished arrival of version 3" in refused.stderr


def test_swap_without_a_task_says_so(ran: Ran, tmp_path: Path) -> None:
    home = Home(copied(ran, tmp_path))
    with Registry.open(home.registry_url, clock=time.time) as registry:
        registry.removal.remove([arrival.id for arrival in registry.arrivals.list()])

    call = caller(home.path)
    result, latest = call("swap", "--run", "1"), call("swap")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "no finished task" in result.stderr
    assert (latest.exit_code, latest.stdout) == (2, "")
    assert "No run is the latest" in latest.stderr
