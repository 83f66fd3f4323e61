"""The figures of a run, in the order of the report page, each loaded when it is read.

One more figure is one more module with `read`, `draw` and `write`, and one more entry here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from streamlab.views.run_source import RunSource


@dataclass(frozen=True)
class Plot:
    """A figure that has been read, to be drawn in `house_style` or written with its numbers."""

    run: str
    draw: Callable[[], Figure]
    write: Callable[[Path], tuple[Path, ...]]
    trivial: str | None  # why the figure says nothing about this run; None where it does


@dataclass(frozen=True)
class CatalogueEntry:
    """One figure: its name, its heading, how to read it, and the module that draws it."""

    name: str
    title: str
    reading: str
    module: str

    def read(self, source: RunSource, **options: int | None) -> Plot:
        """Read a run's figure; `options` are those of the module's `read`.

        Raises NotInRegistryError for an unknown run, RegistryError where there is nothing to show.
        """
        module = cast("_FigureModule", import_module(f"streamlab.figures.{self.module}"))
        data = module.read(source, **options)
        return Plot(
            data.run,
            lambda: module.draw(data),
            lambda folder: module.write(data, folder),
            getattr(data, "trivial", None),
        )


class _FigureData(Protocol):
    @property
    def run(self) -> str: ...


class _FigureModule(Protocol):
    def read(self, source: RunSource, **options: int | None) -> _FigureData: ...

    def draw(self, data: _FigureData) -> Figure: ...

    def write(self, data: _FigureData, folder: Path) -> tuple[Path, ...]: ...


FIGURES = (
    CatalogueEntry(
        "storage", "Bytes stored after each task",
        "One base and a diff for each task, compared with a full checkpoint for each.",
        "storage",
    ),
    CatalogueEntry(
        "accuracy", "Score by task",
        "Each task's score by the run's own method, beside full finetuning where it was trained.",
        "accuracy",
    ),
    CatalogueEntry(
        "bytes", "Parts of each file",
        "Positions, values, head and metadata of each task's stored file.",
        "file_parts",
    ),
    CatalogueEntry(
        "pareto", "Score against bytes",
        "A panel for each task, a marker for each method and seed; up and to the left is better.",
        "pareto",
    ),
    CatalogueEntry(
        "matrix", "Scores after later arrivals",
        "Diffs are stored apart, so no score in a row may change from left to right.",
        "accuracy_matrix",
    ),
    CatalogueEntry(
        "overlap", "Positions shared by tasks",
        "The share of changed positions that two tasks have in common.",
        "mask_overlap",
    ),
    CatalogueEntry(
        "layers", "Where retained weights are",
        "The share of each diff's retained weights by layer and by kind of tensor.",
        "layers",
    ),
    CatalogueEntry(
        "curves", "Training curves",
        "Loss and density over the training steps of each task.",
        "training_curves",
    ),
    CatalogueEntry(
        "timeline", "Timeline of providers",
        "Arrivals, waiting and training of each provider over time.",
        "stream_timeline",
    ),
    CatalogueEntry(
        "queue", "Queue length",
        "Arrivals that wait and arrivals in training over time.",
        "queue_length",
    ),
    CatalogueEntry(
        "device", "Bytes on the device",
        "The bytes on the device over time, with its budget.",
        "device_timeline",
    ),
)  # fmt: skip
BY_NAME = {figure.name: figure for figure in FIGURES}
