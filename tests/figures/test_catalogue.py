"""The figures of `plot`: their numbers are the registry's, and they are the same twice."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from figure_samples import HOSTILE, check_pictures, read_csv

from streamlab.cli import cli
from streamlab.diff.format.container import decode
from streamlab.diff.layout import Layout, kind_of, layer_of
from streamlab.errors import RegistryError
from streamlab.figures.accuracy import AccuracyFigure
from streamlab.figures.accuracy_matrix import MatrixFigure
from streamlab.figures.catalogue import BY_NAME
from streamlab.figures.file_parts import BytesFigure
from streamlab.figures.mask_overlap import OverlapFigure
from streamlab.figures.pareto import ParetoFigure
from streamlab.figures.style import caption_of, drawn, drawn_svg, house_style
from streamlab.figures.training_curves import CurvesFigure
from streamlab.home.curves import read_curve
from streamlab.home.folder import Home
from streamlab.home.store import FolderStore
from streamlab.registry.registry import Registry
from streamlab.units import printable
from streamlab.views.run_source import RunSource

if TYPE_CHECKING:
    from stream_samples import Ran


def plotted(name: str, home: Home, folder: Path) -> tuple[Path, ...]:
    done = CliRunner().invoke(cli, ["plot", name, "--home", str(home.path), "-o", str(folder)])
    assert done.exit_code == 0, done.stderr
    return tuple(map(Path, done.stdout.splitlines()))


@pytest.mark.parametrize("name", BY_NAME)
def test_every_figure_is_whole_and_the_same_twice(name: str, many: Ran, tmp_path: Path) -> None:
    first, second = (plotted(name, many.home, tmp_path / at) for at in ("a", "b"))

    assert [path.name for path in first] == [f"{name}.{ending}" for ending in ("png", "svg", "csv")]
    check_pictures(first, second)
    assert read_csv(first[2])


@pytest.mark.parametrize("name", BY_NAME)
def test_a_run_whose_arrivals_all_failed_is_refused(name: str, many: Ran, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create()
    with (
        Registry.open(many.home.registry_url, clock=time.time, read_only=True) as other,
        Registry.open(home.registry_url, clock=time.time) as registry,
    ):
        registry.bases.add(other.bases.list()[0])
        run = registry.runs.start(other.runs.get("latest"))
        arrival = replace(other.arrivals.list()[0], run_id=run.id)
        registry.arrivals.add_failed(arrival, "The loss became NaN.")

    asked = ["plot", name, "--home", str(home.path), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, asked)

    assert done.exit_code == 1
    assert "nothing to show" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_bytes_are_those_of_the_records_and_stand_over_the_bound(
    many: Ran, many_registry: Registry, tmp_path: Path
) -> None:
    rows = read_csv(plotted("bytes", many.home, tmp_path)[2])

    assert [row["task"] for row in rows] == ["mood", "same"]
    for row in rows:
        diff = many_registry.artifacts.get(row["digest"])
        for part in ("positions_bytes", "values_bytes", "head_bytes", "metadata_bytes"):
            assert int(row[part]) == getattr(diff, part)
        assert int(row["file_bytes"]) == diff.file_bytes
        assert float(row["positions_bound_bytes"]) > 0


def test_bytes_of_files_that_are_gone_have_no_bound(
    many_registry: Registry, tmp_path: Path
) -> None:
    data = BytesFigure.read(RunSource(many_registry, Home(tmp_path), "latest"))

    assert data.bounds == (None, None)


@pytest.mark.parametrize("name", ["accuracy", "pareto"])
def test_scores_are_the_registrys_for_every_method_and_seed(
    name: str, many: Ran, many_registry: Registry, tmp_path: Path
) -> None:
    rows = read_csv(plotted(name, many.home, tmp_path)[2])

    own = {
        (score.task, score.method, str(score.seed)): score.value
        for arrival in many_registry.arrivals.list()
        for score in many_registry.scores.list(arrival_id=arrival.id)
        if score.is_primary and score.after_sequence == arrival.sequence and score.split == "dev"
    }
    assert len(own) == 8
    found = {
        (row["task"], row["method"], row["seed"]): float(row["value"])
        for row in rows
        if row["task"]
    }
    assert found == own


def test_accuracy_has_the_score_of_the_majority_class(
    many: Ran, many_registry: Registry, tmp_path: Path
) -> None:
    rows = read_csv(plotted("accuracy", many.home, tmp_path)[2])

    for row in rows:
        values = {
            score.seed: score.majority or 0.0
            for score in many_registry.scores.list(task=row["task"], primary=True)
            if (score.split, score.method) == ("dev", row["method"])
        }
        assert float(row["majority"]) == pytest.approx(sum(values.values()) / len(values))
        assert float(row["majority"]) > 0


def test_pareto_has_the_bytes_of_the_stored_files(
    many: Ran, many_registry: Registry, tmp_path: Path
) -> None:
    rows = [row for row in read_csv(plotted("pareto", many.home, tmp_path)[2]) if row["task"]]

    assert rows
    for row in rows:
        assert int(row["file_bytes"]) == many_registry.artifacts.get(row["digest"]).file_bytes


def test_the_summary_of_pareto_is_the_mean_over_tasks_of_each_method(
    many: Ran, tmp_path: Path
) -> None:
    rows = read_csv(plotted("pareto", many.home, tmp_path)[2])

    means = {row["method"]: row for row in rows if not row["task"]}
    assert set(means) == {"diff_pruning", "full_finetuning"}
    for method, mean in means.items():
        own = [row for row in rows if row["task"] and row["method"] == method]
        for column in ("value", "file_bytes"):
            values = [float(row[column]) for row in own]
            assert float(mean[column]) == pytest.approx(sum(values) / len(values))


def test_the_front_has_what_nothing_smaller_reaches(many: Ran, tmp_path: Path) -> None:
    rows = read_csv(plotted("pareto", many.home, tmp_path)[2])

    for row in rows:
        others = [
            (float(other["file_bytes"]), float(other["value"]))
            for other in rows
            if other["task"] == row["task"] and other is not row
        ]
        n_bytes, value = float(row["file_bytes"]), float(row["value"])
        beaten = any(b <= n_bytes and v >= value and (b, v) != (n_bytes, value) for b, v in others)
        if row["on_front"] == "True":
            assert not beaten
        else:
            assert beaten or (n_bytes, value) in others


def test_the_axis_of_scores_ends_at_one_and_every_method_is_drawn(
    many_registry: Registry, many: Ran
) -> None:
    figure = drawn(AccuracyFigure.read(RunSource(many_registry, many.home, "latest")).draw)

    assert figure.axes[0].get_xlim()[1] == 1.0
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["diff_pruning", "full_finetuning", "majority class"]


def test_the_bar_of_colours_is_labelled(many_registry: Registry, many: Ran) -> None:
    figure = drawn(MatrixFigure.read(RunSource(many_registry, many.home, "latest")).draw)

    _, bar = figure.axes
    assert bar.get_xlabel() == "score of the task (row) after the arrival (column)"
    svg, _ = drawn_svg(lambda: figure)
    assert b"<image" not in svg


def test_the_matrix_has_every_task_after_every_arrival(
    many: Ran, many_registry: Registry, tmp_path: Path
) -> None:
    rows = read_csv(plotted("matrix", many.home, tmp_path)[2])

    assert [(row["task"], row["after_task"]) for row in rows] == [
        *(("mood", "mood"), ("mood", "same"), ("same", "same")),
    ]
    scores = {
        (score.task, str(score.after_sequence)): score.value
        for score in many_registry.scores.list(run="latest")
        if score.seed == 1 and score.method == "diff_pruning"
        if score.is_primary and score.split == "dev"
    }
    assert {(row["task"], row["after_place"]): float(row["value"]) for row in rows} == scores


def test_scores_taken_after_a_quarantined_arrival_have_a_column(
    many: Ran, many_registry: Registry, tmp_path: Path
) -> None:
    grid = MatrixFigure.read(RunSource(many_registry, many.home, "latest"))
    # As if the second arrival had been quarantined, after which the first was scored again.
    stream = replace(grid.stream, arrivals=grid.stream.arrivals[:1])
    first = replace(grid, stream=stream, scores=grid.scores[:1])

    rows = read_csv(first.write(tmp_path)[2])
    with house_style():
        axes = first.draw().axes[0]

    assert [(row["task"], row["after_task"]) for row in rows] == [
        ("mood", "mood"),
        ("mood", "same"),
    ]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["mood", "same"]
    assert len(axes.texts) == 2


def test_a_later_version_is_named_as_such(many_registry: Registry, many: Ran) -> None:
    grid = MatrixFigure.read(RunSource(many_registry, many.home, "latest"))
    first, second = grid.stream.arrivals
    again = replace(second, task=first.task, version=2)
    stream = replace(grid.stream, arrivals=(first, again))

    axes = drawn(replace(grid, stream=stream).draw).axes[0]

    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "mood (accuracy)",
        "mood@2 (accuracy)",
    ]


def test_curves_hold_every_point_of_their_files(many: Ran, tmp_path: Path) -> None:
    rows = read_csv(plotted("curves", many.home, tmp_path)[2])

    files = many.home.curves.glob("many-1/1,*,mood,1,diff_pruning.jsonl")
    points = read_curve(next(files))
    mood = [row for row in rows if row["task"] == "mood"]
    assert [float(row["loss"]) for row in mood] == [point["loss"] for point in points]
    assert [row["density"] for row in mood] == [
        "" if point["density"] is None else str(point["density"]) for point in points
    ]
    assert [int(row["total_step"]) for row in mood] == list(range(1, len(points) + 1))
    for name in ("held_back_loss", "held_back_score"):
        assert [row[name] for row in mood] == [
            "" if point[name] is None else str(point[name]) for point in points
        ]


def test_curves_have_a_point_for_every_evaluation_on_held_back_examples(
    many: Ran, many_registry: Registry
) -> None:
    curves = CurvesFigure.read(RunSource(many_registry, many.home, "latest"))
    first = curves.curves[0]
    title = first.arrival.task
    evaluated = {x: p["held_back_loss"] for x, p in enumerate(first.points, start=1)}
    expected = {x: loss for x, loss in evaluated.items() if loss is not None}
    assert expected

    figure = drawn(curves.draw)

    of_first = next(axes for axes in figure.axes if axes.get_title(loc="left") == title)
    dots = next(line for line in of_first.lines if line.get_linestyle() == "None")
    assert dict(zip(dots.get_xdata(), dots.get_ydata(), strict=True)) == expected
    scores = next(
        axes for axes in figure.axes if axes.get_title(loc="left").startswith("score of all")
    )
    assert len(scores.lines) == len(curves.curves)
    assert "held back from training, at every tenth of the steps" in caption_of(figure)


def test_a_home_without_curves_is_refused(many_registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"no curve lies in .*nothing to show"):
        CurvesFigure.read(RunSource(many_registry, Home(tmp_path), "latest"))


def test_layers_and_kinds_each_add_up_to_the_kept_entries(
    many: Ran, many_registry: Registry, tmp_path: Path
) -> None:
    rows = read_csv(plotted("layers", many.home, tmp_path)[2])

    assert {row["task"] for row in rows} == {"mood", "same"}
    for digest in {row["digest"] for row in rows}:
        for by in ("layer", "kind"):
            mine = [row for row in rows if (row["digest"], row["by"]) == (digest, by)]
            kept = many_registry.artifacts.get(digest).n_entries
            assert sum(int(row["n_entries"]) for row in mine) == kept
            assert sum(float(row["share"]) for row in mine) == pytest.approx(1)
            assert sum(float(row["share_of_base"]) for row in mine) == pytest.approx(1)


@pytest.mark.parametrize(
    ("tensor", "layer", "kind"),
    [
        ("encoder.layer.11.output.dense.weight", "11", "output.dense"),
        ("model.layers.0.mlp.up_proj.weight", "0", "mlp.up_proj"),
        ("h.3.ln_1.bias", "3", "ln_1"),
        ("embeddings.word_embeddings.weight", "embeddings", "embeddings"),
        ("pooler.dense.bias", "other", "other"),
    ],
)
def test_a_tensor_has_its_layer_and_kind_by_name(tensor: str, layer: str, kind: str) -> None:
    assert (layer_of(tensor), kind_of(tensor)) == (layer, kind)


def test_overlap_is_that_of_the_stored_positions(
    many: Ran, many_registry: Registry, tmp_path: Path
) -> None:
    (row,) = read_csv(plotted("overlap", many.home, tmp_path)[2])

    base = many_registry.bases.list()[0]
    names, shapes = (tuple(column) for column in zip(*base.layout, strict=True))
    store, layout = FolderStore(many.home.store), Layout(base.fingerprint, names, shapes)
    one, two = (
        {
            (number, int(place))
            for number, tensor in enumerate(decode(store.get(row[name]), layout).tensors)
            for place in tensor.positions
        }
        for name in ("digest", "other_digest")
    )
    assert float(row["jaccard"]) == pytest.approx(len(one & two) / len(one | two))
    density = len(one) / layout.n_gated
    assert float(row["chance"]) == pytest.approx(density / (2 - density), rel=0.01)


def test_files_that_are_not_there_do_not_overlap(many_registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="the store has 0 of the 2 files"):
        OverlapFigure.read(RunSource(many_registry, Home(tmp_path), "latest"))


def test_hostile_names_stay_text(many: Ran, many_registry: Registry, tmp_path: Path) -> None:
    source = RunSource(many_registry, many.home, "latest")
    stream = source.stream
    named = tuple(replace(arrival, task=HOSTILE) for arrival in stream.arrivals)
    stream = replace(stream, run=replace(stream.run, name=HOSTILE), arrivals=named)
    scores, points, drawn = (
        kind.read(source) for kind in (AccuracyFigure, ParetoFigure, CurvesFigure)
    )
    figures = (
        replace(BytesFigure.read(source), stream=stream),
        replace(scores, run=HOSTILE, scores=tuple(replace(s, task=HOSTILE) for s in scores.scores)),
        replace(
            points,
            run=HOSTILE,
            points=tuple(
                replace(p, arrival=replace(p.arrival, task=HOSTILE)) for p in points.points
            ),
        ),
        replace(MatrixFigure.read(source), stream=stream),
        replace(
            drawn,
            stream=stream,
            curves=tuple(
                replace(c, arrival=replace(c.arrival, task=HOSTILE)) for c in drawn.curves
            ),
        ),
    )

    for figure in figures:
        for at in "ab":
            figure.write(tmp_path / at)

    for name in ("bytes", "accuracy", "pareto", "matrix", "curves"):
        first, second = (
            [tmp_path / at / f"{name}.{end}" for end in ("png", "svg", "csv")] for at in "ab"
        )
        check_pictures(first, second)
        assert "<script" not in first[1].read_text()
        assert {row["task"] for row in read_csv(first[2])} - {""} == {printable(HOSTILE)}
