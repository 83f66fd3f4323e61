"""`streamlab run`: run a scenario, show progress, close with a table of what it came to."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from streamlab.cli.places import Place, with_place
from streamlab.cli.progress import LiveProgress, elapsed

if TYPE_CHECKING:
    from streamlab.registry.records import RunRecord
    from streamlab.stream.serve import Outcome
    from streamlab.stream.world import World


@click.command()
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override a setting.")
@click.option("--resume", is_flag=True, help="Go on with the latest unfinished run of this scenario.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but the closing table.")
@with_place
def run(
    scenario: Path, overrides: tuple[str, ...], *, resume: bool, quiet: bool, place: Place
) -> None:
    r"""Run SCENARIO: learn every task as it arrives, store its diff, score what was stored.

    \b
    Example:
      streamlab run scenarios/smoke.yaml
      streamlab run scenarios/smoke.yaml --set seeds=[1,2,3]
    """
    from streamlab.stream.engine import run as serve
    from streamlab.stream.scenario import load_scenario

    notes = Console(stderr=True, quiet=quiet, highlight=False)
    loaded = load_scenario(scenario, overrides=overrides)
    began = time.monotonic()
    outcomes: list[Outcome] = []
    closing = Closing(place)
    live = LiveProgress(notes)

    def started(record: RunRecord, world: World) -> None:
        closing.started(record)
        announce(notes, record, world)
        live.expect(record.n_expected)

    with live:
        for outcome in serve(
            loaded,
            place.home.path,
            registry_url=place.registry,
            resume=resume,
            watch=live.show,
            started=started,
        ):
            outcomes.append(outcome)
            notes.print(describe(outcome))
    closing.print(outcomes, elapsed(time.monotonic() - began))
