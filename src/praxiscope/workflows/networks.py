"""A run's best weights as a network that can be asked."""

from __future__ import annotations

from statistics import median

from praxiscope.data.clips.flow import refuse_flow
from praxiscope.data.clips.views import ClipRule
from praxiscope.data.manifest import Manifest, read_manifest
from praxiscope.models.runtime import tune_allocator
from praxiscope.prediction.predictors import Network
from praxiscope.prediction.torch_network import build_network
from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.runs.rundir import RunDir
from praxiscope.tensors import Heads
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
    refuse_flow(recipe, "predict")
    built = load_best(run, recipe, manifest, watch)
    return build_network(
        built,
        recipe,
        heads=Heads(names=manifest.heads),
        runtime=choose_stored_runtime(run.read_run_json()["environment"], built, device),
        source=run.path,
        label=f"{run.path.parent.name}/{run.run_id}",
        batch_size=batch_size,
        clip=build_clip_rule(recipe, manifest),
    )


def build_clip_rule(recipe: Recipe, manifest: Manifest) -> ClipRule | None:
    """Return which frames a run's network looks at, None where it takes images."""
    if not manifest.holds_clips:
        return None
    assert recipe.model.num_frames is not None  # set where training begins
    return ClipRule(
        num_frames=recipe.model.num_frames, section=recipe.clip, typical_s=find_typical_length(manifest)
    )


def find_typical_length(manifest: Manifest) -> float | None:
    """Return the median length of the training clips in seconds, None where their files have no times."""
    rows = manifest.usable("train").select(["num_frames", "fps"]).to_pylist()
    lengths = [row["num_frames"] / row["fps"] for row in rows if row["fps"]]
    return round(median(lengths), 3) if lengths else None
