"""Trackio: a project for the scenario, a group for the run, shown by `trackio show`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from contextvars import Context
from typing import Any

import trackio

from streamlab.tracking import Ending, SeriesInfo


class TrackioSeries:
    """One run of Trackio's."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add values; a thread of Trackio's writes them."""
        self._run.log(dict(values), step=step)

    def finish(self, ending: Ending) -> None:  # noqa: ARG002 - Trackio finds the state itself
        """Wait for what is left to be written."""
        with redirect_stdout(sys.stderr):
            self._run.finish()


def begin(info: SeriesInfo) -> TrackioSeries:
    """Begin a run in place of one of the same name."""
    name = f"{info.name} ({info.run_id[:8]})"
    # Trackio prints, and standard output is for data.
    with redirect_stdout(sys.stderr):
        _delete(info.project, name)
        # In a context of its own: a run in the caller's would be ended.
        run = Context().run(
            trackio.init,
            info.project,
            name,
            group=info.run,
            config=dict(info.config),
            resume="never",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
    return TrackioSeries(run)


def _delete(project: str, name: str) -> None:
    try:
        runs = list(trackio.Api().runs(project))
    except ValueError:  # there is no such project yet
        return
    for run in runs:
        if run.name == name:
            run.delete()
