"""MLflow. Where to is ``MLFLOW_TRACKING_URI``; a store in the run folder where that is not set."""

from __future__ import annotations

import importlib.metadata
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from praxiscope.errors import EnvironmentProblem
from praxiscope.training.trackers.base import Outcome, TrackedRun, explain_failure, mask_text

if TYPE_CHECKING:
    from mlflow import MlflowClient

_URI = "MLFLOW_TRACKING_URI"
_LOCAL_SCHEMES = frozenset({"", "file", "sqlite"})
_STATES: dict[Outcome, str] = {"done": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_LONGEST_VALUE = 500  # of a parameter; what older servers take
_HINT = f"Check {_URI}; credentials are MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or a token."


class MlflowTracker:
    """A run in an MLflow store or on an MLflow server. Each row has arrived when ``log`` returns."""

    def __init__(self, client: MlflowClient, ids: Mapping[str, str], *, place: str) -> None:
        from mlflow.exceptions import MlflowException

        self._client = client
        self.ids = ids
        self.place = place
        self.last_step = max(
            (metric.step for metric in client.get_metric_history(ids["id"], "epoch")), default=0
        )
        self.errors: tuple[type[Exception], ...] = (MlflowException, OSError)

    def log(self, row: Mapping[str, float | int], *, step: int) -> None:
        """Send a row as one batch."""
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        self._client.log_batch(
            self.ids["id"], metrics=[Metric(key, float(value), now_ms, step) for key, value in row.items()]
        )

    def close(self, outcome: Outcome) -> None:
        """Tell the server how it ended."""
        self._client.set_terminated(self.ids["id"], status=_STATES[outcome])


def check_mlflow(*, offline: bool) -> None:
    """Refuse a server where nothing may leave this machine."""
    uri = os.environ.get(_URI, "")
    if offline and urlsplit(uri).scheme not in _LOCAL_SCHEMES:
        raise EnvironmentProblem(
            f"{_URI} is {mask_text(uri)}, which is not on this machine, but track.offline or "
            f"PRAXISCOPE_OFFLINE asks that nothing leaves it. Unset {_URI} to keep the run in its folder, "
            "or allow the network."
        )


def open_mlflow(run: TrackedRun) -> MlflowTracker:
    """Open a run, or go on with the stored one."""
    # Usage reports to MLflow's makers; whoever wants to send them sets it.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    uri = os.environ.get(_URI) or _choose_own_store(run)
    try:
        client = MlflowClient(tracking_uri=uri)
        run_id = _resume(client, run) if "id" in run.stored else _create(client, run)
        ids = {"id": run_id, "project": str(run.stored.get("project", run.project))}
        return MlflowTracker(client, ids, place=mask_text(uri))
    except (MlflowException, OSError) as problem:
        raise explain_failure(f"MLflow at {mask_text(uri)}", problem, _HINT) from problem


def _choose_own_store(run: TrackedRun) -> str:
    """Return the address of a store in the run folder: a database, or files where MLflow has none."""
    files, database = run.folder / "mlruns", run.folder / "mlflow.db"
    if database.exists() or (_has_database() and not files.exists()):
        return f"sqlite:///{database.as_posix()}"
    # MLflow's file store gets no more features, and newer versions have to be asked for it.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return files.as_uri()


def _has_database() -> bool:
    """Whether this is the whole of MLflow; mlflow-skinny lacks what its databases need."""
    try:
        importlib.metadata.version("mlflow")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _create(client: MlflowClient, run: TrackedRun) -> str:
    from mlflow.entities import Param

    experiment = client.get_experiment_by_name(run.project)
    number = experiment.experiment_id if experiment else client.create_experiment(run.project)
    created = client.create_run(number, run_name=run.name, tags={"praxiscope.run": run.run_id})
    run_id = str(created.info.run_id)
    params = [Param(key, _render(value)) for key, value in run.config.items()]
    for start in range(0, len(params), 100):  # what the interface takes at once
        client.log_batch(run_id, params=params[start : start + 100])
    return run_id


def _resume(client: MlflowClient, run: TrackedRun) -> str:
    """Go on with a run. A parameter never changes in MLflow: what does is noted in a tag."""
    from mlflow.entities import RunTag

    stored = client.get_run(str(run.stored["id"]))
    run_id = str(stored.info.run_id)
    client.update_run(run_id, status="RUNNING")
    before = stored.data.params
    tags = [
        RunTag(f"resumed.{key}", _render(value))
        for key, value in run.config.items()
        if before.get(key) != _render(value)
    ]
    client.log_batch(run_id, tags=tags)
    return run_id


def _render(value: object) -> str:
    return str(value)[:_LONGEST_VALUE]
