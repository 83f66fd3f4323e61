"""What `streamlab run` cannot do: one clear paragraph, an exit code, and nothing left behind."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from stream_samples import POSITIONS, Lab, make_lab, only, task, write_rows

from streamlab.cli import cli

MANY = [{"text": f"a {word}", "label": label} for word in ("b", "c", "d") for label in (0, 1)] * 4
Refuse = Callable[..., str]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("lab"))


def call(home: Path, *arguments: object) -> Result:
    environment = {"STREAMLAB_HOME": str(home), "NO_COLOR": None, "FORCE_COLOR": None}
    return CliRunner().invoke(cli, ["run", *map(str, arguments)], env=environment)


@pytest.fixture
def refuse(tmp_path: Path) -> Refuse:
    """Call `streamlab run`, which must refuse with an exit code; returns the paragraph."""

    def invoke(*arguments: object, exit_code: int = 2) -> str:
        before = sorted(tmp_path.rglob("*"))
        result = call(tmp_path / "home", *arguments)
        assert isinstance(result.exception, SystemExit)
        assert (result.exit_code, result.stdout) == (exit_code, "")
        assert result.stderr.startswith("Error: ")
        assert "\n\n" not in result.stderr
        assert sorted(tmp_path.rglob("*")) == before
        return result.stderr.removeprefix("Error: ").rstrip("\n")

    return invoke


def test_unknown_keys_are_told_with_the_nearest(refuse: Refuse, lab: Lab) -> None:
    path = lab.scenario(name="keys", bse={}, evaluation="never")

    assert refuse(path).splitlines() == [
        f"{path} has 2 problems:",
        "  evaluation: must be 'last' or 'full', got 'never'.",
        "  bse: unknown key. Did you mean `base`?",
    ]


def test_a_scenario_that_is_not_there(refuse: Refuse, tmp_path: Path) -> None:
    told = refuse(tmp_path / "none.yaml")

    assert told.endswith("none.yaml has 1 problem:\n  cannot be read: No such file or directory. "
                         "Check the path.")  # fmt: skip


def test_an_override_that_is_none(refuse: Refuse, lab: Lab) -> None:
    told = refuse(lab.scenario(), "--set", "seeds")

    assert told == "the command line has 1 problem:\n  --set 'seeds': write it as `a.b=value`."


Splits = dict[str, list[dict[str, Any]]]


@pytest.mark.parametrize(
    ("splits", "settings", "told"),
    [
        (
            {},
            {},
            r"mood: The folder '.*/rows' does not exist\. Check the path\.",
        ),
        (
            {"train": MANY, "dev": MANY},
            {"columns": {"text": "body"}},
            r".*/rows/train\.jsonl has no column 'body'; there are: 'text', 'label'\. "
            r"Name one of them in `columns\.text`\.",
        ),
        (
            {"train": [{"text": "a", "label": 0}] * 9, "dev": [{"text": "b", "label": 0}]},
            {},
            r".*/rows/train\.jsonl: every label is '0', so nothing can be learnt\. "
            r"Give examples with different labels\.",
        ),
        (
            {"train": [], "dev": MANY},
            {},
            r".*/rows/train\.jsonl is empty\. Give a split with examples in it\.",
        ),
        (
            {"train": MANY, "dev": []},
            {},
            r".*/rows/dev\.jsonl is empty\. Give a split with examples in it\.",
        ),
        (
            {"train": MANY, "dev": [MANY[0], {"text": "b", "label": 2}]},
            {"labels": ["bad", "good"]},
            r"mood: .*/rows/dev\.jsonl, line 2: the label in 'label' is 2, which is out of range; "
            r"known: 'bad' \(0\), 'good' \(1\)\. Correct it, or name the classes in `labels`\. "
            r"\(`data\.on_bad_example: skip` leaves such examples out\.\)",
        ),
    ],
    ids=["no folder", "wrong column", "one class", "no train", "no dev", "label out of range"],
)
def test_rows_that_cannot_be_learnt_from(
    refuse: Refuse, lab: Lab, tmp_path: Path, splits: Splits, settings: dict[str, Any], told: str
) -> None:
    for split, rows in splits.items():
        write_rows(tmp_path / "rows" / f"{split}.jsonl", rows)
    own = task("mood", files={"folder": str(tmp_path / "rows")}, **settings)
    tree = lab.tree(name="rows", **only("same", "mood"))
    tree["tasks"]["mood"] = own  # the second task: nothing may be trained before it is read

    assert re.fullmatch(told, refuse(lab.write(tree)))


def test_the_problems_of_all_tasks_are_told_at_once_with_task_file_and_line(
    refuse: Refuse, lab: Lab, tmp_path: Path
) -> None:
    bad = [MANY[0], MANY[1], {"text": "", "label": 0}]
    for name, splits in {"a": (MANY, bad), "b": (bad, bad)}.items():
        for split, rows in zip(("train", "dev"), splits, strict=True):
            write_rows(tmp_path / name / f"{split}.jsonl", rows)
    tree = lab.tree(name="rows", **only("mood", "same", "degree"))
    tree["tasks"]["mood"] = task("mood", files={"folder": str(tmp_path / "a")})
    tree["tasks"]["same"] = task("same", files={"folder": str(tmp_path / "b")})
    tree["tasks"]["degree"] = task("degree", files={"folder": str(tmp_path / "nowhere")})

    first, *lines, last = refuse(lab.write(tree)).splitlines()

    assert first == "The data have 4 problems:"
    assert [line.partition(" the t")[0] for line in lines] == [
        f"  mood: {tmp_path}/a/dev.jsonl, line 3:",
        f"  same: {tmp_path}/b/train.jsonl, line 3:",
        f"  same: {tmp_path}/b/dev.jsonl, line 3:",
        f"  degree: The folder '{tmp_path}/nowhere' does not exist. Check the path.",
    ]
    assert last == "(`data.on_bad_example: skip` leaves such examples out.)"


def test_a_dataset_that_no_source_has(refuse: Refuse, lab: Lab) -> None:
    tree = lab.tree(name="nowhere", **only("mood"), data={"sources": ["synthetic"]})
    tree["tasks"]["mood"] = {"dataset": "nowhere"}

    told = refuse(lab.write(tree))

    assert told.startswith(
        "mood: No source has the task `mood` (dataset 'nowhere'). Tried, in this"
    )
    assert "synthetic: There is no synthetic data in the shape of 'nowhere'." in told
    assert "Give the task `files`, `hub` or `package` of its own" in told


def test_inputs_longer_than_the_base_takes(refuse: Refuse, lab: Lab) -> None:
    told = refuse(lab.scenario(), "--set", "tasks.same.training.max_length=64")

    assert told == (
        f"`training.max_length` of `same` is 64 tokens, and the base {str(lab.base)!r} takes at "
        f"most {POSITIONS}. Lower it."
    )


@pytest.mark.parametrize("setting", ["defaults", "tasks.same"])
def test_a_gpu_that_is_not_there(refuse: Refuse, lab: Lab, setting: str) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")

    told = refuse(lab.scenario(), "--set", f"{setting}.training.device=cuda")

    assert told.startswith("`training.device` is 'cuda', and no GPU can be used here. Set it to ")


@pytest.mark.parametrize(
    ("base", "told", "exit_code"),
    [
        ({"sha256": "0" * 64}, r"The weights of .* have the SHA-256 [0-9a-f]{64}, and the ", 1),
        ({"model": "./nowhere"}, r"The base '\./nowhere' is not an existing folder\. Give a ", 2),
        ({"model": "package:no_such"}, r"The package `no_such` is not installed\. Install it ", 2),
        ({"layers": 3}, r"`base\.layers` asks for 3 layers, and .* has 2\. Give a smaller ", 2),
    ],
    ids=["another digest", "no folder", "no package", "too few layers"],
)
def test_a_base_that_is_not_the_one_asked_for(
    refuse: Refuse, lab: Lab, base: dict[str, Any], told: str, exit_code: int
) -> None:
    path = lab.scenario(name="base", base={"model": str(lab.base), **base})

    assert re.match(told, refuse(path, exit_code=exit_code))


def test_nothing_to_resume(refuse: Refuse, lab: Lab) -> None:
    told = refuse(lab.scenario(), "--resume")

    assert re.fullmatch(
        r"There is no unfinished run of this scenario \(digest [0-9a-f]{12}\) to resume\. A "
        r"scenario with a changed setting is another one; leave `--resume` out to start a new "
        r"run\.",
        told,
    )


def test_a_home_with_a_file_in_its_way(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")

    result = call(tmp_path / "file" / "home", lab.scenario())

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: The home cannot be used. {tmp_path}/file/home cannot be written: Not a directory. "
        "No partial file was left. Make its folder writable, or choose another location. "
        "Choose another home with `--home`.\n"
    )
    assert (tmp_path / "file").read_text() == "mine"


def test_a_home_that_is_a_file(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")

    result = call(tmp_path / "file", lab.scenario())

    assert (result.exit_code, result.stdout) == (2, "")
    assert f"Invalid value for '--home': Directory '{tmp_path}/file' is a file." in result.stderr
    assert (tmp_path / "file").read_text() == "mine"


def test_a_home_whose_store_is_a_file(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "store").write_text("mine")

    result = call(tmp_path / "home", lab.scenario())

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: The home cannot be used. ")
    assert "home/store cannot be written: File exists." in result.stderr
    assert not (tmp_path / "home" / "registry.db").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "'nonsense' is not a database URL"),
        ("mysql://me:secret@host/db", "which is not supported"),
        ("sqlite:///{folder}/missing/registry.db", "there is no folder"),
        ("sqlite:///{folder}/notes.db", "is not an SQLite database"),
    ],
)
def test_a_registry_that_cannot_be_used_is_told_before_a_home_is_made(
    refuse: Refuse, lab: Lab, tmp_path: Path, url: str, message: str
) -> None:
    (tmp_path / "notes.db").write_text("my notes, and more of them than a header is long\n" * 50)
    scenario = lab.scenario(name="elsewhere", **only("mood"))

    told = refuse(scenario, "--registry", url.format(folder=tmp_path), exit_code=1)

    assert message in told
    assert "secret" not in told
