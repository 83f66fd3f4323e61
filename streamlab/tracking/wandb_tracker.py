"""Weights & Biases: a project for the scenario, a group for the run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import wandb

from streamlab.tracking import Ending, SeriesInfo


class WandbSeries:
    """One run of W&B's."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add values; those of a step that is there already are dropped by W&B."""
        self._run.log(dict(values), step=step)

    def finish(self, ending: Ending) -> None:
        """Send what is left."""
        self._run.finish(exit_code=0 if ending == "finished" else 1)


def begin(info: SeriesInfo) -> WandbSeries:
    """Begin a run, or go on with the one of this series: W&B keeps one value of a step."""
    info.folder.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        project=info.project,
        group=info.run,
        name=f"{info.run} {info.name}",
        id=hashlib.sha256(f"{info.run_id},{info.name}".encode()).hexdigest()[:32],
        resume="allow",
        reinit="create_new",  # several trainings at once
        config=dict(info.config),
        dir=str(info.folder),
        settings=wandb.Settings(silent=True),
    )
    return WandbSeries(run)
