"""Every tracker that a recipe can name. TensorBoard is not among them: ``training.log`` always writes it."""

from __future__ import annotations

from praxiscope.training.trackers.base import TrackerCard
from praxiscope.training.trackers.mlflow import check_mlflow, open_mlflow
from praxiscope.training.trackers.trackio import check_trackio, open_trackio
from praxiscope.training.trackers.wandb import check_wandb, open_wandb

TRACKERS: tuple[TrackerCard, ...] = (
    TrackerCard(name="wandb", title="Weights & Biases", module="wandb", open=open_wandb, check=check_wandb),
    TrackerCard(name="mlflow", title="MLflow", module="mlflow", open=open_mlflow, check=check_mlflow),
    TrackerCard(name="trackio", title="Trackio", module="trackio", open=open_trackio, check=check_trackio),
)


def find_tracker(name: str) -> TrackerCard:
    """Return a tracker's card; the recipe has checked the name."""
    return next(card for card in TRACKERS if card.name == name)
