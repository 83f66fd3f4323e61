"""HTML in which objects show themselves in notebooks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from html import escape

from streamlab.units import printable


def html_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str = "",
    right: Collection[str] = (),
) -> str:
    """Return a table of text cells as HTML; columns named in `right` are aligned right.

    >>> html_table(["task"], [["a<b"]], title="Tasks")[:40]
    '<table><caption style="text-align:left">'
    """
    styles = [f' style="text-align:{"right" if name in right else "left"}"' for name in header]
    lines = [_row("th", header, styles)] if any(header) else []
    lines += [_row("td", row, styles) for row in rows]
    caption = f'<caption style="text-align:left">{_text(title)}</caption>' if title else ""
    return f"<table>{caption}{''.join(lines)}</table>"


def html_facts(title: str, facts: Iterable[tuple[str, str]]) -> str:
    """Return named values under a title as HTML."""
    return html_table(["", ""], facts, title=title)


def _row(tag: str, cells: Sequence[str], styles: Sequence[str]) -> str:
    written = zip(cells, styles, strict=True)
    return f"<tr>{''.join(f'<{tag}{style}>{_text(cell)}</{tag}>' for cell, style in written)}</tr>"


def _text(text: str) -> str:
    return escape(printable(text))
