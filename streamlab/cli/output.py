"""Print tables and pages: laid out for a terminal, or as JSON, CSV or Markdown.

A terminal gets bytes, seconds and times in readable units; JSON and CSV hold raw numbers.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, get_args

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from streamlab.units import printable
from streamlab.views.export import csv_text, markdown_table
from streamlab.views.table import LEFT, Facts, Kind, Page, Table, columns, readable

Format = Literal["table", "json", "csv", "md"]
WIDTH = 80  # of what does not go to a terminal
_UNBOUNDED = 10_000

Command = TypeVar("Command", bound=Callable[..., Any])


def format_option(*formats: str) -> Callable[[Command], Command]:
    """Add `--format`, with these formats or all."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(formats or get_args(Format)),
        default="table",
        show_default=True,
        help="Output format; json and csv hold raw numbers.",
    )


def print_table(table: Table, form: Format, *, every: bool = False, folded: bool = True) -> None:
    """Print one table: its default columns, or all with `every` and as JSON or CSV.

    Into a pipe `folded` keeps it to 80 columns.
    """
    table = table if every or form in ("json", "csv") else table.brief()
    if form == "json":
        print_json(table.records())
    elif form == "csv":
        click.echo(csv_text([c.name for c in table.columns], table.rows), nl=False)
    elif form == "md":
        click.echo(_markdown(table))
    elif table.rows:
        console = _console(folded=folded)
        click.echo(_laid_out(console, table), color=console.is_terminal or None)


def print_page(page: Page, form: Format = "table", *, rows: Table | None = None) -> None:
    """Print a page: its sections without the empty ones, as JSON, or its `rows` as CSV."""
    if form == "json":
        print_json(page.tree())
        return
    if form == "csv" and rows is not None:
        print_table(rows, form)
        return
    if form == "md":
        click.echo(_markdown_page(page))
        return
    console = _console(folded=True)
    name = readable(page.name, "text")
    blocks = [_drawn(console, Text(f"{page.kind} {name}", style="bold"))]
    for section in page.sections:
        if isinstance(section, Table):
            body = _laid_out(console, section.brief()) if section.rows else ""
        else:
            body = _facts(console, section)
        if body:
            title = _drawn(console, Text(readable(section.title, "text"), style="bold"))
            blocks.append(f"{title}\n{body}" if title else body)
    click.echo("\n\n".join(blocks), color=console.is_terminal or None)


def note(text: str) -> None:
    """Print a note to standard error, where it does not mix with data."""
    click.echo(printable(text, keep="\n"), err=True)


def print_line(thing: object) -> None:
    """Print the one line of data that a command has, as the path of a file it wrote."""
    click.echo(printable(str(thing)))


def print_json(tree: Any) -> None:
    """Print JSON in ASCII, so that no name can control the terminal."""
    click.echo(json.dumps(tree, indent=2, allow_nan=False))


def _console(*, folded: bool) -> Console:
    # A pipe gets no colour codes, whatever FORCE_COLOR says; NO_COLOR leaves out bold as well.
    terminal = sys.stdout is not None and sys.stdout.isatty()
    console = Console(
        force_terminal=terminal,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        highlight=False,
        markup=False,
        emoji=False,
    )
    if not terminal:
        console.width = WIDTH if folded else _UNBOUNDED
    return console


def _laid_out(console: Console, table: Table) -> str:
    """Lay out a table with two spaces between columns, or one where that makes it fit."""
    kinds = [column.kind for column in table.columns]
    names = [readable(column.name, "text") for column in table.columns]
    rows = [list(map(readable, row, kinds)) for row in table.rows]
    widths = [max(map(cell_len, cells)) for cells in zip(names, *rows, strict=True)]
    gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= console.width else 1
    if sum(widths) + gap * (len(widths) - 1) > console.width:
        return _drawn(console, _grid(names, kinds, rows, gap=gap))
    # rich takes longer to lay out a table that fits than reading it took.
    head, *body = (_line(row, widths, kinds, gap=gap) for row in (names, *rows))
    return "\n".join((_drawn(console, Text(head, style="bold")), *body))


def _line(row: Sequence[str], widths: Sequence[int], kinds: Sequence[Kind], *, gap: int) -> str:
    cells = []
    for text, width, kind in zip(row, widths, kinds, strict=True):
        blanks = " " * (width - cell_len(text))
        cells.append(text + blanks if kind in LEFT else blanks + text)
    return (" " * gap).join(cells).rstrip()


def _grid(
    names: Sequence[str], kinds: Sequence[Kind], rows: Sequence[Sequence[str]], *, gap: int
) -> RichTable:
    """Lay out a table that is too wide by folding its text."""
    grid = RichTable(
        box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold", expand=False
    )
    for name, kind in zip(names, kinds, strict=True):
        right = kind not in LEFT
        justify: Literal["right", "left"] = "right" if right else "left"
        grid.add_column(Text(name), justify=justify, overflow="fold", no_wrap=right)
    for row in rows:
        grid.add_row(*map(Text, row))
    return grid


def _facts(console: Console, section: Facts) -> str:
    grid = RichTable.grid(padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    shown = [fact for fact in section.facts if fact.value is not None]
    for fact in shown:
        unit = " UTC" if fact.kind == "time" else ""
        value = readable(fact.value, fact.kind) + unit
        grid.add_row(Text(f"  {readable(fact.name, 'text')}"), Text(value))
    return _drawn(console, grid) if shown else ""


def _drawn(console: Console, thing: RichTable | Text) -> str:
    with console.capture() as capture:
        console.print(thing)
    return "\n".join(line.rstrip() for line in capture.get().rstrip("\n").split("\n"))


def _markdown(table: Table) -> str:
    kinds = [column.kind for column in table.columns]
    right = [readable(c.name, "text") for c in table.columns if c.kind not in LEFT]
    rows = (list(map(readable, row, kinds)) for row in table.rows)
    names = [readable(column.name, "text") for column in table.columns]
    return markdown_table(names, rows, right=right)


def _markdown_page(page: Page) -> str:
    blocks = [f"# {page.kind} {readable(page.name, 'text')}"]
    for section in page.sections:
        if isinstance(section, Facts):
            facts = tuple((f.name, readable(f.value, f.kind)) for f in section.facts)
            table = Table(section.key, section.title, columns("name, value"), facts)
        else:
            table = section.brief()
        if table.rows:
            title = [f"## {readable(table.title, 'text')}"] if table.title else []
            blocks += [*title, _markdown(table)]
    return "\n\n".join(blocks)
