"""The figure `layers`: where each task's retained weights are, by layer and by kind of tensor.

    share = retained weights in the tensors of one layer (or kind) / all retained of the diff

A layer is the number after `layer`, `layers`, `h`, `block` or `blocks` in a tensor's name. A kind
is the rest of the name, without `weight` or `bias`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from streamlab.diff.layout import kind_of, layer_of
from streamlab.errors import RegistryError
from streamlab.figures.heatmap import heat_map
from streamlab.figures.style import MOST_NAMED, StreamFigure, plain
from streamlab.registry.records import DiffRecord
from streamlab.views.run_source import RunSource
from streamlab.views.table import Cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Groups = dict[str, Counter[str]]  # "layer" and "kind": a number for each name
_MOST_KINDS = 9  # columns; the CSV has the rarer kinds too


@dataclass(frozen=True)
class TaskLayers:
    """One diff and its retained weights, by name of each layer and each kind."""

    task: str
    diff: DiffRecord
    by: Groups


@dataclass(frozen=True)
class LayersFigure(StreamFigure):
    """One seed's diffs in the order of arrival, and the base's sizes by the same names."""

    name = "layers"
    columns = (
        "run", "seed", "task", "digest", "by", "name", "n_entries", "share", "share_of_base",
    )  # fmt: skip

    base: Groups
    tasks: tuple[TaskLayers, ...]

    @classmethod
    def read(cls, source: RunSource) -> Self:
        """Count the retained weights of a run's own stream.

        Raises NotInRegistryError for an unknown run, RegistryError where nothing has finished yet
        or no artifact counts them by tensor.
        """
        stream = source.stream
        layout = stream.base.layout
        tasks = tuple(
            TaskLayers(arrival.versioned_task, diff, _groups(layout, diff.tensor_counts))
            for arrival, diff in stream.files
            if len(diff.tensor_counts) == len(layout) and diff.n_entries
        )
        if not tasks:
            raise RegistryError(
                f"No artifact of the run `{stream.run.name}` records how many weights each tensor "
                "retains, so there is nothing to show. Name another run with `--run`."
            )
        return cls(stream, _groups(layout, [math.prod(shape) for _, shape in layout]), tasks)

    def rows(self) -> Iterator[Sequence[Cell]]:
        """Yield a row a diff and layer, and one a diff and kind."""
        n_base = sum(self.base["layer"].values())
        for one in self.tasks:
            for by, counts in one.by.items():
                for name, count in counts.items():
                    shares = (count / one.diff.n_entries, self.base[by][name] / n_base)
                    yield (*self.who, one.task, one.diff.digest, by, name, count, *shares)

    def draw(self) -> Figure:
        """Draw a row a task, layers to the left and kinds to the right."""
        layers = list(self.base["layer"])
        kinds = [kind for kind in self.base["kind"] if kind not in layers]
        totals = {kind: sum(one.by["kind"][kind] for one in self.tasks) for kind in kinds}
        kinds = sorted(sorted(kinds, key=lambda k: -totals[k])[:_MOST_KINDS], key=kinds.index)
        columns = [*(("layer", name) for name in layers), *(("kind", name) for name in kinds)]
        cells = {
            (row, column): 100 * one.by[by][name] / one.diff.n_entries
            for row, one in enumerate(self.tasks)
            for column, (by, name) in enumerate(columns)
        }
        names = [f"layer {name}" if name.isdigit() else name for name in layers]
        most = max(cells.values())
        return heat_map(
            [plain(one.task, 14) for one in self.tasks],
            [plain(name, 28) for name in (*names, *kinds)],
            cells,
            (0.0, most),
            write=lambda value: f"{value:.0f}",
            title="retained weights (% of the diff's)",
            caption=self._caption(),
            split=len(layers),
        )

    def _caption(self) -> str:
        order = ""
        if len(self.tasks) > MOST_NAMED:
            order = f" {len(self.tasks):,} tasks; the CSV names them."
        return (
            f"{self.head}, {self.stream.method} on {self.stream.base.model}: measured. Left: by "
            f"layer, adding up to 100%. Right: by kind of tensor over all layers.{order}"
        )


def _groups(layout: Sequence[tuple[str, object]], counts: Sequence[int]) -> Groups:
    """Add up counts by tensor to those of each layer and each kind."""
    groups: Groups = {"layer": Counter(), "kind": Counter()}
    for (name, _), count in zip(layout, counts, strict=True):
        groups["layer"][layer_of(name)] += count
        groups["kind"][kind_of(name)] += count
    return groups
