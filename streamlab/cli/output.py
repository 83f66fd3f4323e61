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
from rich.text import Text

from streamlab.cli.layout import fact_lines, fitted_widths, table_lines, wrapped, wrapped_note
from streamlab.units import printable
from streamlab.views.export import csv_text, markdown_table
from streamlab.views.table import LEFT, Facts, Page, Table, columns, readable

Format = Literal["table", "json", "csv", "md"]
WIDTH = 80  # of what does not go to a terminal
UNBOUNDED = 10_000

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
    blocks = [_title(console, f"{page.kind} {name}")]
    for section in page.sections:
        if isinstance(section, Table):
            body = _laid_out(console, section.brief()) if section.rows else ""
        else:
            body = _facts(console, section)
        if body:
            title = _title(console, readable(section.title, "text"))
            blocks.append(f"{title}\n{body}" if title else body)
    click.echo("\n\n".join(blocks), color=console.is_terminal or None)


def note(text: str) -> None:
    """Print a note to standard error, where it does not mix with data."""
    click.echo(for_terminal(printable(text, keep="\n")), err=True)


def for_terminal(text: str) -> str:
    """Return a note broken between words, where standard error is a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        return text
    return wrapped_note(text, Console(stderr=True).width)


def print_line(thing: object) -> None:
    """Print the one line of data that a command has, as the path of a file it wrote."""
    click.echo(printable(str(thing)))


def print_json(tree: Any) -> None:
    """Print JSON in ASCII, so that no name can control the terminal."""
    click.echo(json.dumps(tree, indent=2, allow_nan=False))


def _title(console: Console, text: str) -> str:
    lines = wrapped(text, console.width)
    return "\n".join(_drawn(console, Text(line, style="bold")) for line in lines)


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
        console.width = WIDTH if folded else UNBOUNDED
    return console


def _laid_out(console: Console, table: Table) -> str:
    """Lay out a table with two spaces between columns, or one where that makes it fit.

    A table whose words do not fit beside one another has a block of lines for each row.
    """
    right = [column.kind not in LEFT for column in table.columns]
    names = [readable(column.name, "text") for column in table.columns]
    kinds = [column.kind for column in table.columns]
    rows = [list(map(readable, row, kinds)) for row in table.rows]
    natural = [max(map(cell_len, cells)) for cells in zip(names, *rows, strict=True)]
    gap = 2 if sum(natural) + 2 * (len(natural) - 1) <= console.width else 1
    widths: list[int] | None = natural
    if sum(natural) + gap * (len(natural) - 1) > console.width:
        widths = fitted_widths(names, rows, right, width=console.width, gap=gap)
    if widths is None:
        blocks = (
            _fact_text(console, [(n, text) for n, text in zip(names, row, strict=True) if text], 0)
            for row in rows
        )
        return "\n\n".join(blocks)
    (head,) = table_lines([names], right, widths, gap=gap)
    body = table_lines(rows, right, widths, gap=gap)
    # rich would break lines again, and takes long for what is laid out.
    bold = (_drawn(console, Text(line, style="bold")) for line in head)
    return "\n".join((*bold, *(line for lines in body for line in lines)))


def _facts(console: Console, section: Facts) -> str:
    shown = [fact for fact in section.facts if fact.value is not None]
    pairs = [
        (
            readable(fact.name, "text"),
            readable(fact.value, fact.kind) + (" UTC" if fact.kind == "time" else ""),
        )
        for fact in shown
    ]
    return _fact_text(console, pairs, 2) if pairs else ""


def _fact_text(console: Console, facts: Sequence[tuple[str, str]], indent: int) -> str:
    """Lay out names and values in lines."""
    lines = []
    for name, (first, *rest) in fact_lines(facts, console.width, indent=indent):
        beside = " " * (cell_len(name) + 2)
        label = _drawn(console, Text(name, style="dim"), strip=False)
        lines.append(f"{label}  {first}".rstrip() if first else label.rstrip())
        lines += [line if not first else f"{beside}{line}" for line in rest]
    return "\n".join(lines)


def _drawn(console: Console, text: Text, *, strip: bool = True) -> str:
    """Return a text with its style, on lines as they are."""
    with console.capture() as capture:
        console.print(text, soft_wrap=True, end="")
    return capture.get().rstrip() if strip else capture.get()


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
