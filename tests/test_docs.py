"""The pages of README.md and docs/ agree with the program: links, paths, commands and settings."""

from __future__ import annotations

import itertools
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from manual import every_command, mask_table, settings_reference
from stream_samples import carry_out, make_lab

from streamlab.config import parse_yaml, validate
from streamlab.methods.peft_types import TYPES as ADAPTER_TYPES
from streamlab.overrides import override
from streamlab.stream.scenario import Scenario, resolve_scenario
from streamlab.study.study import Question, Study, StudyMethod
from streamlab.units import DAY_US

ROOT = Path(__file__).parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
COMMANDS = every_command()
SETTINGS = set(re.findall(r"^\| `(\w+)` \|", settings_reference(), re.M)).union(
    *((*kind.answers, *kind.training) for kind in ADAPTER_TYPES.values())
)
FOLDERS = "streamlab|tests|docs|analysis|benchmarks|scenarios"
PROGRAM = "\n".join(
    path.read_text(encoding="utf-8")
    for folder in ("streamlab", "scenarios", "analysis", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.*"))
    if path.suffix in {".py", ".yaml", ".c"}
)
NO_KEYS = {"labels", "columns", "where"}  # mappings whose keys belong to the data

page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.M)
    kept = ("".join(c for c in title.lower() if c.isalnum() or c in " -_") for title in headings)
    return {title.replace(" ", "-") for title in kept}


def shell_lines(text: str) -> Iterator[str]:
    """Yield the commands of a page: lines of code blocks, and code in the text."""
    joined = text.replace("\\\n", " ")
    blocks = re.findall(r"```\w*\n.*?```", joined, re.DOTALL)
    indented = re.findall(r"^    .*$", joined, re.M)
    for line in (line for part in (*blocks, *indented) for line in part.splitlines()):
        if line.strip().startswith(("streamlab ", "python ")):
            yield line.strip()
    text = re.sub(r"```.*?```", "", joined, flags=re.DOTALL)
    yield from (" ".join(code.split()) for code in re.findall(r"`(streamlab [^`]+)`", text))


def words_of(line: str) -> list[str]:
    return [word.split("|")[0] for word in shlex.split(line.replace("\\|", "|"), comments=True)]


@page
def test_every_link_leads_to_a_page_and_a_heading(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)\s]+)\)", text)

    for target in targets:
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), target


@page
def test_every_path_of_the_repository_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = set(re.findall(rf"(?<![\w/.-])((?:{FOLDERS})/[\w./*-]*[\w*/])", text))

    assert [name for name in sorted(named) if not list(ROOT.glob(name.rstrip("/")))] == []


@page
def test_every_command_line_has_a_known_command_and_known_options(path: Path) -> None:
    for line in shell_lines(path.read_text(encoding="utf-8")):
        words = words_of(line)
        if words[0] == "python":
            continue
        at, name = 1, "streamlab"
        while at < len(words) and f"{name} {words[at]}" in COMMANDS:
            name, at = f"{name} {words[at]}", at + 1
        command = COMMANDS[name].command
        known = {option for p in command.get_params(COMMANDS[name]) for option in p.opts}
        assert at > 1 or words[1:2] in ([], ["--help"]) or words[1].isupper(), line
        given = {word.split("=")[0] for word in words[at:] if re.match(r"--[a-z]|-[a-z]$", word)}
        assert not isinstance(command, click.Group) or given <= {"--help", "--version"}, line
        assert given - known - {"--help"} == set(), line


@page
def test_every_script_that_is_called_exists_and_has_the_options(path: Path) -> None:
    for line in shell_lines(path.read_text(encoding="utf-8")):
        words = words_of(line)
        if words[0] != "python" or not words[1].endswith(".py"):
            continue
        source = (ROOT / words[1]).read_text(encoding="utf-8")
        for option in (word for word in words[2:] if re.match(r"--[a-z]|-[a-z]$", word)):
            assert f'"{option}"' in source, line


def keys_of(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield str(key)
            if key not in NO_KEYS:
                yield from keys_of(value)
    if isinstance(tree, list):
        for value in tree:
            yield from keys_of(value)


@pytest.mark.parametrize("path", [path for path in PAGES if path.name != "extending.md"])
def test_every_example_in_yaml_has_known_settings(path: Path) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)

    for text in examples:
        tree = parse_yaml(text, origin=path.name)
        if "methods" in tree:  # a study, not a scenario
            validate(Study, tree, origin=path.name)
            continue
        if tree.keys() == {"tune"}:  # a part of one
            validate(StudyMethod, tree | {"method": "any"}, origin=path.name)
            continue
        if tree.keys() == {"questions"}:
            for question in tree["questions"]:
                validate(Question, question, origin=path.name)
            continue
        names = {*tree.get("providers", {}), *tree.get("tasks", {})}
        assert {key for key in keys_of(tree) if ":" not in key} - names - SETTINGS == set(), text


@page
def test_every_setting_given_on_a_command_line_is_valid(path: Path) -> None:
    tree = {
        "version": 1,
        "name": "docs",
        "base": {"model": "base"},
        "defaults": {"method": {"name": "diff_pruning"}},
        "providers": {"lab": {"tasks": ["qqp"]}},
        "tasks": {"qqp": {"dataset": "glue/qqp"}},
    }
    for line in shell_lines(path.read_text(encoding="utf-8")):
        words = words_of(line)
        given = [after for word, after in itertools.pairwise(words) if word == "--set"]
        if given and "$density" not in line:
            resolve_scenario(override(tree, given, Scenario).tree, origin=line, folder=ROOT)


def test_the_plug_ins_of_the_guide_on_extending_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "guides" / "extending.md").read_text(encoding="utf-8")
    module, (scenario,) = (
        re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL) for kind in ("python", "yaml")
    )
    (tmp_path / "my_lab.py").write_text("\n\n".join(module), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_lab", raising=False)
    lab = make_lab(tmp_path)
    tree = parse_yaml(scenario, origin="extending.md")
    tree["defaults"]["training"] = lab.tree()["defaults"]["training"]

    ran = carry_out(lab.scenario(**tree), tmp_path / "home")

    (outcome,) = ran.outcomes
    assert outcome.record.method == "random_mask"
    assert outcome.scores[0].metric == "balanced_accuracy"
    assert outcome.record.arrived_us == 2 * DAY_US


@page
def test_every_name_in_code_type_occurs_in_the_program(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    names = {
        part
        for code in re.findall(r"`([^`\n]+)`", text)
        if "/" not in code and "my_lab" not in code
        for part in re.findall(r"\b[a-z]+_[a-z_]+[a-z]\b", code)
    }

    assert sorted(name for name in names if name not in PROGRAM) == []


def test_the_guide_on_masks_has_the_table_of_all() -> None:
    text = (ROOT / "docs" / "guides" / "masks.md").read_text(encoding="utf-8")

    assert mask_table() in text


def test_every_setting_is_described() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", settings_reference(), re.M)

    assert len(rows) > 100
    assert {key for key, meaning in rows if not meaning.strip()} <= {"name", "process"}
