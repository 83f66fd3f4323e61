"""The studies of `analysis/`: each reads one or more homes, prints, and writes figure and CSV."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from figure_samples import check_labels, drawn_labels, read_csv
from large_samples import make_home
from stream_samples import carry_out, make_lab, only, reading

from streamlab.errors import RegistryError
from streamlab.registry.home import Home
from streamlab.report.figures.sheet import house_style
from streamlab.report.figures.sweep import draw, read_sweep

ROOT = Path(__file__).parents[2]


def load_study(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "analysis" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return make_home(tmp_path_factory.mktemp("studied"), 4)


def test_mask_overlap_tells_every_pair_against_chance(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = load_study("mask_overlap").main([f"{home.path}@long-1", "-o", str(tmp_path)])

    summary, *files = capsys.readouterr().out.splitlines()
    rows = read_csv(tmp_path / "overlap.csv")
    assert code == 0
    assert [Path(file).name for file in files] == ["overlap.png", "overlap.svg", "overlap.csv"]
    over = [float(row["over_chance"]) for row in rows]
    assert summary.startswith("6 pairs of long-1: ")
    assert f"{min(over):.1f} to {max(over):.1f} times chance" in summary


@pytest.mark.parametrize("name", ["mask_overlap", "density_sweep"])
def test_a_study_of_no_home_ends_with_one_paragraph(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load_study(name).main([str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err.startswith("Error: There is no registry in the home")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Three densities of one task, the middle one with full finetuning beside it."""
    folder = tmp_path_factory.mktemp("swept")
    lab = make_lab(folder)
    for density, rivals in ((0.02, []), (0.05, ["full_finetuning"]), (0.2, [])):
        tree = lab.tree(name="density_sweep", seeds=[1, 2], rivals=rivals, **only("mood"))
        tree["defaults"]["method"]["target_density"] = density
        tree["admission"] = {"max_density": 0.2}
        carry_out(lab.write(tree), folder / "home")
    return Home(folder / "home")


def test_a_sweep_has_every_run_by_density_and_the_registrys_numbers(
    swept: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = load_study("density_sweep").main([str(swept.path), "-o", str(tmp_path)])

    rows = read_csv(tmp_path / "density_sweep.csv")
    assert code == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert [row["target_density"] for row in rows] == [
        *["0.02"] * 2, *["0.05"] * 2, *["0.2"] * 2, "", "",
    ]  # fmt: skip
    with reading(swept) as registry:
        values = {
            (score.run, str(score.seed), score.method): score.value
            for score in registry.scores()
            if score.is_primary and score.split == "dev"
        }
        for row in rows:
            diff = registry.diff(row["digest"])
            assert int(row["file_bytes"]) == diff.file_bytes
            assert float(row["density"]) == diff.density
            assert float(row["value"]) == values[row["run"], row["seed"], row["method"]]


def test_a_sweep_is_drawn_with_labels_apart_and_full_finetuning_across(swept: Home) -> None:
    with reading(swept) as registry, house_style():
        data = read_sweep(registry, "density_sweep")
        figure = draw(data)
        check_labels(figure)
        assert len(drawn_labels(figure.axes[1].yaxis)) > 1

    across = figure.axes[0].get_lines()[-1]
    mean = sum(point.score.value for point in data.rivals) / len(data.rivals)
    assert list(across.get_ydata()) == [mean, mean]
    assert list(figure.axes[1].get_lines()[0].get_ydata()) == sorted(
        figure.axes[1].get_lines()[0].get_ydata()
    )


def test_a_sweep_of_another_scenario_or_task_is_refused(swept: Home) -> None:
    with reading(swept) as registry:
        with pytest.raises(RegistryError, match="Of the scenario `other` no run"):
            read_sweep(registry, "other")
        with pytest.raises(RegistryError, match="of the task `none`"):
            read_sweep(registry, "density_sweep", "none")
