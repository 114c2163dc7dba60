from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tracked_runs import SECRETS, Following, build_recipe

from class_folders import write_class_folders
from praxiscope.runs.rundir import RunDir
from praxiscope.workflows.train import train

_OWN = ("WANDB_", "MLFLOW_", "TRACKIO_", "PRAXISCOPE_OFFLINE", "HF_TOKEN")


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of the tests' own, and none of the user's settings. Trackio reads its folder when imported."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(_OWN):
                patch.delenv(name)
        for name in ("HOME", "USERPROFILE"):
            patch.setenv(name, str(home))
        patch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
        patch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
        patch.setenv("TRACKIO_DIR", str(home / "trackio"))
        # The adapters set these; setting and removing them here has the patch take them back at the end.
        for name in ("WANDB_ERROR_REPORTING", "MLFLOW_DISABLE_TELEMETRY", "MLFLOW_ALLOW_FILE_STORE"):
            patch.setenv(name, "")
            del os.environ[name]
        yield home


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def few_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = {"train": 4, "val": 2}
    return write_class_folders(tmp_path_factory.mktemp("few"), splits=splits, names=("clap", "run"))


@pytest.fixture(scope="session")
def tracked(few_images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, list[str]]:
    """A run that all three followed, with secrets in the environment; and its notes."""
    for name in ("wandb", "mlflow", "trackio"):
        pytest.importorskip(name, reason=f"the extra '{name}' is not installed")
    watch = Following()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        run = train(
            build_recipe("wandb", "mlflow", "trackio", track__run_name="my run"),
            data=few_images,
            output=tmp_path_factory.mktemp("tracked"),
            device="cpu",
            watch=watch,
            command=["praxiscope", "train", "--set", f"x.api_key={SECRETS['WANDB_API_KEY']}"],
        )
    return run, watch.notes
