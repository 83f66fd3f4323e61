"""`streamlab report`: all of a run as one HTML file."""

from __future__ import annotations

import time
from pathlib import Path

import click

from streamlab.cli.places import Place, with_place
from streamlab.units import counted


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
        record = registry.run(run)
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
