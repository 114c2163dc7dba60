"""Zero-shot: an image-text model and the class names become a run that evaluates like any other."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from praxiscope.data.build import build_recipe_manifest
from praxiscope.data.manifest import write_manifest
from praxiscope.errors import UsageError, did_you_mean
from praxiscope.models.build import build_model
from praxiscope.models.runtime import choose_device, choose_runtime, tune_allocator
from praxiscope.models.zero_shot import DEFAULT_TEMPLATES, build_zero_shot
from praxiscope.recipe.load import dump_recipe, load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.runs import atomic
from praxiscope.runs.checkpoint import write_checkpoint
from praxiscope.runs.checkpoint_files import BEST
from praxiscope.runs.rundir import RunDir
from praxiscope.training.watch import Silent, Watcher
from praxiscope.workflows.record import describe_session, describe_start
from praxiscope.workflows.train import settle_frames


def zeroshot(  # noqa: PLR0913 - the flags of a command, all but three with a default
    model: str,
    *,
    data: Path | str,
    weights: Path | str,
    templates: Sequence[str] = DEFAULT_TEMPLATES,
    class_texts: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
    output: Path | str = "runs",
    device: str | None = None,
    watch: Watcher | None = None,
    command: Sequence[str] = (),
) -> RunDir:
    """Make a classifier of an image-text model and the data's class names, without training.

    Of clips the logits are the mean of their frames'.

    Args:
        model: as open_clip calls it: ``ViT-B-32``; ``ViT-B-32-quickgelu`` for OpenAI's own weights.
        data: the user's folder; nothing is written to it.
        weights: the model's weights in open_clip's names.
        templates: sentences with one ``{}`` for the class name; their vectors are averaged.
        class_texts: class name -> words to put into the sentences instead of it.
        overrides: ``data.key=value`` and other recipe keys; of ``model.`` only ``model.num_frames``.
        output: folder of all runs.
        device: where it will be evaluated by default.
        watch: follows progress.
        command: the command line, for the record.

    Returns:
        The run's folder; evaluate it on any split.

    Raises:
        UsageError: an unknown model, class or template.
        DataError: the data can't be used as asked.
        EnvironmentProblem: open_clip or the weights are missing, or not of this model.
    """
    watch = watch or Silent()
    started = datetime.now(UTC)
    allocator = tune_allocator()
    name = re.sub(r"[^a-z0-9._-]+", "-", f"zeroshot-{model.lower()}")[:64]
    recipe = load_recipe({"name": name}, list(overrides))
    if recipe.model.model_copy(update={"num_frames": None}) != Recipe(name=name).model:
        raise UsageError(
            "A zero-shot classifier's network follows from its MODEL: of the model. keys only "
            "model.num_frames can be set beside it, for clips."
        )
    manifest = build_recipe_manifest(Path(data), recipe, progress=watch.phase)
    manifest.require_usable()
    num_frames = settle_frames(recipe, manifest).model.num_frames
    if len(manifest.heads) > 1:
        raise UsageError(
            f"The data has the heads {' and '.join(manifest.heads)}; a zero-shot classifier answers one "
            "question. Name one column: --set 'data.heads={verb: COLUMN}'."
        )
    (names,) = manifest.heads.values()
    texts = _choose_texts(names, class_texts or {})
    watch.phase("encoding class names", 0, 1)
    classifier = build_zero_shot(model, Path(weights).expanduser(), names=texts, templates=templates)
    section = classifier.section.model_copy(update={"num_frames": num_frames})
    recipe = recipe.model_copy(update={"model": section})
    built = build_model(section, num_classes=len(names), seed=recipe.seed)
    built.module.load_state_dict(classifier.state, strict=True)
    runtime = choose_runtime(
        choose_device(device), precision="auto", channels_last="auto", family=built.card.family
    )
    run = RunDir.create(Path(output), recipe.name)
    thing = "clip" if manifest.holds_clips else "image"
    with run.lock():
        atomic.write_text(run.recipe, dump_recipe(recipe))
        write_manifest(manifest, run.manifest)
        start = describe_start(run, recipe, manifest, built, runtime, command=command, allocator=allocator)
        sentences = [
            f"{name}: {' | '.join(prompts)}" for name, prompts in zip(names, classifier.prompts, strict=True)
        ]
        start["notes"] = [
            f"zero-shot: {model}, weights {Path(weights).name}; no {thing} trained it",
            *sentences,
        ]
        run.update_run_json(start)
        state = built.module.state_dict()
        write_checkpoint(run.checkpoints, groups={"model": state}, state={}, step=0, epoch=0, tags={BEST})
        run.update_run_json({"time": describe_session(run, started, "done", 0.0)})
        run.write_status("done", step=0, epoch=0)
    return run


def read_class_texts(path: Path) -> dict[str, str]:
    """Read a CSV of the columns ``class`` and ``text``.

    Raises:
        UsageError: the file isn't there, isn't UTF-8 text, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageError(f"--class-texts '{path}' can't be read: {problem}.") from problem
    if not rows or not {"class", "text"} <= rows[0].keys():
        raise UsageError(f"--class-texts '{path}' must have a header 'class,text' and a row for each class.")
    return {row["class"].strip(): row["text"].strip() for row in rows}


def _choose_texts(names: Sequence[str], texts: Mapping[str, str]) -> list[str]:
    for name in texts:
        if name not in names:
            raise UsageError(f"The data has no class '{name}'.{did_you_mean(name, names)}")
    return [texts.get(name, name) for name in names]
