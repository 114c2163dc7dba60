"""Answer EPIC-KITCHENS-100's challenge: a run's logits of segments whose labels nobody here knows, as a zip.

The segments never become a manifest, and their targets are -1, which no loss and no score takes for a class.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from praxiscope.data.cache import AuditCache
from praxiscope.data.clips.audit import ClipLook, audit_clips
from praxiscope.data.fingerprint import Unreadable
from praxiscope.data.loader import SampleSet
from praxiscope.data.manifest import Manifest, quantify, read_manifest
from praxiscope.data.sources.epic import find_epic_table, list_unlabelled, shorten
from praxiscope.data.sources.listing import Sample
from praxiscope.errors import DataError, UsageError
from praxiscope.evaluation.epic import find_class_ids
from praxiscope.evaluation.inputs import build_evaluation_loader, build_input_spec, choose_batch_size
from praxiscope.evaluation.predict import compute_logits
from praxiscope.evaluation.submission import Answers, SupervisionLevels, require_zip, write_submission
from praxiscope.models.build import BuiltModel
from praxiscope.models.runtime import Normalizer, tune_allocator
from praxiscope.models.world import World, open_world
from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.runs.find import find_run
from praxiscope.runs.rundir import RunDir
from praxiscope.tensors import Heads
from praxiscope.training.watch import Silent, Watcher
from praxiscope.workflows.evaluate import choose_stored_runtime, load_best

NO_TARGET = -1


@dataclass(frozen=True, kw_only=True)
class ChallengeResult:
    """What was written.

    Attributes:
        path: of the zip.
        num_segments: that it answers.
        num_sources: videos or folders of frames that they lie in.
    """

    path: Path
    num_segments: int
    num_sources: int


def answer_challenge(  # noqa: PLR0913 - one parameter a flag
    run: RunDir | Path | str,
    *,
    segments: Path | str,
    submission: Path | str,
    data: Path | str | None = None,
    output: Path | str = "runs",
    device: str | None = None,
    levels: SupervisionLevels | None = None,
    watch: Watcher | None = None,
) -> ChallengeResult:
    """Write a run's answers to a table of segments without labels; nothing is scored.

    Args:
        run: a run of the heads verb and noun, its folder, or ``recipe@latest``.
        segments: ``EPIC_100_test_timestamps.csv``, as a path or below the data folder.
        submission: the zip to write.
        data: where the segments' videos or frames lie; the run's data folder where not given.
        output: folder of all runs, for names.
        device: as for ``train``.
        levels: of supervision.
        watch: follows progress.

    Raises:
        UsageError: no such run or table, another file name, or a network that takes images.
        DataError: a row is damaged, or a segment's video is missing or can't be read: all must be answered.
        IntegrityError: no sound checkpoint.
    """
    watch, submission = watch or Silent(), Path(submission)
    require_zip(submission)
    found = run if isinstance(run, RunDir) else find_run(str(run), root=Path(output))
    recipe, manifest = load_recipe(found.recipe), read_manifest(found.manifest)
    if not manifest.holds_clips:
        raise UsageError(f"--segments: {found.path} was trained on images, and segments are clips.")
    manifest = manifest.with_root(manifest.root if data is None else Path(data).expanduser())
    class_ids = find_class_ids(manifest)
    table = _find_table(Path(segments), manifest.root)
    tune_allocator()
    with open_world(recipe.train.distributed_timeout_s) as world:
        watch = watch if world.is_first else Silent()
        samples = world.from_first(lambda: _look(manifest, table, recipe, watch))
        if recipe.data.pack is not None:
            watch.note("data.pack is left aside: these segments are read from their own files.")
        built = load_best(found, recipe, manifest, watch)
        logits = _compute(found, recipe, built, samples, device, world, watch)

        def finish() -> ChallengeResult:
            watch.phase("writing the submission", 0, 1)
            heads = samples.heads
            answers = Answers(
                sample_ids=samples.sample_ids, heads=heads.names, values=heads.split_logits(logits)
            )
            write_submission(
                answers, submission, class_ids=class_ids, expected=samples.sample_ids, levels=levels
            )
            return ChallengeResult(
                path=submission, num_segments=len(samples), num_sources=len(set(samples.paths))
            )

        return world.from_first(finish)


def _find_table(given: Path, root: Path) -> Path:
    table = given.expanduser()
    table = table if table.is_file() else find_epic_table(root, table)
    if not table.is_file():
        raise UsageError(
            f"--segments {given}: no such file, nor is it in {root} or {root / 'annotations'}. Give the "
            "table of epic-kitchens-100-annotations."
        )
    return table


def _look(manifest: Manifest, table: Path, recipe: Recipe, watch: Watcher) -> SampleSet:
    """Find every segment in its video, and look at each one before the network does."""
    listed = list_unlabelled(manifest.root, table)
    looks = audit_clips(
        manifest.root,
        listed,
        section=recipe.clip,
        cache=AuditCache(manifest.root),
        max_pixels=recipe.loader.max_pixels,
        progress=watch.phase,
    )
    sound = _require_sound(listed, looks, table)
    return SampleSet(
        root=manifest.root,
        sample_ids=tuple(sample.sample_id for sample in listed),
        paths=tuple(sample.place for sample in listed),
        targets=np.full((len(listed), len(manifest.heads)), NO_TARGET, np.int64),
        heads=Heads(names=manifest.heads),
        spans=tuple(look.span for look in sound),
    )


def _require_sound(
    listed: Sequence[Sample], looks: Mapping[str, ClipLook | Unreadable], table: Path
) -> list[ClipLook]:
    """Return each segment's look.

    Raises:
        DataError: A video is damaged, or too short for its segments; each is named once.
    """
    broken: dict[str, list[str]] = defaultdict(list)
    sound = []
    for sample in listed:
        look = looks[sample.sample_id]
        if isinstance(look, Unreadable):
            broken[sample.place].append(f"{sample.sample_id} {look.reason}")
        else:
            sound.append(look)
    if broken:
        told = [f"{place} ({quantify(len(all_), 'segment')}; {all_[0]})" for place, all_ in broken.items()]
        raise DataError(
            f"{quantify(len(broken), 'video')} can't be read as {table.name} asks: {shorten(told)}. A "
            f"submission must answer all {quantify(len(listed), 'segment')}: fetch them again."
        )
    return sound


def _compute(
    run: RunDir,
    recipe: Recipe,
    built: BuiltModel,
    samples: SampleSet,
    device: str | None,
    world: World,
    watch: Watcher,
) -> npt.NDArray[np.float32]:
    """Return (N, K) logits, as evaluation computes them."""
    environment = run.read_run_json()["environment"]
    runtime = world.from_first(lambda: choose_stored_runtime(environment, built, device))
    runtime = replace(runtime, device=world.choose_own(runtime.device, device))
    spec = build_input_spec(built, recipe, evaluation=True)
    with build_evaluation_loader(samples, spec, recipe, runtime) as loader:
        return compute_logits(
            runtime.place(built.module),
            loader,
            num_samples=len(samples),
            batch_size=choose_batch_size(recipe),
            normalize=Normalizer(built.mean, built.std, runtime),
            runtime=runtime,
            flip=recipe.evaluate.flip,
            progress=lambda done, total: watch.phase("answering segments", done, total),
            world=world,
        )
