"""The figures of a run, in the order of the report page, each loaded when it is read.

One more figure is one more `RunFigure`, and one more entry here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from streamlab.figures.style import RunFigure
    from streamlab.views.run_source import RunSource


@dataclass(frozen=True)
class CatalogueEntry:
    """One figure: its name, its heading, how to read it, and its class."""

    name: str
    title: str
    reading: str
    path: str  # module:Class

    def read(self, source: RunSource, **options: int | None) -> RunFigure:
        """Read a run's figure; `options` are those of the class's `read`.

        Raises NotInRegistryError for an unknown run, RegistryError where there is nothing to show.
        """
        kind = resolve_name(f"streamlab.figures.{self.path}")
        return cast("RunFigure", kind.read(source, **options))


FIGURES = (
    CatalogueEntry(
        "storage", "Bytes stored after each task",
        "One base and a diff for each task, beside a full checkpoint for each: in total, and what "
        "each task adds.",
        "storage:StorageFigure",
    ),
    CatalogueEntry(
        "costs", "Bytes of a task",
        "What was stored beside what is computed for the same base: a full checkpoint and LoRA.",
        "task_costs:CostsFigure",
    ),
    CatalogueEntry(
        "accuracy", "Score by task",
        "Each task's score by the run's own method, by every baseline and by the majority class.",
        "accuracy:AccuracyFigure",
    ),
    CatalogueEntry(
        "bytes", "Parts of each file",
        "Positions, values, head and metadata of each task's stored file.",
        "file_parts:BytesFigure",
    ),
    CatalogueEntry(
        "pareto", "Score against bytes",
        "Means over tasks above, each task below, a marker for each method and seed.",
        "pareto:ParetoFigure",
    ),
    CatalogueEntry(
        "matrix", "Scores after later arrivals",
        "Diffs are stored apart, so no score in a row may change from left to right.",
        "accuracy_matrix:MatrixFigure",
    ),
    CatalogueEntry(
        "overlap", "Positions shared by tasks",
        "The share of changed positions that two tasks have in common.",
        "mask_overlap:OverlapFigure",
    ),
    CatalogueEntry(
        "layers", "Where retained weights are",
        "The share of each diff's retained weights by layer and by kind of tensor.",
        "layers:LayersFigure",
    ),
    CatalogueEntry(
        "curves", "Training curves",
        "Loss and density over the training steps of each task.",
        "training_curves:CurvesFigure",
    ),
    CatalogueEntry(
        "timeline", "Timeline of providers",
        "Arrival, waiting and training of each provider's tasks over time.",
        "stream_timeline:TimelineFigure",
    ),
    CatalogueEntry(
        "queue", "Queue length",
        "Arrivals that wait and arrivals in training over time.",
        "stream_timeline:QueueFigure",
    ),
    CatalogueEntry(
        "device", "Bytes on the device",
        "The bytes on the device over time, with its budget, and the hit rate of every policy.",
        "stream_timeline:DeviceFigure",
    ),
)  # fmt: skip
BY_NAME = {figure.name: figure for figure in FIGURES}
