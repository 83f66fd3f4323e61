"""`streamlab plot` and `report`: figures with their numbers as CSV, and a run as one page."""

from __future__ import annotations

import time
from pathlib import Path

import click

from streamlab.cli.completion import RUNS, names_of
from streamlab.cli.options import BYTES, COUNT, OneOf, Place, output_option, run_option, with_place
from streamlab.cli.output import note, print_line
from streamlab.errors import UsageError
from streamlab.figures.catalogue import BY_NAME
from streamlab.registry.references import LATEST, find_run
from streamlab.units import counted


@click.command()
@click.argument("figure", type=OneOf(tuple(BY_NAME), what="figure"), metavar="FIGURE")
@run_option
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The folder to write to; default: figures/RUN in the home.",
)
@click.option("--pdf", is_flag=True, help="Write a PDF too.")
@click.option("--project", type=COUNT, metavar="N", help="storage: extrapolate to N tasks.")
@click.option("--budget", type=BYTES, metavar="SIZE", help="storage: mark this budget.")
@with_place
def plot(
    figure: str,
    *,
    place: Place,
    run: str,
    output: Path | None,
    pdf: bool,
    project: int | None,
    budget: int | None,
) -> None:
    """Draw a FIGURE as PNG and SVG, and write its numbers as CSV.

    \b
    storage   bytes stored after each task, in total and without the base: a diff
              for each task, beside full checkpoints, adapters and coordinates
    costs     bytes of a task by each method, beside what is computed
    bytes     the parts of each task's file, with the bound of its positions
    accuracy  each task's score by each method, beside the majority's
    pareto    score against bytes, over all tasks and for each, with the front
    matrix    the score of each task after each arrival
    curves    loss and density over the training steps of each task, with loss and
              score on held-back examples
    layers    where retained weights are, by layer and by kind of tensor
    overlap   the positions two tasks have in common, compared with chance
    timeline  arrival, waiting and training of each provider's tasks over time
    queue     how many arrivals wait and are in training, over time
    device    the bytes on the device over time, with its budget, and the hit
              rate of every eviction policy

    The caption is printed to standard error and is in the files' metadata, not in the
    picture. With more tasks than can be named, a figure shows all without names, their
    spread, or a selection, and the caption says so; the CSV names them.

    Unless a figure says otherwise it shows the run's first seed by the
    scenario's own method.

    \b
    Example:
      streamlab plot storage --run latest -o figures
    """
    # Here, so that `--help` does not load the registry.
    from streamlab.figures.style import caption_of, drawn, write_figure
    from streamlab.views.run_source import RunSource

    options = {"project_to": project, "budget": budget} if figure == "storage" else {}
    if figure != "storage" and (project is not None or budget is not None):
        raise UsageError("`--project` and `--budget` are for the figure `storage` only.")
    with place.open() as registry:
        name = find_run(registry, run).name
        source = RunSource(registry, place.home, name, place.store_url)
        drawing = BY_NAME[figure].read(source, **options)
    picture = drawn(drawing.draw)
    folder = output or place.home.figures_of(name)
    for path in write_figure(
        folder, drawing.name, lambda: picture, drawing.columns, drawing.rows(), pdf=pdf
    ):
        print_line(path)
    note(caption_of(picture))


@click.command()
@click.argument("run", default=LATEST, shell_complete=names_of(*RUNS, words=(LATEST,)))
@output_option("-o", "--output", text="The file to write; default: reports/RUN.html in the home.")
@with_place
def report(run: str, *, place: Place, output: Path | None) -> None:
    """Write a report of a RUN (a name, a number or `latest`, the default) as one HTML file.

    It holds a summary, the figures that apply to the run, tables of settings and scores by task,
    the sources of the data, failures, the result of `streamlab verify`, the environment and how to
    reproduce the run. It is self-contained: no network, script or font.

    \b
    Example:
      streamlab report
      streamlab report glue_stream-1 -o report.html
    """
    from streamlab.home.verify import verify
    from streamlab.html.document import build_page, write_page

    now = time.time()
    with place.open() as registry:
        record = find_run(registry, run)
        findings = tuple(verify(registry, place.find_store(registry), now=now))
        page = build_page(
            registry, place.home, record, findings, now=now, store_url=place.store_url
        )
    path = output or place.home.report_of(record.name)
    write_page(page, path)
    print_line(path)
    if findings:
        count = counted(len(findings), "problem")
        note(f"Note: {count} in the home; the report and `streamlab verify` list them.")
