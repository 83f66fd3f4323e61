"""Plug-ins: built-in names, entry points and import paths."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import plugin_samples
import pytest

from streamlab.errors import UsageError
from streamlab.plugins import load, names

METRICS = "streamlab.metrics"
BUILTIN = {"accuracy": "json:dumps", "f1": "json:loads", "broken": "no_such_module:Name"}


install = partial(plugin_samples.install, group=METRICS)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


def test_a_built_in_name_is_imported_when_asked_for() -> None:
    import json

    assert load(METRICS, "accuracy", BUILTIN) is json.dumps


def test_an_entry_point_of_an_installed_package_is_found(site: Path) -> None:
    install(site, package="my-tools", entry_points="mine = my_tools:MINE", module="MINE = 7")
    assert load(METRICS, "mine", BUILTIN) == 7


def test_a_built_in_name_cannot_be_replaced_by_an_entry_point(site: Path) -> None:
    install(site, package="my-tools", entry_points="f1 = my_tools:MINE", module="MINE = 7")
    import json

    assert load(METRICS, "f1", BUILTIN) is json.loads


def test_an_import_path_is_followed_to_the_object_inside_its_module(site: Path) -> None:
    (site / "outside.py").write_text("class Box:\n    inner = 'here'\n")
    assert load(METRICS, "outside:Box.inner", {}) == "here"


def test_an_unknown_name_is_refused_with_the_nearest_names(site: Path) -> None:
    install(site, package="my-tools", entry_points="accurate = my_tools:MINE")
    with pytest.raises(UsageError) as caught:
        load(METRICS, "acuracy", BUILTIN)
    message = str(caught.value)
    assert message.startswith("Unknown metric 'acuracy'. Did you mean `accuracy` or `accurate`?")
    assert "Known: accuracy, broken, f1, accurate; or give an import path" in message


def test_nothing_is_near_a_name_unlike_all_others() -> None:
    with pytest.raises(UsageError, match=r"^Unknown data source 'zzz'\. Known: hub; or give"):
        load("streamlab.sources", "zzz", {"hub": "json:dumps"})


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("raise RuntimeError('no licence.')", r"RuntimeError: no licence\. Correct"),
        ("raise RuntimeError", "RuntimeError: no reason given"),
        ("OTHER = 1", "AttributeError: module 'my_tools' has no attribute 'MINE'"),
    ],
)
def test_a_plug_in_that_cannot_be_imported_names_its_package_and_the_error(
    site: Path, module: str, reason: str
) -> None:
    install(site, package="my-tools", entry_points="mine = my_tools:MINE", module=module)
    with pytest.raises(UsageError, match=reason) as caught:
        load(METRICS, "mine", BUILTIN)
    assert "'mine' cannot be loaded from the package `my-tools`" in str(caught.value)


@pytest.mark.parametrize("path", ["nowhere.at_all:Name", "json:nothing", "json:", ":dumps", ":"])
def test_an_import_path_that_leads_nowhere_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match=r"The arrival process '.*' cannot be loaded from"):
        load("streamlab.arrival_processes", path, {})


def test_a_name_that_two_packages_provide_is_refused(site: Path) -> None:
    install(site, package="one", entry_points="mine = one:MINE", module="MINE = 1")
    install(site, package="two", entry_points="mine = two:MINE", module="MINE = 2")
    with pytest.raises(UsageError, match="'mine' is ambiguous: it is provided by one and two"):
        load(METRICS, "mine", BUILTIN)


def test_the_names_are_the_built_in_ones_then_those_of_packages(site: Path) -> None:
    install(site, package="my-tools", entry_points="b = my_tools:B\na = my_tools:A\nf1 = x:Y")
    assert names(METRICS, BUILTIN) == ("accuracy", "broken", "f1", "a", "b")


def test_entry_points_of_other_groups_are_not_found(site: Path) -> None:
    install(site, package="my-tools", entry_points="mine = x:Y", group="streamlab.methods")
    with pytest.raises(UsageError, match="Unknown metric 'mine'"):
        load(METRICS, "mine", BUILTIN)
