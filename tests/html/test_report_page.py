"""The report page: whole without a browser, true to the registry, and nobody's to steer."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from page_samples import HEBREW, SCRIPT, Element, hostile_home, page_of, parsed

from streamlab.config import scenario_digest
from streamlab.figures.catalogue import FIGURES
from streamlab.figures.storage import StorageFigure, storage_series
from streamlab.figures.style import drawn_svg
from streamlab.html.document import scenario_file
from streamlab.html.inline_figures import inline_svg
from streamlab.registry.registry import Registry
from streamlab.stream.scenario import load_scenario
from streamlab.views.pages import run_page

if TYPE_CHECKING:
    from stream_samples import Ran


@pytest.fixture(scope="module")
def text(many: Ran) -> str:
    """The page of the run that figures share."""
    return page_of(many.home)


@pytest.fixture(scope="module")
def page(text: str) -> Element:
    """The same, parsed."""
    return parsed(text)


@pytest.fixture(scope="module")
def hostile(many: Ran, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run where every name is hostile."""
    return page_of(hostile_home(many.home, tmp_path_factory.mktemp("hostile")))


def check_structure(page: Element) -> None:
    """Hold what every page must be: for screen readers, for keyboards and for itself alone."""
    levels = [int(heading.tag[1]) for heading in page.all("h1", "h2", "h3", "h4")]
    ids = [e.attributes["id"] for e in page.all() if "id" in e.attributes]
    tables, figures = page.all("table"), page.all("svg")

    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
    assert len(ids) == len(set(ids))
    assert page.all("html")[0].attributes["lang"] == "en"
    assert tables
    for table in tables:
        assert [child.tag for child in table.children] == ["caption", "thead", "tbody"]
        assert table.children[0].text.strip()
        assert all(th.attributes["scope"] in ("col", "row") for th in table.all("th"))
        assert all(row.children[0].tag == "th" for row in table.all("tr"))
        assert len({len(row.children) for row in table.all("tr")}) == 1
    for figure in figures:
        labels = [child for child in figure.children if child.tag in ("title", "desc")]
        assert [label.tag for label in labels] == ["title", "desc"]
        assert all(label.text.strip() for label in labels)
        assert figure.attributes["role"] == "img"
        assert figure.attributes["aria-labelledby"] == labels[0].attributes["id"]


def check_alone(page: Element) -> None:
    """Hold that a page refers to nothing but itself, and may not."""
    ids = {e.attributes["id"] for e in page.all() if "id" in e.attributes}
    for element in page.all():
        assert element.tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert "style" not in element.attributes
        for name, value in element.attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "xlink:href", "action"}:
                assert value.removeprefix("#") in ids, value
            assert all(target in ids for target in re.findall(r"url\(#?([^)]*)\)", value))
            assert "http" not in value.replace("http-equiv", "")
    (style,) = page.all("style")
    assert "url(" not in style.text
    assert "@import" not in style.text
    assert len(page.all("script")) == 1
    policy = page.one(**{"http-equiv": "Content-Security-Policy"}).attributes["content"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_the_page_is_made_for_every_reader(page: Element) -> None:
    check_structure(page)


def test_the_page_refers_to_nothing_but_itself(page: Element) -> None:
    check_alone(page)


def test_the_same_run_gives_the_same_page(many: Ran, text: str) -> None:
    assert page_of(many.home) == text


def test_every_figure_is_drawn_once_or_the_reason_is_told(page: Element, hostile: str) -> None:
    drawn = [figure.attributes["aria-labelledby"] for figure in page.all("svg")]
    without = parsed(hostile)
    plots = [figure.attributes["id"] for figure in without.all("figure")]

    assert drawn == [f"figure-{entry.name}-title" for entry in FIGURES]
    # No file and no curve is in that home, and there is one method with one seed.
    left_out = {"pareto", "overlap", "curves"}
    assert plots == [f"plot-{entry.name}" for entry in FIGURES if entry.name not in left_out]
    (told,) = [e for e in without.all("ul") if e.attributes.get("class") == "left-out"]
    assert [item.text.strip() != "" for item in told.children] == [True] * 3


def test_the_numbers_that_stand_out_are_those_of_the_storage_figure(
    page: Element, many_registry: Registry
) -> None:
    last = storage_series(many_registry, "latest").rows[-1]
    (tiles,) = [e for e in page.all("dl") if e.attributes.get("class") == "tiles"]
    found = [data.attributes["value"] for data in tiles.all("data")]

    base = many_registry.bases.list()[0].file_bytes
    assert found[:4] == [
        *(str(last.n_tasks), str(last.ours_bytes - base), str(last.full_bytes), str(last.ratio))
    ]


def test_times_smaller_is_the_same_on_the_page_in_show_and_in_the_figure(
    page: Element, many_registry: Registry
) -> None:
    run = many_registry.runs.get("latest")
    shown = run_page(many_registry, run).tree()["totals"]["times smaller"]
    (tiles,) = [e for e in page.all("dl") if e.attributes.get("class") == "tiles"]

    assert len(run.settings.seeds) > 1
    assert shown == storage_series(many_registry, "latest").rows[-1].ratio
    assert str(shown) == [data.attributes["value"] for data in tiles.all("data")][3]


def test_scores_and_bytes_by_task_are_the_registrys(page: Element, many_registry: Registry) -> None:
    table = page.one(id="table-tasks")
    rows = [dict(zip(table.headers(), row, strict=True)) for row in table.cells()]

    def mean(task: str, method: str) -> float:
        values = [
            score.value
            for arrival in many_registry.arrivals.list(task=task, method=method)
            for score in many_registry.scores.list(arrival_id=arrival.id)
            if score.is_primary and score.after_sequence == arrival.sequence
            if score.split == "dev"
        ]
        assert len(values) == 2
        return sum(values) / 2

    assert [row["task"] for row in rows] == ["mood", "same"]
    for row in rows:
        own, full = mean(row["task"], "diff_pruning"), mean(row["task"], "full_finetuning")
        (first,) = many_registry.arrivals.list(task=row["task"], method="diff_pruning", seed=1)
        diff = many_registry.artifacts.get(first.digest or "")
        assert float(row["mean score"]) == pytest.approx(own, abs=1e-12)
        assert float(row["by full_finetuning"]) == pytest.approx(full, abs=1e-12)
        assert float(row["difference from full_finetuning"]) == pytest.approx(own - full, abs=1e-12)
        assert int(row["file"]) == diff.file_bytes
        assert float(row["density"]) == diff.density
        assert int(row["steps"]) == first.n_steps


def test_scores_by_class_are_of_the_recorded_confusion_matrices(
    page: Element, many_registry: Registry
) -> None:
    table = page.one(id="table-classes")
    rows = [dict(zip(table.headers(), row, strict=True)) for row in table.cells()]

    found = [
        (row["task"], row["class"], int(row["examples"]), float(row["recall"])) for row in rows
    ]
    expected = []
    for arrival in many_registry.arrivals.list(method="diff_pruning", seed=1):
        confusion = arrival.details.confusion
        assert confusion is not None
        for place, (label, counts) in enumerate(
            zip(confusion.labels, confusion.counts, strict=True)
        ):
            n_examples = sum(counts)
            expected.append((arrival.task, label, n_examples, counts[place] / n_examples))
    assert found == expected


def test_every_arrival_is_there_with_its_bytes(page: Element, many_registry: Registry) -> None:
    table = page.one(id="table-arrivals")
    rows = [dict(zip(table.headers(), row, strict=True)) for row in table.cells()]

    arrivals = many_registry.arrivals.list()
    assert [int(row["id"]) for row in rows] == [arrival.id for arrival in arrivals]
    sizes = [many_registry.artifacts.get(arrival.digest or "").file_bytes for arrival in arrivals]
    assert [int(row["file"]) for row in rows] == sizes


def test_hostile_names_stay_text(hostile: str) -> None:
    page = parsed(hostile)

    check_structure(page)
    check_alone(page)
    assert "<script>alert" not in hostile
    assert SCRIPT in page.one(id="table-tasks").all("tbody")[0].all("th")[0].text
    assert page.one(id="table-data").cells()[0][1] == SCRIPT
    assert SCRIPT in page.all("h1")[0].text
    assert SCRIPT in page.one(id="table-failed").cells()[0][-1]
    assert any(SCRIPT in figure.all("desc")[0].text for figure in page.all("svg"))


def test_a_name_cannot_turn_the_text_around(hostile: str) -> None:
    assert HEBREW + r"\u202e" in hostile
    assert "\u202e" not in hostile


def test_a_run_where_nothing_finished_has_a_page(many: Ran, tmp_path: Path) -> None:
    home = hostile_home(many.home, tmp_path / "home")
    with Registry.open(home.registry_url, clock=lambda: 0.0) as registry:
        registry.removal.remove([a.id for a in registry.arrivals.list(status="finished")])

    page = parsed(page_of(home))

    check_structure(page)
    assert not page.all("svg")
    assert "No task of this run has finished" in page.one(id="summary").text
    assert "counts as a new scenario" in page.one(id="reproduce").text


def test_a_figure_has_ids_of_its_own_and_no_style(many_registry: Registry) -> None:
    series = storage_series(many_registry, "latest")
    svg, _ = drawn_svg(StorageFigure((series,)).draw)

    one, two = (inline_svg(svg, name=name, title="t", description="d") for name in ("a", "b"))

    assert "style" not in one
    ids = [set(re.findall(r' id="([^"]+)"', text)) for text in (one, two)]
    assert len(ids[0]) > 5
    assert not ids[0] & ids[1]
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', one)) <= ids[0]


def test_an_image_within_a_figure_stays_one() -> None:
    image = "data:image/png;base64,AAAA"
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 1 1"><image xlink:href="{image}"/></svg>'
    )

    text = inline_svg(svg.encode(), name="a", title="t", description="d")

    assert f'<image href="{image}"' in text


def test_the_scenario_on_the_page_is_the_scenario_that_ran(
    page: Element, many: Ran, many_registry: Registry
) -> None:
    written = [e.text for e in page.all("pre")]

    path = many.path.with_name("again.yaml")
    path.write_text(written[0], encoding="utf-8")
    assert yaml.safe_load(written[0]) == many_registry.runs.get("latest").scenario
    assert load_scenario(path).digest == many_registry.runs.get("latest").scenario_digest
    assert "counts as a new scenario" not in page.one(id="reproduce").text
    assert written[1:] == ["streamlab run many.yaml", "streamlab report many-1"]


def test_tasks_are_written_in_the_order_they_arrived_in(many_registry: Registry) -> None:
    scenario = {
        "execution": {"attempts": 1},
        "tasks": {"a": {"dataset": "x"}, "b": {"dataset": "y"}},
    }
    run = replace(
        many_registry.runs.get("latest"),
        scenario=scenario,
        scenario_digest=scenario_digest(scenario, ["b", "a"]),
    )
    first, second, *_ = many_registry.arrivals.list(method="diff_pruning", seed=1)
    arrivals = [replace(second, task="a"), replace(first, task="b")]

    assert (first.sequence, second.sequence) == (0, 1)
    assert scenario_file(run, arrivals).is_same
    assert list(yaml.safe_load(scenario_file(run, arrivals).text)["tasks"]) == ["b", "a"]
    assert not scenario_file(run, ()).is_same
