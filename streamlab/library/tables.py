"""Tables as pandas frames, and as HTML for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamlab.representation import html_facts, html_table
from streamlab.views.table import LEFT, Facts, Table, readable

if TYPE_CHECKING:
    from pandas import DataFrame


def frame_of(table: Table) -> DataFrame:
    """Return all columns of a table as a frame of raw values, with times in UTC."""
    import pandas as pd

    names = [column.name for column in table.columns]
    frame = pd.DataFrame.from_records(table.rows, columns=names)
    for column in table.columns:
        if column.kind == "time":
            seconds = frame[column.name].astype("float64")
            frame[column.name] = pd.to_datetime(seconds, unit="s", utc=True)
    return frame


def section_html(section: Facts | Table) -> str:
    """Return facts, or the default columns of a table, as HTML; nothing where there are none."""
    if isinstance(section, Facts):
        facts = [(fact.name, readable(fact.value, fact.kind)) for fact in section.facts]
        return html_facts(section.title, facts) if facts else ""
    table = section.brief()
    if not table.rows:
        return ""
    kinds = [column.kind for column in table.columns]
    return html_table(
        [column.name for column in table.columns],
        [list(map(readable, row, kinds)) for row in table.rows],
        title=table.title,
        right=[column.name for column in table.columns if column.kind not in LEFT],
    )
