"""Commands on a scenario file and its keys: `init`, `scenarios`, `plan`, `keygen`, `check`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamlab.cli.lazy_group import SuggestingGroup
from streamlab.cli.options import number_option, output_option, with_scenario
from streamlab.cli.output import Format, format_option, note, print_table
from streamlab.cli.progress import busy
from streamlab.errors import StreamlabError, UsageError
from streamlab.files import open_private, write_atomically
from streamlab.shipped import KINDS, first_line, shipped_file, shipped_files
from streamlab.units import format_seconds, printable
from streamlab.views.table import Table, columns, tabulate

if TYPE_CHECKING:
    from streamlab.stream.invariants import Claim
    from streamlab.stream.scenario import LoadedScenario


@click.command()
@click.argument(
    "path", type=click.Path(dir_okay=False, path_type=Path), default=Path("scenario.yaml")
)
@click.option("--from", "name", metavar="NAME", help="Copy a shipped scenario or study.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
def init(path: Path, *, name: str | None, force: bool) -> None:
    """Write a commented starter scenario to PATH.

    \b
    Example:
      streamlab init mine.yaml
      streamlab init device.yaml --from small_device
    """
    if path.exists() and not force:
        raise UsageError(f"{path} already exists. Give another name, or `--force` to replace it.")
    source = Path(__file__).with_name("starter.yaml") if name is None else shipped_file(name)
    # The starter names itself in its first lines.
    own = printable(str(path)).encode()
    write_atomically(path, source.read_bytes().replace(b"scenario.yaml", own))
    note(f"Wrote {path}. Run it with: streamlab run {path}")


_SHIPPED_COLUMNS = columns("name, kind, question")


@click.command()
@format_option()
def scenarios(*, form: Format) -> None:
    """List the scenarios and studies that come with streamlab, with the question of each.

    `run`, `plan`, `check` and `study` take a name in place of a file, as in `streamlab run smoke`.
    `init mine.yaml --from smoke` copies one.

    \b
    Example:
      streamlab scenarios
    """
    rows = tuple(
        (name, kind, first_line(path))
        for kind in KINDS
        for name, path in shipped_files(kind).items()
    )
    print_table(Table("shipped", "Scenarios and studies", _SHIPPED_COLUMNS, rows), form)


_PLAN_COLUMNS = columns(
    "seed = arrival.seed: number, task = arrival.task, provider = arrival.provider, "
    "method = arrival.method.label, source, examples = n_train_examples: count, "
    "steps = n_steps: count, [entries = n_entries: count], bytes = file_bytes: bytes, "
    "seconds: seconds"
)


@click.command()
@with_scenario
@format_option()
def plan(*, loaded: LoadedScenario, form: Format) -> None:
    """List the arrivals of SCENARIO with their expected bytes and time, without training.

    Bytes are an upper estimate: positions at their entropy, values at full width, the head.
    Seconds are extrapolated from two timed batches of every task.

    \b
    Example:
      streamlab plan scenarios/smoke.yaml
    """
    with busy("timing two batches of every task"):
        from streamlab.base import load_base
        from streamlab.stream.estimate import plan as planned
        from streamlab.stream.run_context import RunContext

        seeds = loaded.scenario.seeds
        context = RunContext(loaded.scenario, load_base(loaded.base, seed=seeds[0]), loaded.folder)
        rows = planned(context)
        skipped = tuple(context.skipped_sources())
    table = tabulate("plan", f"Plan of {loaded.scenario.name}", _PLAN_COLUMNS, rows)
    print_table(table, form)
    total = format_seconds(sum(row.seconds for row in rows))
    for line in skipped:
        note(f"{line[0].upper()}{line[1:]}")
    note(f"{len(rows)} arrivals, about {total} of training. Nothing was trained.")


@click.command()
@output_option(
    "--out",
    text="The file to write the private key to.",
    default=Path("provider.key"),
    show_default=True,
)
def keygen(*, out: Path) -> None:
    """Make an Ed25519 key pair: write the private key to a file and print the public one.

    The public key goes into the scenario, under its provider. The private key stays with the
    provider: only its owner can read the file, and an existing file is never replaced.

    \b
    Example:
      streamlab keygen --out reviews_inc.key
    """
    from streamlab.stream.submission import generate

    keys = generate()
    try:
        # The key never exists with wider permissions.
        write_atomically(out, f"{keys.private}\n".encode(), opener=open_private, replace=False)
    except FileExistsError as error:
        raise UsageError(
            f"{out} already exists, and a lost private key cannot be recreated. Give another name "
            "with `--out`."
        ) from error
    click.echo(keys.public)
    note(f"Wrote the private key to {out}. Keep it secret.")


_CLAIM_COLUMNS = columns("holds, claim, found")


@click.group(cls=SuggestingGroup)
def check() -> None:
    """Run a scenario in a temporary folder and test that its tasks are independent.

    \b
    Example:
      streamlab check order scenarios/smoke.yaml --shuffles 1
      streamlab check isolation scenarios/smoke.yaml
    """


@check.command()
@with_scenario
@number_option("--shuffles", "Number of other orders.", default=3)
@number_option("--seed", "Seed of the orders.", default=1, least=0)
@format_option()
def order(*, loaded: LoadedScenario, shuffles: int, seed: int, form: Format) -> None:
    """Test that the order of the tasks does not change a file.

    The scenario is run once as written and once per shuffle. The exit code is 1 if any file
    differs.

    \b
    Example:
      streamlab check order scenarios/smoke.yaml --shuffles 1
    """
    from streamlab.stream.invariants import check_order

    with tempfile.TemporaryDirectory(prefix="streamlab-") as folder:
        _print_claims(check_order(loaded, Path(folder), n_shuffles=shuffles, seed=seed), form)


@check.command()
@with_scenario
@format_option()
def isolation(*, loaded: LoadedScenario, form: Format) -> None:
    """Test that no arrival changes the base or an earlier score.

    The scenario is run once. After every arrival the base is fingerprinted and every earlier
    task scored again. The exit code is 1 if anything changed.

    \b
    Example:
      streamlab check isolation scenarios/smoke.yaml
    """
    from streamlab.stream.invariants import check_isolation

    with tempfile.TemporaryDirectory(prefix="streamlab-") as folder:
        _print_claims(check_isolation(loaded, Path(folder), clock=time.time), form)


def _next(claims: Iterator[Claim]) -> Claim | None:
    with busy("running the scenario"):
        return next(claims, None)


def _print_claims(claims: Iterator[Claim], form: Format) -> None:
    """Print every claim as a table; exit with 1 if one does not hold."""
    found = []
    while (claim := _next(claims)) is not None:
        note(f"{'holds' if claim.holds else 'FAILS'}  {claim.subject}")
        found.append(claim)
    rows = tuple(("yes" if c.holds else "NO", c.subject, c.found) for c in found)
    print_table(Table("claims", "Claims", _CLAIM_COLUMNS, rows), form)
    n_broken = sum(not claim.holds for claim in found)
    if n_broken:
        raise StreamlabError(f"{n_broken} of {len(found)} claims do not hold.")
    note(f"All {len(found)} claims hold.")
