"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table of cells that are text already.

    >>> print(markdown_table(["task", "score"], [["cola", "12.3"]]))
    | task | score |
    | --- | --- |
    | cola | 12.3 |
    """
    lines = (header, ["---"] * len(header), *rows)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
