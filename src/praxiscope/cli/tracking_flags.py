"""``--track``, ``--run-name``, ``--wandb-run-name``: the last is a wish, which keeps no run from training."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from praxiscope.errors import UsageError

_CREDENTIALS = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE")
_HOSTS = ("wandb", "coreweave")  # api.wandb.ai, and what newer versions ask instead


def collect_tracking(
    run_name: str | None, wandb_run_name: str | None, trackers: Sequence[str] | None, settings: Sequence[str]
) -> dict[str, Any]:
    """Return the recipe's tracking keys; None for what was not asked for.

    ``--wandb-run-name`` names the run, and adds Weights & Biases where it is installed; where nobody is
    logged in, the run stays on this machine. Both are said on standard error.

    Args:
        run_name: of ``--run-name``.
        wandb_run_name: of ``--wandb-run-name``.
        trackers: of ``--track``.
        settings: of ``--set``; a ``track.offline`` there wins.

    Raises:
        UsageError: two different names.
    """
    keys: dict[str, Any] = {"track.run_name": run_name or wandb_run_name, "track.trackers": trackers}
    if wandb_run_name is None:
        return keys
    if run_name not in {None, wandb_run_name}:
        raise UsageError(
            f"--run-name '{run_name}' and --wandb-run-name '{wandb_run_name}' name the same run; keep one."
        )
    if importlib.util.find_spec("wandb") is None:
        _note(
            f"Weights & Biases is not installed, so '{wandb_run_name}' is not sent there; the run's folder "
            "has everything. To have it: pip install 'praxiscope[wandb]'."
        )
        return keys
    keys["track.trackers"] = list(dict.fromkeys([*(trackers or ()), "wandb"]))
    if not _knows_wandb_login() and not any(text.strip().startswith("track.offline") for text in settings):
        _note(
            f"nobody is logged in to Weights & Biases, so '{wandb_run_name}' stays on this machine; "
            "`wandb sync` sends it later. `wandb login` before training sends it at once."
        )
        keys["track.offline"] = True
    return keys


def _knows_wandb_login() -> bool:
    """Look for credentials where wandb keeps them; asking wandb itself would start its service."""
    if any(os.environ.get(name) for name in _CREDENTIALS):
        return True
    import netrc

    default = Path.home() / ("_netrc" if sys.platform == "win32" else ".netrc")
    try:
        hosts = netrc.netrc(os.environ.get("NETRC") or default).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    own = urlsplit(os.environ.get("WANDB_BASE_URL", "")).hostname
    return any(host == own or any(word in host for word in _HOSTS) for host in hosts)


def _note(text: str) -> None:
    sys.stderr.write(f"NOTE: {text}\n")
