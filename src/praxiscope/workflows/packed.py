"""What ``data.pack`` means for a run: the pack is found or made, and what it costs in detail is said."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from praxiscope.data.clips.pack import ClipPackSpec, open_clip_pack
from praxiscope.data.clips.pack_reader import ClipPack
from praxiscope.data.manifest import SPLITS, Manifest
from praxiscope.data.pack import (
    PackLog,
    describe_training_loss,
    list_hashes,
    open_pack,
    refuse_enlarging,
)
from praxiscope.data.pack_reader import Pack, Progress
from praxiscope.data.transforms import TrainTransform
from praxiscope.evaluation.inputs import build_input_spec
from praxiscope.models.build import BuiltModel
from praxiscope.recipe.schema import Recipe
from praxiscope.runs.rundir import RunDir
from praxiscope.training.watch import Watcher


@contextlib.contextmanager
def open_recipe_pack(
    recipe: Recipe,
    manifest: Manifest,
    built: BuiltModel,
    *,
    splits: Sequence[str],
    watch: Watcher,
    note: Callable[[str], None] | None = None,
) -> Iterator[Pack | ClipPack | None]:
    """Open the pack that a recipe asks for, made when there is none; None when it asks for none.

    Args:
        recipe: ``data.pack`` names the size.
        manifest: the images or clips.
        built: what they are fed to.
        splits: whose images will be read; their packed pixels are checked.
        watch: follows progress.
        note: told what a person should know; ``watch`` where not given.

    Raises:
        UsageError: evaluation would enlarge what the pack has reduced.
        DataError: an image can't be read, or is another than when the data was checked.
        EnvironmentProblem: the disk has no room for the pack.
    """
    if recipe.data.pack is None:
        yield None
        return
    note = note or watch.note
    spec = build_input_spec(built, recipe, evaluation=True)
    refuse_enlarging(manifest, recipe.data.pack, spec.resize_size)
    log = PackLog()
    with open_any_pack(recipe, manifest, splits=splits, progress=watch.phase, log=log) as pack:
        for text in [*log.notes, *_describe_use(pack, log, recipe, manifest, built, splits)]:
            note(text)
        yield pack


def open_any_pack(
    recipe: Recipe,
    manifest: Manifest,
    *,
    splits: Sequence[str] = SPLITS,
    progress: Progress | None = None,
    log: PackLog | None = None,
) -> AbstractContextManager[Pack | ClipPack]:
    """Open a recipe's pack, of images or of clips; see :func:`~praxiscope.data.pack.open_pack`."""
    assert recipe.data.pack is not None
    max_pixels = recipe.loader.max_pixels
    if not manifest.holds_clips:
        return open_pack(
            manifest, recipe.data.pack, splits=splits, max_pixels=max_pixels, progress=progress, log=log
        )
    spec = ClipPackSpec(
        short_side=recipe.data.pack,
        num_frames=recipe.model.num_frames,
        section=recipe.clip,
        max_pixels=max_pixels,
    )
    return open_clip_pack(manifest, spec, splits=splits, progress=progress, log=log)


def _describe_use(
    pack: Pack | ClipPack,
    log: PackLog,
    recipe: Recipe,
    manifest: Manifest,
    built: BuiltModel,
    splits: Sequence[str],
) -> Iterator[str]:
    if log.made:
        taken = f" ({log.num_taken_over:,} taken over from another)" if log.num_taken_over else ""
        what = "frames" if isinstance(pack, ClipPack) else "images"
        yield f"Packed {len(pack.index):,} {what}{taken}, {pack.num_bytes / 2**20:,.0f} MiB: {pack.folder}"
    if splits:
        what = "Frames" if isinstance(pack, ClipPack) else "Images"
        yield f"{what} are read from the packed copy {pack.folder.name}, short side {pack.short_side} px."
    if "train" in splits:
        spec = build_input_spec(built, recipe, evaluation=False)
        wanted = TrainTransform(spec=spec, augment=recipe.augment).decode_size
        if loss := describe_training_loss(manifest, pack.short_side, wanted):
            yield loss


def describe_pack(pack: Pack | ClipPack, manifest: Manifest) -> dict[str, Any]:
    """Return what ``run.json`` says about the pack that a run's images are read from.

    The fingerprint is over the pixels of the run's images alone, so that it stays the same when the pack is
    made again or another one that holds them is used.
    """
    described = {
        "short_side": pack.short_side,
        "fingerprint": pack.compute_fingerprint(list_hashes(manifest)),
        "pillow": pack.header["pillow"],
    }
    if isinstance(pack, ClipPack):
        described |= {key: pack.header[key] for key in ("stored_as", "quality", "decoder", "libavcodec")}
    return described


def record_pack(run: RunDir, pack: Pack | ClipPack, manifest: Manifest, note: Callable[[str], None]) -> None:
    """Write into ``run.json`` which pixels a run is trained on; say so when they are others than before."""
    stored, described = run.read_run_json(), describe_pack(pack, manifest)
    before = stored.get("pack")
    if before == described:
        return
    text = (
        f"Images are read from a packed copy with a short side of {pack.short_side} px, "
        f"fingerprint {described['fingerprint'][:12]}."
        if before is None
        else _describe_change(before, described)
    )
    if before is not None:
        note(text)
    run.update_run_json({"pack": described, "notes": [*stored.get("notes", []), text]})


def compare_pack(run: RunDir, pack: Pack | ClipPack, manifest: Manifest, note: Callable[[str], None]) -> None:
    """Say so when the packed pixels aren't those that a run was trained on."""
    before, described = run.read_run_json().get("pack"), describe_pack(pack, manifest)
    if before is not None and before["fingerprint"] != described["fingerprint"]:
        note(_describe_change(before, described))


def _describe_change(before: dict[str, Any], now: dict[str, Any]) -> str:
    return (
        f"The packed pixels are not those that the run began with: fingerprint {now['fingerprint'][:12]} "
        f"(Pillow {now['pillow']}) instead of {before['fingerprint'][:12]} (Pillow {before['pillow']}). "
        "Scores may differ in the last digits."
    )
