"""The report page of a run: its content, rendered to one HTML file.

Jinja escapes everything put into the template except the figures, which an XML serializer wrote.
The page's own style and script are allowed by their digests, images within it as such, and nothing
else is: `default-src 'none'`.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from streamlab.config import scenario_digest
from streamlab.files import write_atomically
from streamlab.home.folder import Home
from streamlab.home.verify import Finding
from streamlab.html.inline_figures import inline_figures
from streamlab.html.report_tables import arrival_tables, findings_table, settings_table, task_table
from streamlab.html.summary import summarise
from streamlab.registry.records import ArrivalRecord, RunRecord
from streamlab.registry.registry import Registry
from streamlab.units import counted, format_time, printable
from streamlab.version import __version__
from streamlab.views.class_scores import class_table
from streamlab.views.pages import run_page
from streamlab.views.provider_behaviours import behaviour_table
from streamlab.views.run_source import RunSource
from streamlab.views.run_storage import run_storage
from streamlab.views.table import LEFT, readable
from streamlab.views.task_scores import task_scores

MOST_ROWS = 2000  # of one table; many more make a browser slow


@dataclass(frozen=True)
class LiveLine:
    """What a page that follows its run says of it, and the version of the page."""

    version: str
    line: str


def write_page(page: str, path: Path) -> None:
    """Write a page atomically. Raises StoreError where the disk refuses."""
    write_atomically(path, page.encode())


def build_page(
    registry: Registry,
    home: Home,
    run: RunRecord,
    findings: Sequence[Finding] | None,
    *,
    now: float,
    store_url: str | None = None,
    live: LiveLine | None = None,
) -> str:
    """Return the page of a run; `now` is in seconds UTC.

    `findings` are those of its home, None where it was not verified. With `live` the page follows
    the run.
    """
    arrivals = registry.arrivals.list(run=run.id)
    diffs = registry.artifacts.list(run=run.id)
    scores = registry.scores.list(run=run.id)
    base = registry.bases.get(run.base_fingerprint)
    every, failed = arrival_tables(registry, run)
    content = {
        "run": run,
        "base": base,
        "summary": summarise(
            run, run_storage(registry, run, base), arrivals, task_scores(scores), findings or ()
        ),
        "figures": list(inline_figures(RunSource(registry, home, run.name, store_url))),
        "tasks": task_table(run, arrivals, {diff.digest: diff for diff in diffs}, scores),
        "classes": class_table(
            arrival
            for arrival in arrivals
            if (arrival.method, arrival.seed, arrival.status)
            == (run.settings.primary_method, run.settings.seeds[0], "finished")
        ),
        "task_settings": settings_table(run),
        "arrivals": every,
        "failed": failed,
        "behaviours": behaviour_table(run, arrivals, scores),
        "findings": findings_table(findings or (), frozenset(diff.digest for diff in diffs)),
        "verified": findings is not None,
        "live": live,
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
    if content["live"] is not None:
        script += _asset("live.js")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True, finalize=_shown)  # fmt: skip
    environment.filters |= {
        "readable": readable,
        "utc": lambda seconds: f"{format_time(seconds)} UTC",
        "words": _words,
    }
    return environment.from_string(_asset("page.html")).render(
        style=Markup(style),  # noqa: S704 - a file of ours
        script=Markup(script),  # noqa: S704 - a file of ours
        policy=_policy(style, script, asks=content["live"] is not None),
        markup=Markup,
        left=LEFT,
        most_rows=MOST_ROWS,
        version=__version__,
        **content,
    )


def _shown(value: Any) -> Any:
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value, keep="\n")
    return value


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str, *, asks: bool) -> str:
    """Return a policy that allows the page's own style, script and images, and nothing else.

    `asks`: the script may ask the server that the page comes from.
    """
    more = "connect-src 'self'; img-src 'self' data:; " if asks else "img-src data:; "
    return (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; "
        f"{more}base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _words(name: str) -> str:
    """Return a column's name as words, without its unit.

    >>> _words("training_seconds"), _words("by full_finetuning"), _words("n_steps")
    ('training', 'by full_finetuning', 'steps')
    """
    if " " in name or "." in name:
        return name
    unit = next((unit for unit in ("_bytes", "_seconds", "_us") if name.endswith(unit)), "")
    return name.removeprefix("n_").removesuffix(unit).replace("_", " ")


@dataclass(frozen=True)
class ScenarioFile:
    """A scenario file; `is_same`: it has the digest of the scenario that ran."""

    text: str
    is_same: bool


def scenario_file(run: RunRecord, arrivals: Iterable[ArrivalRecord]) -> ScenarioFile:
    """Return a run's scenario with its tasks in the order of arrival.

    The record has no order; tasks without an arrival come last.
    """
    places: dict[str, int] = {}
    for arrival in arrivals:
        places[arrival.task] = min(arrival.sequence, places.get(arrival.task, arrival.sequence))
    tasks = run.settings.tasks
    order = sorted(tasks, key=lambda task: places.get(task, len(tasks)))
    scenario = run.settings.with_task_order(order)
    is_same = scenario_digest(scenario, order) == run.scenario_digest
    return ScenarioFile(yaml.safe_dump(scenario, sort_keys=False), is_same)
