"""Runs that read from a pack: the same pixels wherever they are read, exact resume, an honest record."""

from __future__ import annotations

import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import PIL
import pytest
from packed_data import read_folder

import praxiscope as px
from praxiscope.data.cache_folders import list_entries
from praxiscope.data.loader import BatchReader, Loader, build_sample_set
from praxiscope.data.pack import list_hashes, open_pack
from praxiscope.data.plan import plan_training_epoch
from praxiscope.data.transforms import EvalTransform, InputSpec, TrainTransform
from praxiscope.errors import Preempted, UsageError
from praxiscope.recipe.schema import AugmentSection, LoaderSection

sys.path.append(str(Path(__file__).parents[1] / "training"))

from training_parts import Acting, build_recipe, digest, stopping_at

SPEC = InputSpec(img_size=32)
AUGMENTS = {
    "crops": {},
    "everything": {"policy": "trivialaugment", "color_jitter": 0.3, "random_erasing": 0.5},
    "padded": {"crop_padding": 4},
}


def read_epoch(samples, *, workers, process=False, **augment):
    transform = TrainTransform(spec=SPEC, augment=AugmentSection(**augment))
    reader = BatchReader(samples=samples, transform=transform, seed=5, max_pixels=10**8)
    plans = plan_training_epoch(len(samples), 2, seed=5, epoch=1)
    with Loader(reader, LoaderSection(), workers=workers, process=process) as loader:
        return np.concatenate([batch.images.numpy() for batch in loader.batches(plans)])


def test_threads_and_processes_read_the_same_pixels(mixed, cache):
    manifest = read_folder(mixed)
    with open_pack(manifest, 64) as pack:
        samples = build_sample_set(manifest, "train", pack=pack)
        inline = read_epoch(samples, workers=0)
        np.testing.assert_array_equal(read_epoch(samples, workers=2), inline)
        np.testing.assert_array_equal(read_epoch(samples, workers=1, process=True), inline)


@pytest.mark.parametrize("augment", AUGMENTS)
def test_packed_images_get_the_draws_of_the_images_themselves(augment, mixed, cache):
    """A pack that reduces nothing differs by the resampler's rounding and the rim of a crop alone."""
    manifest = read_folder(mixed)
    # Read as training would read it, so that the huge JPEG is not decoded at half scale there.
    (mixed / "train/run/huge.jpg").unlink()
    manifest = read_folder(mixed)
    with open_pack(manifest, 1000) as pack:
        packed = read_epoch(build_sample_set(manifest, "train", pack=pack), workers=0, **AUGMENTS[augment])
    files = read_epoch(build_sample_set(manifest, "train"), workers=0, **AUGMENTS[augment])
    difference = np.abs(packed.astype(int) - files.astype(int))
    assert np.median(difference) <= 1
    assert difference.mean() < 4


def test_a_sample_set_is_a_reference_when_pickled(mixed, cache):
    manifest = read_folder(mixed)
    with open_pack(manifest, 64) as pack:
        samples = build_sample_set(manifest, "train", pack=pack)
        samples.packed.read(0)
        content = pickle.dumps(samples)
        assert len(content) < 4000
        np.testing.assert_array_equal(pickle.loads(content).packed.read(2), samples.packed.read(2))


def test_what_is_left_out_is_left_out_of_the_packed_rows(mixed, cache):
    manifest = read_folder(mixed)
    with open_pack(manifest, 64) as pack:
        whole = build_sample_set(manifest, "train", pack=pack)
        fewer = build_sample_set(manifest, "train", pack=pack, without=[whole.sample_ids[1]])
        np.testing.assert_array_equal(fewer.packed.read(1), whole.packed.read(2))


def test_evaluation_crops_of_reduced_images_are_cut_without_resampling(mixed, cache):
    transform = EvalTransform(spec=InputSpec(img_size=56, crop_pct=0.875))
    manifest = read_folder(mixed)
    with open_pack(manifest, 64) as pack:
        rows = pack.select(list_hashes(manifest))
        for row in range(len(rows)):
            pixels = rows.read(row)
            height, width, _ = pixels.shape
            if min(height, width) < 64:
                continue
            top, left = (height - 56) // 2, (width - 56) // 2
            np.testing.assert_array_equal(transform(pixels), pixels[top : top + 56, left : left + 56])


@pytest.fixture
def packed_recipe():
    return build_recipe({"data.pack": 37, "loader.workers": 1})  # 37 px: what 32-px evaluation resizes to


def test_a_run_from_a_pack_resumes_exactly_though_the_pack_was_deleted(
    packed_recipe, noise_folder, tmp_path, cache
):
    whole = px.train(packed_recipe, data=noise_folder, output=tmp_path / "whole")
    for kept in (True, False):
        output = tmp_path / f"kept-{kept}"
        with pytest.raises(Preempted):
            px.train(packed_recipe, data=noise_folder, output=output, watch=stopping_at(4))
        if not kept:
            shutil.rmtree(cache)
        run = px.train(packed_recipe, data=noise_folder, output=output, resume=True)
        assert digest(run) == digest(whole)
        assert run.read_run_json()["pack"] == whole.read_run_json()["pack"]


def test_a_run_says_what_it_was_trained_on(noise_folder, tmp_path, cache):
    watch = Acting()
    recipe = build_recipe({"data.pack": 37, "augment.crop_scale": [0.3, 1.0]})
    run = px.train(recipe, data=noise_folder, output=tmp_path, watch=watch)
    stored = run.read_run_json()
    assert stored["pack"]["short_side"] == 37
    assert stored["pack"]["pillow"] == PIL.__version__
    told = f"Images are read from a packed copy with a short side of 37 px, fingerprint {stored['pack']['fingerprint'][:12]}."
    assert stored["notes"] == [told]
    assert any(note.startswith("Packed 60 images, ") for note in watch.notes)
    assert any(
        "training crops of 60 images are cut from a short side of 37 px" in note for note in watch.notes
    )
    assert all(check.passed for check in px.verify(run))
    first = px.evaluate(run)
    shutil.rmtree(cache)
    watch = Acting()
    again = px.evaluate(run, watch=watch)
    np.testing.assert_array_equal(first.predictions.logits(), again.predictions.logits())
    assert not any("are not those" in note for note in watch.notes)
    assert all(check.passed for check in px.verify(run))


def test_other_pixels_than_the_run_began_with_are_named(
    packed_recipe, noise_folder, tmp_path, cache, monkeypatch
):
    run = px.train(packed_recipe, data=noise_folder, output=tmp_path)
    stored = run.read_run_json()["pack"]
    run.update_run_json({"pack": {**stored, "fingerprint": "0" * 64, "pillow": "1.0"}})
    watch = Acting()
    px.evaluate(run, watch=watch)
    px.train(packed_recipe, data=noise_folder, output=tmp_path, resume=True, watch=watch)
    changed = [note for note in watch.notes if "are not those that the run began with" in note]
    assert len(changed) == 2
    assert "instead of 000000000000 (Pillow 1.0)" in changed[0]
    assert changed[0] in run.read_run_json()["notes"]


def test_a_pack_that_is_too_small_for_evaluation_is_refused_before_there_is_a_run(
    noise_folder, tmp_path, cache
):
    recipe = build_recipe({"data.pack": 32})
    with pytest.raises(
        UsageError, match=r"data\.pack is 32, and evaluation resizes .* Set data\.pack to \d+, or"
    ):
        px.train(recipe, data=noise_folder, output=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    assert list_entries("packs") == ()


def test_another_pack_size_is_another_run(packed_recipe, noise_folder, tmp_path, cache):
    run = px.train(packed_recipe, data=noise_folder, output=tmp_path)
    other = build_recipe({"data.pack": None})
    with pytest.raises(UsageError, match=r"data\.pack"):
        px.train(other, data=noise_folder, output=tmp_path, resume=str(run.path))
