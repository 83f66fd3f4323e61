"""`run --sweep` and `compare --sweep`: a run for each combination, made once, in one table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from stream_samples import Lab, arrivals_in, make_lab, only, runs_in

from streamlab.cli import cli, run_scenario
from streamlab.errors import ConfigError, UsageError
from streamlab.home.folder import Home
from streamlab.study.sweep import load_sweep
from streamlab.views.sweep import differing, short_names

Call = Callable[..., Result]
DENSITY = "defaults.method.target_density"
METHOD = {"name": "diff_pruning", "target_density": 0.05}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """Call `streamlab` on a home that is not there yet."""

    def invoke(*arguments: object) -> Result:
        environment = {"STREAMLAB_HOME": str(tmp_path / "home"), "NO_COLOR": "1"}
        return CliRunner().invoke(cli, [*map(str, arguments)], env=environment)

    return invoke


def test_a_sweep_makes_a_run_for_each_combination_once_and_tabulates_them(
    call: Call, lab: Lab, tmp_path: Path
) -> None:
    path = lab.scenario(
        defaults={"method": "head_only", "training": lab.tree()["defaults"]["training"]},
        **only("mood"),
    )
    given = [
        "run", path, "--sweep", "defaults.training.head_learning_rate=1e-3,2e-2",
        "--sweep", "seeds=[1],[2, 3]",
    ]  # fmt: skip

    first, again = call(*given), call(*given)

    home = Home(tmp_path / "home")
    assert (first.exit_code, again.exit_code) == (0, 0), first.output
    assert len(runs_in(home)) == 4
    assert len(arrivals_in(home)) == 6
    assert "1/4 head_learning_rate=0.001 seeds=[1]: tiny-1\n" in first.stderr
    assert "4/4 head_learning_rate=0.02 seeds=[2, 3]: tiny-4, recorded before" in again.stderr
    assert first.stdout == again.stdout
    table = first.stdout.split("\n\n")[1].splitlines()
    assert " ".join(table[1].split()) == (
        "run head_learning_rate seeds tasks learned mean score mean bytes"
    )
    assert [line.split()[0] for line in table[2:]] == ["tiny-1", "tiny-2", "tiny-3", "tiny-4"]

    compared = call("compare", "--sweep")
    rows = json.loads(call("compare", "--sweep", "tiny-1", "tiny-3", "--format", "json").stdout)

    assert compared.stdout == first.stdout
    assert [row["head_learning_rate"] for row in rows["runs"]] == [0.001, 0.02]
    assert [row["run"] for row in rows["tasks"]] == ["tiny-1", "tiny-3"]


def test_a_sweep_that_was_stopped_goes_on(
    call: Call, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lab.scenario(
        defaults={"method": "head_only", "training": lab.tree()["defaults"]["training"]},
        **only("mood", "same"),
    )
    given = ["run", path, "--sweep", "defaults.training.epochs=1,2"]

    def interrupt(_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_scenario, "_line", interrupt)
        interrupted = call(*given)
    resumed = call(*given)

    home = Home(tmp_path / "home")
    assert (interrupted.exit_code, resumed.exit_code) == (130, 0)
    assert "Continue with the same command." in interrupted.stderr
    assert [run.status for run in runs_in(home)] == ["finished", "finished"]
    assert len(arrivals_in(home)) == 4  # none was trained twice


@pytest.mark.parametrize(
    ("sweeps", "overrides", "problem"),
    [
        ([DENSITY], [], "write it as `a.b=value,value`."),
        ([f"{DENSITY}="], [], "write it as `a.b=value,value`."),
        (["seeds=[1,2"], [], "a list in brackets is not closed"),
        ([f"{DENSITY}=0.1", f"{DENSITY}=0.2"], [], "is set twice"),
        ([f"{DENSITY}=0.1,0.2"], [f"{DENSITY}=0.3"], "is set twice"),
        ([f"{DENSITY}=0.1,2"], [], "target_density: must be at most 1, got 2"),
    ],
)
def test_a_malformed_sweep_is_refused_before_anything_runs(
    sweeps: list[str], overrides: list[str], problem: str, lab: Lab
) -> None:
    path = lab.scenario(defaults={"method": METHOD})

    with pytest.raises(ConfigError, match=problem):
        load_sweep(path, sweeps, overrides=overrides)


@pytest.mark.parametrize(
    ("sweep", "problem"),
    [
        (f"{DENSITY}=0.1,0.1", "`target_density=0.1` and `target_density=0.1` are one run"),
        ("execution.timeout_seconds=10,20", "what differs between them changes no result"),
        (f"seeds={','.join(f'[{n}]' for n in range(1001))}", "at most 1,000 runs"),
    ],
)
def test_runs_that_would_be_one_and_too_many_are_refused(
    sweep: str, problem: str, lab: Lab
) -> None:
    with pytest.raises(UsageError, match=problem):
        load_sweep(lab.scenario(defaults={"method": METHOD}), [sweep])


def test_resume_is_no_option_of_a_sweep(call: Call, lab: Lab) -> None:
    result = call("run", lab.scenario(), "--sweep", "seeds=[1],[2]", "--resume")

    assert result.exit_code == 2
    assert result.stderr.endswith("goes on where it was stopped; leave `--resume` out.\n")


def test_one_choice_of_settings_is_no_sweep(home: Home) -> None:
    environment = {"STREAMLAB_HOME": str(home.path)}

    result = CliRunner().invoke(cli, ["compare", "--sweep"], env=environment)

    assert result.exit_code == 2
    assert "`tiny` was run with one choice of settings only." in result.stderr


def test_settings_that_follow_from_others_are_no_column() -> None:
    one = {
        "defaults.method.name": "lora", "defaults.method.label": "lora", "defaults.method.r": 8,
        "defaults.training.epochs": 1, "tasks.a.training.epochs": 1, "seeds": "1",
    }  # fmt: skip
    other = {
        "defaults.method.name": "bitfit", "defaults.method.label": "bitfit",
        "defaults.training.epochs": 2, "tasks.a.training.epochs": 2, "seeds": "1",
    }  # fmt: skip

    assert differing([one, other]) == ["defaults.method.name", "defaults.training.epochs"]


def test_a_setting_is_named_by_as_little_of_its_path_as_tells_it_from_the_others() -> None:
    paths = ["defaults.method.name", "defaults.method.learning_rate", "seeds",
             "defaults.training.learning_rate"]  # fmt: skip

    assert list(short_names(paths).values()) == [
        "method.name", "method.learning_rate", "seeds", "training.learning_rate",
    ]  # fmt: skip
