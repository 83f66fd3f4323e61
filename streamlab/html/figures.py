"""The figures of the page, in the order that they stand there.

One more figure is one more `Plate` in `PLATES`, with a function that reads what it shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamlab.errors import RegistryError, StreamlabError
from streamlab.figures import accuracy, layers, pareto
from streamlab.figures import accuracy_matrix as matrix
from streamlab.figures import device_timeline as device
from streamlab.figures import file_parts as parts
from streamlab.figures import mask_overlap as overlap
from streamlab.figures import queue_length as queue
from streamlab.figures import stream_timeline as timeline
from streamlab.figures import training_curves as curves
from streamlab.figures.storage import storage_figure, storage_series
from streamlab.figures.stream_timeline import StreamTimes, read_times
from streamlab.figures.style import drawn_svg
from streamlab.home.folder import Home
from streamlab.home.store import ArtifactStore
from streamlab.html.svg import inline_svg
from streamlab.registry.registry import Registry

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Source:
    """What the figures of one run are read from."""

    registry: Registry
    home: Home
    run: str

    @property
    def store(self) -> ArtifactStore:
        """Return the home's store."""
        return ArtifactStore(self.home.store)


@dataclass(frozen=True)
class Plate:
    """One figure: as `plot` calls it, its heading, how to read it, and what reads and draws it."""

    name: str
    title: str
    reading: str
    read: Callable[[Source], Callable[[], Figure]]


@dataclass(frozen=True)
class Picture:
    """One figure as an element of the page, or the reason why it is not there."""

    plate: Plate
    svg: str | None
    reason: str | None = None


def draw_pictures(source: Source) -> Iterator[Picture]:
    """Draw every figure of a run; one that does not apply to it comes with the reason."""
    for plate in PLATES:
        try:
            draw = plate.read(source)
        except StreamlabError as error:
            # Damage to one file is no reason to do without the page that reports it.
            reason = str(error).replace(str(source.home.path), "this home")
            yield Picture(plate, None, reason)
            continue
        svg, words = drawn_svg(draw)
        described = f"{plate.reading} {words}"
        name = f"figure-{plate.name}"
        yield Picture(plate, inline_svg(svg, name=name, title=plate.title, description=described))


def _storage(source: Source) -> Callable[[], Figure]:
    series = storage_series(source.registry, source.run)
    return lambda: storage_figure([series])


def _bytes(source: Source) -> Callable[[], Figure]:
    data = parts.read_bytes(source.registry, source.run, source.store)
    return lambda: parts.draw(data)


def _accuracy(source: Source) -> Callable[[], Figure]:
    data = accuracy.read_accuracy(source.registry, source.run)
    return lambda: accuracy.draw(data)


def _pareto(source: Source) -> Callable[[], Figure]:
    data = pareto.read_pareto(source.registry, source.run)
    if len({(point.arrival.method, point.arrival.seed) for point in data.points}) == 1:
        raise RegistryError("One method and one seed leave nothing to hold against each other.")
    return lambda: pareto.draw(data)


def _matrix(source: Source) -> Callable[[], Figure]:
    data = matrix.read_matrix(source.registry, source.run)
    return lambda: matrix.draw(data)


def _layers(source: Source) -> Callable[[], Figure]:
    data = layers.read_layers(source.registry, source.run)
    return lambda: layers.draw(data)


def _overlap(source: Source) -> Callable[[], Figure]:
    data = overlap.read_overlap(source.registry, source.run, source.store)
    return lambda: overlap.draw(data)


def _curves(source: Source) -> Callable[[], Figure]:
    data = curves.read_curves(source.registry, source.run, source.home.curves)
    return lambda: curves.draw(data)


def _times(source: Source) -> StreamTimes:
    data = read_times(source.registry, source.run)
    if data.clock != "virtual":
        raise RegistryError("The run has no virtual time: its tasks came as they are listed.")
    return data


def _timeline(source: Source) -> Callable[[], Figure]:
    data = _times(source)
    return lambda: timeline.draw(data)


def _queue(source: Source) -> Callable[[], Figure]:
    data = _times(source)
    return lambda: queue.draw(data)


def _device(source: Source) -> Callable[[], Figure]:
    data = device.read_device(source.registry, source.run)
    return lambda: device.draw(data)


PLATES = (
    Plate(
        "storage", "Bytes kept after each task",
        "One base and a diff a task, against one full checkpoint a task.",
        _storage,
    ),
    Plate(
        "accuracy", "Score by task",
        "Each task's score by the run's own method, beside full finetuning where that was trained.",
        _accuracy,
    ),
    Plate(
        "bytes", "What each file is made of",
        "Positions, values, head and metadata of each task's stored file.",
        _bytes,
    ),
    Plate(
        "pareto", "Score against bytes",
        "A panel a task and a marker for every method and seed; up and to the left is better.",
        _pareto,
    ),
    Plate(
        "matrix", "Scores after later arrivals",
        "Diffs are kept apart, so no score in a row may change from left to right.",
        _matrix,
    ),
    Plate(
        "overlap", "Positions that tasks share",
        "How many of the changed positions two tasks have in common.",
        _overlap,
    ),
    Plate(
        "layers", "Where the kept entries lie",
        "The share of each diff's entries by layer and by kind of tensor.",
        _layers,
    ),
    Plate(
        "curves", "Training, step by step",
        "Loss and density over the training steps of each task.",
        _curves,
    ),
    Plate(
        "timeline", "Who was served when",
        "Arrivals, waiting and training of each provider, in virtual time.",
        _timeline,
    ),
    Plate(
        "queue", "How many wait",
        "Arrivals that wait and that are learnt, in virtual time.",
        _queue,
    ),
    Plate(
        "device", "A device that fills up",
        "The bytes on the device in virtual time, with its budget.",
        _device,
    ),
)  # fmt: skip
