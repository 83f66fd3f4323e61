"""`streamlab.run`, homes and runs in Python: frames, figures, how objects show themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from serving_samples import learn
from stream_samples import Lab, make_lab, only

import streamlab
from streamlab.errors import UsageError
from streamlab.library.progress import RunProgress
from streamlab.library.run import Run
from streamlab.representation import html_table
from streamlab.stream.scenario import load_scenario
from streamlab.views.listings import columns_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def ran(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was called from Python."""
    path = lab.scenario(name="called", **only("mood", "same"))
    return streamlab.run(path, tmp_path_factory.mktemp("ran") / "home", overrides=["seeds=[1,2]"])


def test_a_call_runs_the_scenario_to_its_end_and_returns_the_run(ran: Run) -> None:
    assert ran.record.status == "finished"
    assert ran.record.settings.seeds == (1, 2)
    assert ran.tasks() == ("mood", "same")


def test_a_run_in_which_an_arrival_fails_is_returned_as_failed(lab: Lab, tmp_path: Path) -> None:
    training = {"defaults.training.learning_rate": 1e30, "defaults.training.clip_norm": 1e30}
    overrides = [f"{key}={value}" for key, value in training.items()]

    run = streamlab.run(lab.scenario(**only("mood")), tmp_path / "home", overrides=overrides)

    assert run.record.status == "failed"
    assert re.search(r"failed \(1 of 1 arrivals failed;.*\), 0 of 1 arrivals", repr(run))


def test_overrides_of_a_scenario_that_is_loaded_are_refused(lab: Lab, tmp_path: Path) -> None:
    loaded = load_scenario(lab.scenario())

    with pytest.raises(UsageError, match="this one is loaded already"):
        streamlab.run(loaded, tmp_path, overrides=["seeds=[1]"])


def test_a_run_is_found_again_in_its_home(ran: Run) -> None:
    home = streamlab.open_home(ran.home.home.path)

    assert home.run() == home.run("called-1") == ran


@pytest.mark.parametrize("subject", ["runs", "arrivals", "diffs", "scores"])
def test_a_frame_has_every_column_of_the_listing(subject: str, ran: Run) -> None:
    frame = getattr(ran.home, subject)()

    assert isinstance(frame, pd.DataFrame)
    assert list(frame) == [column.name for column in columns_of(subject)]  # type: ignore[arg-type]
    assert len(frame)


def test_frames_hold_raw_values_and_times_in_utc(ran: Run) -> None:
    frame = ran.arrivals()

    assert frame["file_bytes"].dtype == "int64"
    assert str(frame["started_at"].dt.tz) == "UTC"
    own = ran.scores(where="split = dev and is_primary = yes and seed = 2")
    assert set(frame[frame["seed"] == 2]["score"]) == set(own["value"])


def test_a_condition_narrows_a_frame(ran: Run) -> None:
    assert set(ran.arrivals(where="task = mood")["task"]) == {"mood"}
    assert set(ran.home.scores("called-1", where="seed = 2")["seed"]) == {2}


def test_a_figure_is_one_of_matplotlib_and_shows_itself(ran: Run) -> None:
    figure = ran.figure("storage", project_to=100)

    assert isinstance(figure, Figure)
    png, size = figure._repr_png_()  # type: ignore[attr-defined]
    assert png.startswith(b"\x89PNG")
    assert size["width"] > 300


def test_an_unknown_figure_is_refused_with_the_nearest(ran: Run) -> None:
    with pytest.raises(UsageError, match=r"There is no figure `storag`\. Did you mean `storage`"):
        ran.figure("storag")


def test_objects_show_themselves_in_one_short_line(ran: Run, lab: Lab) -> None:
    base = ran.home.load_base()
    task = ran.home.task("mood", seed=1)
    shown = [ran.home, ran, ran.record, base, task, task.artifact.arrival, task.artifact.diff]
    shown += [task.diff(base.base.layout), load_scenario(lab.scenario())]
    with task.applied(base) as served:
        assert re.fullmatch(r"ServedTask\('mood': [\d,]+ weights changed\)", repr(served))
    shown.append(served)

    for thing in shown:
        assert len(repr(thing)) < 200, thing
        assert "\n" not in repr(thing)
    assert re.fullmatch(
        r"Run\('called-1': finished, 4 of 4 arrivals, [\d.]+ kB stored\)", repr(ran)
    )
    assert repr(served) == "ServedTask('mood': no longer applied)"


def test_an_outcome_shows_its_score_and_bytes(lab: Lab, tmp_path: Path) -> None:
    (outcome,) = streamlab.outcomes(lab.scenario(**only("mood")), tmp_path / "home")

    who = r"'mood' from 'press', diff_pruning, seed 1"
    assert re.fullmatch(rf"Outcome\({who}, finished, accuracy [01]\.\d{{4}}, .*B\)", repr(outcome))


def test_html_escapes_what_records_say(ran: Run) -> None:
    for thing in (ran.home, ran, ran.home.task("mood")):
        html = thing._repr_html_()
        assert html.count("<table>") == html.count("</table>") >= 1
        assert "called-1" in html
    assert "<b>" not in html_table(["<b>"], [["<b>"]], title="<b>")


def test_progress_counts_an_arrival_in_training_by_its_steps(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    streamlab.run(lab.scenario(**only("mood", "same")), tmp_path / "home", progress=True)

    shown = capsys.readouterr().err
    assert "tiny-1: 100%" in shown
    assert re.search(r"mood: \w[\w ]+ \d+/\d+, loss \d+\.\d\d", shown)


def test_progress_is_silent_where_nobody_looks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with RunProgress():
        pass

    assert capsys.readouterr().err == ""


def test_the_snippets_of_the_reference_run(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    learn(lab, tmp_path / "streamlab-home")
    (tmp_path / "scenarios").mkdir()
    scenario = lab.scenario(name="smoke", **only("mood"))
    (tmp_path / "scenarios" / "smoke.yaml").write_bytes(scenario.read_bytes())
    (tmp_path / "scenarios" / "rows").symlink_to(lab.folder / "rows")
    monkeypatch.chdir(tmp_path)

    assert len(blocks) >= 4
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)  # noqa: S102 - our own document
