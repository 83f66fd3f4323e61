"""`streamlab run` on a tiny base: what goes where, exit codes, and going on after a stop."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pytest
from base_kinds import save_kind
from click.testing import CliRunner, Result
from rich.console import Console
from stream_samples import Lab, arrivals_in, make_lab, only, runs_in, stored, task

from streamlab.cli import cli
from streamlab.cli import run_scenario as run_module
from streamlab.cli.progress import LiveProgress
from streamlab.home import store_location
from streamlab.home.folder import Home
from streamlab.home.store import FolderStore
from streamlab.methods import HeadOnly
from streamlab.methods.api import Progress
from streamlab.methods.kernels import native
from streamlab.stream.schedule import Arrival

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def place(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def run(place: Home) -> Run:
    """Call `streamlab run` on a home that is not there yet."""

    def invoke(*arguments: object) -> Result:
        environment = {"STREAMLAB_HOME": str(place.path), "NO_COLOR": None, "FORCE_COLOR": None}
        return CliRunner().invoke(cli, ["run", *map(str, arguments)], env=environment)

    return invoke


def test_what_was_cut_skipped_or_repeated_is_counted_at_the_end(
    run: Run, lab: Lab, tmp_path: Path
) -> None:
    rows = lab.folder / "rows" / "mood"
    train, dev = ((rows / f"{split}.jsonl").read_text().splitlines() for split in ("train", "dev"))
    bad = [json.dumps({"text": "  ", "label": 0})] * 3
    long = json.dumps(json.loads(dev[0]) | {"text": "film " * 50})
    for split, lines in (("train", train + bad), ("dev", [*dev, long, *train[:2], *bad[:1]])):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
    changes = only("mood")
    changes["tasks"]["mood"] |= {"files": {"folder": str(tmp_path)}}
    changes["data"] = {"sources": [], "max_train_examples": 20, "on_bad_example": "skip"}

    result = run(lab.scenario(name="counted", **changes))

    assert result.exit_code == 0, result.stderr
    lines = iter(result.stdout.splitlines())
    assert "Examples truncated, skipped, unused, or in both splits" in lines
    assert next(lines).split() == [
        "task", "truncated", "truncated_dev", "skipped", "unused", "dev_in_train"
    ]  # fmt: skip
    name, _, cut, skipped, unused, repeated = next(lines).split()
    assert (name, cut, skipped) == ("mood", "1", "4")
    assert int(unused) > 0
    assert int(repeated) >= 2


def test_without_a_c_compiler_the_run_says_once_that_it_trains_in_pytorch(
    run: Run, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "find_library", native.find_library.__wrapped__)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    result = run(lab.scenario(name="slow", **only("mood", "degree")))

    assert result.exit_code == 0, result.stderr
    said = (
        "  There is no C compiler (`cc`, `gcc`, or the value of `CC`): the training step runs in "
        "PyTorch, which is slower.\n"
    )
    assert result.stderr.count(said) == 1


def test_tables_go_to_standard_output_and_notes_to_standard_error(
    run: Run, lab: Lab, place: Home
) -> None:
    result = run(lab.scenario(name="noted", baselines=["head_only"], **only("mood", "degree")))

    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "run noted-1"
    assert "Scores by diff_pruning" in lines
    assert "Scores by head_only (a baseline)" in lines
    assert "Stored files by method, all seeds" in lines
    assert max(map(len, lines)) <= 80
    notes = result.stderr.splitlines()
    assert notes[0].startswith(f"noted-1: base {lab.base}, 5,824 weights, fp32, 1 thread, ")
    assert notes[1] == f"  mood: files, {lab.folder}/rows/mood: train.jsonl, dev.jsonl"
    told = [note.split(":")[0] for note in notes[3:7]]
    assert told == [
        f"{name} from press, {method}, seed 1"
        for name in ("mood", "degree")
        for method in ("diff_pruning", "head_only")
    ]
    assert notes[7].startswith("Not above the majority class of the training examples: mood (1 of ")
    assert notes[8].startswith("Took ")
    assert notes[8].endswith(f" Written to {place.path}: registry.db, store/, curves/noted-1/.")
    assert notes[9:] == [
        "Next:",
        "  streamlab show noted-1",
        "  streamlab ls scores --run noted-1",
        "  streamlab plot storage --run noted-1",
    ]


def test_progress_tables_and_json_write_a_score_alike(run: Run, lab: Lab, place: Home) -> None:
    result = run(lab.scenario(name="alike", evaluation="full", **only("mood", "degree")))

    listed = CliRunner().invoke(
        cli, ["ls", "scores", "--home", str(place.path), "--where", "split = dev and task = mood",
              "--format", "json"],
    )  # fmt: skip
    (record,) = [r for r in json.loads(listed.stdout) if r["metric"] == "accuracy"]
    shown = f"{record['value']:.4f}"
    assert f"mood from press, diff_pruning, seed 1: accuracy {shown}, " in result.stderr
    rows = map(str.split, result.stdout.splitlines())
    assert next(row for row in rows if row[:2] == ["mood", "accuracy"])[3] == shown


def test_scores_are_listed_once_and_again_on_request(run: Run, lab: Lab, place: Home) -> None:
    run(lab.scenario(name="again", evaluation="full", **only("mood", "degree")))

    def n_listed(*options: str) -> int:
        words = ["ls", "scores", "--home", str(place.path), "--where", "task = mood", *options]
        return len(json.loads(CliRunner().invoke(cli, [*words, "--format", "json"]).stdout))

    assert n_listed() == 2  # on dev and on validation
    assert n_listed("--rescored") == 3


def test_what_the_checkpoint_lacks_and_is_drawn_is_said(run: Run, lab: Lab, tmp_path: Path) -> None:
    save_kind(tmp_path / "base", "BERT", head="ForMaskedLM")
    base = {"model": str(tmp_path / "base")}

    result = run(lab.scenario(name="drawn", base=base, **only("mood")))

    assert result.exit_code == 0, result.output
    drawn = "not in the checkpoint, drawn from the seed: `pooler.dense.bias`, `pooler.dense.weight`"
    assert drawn in result.stderr


def test_quiet_prints_the_closing_tables_and_nothing_else(run: Run, lab: Lab) -> None:
    result = run(lab.scenario(name="hushed", **only("mood")), "--quiet")

    assert (result.exit_code, result.stderr) == (0, "")
    titles = [section.splitlines()[0] for section in result.stdout.split("\n\n")[1:]]
    assert titles == [
        "Scores by diff_pruning",
        "Notes on scores",
        "Stored files by method, all seeds",
        "A task, and a million tasks on one base",
        "Storage",
    ]
    assert result.stdout.startswith("run hushed-1\n")


def test_verbose_leaves_a_line_for_every_stage_before_what_came_of_the_arrival(
    run: Run, lab: Lab
) -> None:
    result = run(lab.scenario(name="told", **only("mood", "degree")), "-v")

    assert result.exit_code == 0
    told = [line for line in result.stderr.splitlines() if "/2 " in line or " from press" in line]
    steps = [line.split(",")[0].split(" ")[-1] for line in told if "/2 " in line]
    assert steps[:3] == steps[3:] == sorted(steps[:3], key=lambda step: int(step.split("/")[0]))
    assert steps[-1] == "12/12"
    assert [line.strip().split(":")[0] for line in told] == [
        *["1/2 mood"] * 3, "mood from press, diff_pruning, seed 1",
        *["2/2 degree"] * 3, "degree from press, diff_pruning, seed 1",
    ]  # fmt: skip


def test_quiet_and_verbose_at_once_are_refused_before_anything_is_read(run: Run) -> None:
    result = run("nowhere.yaml", "-q", "-v")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: `--quiet` and `--verbose` contradict each other.")


def test_settings_given_on_the_command_line_are_what_runs(run: Run, lab: Lab, place: Home) -> None:
    path = lab.scenario(name="set", **only("mood"))

    result = run(path, "-q", "--set", "seeds=[7]", "--set", "defaults.training.min_steps=15")

    assert result.exit_code == 0
    (row,) = arrivals_in(place)
    assert (row.seed, row.n_steps) == (7, 15)
    assert runs_in(place)[0].scenario["seeds"] == [7]


def test_the_registry_may_lie_elsewhere_than_the_home(
    run: Run, lab: Lab, place: Home, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/elsewhere.db"

    result = run(lab.scenario(name="else", **only("mood")), "-q", "--registry", url)

    assert result.exit_code == 0
    assert (tmp_path / "elsewhere.db").is_file()
    assert not (place.path / "registry.db").exists()
    assert len(stored(place)) == 1


def test_an_arrival_that_fails_is_told_also_when_quiet_and_ends_with_exit_code_1(
    run: Run, lab: Lab, place: Home
) -> None:
    tree = lab.tree(name="broken", **only("mood", "degree"))
    tree["tasks"]["mood"] = task("mood", training={"learning_rate": 1e30})
    path = lab.write(tree)

    first = run(path, "--quiet")
    second = run(path, "--resume")

    assert (first.exit_code, second.exit_code) == (1, 1)
    error, failed = first.stderr.splitlines()
    assert error == "Error: broken-1: 1 of 2 arrivals failed; `--resume` tries them again."
    assert failed.startswith(
        "FAILED mood from press, diff_pruning, seed 1: The loss of `mood` became nan at step "
    )
    assert "degree" in first.stdout
    assert second.stderr.count("FAILED mood") == 2
    assert [row.attempt for row in arrivals_in(place, status="failed")] == [1, 2]


def test_an_arrival_that_succeeds_when_tried_again_is_no_failure_of_the_run(
    run: Run, lab: Lab, place: Home
) -> None:
    tree = lab.tree(name="shaky", **only("mood"))
    # Crashes in three of four attempts, as drawn by the seed and the number of the attempt.
    tree["providers"]["press"]["behaviour"] = {"crash": 0.75}
    tree["execution"] = {"attempts": 50}

    result = run(lab.write(tree))

    statuses = [row.status for row in arrivals_in(place)]
    assert len(statuses) > 1
    assert statuses == ["failed"] * (len(statuses) - 1) + ["finished"]
    assert result.exit_code == 0
    assert "Error" not in result.stderr


def test_ctrl_c_ends_with_exit_code_130_and_resume_goes_on(
    run: Run, lab: Lab, place: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: LiveProgress, arrival: Arrival, __: Progress) -> None:
        if arrival.task == "degree":
            raise KeyboardInterrupt

    path = lab.scenario(name="stopped", **only("mood", "degree"))
    with monkeypatch.context() as patched:
        patched.setattr(LiveProgress, "show", interrupt)
        stopped = run(path)
    status = [record.status for record in runs_in(place)]
    resumed = run(path, "--resume", "-q")

    assert (stopped.exit_code, stopped.stdout) == (130, "")
    assert "Continue stopped-1 with the same command and `--resume`." in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert status == ["interrupted"]
    assert (resumed.exit_code, resumed.stderr) == (0, "")
    assert [row.task for row in arrivals_in(place)] == ["mood", "degree"]


def test_ctrl_c_between_two_arrivals_leaves_an_interrupted_run(
    run: Run, lab: Lab, place: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "_line", interrupt)

    result = run(lab.scenario(name="between", **only("mood", "degree")))

    assert result.exit_code == 130
    assert [record.status for record in runs_in(place)] == ["interrupted"]
    assert len(arrivals_in(place)) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full device")
def test_a_full_disk_is_told_in_one_paragraph(
    run: Run, lab: Lab, place: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_full(_: Path) -> BinaryIO:
        return Path("/dev/full").open("wb")

    monkeypatch.setattr(store_location, "FolderStore", partial(FolderStore, opener=open_full))

    result = run(lab.scenario(name="full", **only("mood")), "-q")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {place.store}/")
    assert "cannot be written: the disk is full" in result.stderr
    assert "Free some space, or choose another location" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert stored(place) == {}
    (record,) = runs_in(place)
    assert (record.status, record.reason) == ("failed", result.stderr[len("Error: ") :].strip())


def drawn(*, terminal: bool) -> str:
    """Return what a progress of two arrivals writes."""
    screen = io.StringIO()
    arrivals = [Arrival(1, place, "press", name, 1, HeadOnly()) for place, name in enumerate("ab")]
    with LiveProgress(Console(file=screen, force_terminal=terminal, width=80)) as live:
        live.n_arrivals = 2
        for arrival in arrivals:
            live.show(arrival, Progress("gated", 1, 20, 0.5, 0.25))
            live.show(arrival, Progress("head", 7, 20, 0.25, None))
    return screen.getvalue()


def test_progress_names_the_arrival_the_stage_the_step_and_the_loss_on_a_terminal() -> None:
    screen = drawn(terminal=True)

    assert "2/2 b" in screen
    assert "head 7/20, loss 0.25" in screen


def test_progress_writes_nothing_into_a_pipe() -> None:
    assert drawn(terminal=False) == ""
