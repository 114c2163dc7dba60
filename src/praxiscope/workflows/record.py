"""What ``run.json`` says about a run, section by section."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from praxiscope import __version__
from praxiscope.data.manifest import Manifest
from praxiscope.models.build import BuiltModel
from praxiscope.models.cost import count_compute
from praxiscope.models.runtime import Runtime
from praxiscope.models.state import compute_weights_sha256
from praxiscope.recipe.load import compute_recipe_fingerprint
from praxiscope.recipe.schema import Recipe
from praxiscope.runs.environment import describe_environment, mask_command
from praxiscope.runs.rundir import RunDir
from praxiscope.training.schedule import Joint


def describe_start(
    run: RunDir,
    recipe: Recipe,
    manifest: Manifest,
    built: BuiltModel,
    runtime: Runtime,
    *,
    command: Sequence[str],
    allocator: str,
) -> dict[str, Any]:
    """Return everything that is known before the first step."""
    environment = describe_environment(run.path)
    return {
        "command": mask_command(command),
        "praxiscope_version": __version__,
        "git_commit": environment.pop("git_commit", None),
        "environment": {**environment, **runtime.describe(), "malloc": allocator},
        "data": describe_data(manifest),
        "model": describe_model(built),
        "recipe_fingerprint": compute_recipe_fingerprint(recipe),
        "time": {"train_s": 0.0, "sessions": []},
        "best": None,
        "quarantined": [],
        "notes": [],
    }


def describe_resume(
    run: RunDir, recipe: Recipe, manifest: Manifest, changes: Sequence[str]
) -> dict[str, Any]:
    """Return what a resume changes: what the run follows from now on, with a note for each difference."""
    notes = [*run.read_run_json()["notes"], *(f"changed on resume: {line}" for line in changes)]
    return {
        "recipe_fingerprint": compute_recipe_fingerprint(recipe),
        "data": describe_data(manifest),
        "notes": notes,
    }


def describe_extensions(run: RunDir, joints: Sequence[Joint]) -> list[dict[str, Any]]:
    """Return where the run was continued to another number of epochs, each with the time it first was."""
    known = run.read_run_json().get("extensions", [])
    now = datetime.now(UTC).isoformat(timespec="seconds")
    described = []
    for joint in joints:
        place = {
            "from_epochs": joint.from_epochs,
            "to_epochs": joint.to_epochs,
            "at_epoch": joint.epoch,
            "at_step": joint.step,
            "lr_before": joint.lr,
            "rule": joint.rule,
        }
        # The same joint comes back with each resume; one whose checkpoints were lost is left out.
        before = next((each for each in known if place.items() <= each.items()), None)
        described.append(before or {**place, "time": now})
    return described


def describe_data(manifest: Manifest) -> dict[str, Any]:
    """Return counts, fingerprint and findings of the data."""
    return {
        "root": str(manifest.root),
        "source": manifest.source,
        **{f"num_{split}": manifest.usable(split).num_rows for split in ("train", "val", "test")},
        "heads": {head: list(names) for head, names in manifest.heads.items()},
        "manifest_fingerprint": manifest.fingerprint,
        "findings": [asdict(finding) for finding in manifest.findings],
    }


def describe_model(built: BuiltModel) -> dict[str, Any]:
    """Return what the network is, what an image costs it, and where its first weights came from."""
    cost = count_compute(built.module, img_size=built.img_size)
    return {
        "name": built.card.name,
        "timm_name": built.card.timm_name,
        "timm_kwargs": built.timm_kwargs,
        "img_size": built.img_size,
        "mean": list(built.mean),
        "std": list(built.std),
        "interpolation": built.interpolation,
        "parameters": built.num_parameters,
        "gmacs": cost.gmacs,
        "gflops": cost.gflops,
        "pretrained": None if built.loaded is None else str(built.loaded),
        "weights_sha256": compute_weights_sha256(built.module.state_dict()),
        "frozen": [] if built.frozen is None else [*built.frozen.patterns, *built.frozen.groups],
        "trainable_parameters": built.num_parameters if built.frozen is None else built.frozen.num_trainable,
    }


def describe_session(run: RunDir, started: datetime, state: str, train_s: float) -> dict[str, Any]:
    """Return the run's time with one more session: when, from and to, and how it ended."""
    sessions = list((run.read_run_json().get("time") or {}).get("sessions", []))
    sessions.append(
        {
            "started": started.isoformat(timespec="seconds"),
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "state": state,
        }
    )
    return {"train_s": train_s, "sessions": sessions}
