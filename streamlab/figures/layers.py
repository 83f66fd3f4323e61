"""The figure `layers`: where each task's retained weights are, by layer and by kind of tensor.

    share = retained weights in the tensors of one layer (or kind) / all retained of the diff

A layer is the number after `layer`, `layers`, `h`, `block` or `blocks` in a tensor's name. A kind
is the rest of the name, without `weight` or `bias`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamlab.errors import RegistryError
from streamlab.figures.heatmap import heat_map
from streamlab.figures.style import MOST_NAMED, plain, write_figure
from streamlab.registry.records import BaseRecord, DiffRecord
from streamlab.views.run_source import RunSource

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = ("run", "seed", "task", "digest", "by", "name", "n_entries", "share", "share_of_base")
_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
_MOST_KINDS = 9  # columns; the CSV has the rarer kinds too


@dataclass(frozen=True)
class TaskLayers:
    """One diff's retained weights by layer and by kind."""

    task: str
    diff: DiffRecord
    by_layer: dict[str, int]
    by_kind: dict[str, int]


@dataclass(frozen=True)
class LayersFigure:
    """One seed's diffs in the order of arrival, and the base's sizes by the same names."""

    run: str
    seed: int
    method: str
    base: str
    base_by_layer: dict[str, int]
    base_by_kind: dict[str, int]
    tasks: tuple[TaskLayers, ...]


def layer_of(tensor: str) -> str:
    """Return the layer of a tensor by its number, `embeddings` or `other` where it has none.

    >>> layer_of("encoder.layer.3.output.dense.weight"), layer_of("embeddings.word.weight")
    ('3', 'embeddings')
    """
    found = _LAYER.search(tensor)
    if found:
        return found[1]
    return "embeddings" if "embed" in tensor.lower() else "other"


def kind_of(tensor: str) -> str:
    """Return the kind of a tensor: what it is within its layer.

    >>> kind_of("encoder.layer.3.attention.self.query.bias")
    'attention.self.query'
    """
    found = _LAYER.search(tensor)
    if not found:
        return layer_of(tensor)
    return re.sub(r"\.?(weight|bias)$", "", tensor[found.end() :]) or "other"


def read(source: RunSource) -> LayersFigure:
    """Count the retained weights of a run's own stream.

    Raises NotInRegistryError for an unknown run, RegistryError where nothing has finished yet or
    no artifact counts them by tensor.
    """
    stream = source.registry.primary_stream(source.run)
    tasks = []
    for arrival in stream.arrivals:
        diff = stream.diffs[arrival.digest or ""]
        if len(diff.tensor_counts) == len(stream.base.layout) and diff.n_entries:
            counts = diff.tensor_counts
            layers, kinds = (_sums(stream.base, counts, of) for of in (layer_of, kind_of))
            tasks.append(TaskLayers(arrival.task, diff, layers, kinds))
    if not tasks:
        raise RegistryError(
            f"No artifact of the run `{stream.run.name}` records how many weights each tensor "
            "retains, so there is nothing to show. Name another run with `--run`."
        )
    sizes = [math.prod(shape) for _, shape in stream.base.layout]
    return LayersFigure(
        stream.run.name, stream.seed, stream.method, stream.base.model,
        _sums(stream.base, sizes, layer_of), _sums(stream.base, sizes, kind_of), tuple(tasks),
    )  # fmt: skip


def _sums(base: BaseRecord, counts: Sequence[int], of: Callable[[str], str]) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for (name, _), count in zip(base.layout, counts, strict=True):
        sums[of(name)] += count
    return dict(sums)


def write(data: LayersFigure, folder: Path) -> tuple[Path, ...]:
    """Write layers.png, layers.svg and layers.csv. Raises StoreError where the disk refuses."""
    n_base = sum(data.base_by_layer.values())
    rows = [
        (
            *(data.run, data.seed, one.task, one.diff.digest, by, name, count),
            *(count / one.diff.n_entries, sizes[name] / n_base),
        )
        for one in data.tasks
        for by, sums, sizes in (
            ("layer", one.by_layer, data.base_by_layer),
            ("kind", one.by_kind, data.base_by_kind),
        )
        for name, count in sums.items()
    ]
    return write_figure(folder, "layers", lambda: draw(data), _COLUMNS, rows)


def draw(data: LayersFigure) -> Figure:
    """Draw a row a task, layers to the left and kinds to the right; call it in `house_style`."""
    layers = list(data.base_by_layer)
    kinds = list(data.base_by_kind)
    kinds = [kind for kind in kinds if kind not in layers]
    totals = {kind: sum(one.by_kind.get(kind, 0) for one in data.tasks) for kind in kinds}
    kinds = sorted(sorted(kinds, key=lambda k: -totals[k])[:_MOST_KINDS], key=kinds.index)
    cells = {}
    for row, one in enumerate(data.tasks):
        shares = [one.by_layer[layer] for layer in layers] + [one.by_kind[kind] for kind in kinds]
        for column, count in enumerate(shares):
            cells[row, column] = 100 * count / one.diff.n_entries
    names = [f"layer {name}" if name.isdigit() else name for name in layers]
    most = max(cells.values())
    return heat_map(
        [plain(one.task, 14) for one in data.tasks],
        [plain(name, 28) for name in (*names, *kinds)],
        cells,
        (0.0, most),
        write=lambda value: f"{value:.0f}",
        title="retained weights (% of the diff's)",
        caption=[_caption(data, most)],
        split=len(layers),
    )


def _caption(data: LayersFigure, most: float) -> str:
    order = ""
    if len(data.tasks) > MOST_NAMED:
        order = f" {len(data.tasks):,} tasks; the CSV names them. Dark: 0%, light: {most:.0f}%."
    return (
        f"Run {data.run}, seed {data.seed}, {data.method} on {data.base}: measured. Left: by "
        f"layer, adding up to 100%. Right: by kind of tensor over all layers.{order}"
    )
