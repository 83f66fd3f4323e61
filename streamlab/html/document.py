"""The page as a whole: what it holds, and how it becomes one file of HTML.

Whatever is put into the template is escaped by Jinja, the figures excepted: these were written by
an XML serializer. Style and script stand in the page and are allowed by their digests, nothing
else is: `default-src 'none'`.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from streamlab.config import digest
from streamlab.files import write_atomically
from streamlab.home.folder import Home
from streamlab.home.verify import Finding
from streamlab.html.figures import Source, draw_pictures
from streamlab.html.report_tables import arrival_tables, findings_table, settings_table, task_table
from streamlab.html.summary import short_answer
from streamlab.registry.records import ArrivalRecord, RunRecord
from streamlab.registry.registry import Registry
from streamlab.units import counted
from streamlab.version import __version__
from streamlab.views.pages import run_page
from streamlab.views.provider_behaviours import behaviour_table
from streamlab.views.table import LEFT, readable
from streamlab.views.task_scores import task_scores

MOST_ROWS = 2000  # of one table; a browser is slow with many more


def write_page(page: str, path: Path) -> None:
    """Write a page aside and rename it. Raises StoreError where the disk refuses."""
    write_atomically(path, page.encode())


def build_page(
    registry: Registry, home: Home, run: RunRecord, findings: Sequence[Finding], *, now: float
) -> str:
    """Return the page of a run; `findings`: of its home, `now`: seconds since the epoch."""
    arrivals = registry.arrivals.list(run=run.id)
    diffs = registry.artifacts.list(run=run.id)
    scores = registry.scores.list(run=run.id)
    base = registry.bases.get(run.base_fingerprint)
    every, failed = arrival_tables(registry, run)
    content = {
        "run": run,
        "base": base,
        "answer": short_answer(run, base, arrivals, diffs, task_scores(scores), findings),
        "pictures": list(draw_pictures(Source(registry, home, run.name))),
        "tasks": task_table(run, arrivals, {diff.digest: diff for diff in diffs}, scores),
        "task_settings": settings_table(run),
        "arrivals": every,
        "failed": failed,
        "behaviours": behaviour_table(run, arrivals, scores),
        "findings": findings_table(findings, frozenset(diff.digest for diff in diffs)),
        "sections": {section.key: section for section in run_page(registry, run).sections},
        "scenario": scenario_file(run, arrivals),
        "repeat": shlex.join(["streamlab", "run", f"{run.scenario_name}.yaml"]),
        "again": shlex.join(["streamlab", "report", run.name]),
        "checked": counted(registry.artifacts.count(), "artifact"),
        "now": now,
    }
    return _rendered(content)


def _rendered(content: Mapping[str, Any]) -> str:
    style, script = _asset("page.css"), _asset("page.js")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True)  # fmt: skip
    environment.filters |= {"readable": readable, "utc": _utc, "words": _words}
    return environment.from_string(_asset("page.html")).render(
        style=Markup(style),  # noqa: S704 - a file of ours
        script=Markup(script),  # noqa: S704 - a file of ours
        policy=_policy(style, script),
        markup=Markup,
        left=LEFT,
        most_rows=MOST_ROWS,
        version=__version__,
        **content,
    )


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Allow what stands in the page, known by its digest, and nothing else."""
    return (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _utc(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _words(name: str) -> str:
    """Write a column's name as words.

    >>> _words("training_seconds"), _words("by full_finetuning"), _words("n_steps")
    ('training', 'by full_finetuning', 'steps')
    """
    if " " in name or "." in name:
        return name
    unit = next((unit for unit in ("_bytes", "_seconds", "_us") if name.endswith(unit)), "")
    return name.removeprefix("n_").removesuffix(unit).replace("_", " ")


@dataclass(frozen=True)
class Repeat:
    """The text of a scenario file; `is_same` where it has the digest of the one that ran."""

    text: str
    is_same: bool


def scenario_file(run: RunRecord, arrivals: Iterable[ArrivalRecord]) -> Repeat:
    """Write a run's scenario with its tasks in the order that they arrived in.

    The record knows no order; a task of which nothing arrived comes last.
    """
    places: dict[str, int] = {}
    for arrival in arrivals:
        places[arrival.task] = min(arrival.sequence, places.get(arrival.task, arrival.sequence))
    tasks = dict(run.scenario.get("tasks", {}))
    order = sorted(tasks, key=lambda task: places.get(task, len(tasks)))
    scenario = dict(run.scenario) | {"tasks": {task: tasks[task] for task in order}}
    is_same = digest([scenario, order]) == run.scenario_digest
    return Repeat(yaml.safe_dump(scenario, sort_keys=False), is_same)
