"""Weights & Biases. Files go to ``trackers/wandb`` in the run folder; credentials are wandb's own affair."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from praxiscope.errors import EnvironmentProblem
from praxiscope.training.trackers.base import Outcome, TrackedRun, explain_failure

_FINISH_TIMEOUT_S = 120.0
# What is sent is what is logged here: no code, no console output, no list of packages, no command line.
_QUIET: dict[str, Any] = {
    "disable_git": True,
    "save_code": False,
    "console": "off",
    "silent": True,
    "x_save_requirements": False,
    "x_disable_meta": True,
    "finish_timeout": _FINISH_TIMEOUT_S,
    "finish_timeout_raises": True,
}
_HINT = (
    "Log in with 'wandb login' (or WANDB_API_KEY), or keep the run on this machine with "
    "--set track.offline=true and send it later with 'wandb sync'."
)


class WandbTracker:
    """A run of Weights & Biases, online or offline."""

    def __init__(self, run: TrackedRun, opened: Any) -> None:
        self._run = opened
        self._offline = bool(opened.offline)
        self.ids = {"id": opened.id, "project": opened.project}
        self.place = str(run.folder / "wandb") if self._offline else str(opened.url)
        # wandb drops steps that are not above those it has. Online it tells where a run stands; offline
        # nobody can be asked, but what the last session closed with is known.
        online_step = opened.step - 1 if opened.resumed else 0
        self.last_step = run.stored_step if self._offline else online_step
        self.errors = _list_errors()

    def log(self, row: Mapping[str, float | int], *, step: int) -> None:
        """Hand a row to wandb's service, which sends it in its own time."""
        self._run.log(dict(row), step=step)

    def close(self, outcome: Outcome) -> None:
        """Wait for the upload, two minutes at most, and end wandb's service process."""
        try:
            self._run.finish(exit_code=0 if outcome == "done" else 1)
        finally:
            _end_service()


def check_wandb(*, offline: bool) -> None:  # noqa: ARG001 - offline always works
    """Refuse an environment that switches wandb off: the run would look recorded."""
    mode = os.environ.get("WANDB_MODE", "")
    if mode == "disabled":
        raise EnvironmentProblem(
            "WANDB_MODE is 'disabled', but track.trackers names 'wandb', and nothing is recorded. Unset "
            "it, set it to 'offline' to keep the run on this machine, or leave wandb out of track.trackers."
        )


def open_wandb(run: TrackedRun) -> WandbTracker:
    """Open a run, or go on with the stored one."""
    # Reports of wandb's own errors to its makers; whoever wants to send them sets it.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    try:
        if not run.offline:
            _require_login()
        opened: Any = wandb.init(
            project=str(run.stored.get("project", run.project)),
            name=run.name,
            id=str(run.stored["id"]) if "id" in run.stored else None,
            resume="allow",
            dir=run.folder,
            mode="offline" if run.offline else None,
            reinit="create_new",  # a run that the user has open in a notebook stays as it is
            settings=_build_settings(),
        )
        opened.config.update(dict(run.config), allow_val_change=True)
    except _list_errors() as problem:
        _end_service()
        raise explain_failure("Weights & Biases", problem, _HINT) from problem
    return WandbTracker(run, opened)


def _list_errors() -> tuple[type[Exception], ...]:
    """Return what wandb raises when its server or its service process is lost."""
    import wandb
    from wandb.sdk import mailbox

    names = ("HandleAbandonedError", "MailboxClosedError")  # not documented: an answer never came
    lost = [getattr(mailbox, name) for name in names if hasattr(mailbox, name)]
    # A lost connection is an OSError, and so is the timeout of finish().
    return (wandb.Error, OSError, *lost)


def _build_settings() -> Any:
    import wandb

    # Names that begin with x_ come and go between versions.
    return wandb.Settings(
        **{key: value for key, value in _QUIET.items() if key in wandb.Settings.model_fields}
    )


def _end_service() -> None:
    """End wandb's service process, which would live as long as this one; unless the user has a run open."""
    import wandb

    if wandb.run is None:
        wandb.teardown()


def _require_login() -> None:
    """Fail where wandb would ask for a key in the middle of the display."""
    import wandb

    mode = wandb.setup().settings.mode
    if mode == "online" and not wandb.login(prompt=False):
        raise wandb.errors.UsageError("nobody is logged in")
