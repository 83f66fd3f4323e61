"""`streamlab plot` and `report`: figures with their numbers as CSV, and a run as one page."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import click

from streamlab.cli.options import BYTES, COUNT, OneOf, Place, with_place
from streamlab.errors import UsageError
from streamlab.registry.references import find_run
from streamlab.units import counted

if TYPE_CHECKING:
    from streamlab.home.store import ArtifactStore
    from streamlab.registry.registry import Registry


class _OfRun(Protocol):
    """What a figure shows; all of one run."""

    @property
    def run(self) -> str: ...


Shown = TypeVar("Shown", bound=_OfRun)


@dataclass(frozen=True)
class _Asked:
    """What to draw, of which run, and where to."""

    place: Place
    run: str
    output: Path | None
    project: int | None
    budget: int | None

    @property
    def store(self) -> ArtifactStore:
        """Return where the files lie that the figure is of."""
        from streamlab.home.store import ArtifactStore

        return ArtifactStore(self.place.home.store)

    def drawn(
        self,
        read: Callable[[Registry, str], Shown],
        write: Callable[[Shown, Path], tuple[Path, ...]],
    ) -> tuple[Path, ...]:
        """Read a figure's data from the registry, write it to its folder and return the paths."""
        with self.place.open() as registry:
            data = read(registry, find_run(registry, self.run).name)
        return write(data, self.output or self.place.home.figures_of(data.run))


def _storage(asked: _Asked) -> tuple[Path, ...]:
    from streamlab.figures.storage import StorageSeries, storage_series, write_storage

    def write(series: StorageSeries, folder: Path) -> tuple[Path, ...]:
        files = write_storage([series], folder, budget=asked.budget)
        return (files.png, files.svg, files.csv)

    return asked.drawn(partial(storage_series, project_to=asked.project), write)


def _bytes(asked: _Asked) -> tuple[Path, ...]:
    from streamlab.figures.file_parts import read_bytes, write_bytes

    return asked.drawn(partial(read_bytes, store=asked.store), write_bytes)


def _accuracy(asked: _Asked) -> tuple[Path, ...]:
    from streamlab.figures.accuracy import read_accuracy, write_accuracy

    return asked.drawn(read_accuracy, write_accuracy)


def _pareto(asked: _Asked) -> tuple[Path, ...]:
    from streamlab.figures.pareto import read_pareto, write_pareto

    return asked.drawn(read_pareto, write_pareto)


def _matrix(asked: _Asked) -> tuple[Path, ...]:
    from streamlab.figures.accuracy_matrix import read_matrix, write_matrix

    return asked.drawn(read_matrix, write_matrix)


def _curves(asked: _Asked) -> tuple[Path, ...]:
    from streamlab.figures.training_curves import read_curves, write_curves

    return asked.drawn(partial(read_curves, folder=asked.place.home.curves), write_curves)


def _layers(asked: _Asked) -> tuple[Path, ...]:
    from streamlab.figures.layers import read_layers, write_layers

    return asked.drawn(read_layers, write_layers)


def _overlap(asked: _Asked) -> tuple[Path, ...]:
    from streamlab.figures.mask_overlap import read_overlap, write_overlap

    return asked.drawn(partial(read_overlap, store=asked.store), write_overlap)


def _timeline(asked: _Asked) -> tuple[Path, ...]:
    from streamlab.figures.stream_timeline import read_times, write_timeline

    return asked.drawn(read_times, write_timeline)


def _queue(asked: _Asked) -> tuple[Path, ...]:
    from streamlab.figures.queue_length import write_queue
    from streamlab.figures.stream_timeline import read_times

    return asked.drawn(read_times, write_queue)


def _device(asked: _Asked) -> tuple[Path, ...]:
    from streamlab.figures.device_timeline import read_device, write_device

    return asked.drawn(read_device, write_device)


FIGURES: dict[str, Callable[[_Asked], tuple[Path, ...]]] = {
    "storage": _storage,
    "bytes": _bytes,
    "accuracy": _accuracy,
    "pareto": _pareto,
    "matrix": _matrix,
    "curves": _curves,
    "layers": _layers,
    "overlap": _overlap,
    "timeline": _timeline,
    "queue": _queue,
    "device": _device,
}


@click.command()
@click.argument("figure", type=OneOf(tuple(FIGURES), what="figure"))
@click.option(
    "--run", metavar="NAME", default="latest", help="A run's name or number; default: latest."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where to write; default: figures/RUN in the home.",
)
@click.option("--project", type=COUNT, metavar="N", help="storage: extrapolate to N tasks, dashed.")
@click.option("--budget", type=BYTES, metavar="SIZE", help="storage: a line at SIZE, as 64MB.")
@with_place
def plot(
    figure: str,
    *,
    place: Place,
    run: str,
    output: Path | None,
    project: int | None,
    budget: int | None,
) -> None:
    """Draw a FIGURE as PNG and SVG, and write its numbers as CSV.

    \b
    storage   bytes kept after each task: one base and a diff a task, against
              one full checkpoint a task, and LoRA where the run stored adapters
    bytes     what each task's file is made of, with the bound of its positions
    accuracy  each task's score beside full finetuning's, over all seeds
    pareto    score against bytes, a marker for every method and seed
    matrix    the score of each task after each arrival
    curves    loss and density over the steps of each task
    layers    where kept entries lie, by layer and by kind of tensor
    overlap   the positions two tasks have in common, against chance
    timeline  arrivals, waiting and training of each provider over time
    queue     how many arrivals wait and are learnt, over time
    device    the bytes on the device over time, with its budget

    Of more tasks than are readable a figure shows all without names, their
    spread, or some, and says so; the CSV names them.

    Unless a figure says otherwise it is of the run's first seed, by the
    scenario's own method.

    \b
    Example:
      streamlab plot storage --run latest -o figures
    """
    if figure != "storage" and (project is not None or budget is not None):
        raise UsageError("`--project` and `--budget` are for the figure `storage` only.")
    for path in FIGURES[figure](_Asked(place, run, output, project, budget)):
        click.echo(path)


@click.command()
@click.argument("run", default="latest")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The file to write; default: reports/RUN.html in the home.",
)
@with_place
def report(run: str, *, place: Place, output: Path | None) -> None:
    """Write all of a RUN (a name, a number or `latest`, the default) as one HTML file.

    It holds a short answer, the figures that apply to the run, tables of settings and scores by
    task, where the data came from, what failed, the result of `streamlab verify`, the environment
    and how to repeat it. It asks for nothing else: no network, script or font.

    \b
    Example:
      streamlab report
      streamlab report glue_stream-1 -o report.html
    """
    from streamlab.home.store import ArtifactStore
    from streamlab.home.verify import verify
    from streamlab.html.document import build_page, write_page

    now = time.time()
    with place.open() as registry:
        record = find_run(registry, run)
        findings = tuple(verify(registry, ArtifactStore(place.home.store), now=now))
        page = build_page(registry, place.home, record, findings, now=now)
    path = output or place.home.report_of(record.name)
    write_page(page, path)
    click.echo(path)
    if findings:
        count = counted(len(findings), "problem")
        click.echo(
            f"Note: {count} in the home; the page and `streamlab verify` say which.", err=True
        )
