"""A study's file: what its cells share, the methods, what of each is tuned, and the cells.

A cell is one task under one seed by one setting of one method: an ordinary run with one arrival,
whose scenario's digest is its identity. Whatever was recorded of it, here or in an imported home,
is found by that.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from streamlab.config import Settings, Tree, read_yaml, validate
from streamlab.errors import ConfigError
from streamlab.overrides import assign
from streamlab.shipped import find_file
from streamlab.stream.provider_settings import Name
from streamlab.stream.scenario import LoadedScenario, Scenario, resolve_scenario
from streamlab.study.tuning import (
    Grid,
    Search,
    Setting,
    Tune,
    Value,
    first_setting,
    grid_settings,
)


@dataclass(frozen=True)
class Row:
    """One method at one size: what a table has a row for."""

    method: str
    size: Value | None  # None for a method without sizes

    @property
    def label(self) -> str:
        """Return the label of its arrivals."""
        # Names have no spaces, which `10 kB` may have.
        size = "" if self.size is None else f"-{self.size}".replace(" ", "")
        return f"{self.method}{size}"


class StudyMethod(Settings):
    """One method of a study: its settings, its sizes, and what is chosen for it."""

    method: str | Mapping[str, Any]
    """As `defaults.method` of a scenario; its label is its name in the study."""
    training: Mapping[str, Any] = Field(default={})
    """Replaces single settings of `defaults.training`."""
    storage: Mapping[str, Any] = Field(default={})
    """Replaces single settings of `storage`: `values: sign`."""
    sizes: Grid = Field(default={}, max_length=1)
    """Values of one setting, each a row of its own: `method.target_density: [0.005, 0.001]`."""
    tune: Tune = Field(default={})
    """Values to choose from, on validation examples split from train: one cell each, and each
    combination of several settings. `training.learning_rate: [1e-4, 2e-4]`. Or a search by Optuna,
    which has `n_trials` and a `space`."""


class Question(Settings):
    """A comparison that is decided on before anything is run, and answered by the page."""

    ask: Annotated[str, Field(min_length=1, max_length=200)]
    """The question, as the page shows it."""
    methods: tuple[str, ...] = Field(min_length=1)
    """Methods, or single rows by their labels: `random`, `random-0.001`."""
    against: tuple[str, ...] = Field(min_length=1)
    """What each is compared with: of two methods that have sizes in common, equal sizes only."""


class Study(Settings):
    """A study: every method at its best on the same tasks and seeds."""

    version: Literal[1]
    """Of the study format."""
    name: Name
    """What tables and pages call it."""
    seeds: tuple[Annotated[int, Field(ge=0, lt=1 << 63)], ...] = Field(min_length=1)
    """The first is that of tuning."""
    shared: Mapping[str, Any]
    """What all cells share, as in a scenario: `base`, `data`, `defaults.training`, `storage`."""
    tasks: Mapping[Name, Mapping[str, Any]] = Field(min_length=1)
    """As in a scenario."""
    methods: Mapping[Name, StudyMethod] = Field(min_length=1)
    """By the names that tables show."""
    reference: str
    """The method that the others are compared with."""
    choose: Literal["all_tasks", "by_task"] = "all_tasks"
    """Whether one value is chosen for all tasks, by the mean of their validation scores, or one
    for each."""
    note: str = ""
    """What readers of the page have to know of how it was run."""
    questions: tuple[Question, ...] = ()
    """What the page answers beside the comparison with the reference."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.reference not in self.methods:
            known = ", ".join(self.methods)
            raise ValueError(f"`reference` must be one of the methods: {known}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("`seeds` must differ from one another")
        names = {*self.methods, *(row.label for row in self.rows())}
        for question in self.questions:
            for name in (*question.methods, *question.against):
                if name not in names:
                    raise ValueError(f"`questions` must name methods or rows; {name!r} is neither")
        return self

    def rows(self) -> list[Row]:
        """Return every method at each of its sizes, in the order of the file."""
        return [
            Row(name, size)
            for name, method in self.methods.items()
            for size in next(iter(method.sizes.values()), (None,))
        ]

    def pairs(self, question: Question) -> list[tuple[Row, Row]]:
        """Return which rows a question compares, and with which."""
        found = []
        for first, second in itertools.product(question.methods, question.against):
            pairs = [
                (row, other)
                for row, other in itertools.product(self._named(first), self._named(second))
                if row != other
            ]
            equal = [pair for pair in pairs if pair[0].size == pair[1].size is not None]
            found += equal or pairs
        return found

    def _named(self, name: str) -> list[Row]:
        return [row for row in self.rows() if name in (row.method, row.label)]


@dataclass(frozen=True)
class Cell:
    """One task under one seed by one setting of one row."""

    row: Row
    chosen: Setting
    task: str
    seed: int
    scenario: LoadedScenario = field(compare=False, repr=False)

    @property
    def digest(self) -> str:
        """Return its identity."""
        return self.scenario.digest


@dataclass(frozen=True)
class LoadedStudy:
    """A study and the folder that relative paths in it start from."""

    study: Study
    folder: Path
    origin: str
    _cells: dict[tuple[Row, Setting, str, int], Cell] = field(default_factory=dict, compare=False)

    @property
    def cells_file(self) -> Path:
        """Return where the records of its cells are exported to: beside the study's file."""
        return Path(self.origin).with_suffix("") / "cells.jsonl"

    @property
    def overlaps_file(self) -> Path:
        """Return where the overlaps of its masks are exported to."""
        return self.cells_file.with_name("overlaps.jsonl")

    def rows(self) -> list[Row]:
        """Return every method at each of its sizes, in the order of the file."""
        return self.study.rows()

    @property
    def tuned_together(self) -> list[list[str]]:
        """Return the groups of tasks that one setting is chosen for."""
        tasks = list(self.study.tasks)
        return [tasks] if self.study.choose == "all_tasks" else [[task] for task in tasks]

    def settings(self, row: Row) -> list[Setting]:
        """Return every combination of the values of a grid; those of a search depend on results."""
        tune = self.study.methods[row.method].tune
        return [] if isinstance(tune, Search) else list(grid_settings(tune))

    def trials(self, row: Row) -> list[list[Cell]]:
        """Return the cells that a grid's setting is chosen from: by setting, then by task."""
        seed, tasks = self.study.seeds[0], self.study.tasks
        return [[self.cell(row, s, task, seed) for task in tasks] for s in self.settings(row)]

    def cell(self, row: Row, chosen: Setting, task: str, seed: int) -> Cell:
        """Return one cell. Raises ConfigError where its scenario is not valid."""
        key = row, chosen, task, seed
        if key not in self._cells:  # each is asked for many times, by every choice of its row
            origin = f"{self.origin}, method `{row.method}`, task `{task}`"
            tree = self._tree(row, chosen, task, seed)
            scenario = resolve_scenario(tree, origin=origin, folder=self.folder)
            self._cells[key] = Cell(row, chosen, task, seed, scenario)
        return self._cells[key]

    def first_cell(self) -> Cell:
        """Return the cell of the first row, setting, task and seed."""
        row = self.rows()[0]
        chosen = first_setting(self.study.methods[row.method].tune)
        return self.cell(row, chosen, next(iter(self.study.tasks)), self.study.seeds[0])

    def _tree(self, row: Row, chosen: Setting, task: str, seed: int) -> Tree:
        """Return the scenario of a cell as it would be written in a file."""
        study, method = self.study, self.study.methods[row.method]
        tree = _copy(study.shared)
        given = {"name": method.method} if isinstance(method.method, str) else _copy(method.method)
        defaults = tree.setdefault("defaults", {})
        defaults["method"] = {**given, "label": row.label}
        defaults["training"] = {**(defaults.get("training") or {}), **method.training}
        if method.storage:
            tree["storage"] = {**(tree.get("storage") or {}), **method.storage}
        sized = [(path, row.size) for path in method.sizes]
        for path, value in (*sized, *chosen):
            inside = path.startswith(("method.", "training."))
            assign(tree, f"defaults.{path}" if inside else path, value, Scenario)
        return tree | {
            "version": 1,
            "name": f"study-{row.label}-{task}",  # not the study's: studies may share cells
            "seeds": [seed],
            "providers": {"study": {"tasks": [task]}},
            "tasks": {task: _copy(study.tasks[task])},
        }


def load_study(path: Path) -> LoadedStudy:
    """Read and validate a study, and a cell of every setting and of every task.

    `path`: a file, or the name of a shipped study. Raises ConfigError naming every problem of the
    first that is not valid.
    """
    path = find_file(path, "study")
    given = read_yaml(path)
    loaded = LoadedStudy(validate(Study, given, origin=str(path)), path.parent, str(path))
    refused = {"version", "name", "seeds", "providers", "tasks", "baselines"}
    for key in refused & loaded.study.shared.keys():
        raise ConfigError(str(path), [f"shared.{key}: is the study's own; leave it out."])
    tasks, seed = list(loaded.study.tasks), loaded.study.seeds[0]
    rows = loaded.rows()
    firsts = [(row, first_setting(loaded.study.methods[row.method].tune)) for row in rows]
    settings = [(row, setting) for row in rows for setting in loaded.settings(row)]
    for row, setting in (*firsts, *settings):
        loaded.cell(row, setting, tasks[0], seed)
    for task in tasks:
        loaded.cell(*firsts[0], task, seed)
    return loaded


def _copy(tree: Mapping[str, Any]) -> Tree:
    return {key: _copy(v) if isinstance(v, Mapping) else v for key, v in tree.items()}
