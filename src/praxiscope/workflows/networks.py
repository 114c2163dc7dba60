"""A run's best weights as a network that can be asked."""

from __future__ import annotations

from praxiscope.data.manifest import read_manifest
from praxiscope.models.runtime import tune_allocator
from praxiscope.prediction.predictors import Network
from praxiscope.prediction.torch_network import build_network
from praxiscope.recipe.load import load_recipe
from praxiscope.runs.rundir import RunDir
from praxiscope.training.watch import Watcher
from praxiscope.workflows.evaluate import choose_stored_runtime, load_best


def open_run(run: RunDir, *, device: str | None, batch_size: int | None, watch: Watcher) -> Network:
    """Open a run's network as ``evaluate`` would: the same weights, preprocessing, precision and batches.

    Raises:
        IntegrityError: No sound checkpoint.
        UsageError, EnvironmentProblem: No such device.
    """
    tune_allocator()
    recipe, manifest = load_recipe(run.recipe), read_manifest(run.manifest)
    manifest.require_images("praxiscope predict and cascade")
    built = load_best(run, recipe, manifest, watch)
    return build_network(
        built,
        recipe,
        names=manifest.heads["action"],
        runtime=choose_stored_runtime(run.read_run_json()["environment"], built, device),
        source=run.path,
        label=f"{run.path.parent.name}/{run.run_id}",
        batch_size=batch_size,
    )
