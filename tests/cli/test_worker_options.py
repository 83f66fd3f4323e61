"""Options of `run` and `doctor` on workers and Ray clusters."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from stream_samples import Lab, make_lab

from streamlab.cli import cli
from streamlab.cli.doctor import check_ray
from streamlab.cli.run_scenario import _crowded
from streamlab.stream.scenario import load_scenario


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("lab"))


def test_more_threads_than_cores_are_one_line_of_warning(lab: Lab) -> None:
    def warned(n_cores: int, **execution: object) -> str:
        path = lab.scenario(name="crowded", execution=execution)
        return _crowded(
            load_scenario(path, overrides=["tasks.mood.training.threads=3"]).scenario, n_cores
        )

    line = warned(5, executor="processes", workers=2)
    assert line.startswith("  warning: 2 workers of 3 threads share 5 cores")
    assert "\n" not in line
    assert warned(6, executor="processes", workers=2) == ""
    assert warned(2, executor="serial") == ""
    assert warned(2, executor="ray", workers=2, ray_address="10.0.0.1:6379") == ""


def test_an_address_is_of_a_ray_cluster_alone(lab: Lab) -> None:
    path = lab.scenario(name="addressed")

    done = CliRunner().invoke(
        cli, ["run", str(path), "--executor", "processes", "--ray-address", "auto"]
    )

    assert done.exit_code == 2
    assert "execution.ray_address: is for the executor `ray`; add `executor: ray`" in done.stderr


@pytest.mark.ray
def test_doctor_says_that_there_is_no_such_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "")

    (finding,) = check_ray("127.0.0.1:1")

    assert (finding.name, finding.status) == ("Ray", "broken")
    assert "The Ray cluster '127.0.0.1:1' cannot be used: [Errno 111]" in finding.found
