"""`--set`: a value at a path, through what a file leaves out or writes short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamlab.errors import ConfigError
from streamlab.overrides import override
from streamlab.stream.scenario import Scenario, load_scenario

SMOKE = Path(__file__).parents[1] / "scenarios" / "smoke.yaml"


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("a.b=5", {"a": {"b": 5, "c": [1, {"d": 2}]}}),
        ("a.rate=1e-5", {"a": {"b": 1, "c": [1, {"d": 2}], "rate": 1e-5}}),
        ("a.b=no", {"a": {"b": "no", "c": [1, {"d": 2}]}}),
        ("a.b=x=y", {"a": {"b": "x=y", "c": [1, {"d": 2}]}}),
        ("a.b=", {"a": {"b": None, "c": [1, {"d": 2}]}}),
        ("a.c.0=[7, 8]", {"a": {"b": 1, "c": [[7, 8], {"d": 2}]}}),
        ("a.c.1.d=3", {"a": {"b": 1, "c": [1, {"d": 3}]}}),
        ("a={e: 1}", {"a": {"e": 1}}),
        ("new.deep.er=1", {"a": {"b": 1, "c": [1, {"d": 2}]}, "new": {"deep": {"er": 1}}}),
        ("a.b.f=1", {"a": {"b": {"f": 1}, "c": [1, {"d": 2}]}}),
    ],
)
def test_an_assignment_sets_a_value_at_its_path(assignment: str, expected: Any) -> None:
    tree = {"a": {"b": 1, "c": [1, {"d": 2}]}}

    assert override(tree, [assignment]).tree == expected
    assert tree == {"a": {"b": 1, "c": [1, {"d": 2}]}}


def test_later_assignments_win() -> None:
    assert override({}, ["a.b=1", "a.b=2", "a.c=3"]).tree == {"a": {"b": 2, "c": 3}}


def test_every_malformed_assignment_is_reported_in_one_go() -> None:
    with pytest.raises(ConfigError) as caught:
        override({"a": [1]}, ["a", "=1", "a..b=1", "c=[", "a.2=2", "a.x=2", "b=1"])

    assert caught.value.origin == "the command line"
    assert caught.value.problems == (
        "--set 'a': write it as `a.b=value`.",
        "--set '=1': write it as `a.b=value`.",
        "--set 'a..b=1': write it as `a.b=value`.",
        "--set 'c=[': a value is missing, or a bracket is not closed.",
        "--set 'a.2=2': `2` is not an index of a list of 1.",
        "--set 'a.x=2': `x` is not an index of a list of 1.",
    )


METHOD = {"name": "fixed_mask", "mask": {"name": "random", "label": "a"}}


@pytest.mark.parametrize(
    ("tree", "assignment", "expected"),
    [
        # A plug-in by its name alone.
        (
            {"defaults": {"method": "diff_pruning"}},
            "defaults.method.target_density=0.1",
            {"defaults": {"method": {"name": "diff_pruning", "target_density": 0.1}}},
        ),
        (
            {"defaults": {"method": {"name": "fixed_mask", "mask": "random"}}},
            "defaults.method.mask.label=a",
            {"defaults": {"method": METHOD}},
        ),
        (
            {"providers": {"a": {"arrivals": "as_listed"}}},
            "providers.a.arrivals.process=poisson",
            {"providers": {"a": {"arrivals": {"process": "poisson"}}}},
        ),
        (
            {"baselines": ["bitfit"]},
            "baselines.0.label=b",
            {"baselines": [{"name": "bitfit", "label": "b"}]},
        ),
        # What the file leaves out.
        ({}, "defaults.method.r=4", {"defaults": {"method": {"name": "diff_pruning", "r": 4}}}),
        ({}, "baselines.0.name=lora", {"baselines": [{"name": "lora"}]}),
        ({"baselines": ["lora"]}, "baselines.1=bitfit", {"baselines": ["lora", "bitfit"]}),
        ({}, "seeds.1=2", {"seeds": [1, 2]}),
        # Other things by their name.
        (
            {"providers": {"a": {"behaviour": "hang"}}},
            "providers.a.behaviour.slowdown=3",
            {"providers": {"a": {"behaviour": {"hang": 1.0, "slowdown": 3}}}},
        ),
        (
            {"tasks": {"a": {"metric": "accuracy"}}},
            "tasks.a.metric.1=f1",
            {"tasks": {"a": {"metric": ["accuracy", "f1"]}}},
        ),
        (
            {"data": {"sources": ["synthetic"]}},
            "data.sources.0.files=there",
            {"data": {"sources": [{"files": "there"}]}},
        ),
    ],
)
def test_a_path_leads_into_what_is_written_short_or_left_out(
    tree: dict[str, Any], assignment: str, expected: dict[str, Any]
) -> None:
    assert override(tree, [assignment], Scenario).tree == expected


def test_another_method_leaves_out_what_it_has_no_setting_for_and_says_so() -> None:
    loaded = load_scenario(SMOKE, overrides=["defaults.method.name=lora"])

    assert loaded.resolved["defaults"]["method"]["name"] == "lora"
    assert loaded.notes == (
        "`defaults.method`: `structured`, `target_density` are not used, as lora has none.",
    )


def test_what_the_other_method_has_too_stays() -> None:
    loaded = load_scenario(SMOKE, overrides=["defaults.method.name=non_adaptive"])

    assert loaded.resolved["defaults"]["method"]["target_density"] == 0.005


@pytest.mark.parametrize("step", [1, -1])
def test_a_setting_that_is_assigned_is_never_left_out(step: int) -> None:
    given = ["defaults.method.name=lora", "defaults.method.structured=true"]

    with pytest.raises(ConfigError, match=r"defaults\.method\.structured: unknown key"):
        load_scenario(SMOKE, overrides=given[::step])


def test_an_unknown_method_is_said_once_and_loses_nothing() -> None:
    with pytest.raises(ConfigError) as caught:
        load_scenario(SMOKE, overrides=["defaults.method.name=lorra"])

    assert len(caught.value.problems) == 1
    assert "unknown method 'lorra'. Did you mean `lora`?" in caught.value.problems[0]
