"""MLflow: an experiment for the scenario, at the server that MLFLOW_TRACKING_URI names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mlflow.tracking import MlflowClient

from streamlab.tracking import Ending, SeriesInfo

_KEY: Final = "streamlab.series"
_STATUS: Final[Mapping[Ending, str]] = {
    "finished": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}


class MlflowSeries:
    """One run of MLflow's."""

    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self._run_id = client, run_id

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add metrics; a thread of MLflow's sends them."""
        for name, value in values.items():
            self._client.log_metric(self._run_id, name, value, step=step, synchronous=False)

    def finish(self, ending: Ending) -> None:
        """Set the run's status."""
        self._client.set_terminated(self._run_id, status=_STATUS[ending])


def begin(info: SeriesInfo) -> MlflowSeries:
    """Begin a run in place of one of the same series."""
    client = MlflowClient()
    found = client.get_experiment_by_name(info.project)
    experiment = client.create_experiment(info.project) if found is None else found.experiment_id
    key = f"{info.run_id},{info.name}"
    for run in client.search_runs([experiment], f"tags.`{_KEY}` = '{key}'"):
        client.delete_run(run.info.run_id)
    tags = {_KEY: key, "streamlab.run": info.run}
    run = client.create_run(experiment, run_name=f"{info.run} {info.name}", tags=tags)
    client.log_dict(run.info.run_id, dict(info.config), "config.json")
    return MlflowSeries(client, run.info.run_id)
