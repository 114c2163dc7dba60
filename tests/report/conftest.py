"""Runs and their pages, shared by the tests that only read them."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_runs import Plan, make_run

from payloads import PAYLOADS
from praxiscope.reporting.build import build_report
from praxiscope.runs.rundir import RunDir


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return make_run(tmp_path_factory.mktemp("run"), Plan(per_class=4))


@pytest.fixture(scope="session")
def page(run: RunDir) -> Path:
    return build_report(run)


def poison(run: RunDir) -> None:
    """Put every payload where run.json and recipe.yaml carry text."""
    everything = " ".join(PAYLOADS)
    stored = run.read_run_json()
    stored["environment"] = {f"key {index} {text}": text for index, text in enumerate(PAYLOADS)}
    stored["command"] = ["praxiscope", "train", *PAYLOADS]
    stored["notes"] = list(PAYLOADS)
    stored["git_commit"] = stored["praxiscope_version"] = stored["recipe_fingerprint"] = everything
    stored["model"] |= {"name": everything, "pretrained": everything, "weights_sha256": everything}
    stored["data"] |= {"root": everything, "source": everything}
    stored["data"]["findings"] = [
        {"code": text, "severity": text, "message": text, "count": 1, "examples": [text]} for text in PAYLOADS
    ]
    run.update_run_json(stored)
    run.recipe.write_text("\n".join(PAYLOADS), encoding="utf-8")


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page whose classes, files and run name are all payloads."""
    plan = Plan(
        names=PAYLOADS,
        per_class=3,
        file_name="{split}-{number}-{label}.jpg",
        recipe_name=" ".join(PAYLOADS),
        skill=0.5,
        store_pictures=False,
    )
    run = make_run(tmp_path_factory.mktemp("hostile"), plan)
    poison(run)
    return build_report(run)
