"""Packed clips: the same frames, read many times as fast, and nothing lost when they are deleted."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest
from PIL import Image
from videos_of_kinds import X264, encode

import praxiscope as px
from praxiscope.data.build import build_manifest
from praxiscope.data.clips.frames import read_frames
from praxiscope.data.clips.pack import ClipPackSpec, estimate_clip_bytes, open_clip_pack
from praxiscope.data.clips.pack_reader import FRAMES, INDEX, read_clip_pack
from praxiscope.data.clips.reader import ClipReader
from praxiscope.data.clips.sampling import draw_indices, list_drawable, list_views
from praxiscope.data.loader import build_sample_set
from praxiscope.data.pack import PackLog
from praxiscope.data.pack_writer import compute_packed_size, reduce_image
from praxiscope.data.plan import BatchPlan
from praxiscope.data.transforms import EvalTransform, InputSpec
from praxiscope.errors import DataError, EnvironmentProblem, IntegrityError, UsageError
from praxiscope.recipe.schema import ClipSection, DataSection
from praxiscope.workflows.prepare import prepare_data

T = 4
EXACT = ClipSection(pack_format="uint8")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(
        ("train/run/a", "train/run/b", "train/sit/c", "train/sit/d", "val/run/e", "val/sit/f", "test/run/g", "test/sit/h")
    ):  # fmt: skip
        path = root / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        encode(path, count=12 + number, options={**X264, "g": "6", "bf": "2"})
    return root


@pytest.fixture(scope="module")
def manifest(source):
    return build_manifest(source, DataSection(), seed=0)


@pytest.fixture
def shelf(tmp_path):
    return tmp_path / "packs"


def list_row(manifest, sample_id):
    return next(row for row in manifest.usable(None).to_pylist() if row["sample_id"] == sample_id)


@pytest.mark.parametrize("count", [1, 3, 4, 30, 301])
@pytest.mark.parametrize("sampling", ["uniform", "segment", "dense"])
def test_a_pack_holds_every_frame_that_sampling_may_draw(count, sampling):
    section = ClipSection(sampling=sampling, num_clips=3)
    held = set(list_drawable(count, T, section).tolist())
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert held >= set(draw_indices(count, T, section, rng).tolist())
    for view in list_views(count, T, section):
        assert held >= set(view.tolist())
    # Uniform sampling draws nothing: T frames, and T of each view.
    assert len(held) == (count if sampling != "uniform" else len(held))
    assert sampling != "uniform" or len(held) <= 4 * T


def test_packed_pixels_are_the_frames_reduced(source, manifest, shelf):
    spec = ClipPackSpec(short_side=32, section=EXACT)
    with open_clip_pack(manifest, spec, folder=shelf) as pack:
        row = list_row(manifest, "train/run/b.mp4")
        rows = pickle.loads(pickle.dumps(pack.select([row["sha256"]])))
        frames = rows.read(0, list(range(row["num_frames"])))
        whole = read_frames(source / "train/run/b.mp4", list(range(row["num_frames"])))
        for packed, image in zip(frames, whole, strict=True):
            expected = reduce_image(image, compute_packed_size(*image.size, 32))
            assert np.array_equal(packed, np.asarray(expected))
        assert pack.num_bytes == estimate_clip_bytes(manifest, spec, pack.needs) - sum(
            pack.index.dtype.itemsize for _ in range(len(pack.index))
        )


def test_jpeg_frames_are_close_and_small(manifest, shelf):
    sizes = {}
    for name in ("uint8", "jpeg"):
        spec = ClipPackSpec(short_side=64, num_frames=T, section=ClipSection(pack_format=name))
        with open_clip_pack(manifest, spec, folder=shelf) as pack:
            sizes[name] = pack.num_bytes
            held = pack.select([list_row(manifest, "test/sit/h.mp4")["sha256"]])
            frame = held.read(0, [0])[0]
            if name == "uint8":
                exact = np.asarray(frame).astype(float)
                continue
            assert isinstance(frame, Image.Image)
            assert np.abs(np.asarray(frame).astype(float) - exact).mean() < 6
            assert pack.num_bytes <= estimate_clip_bytes(manifest, spec, pack.needs) * 2
    assert sizes["jpeg"] < sizes["uint8"] / 2


def test_a_reader_gives_from_a_pack_what_it_gives_from_the_videos(manifest, shelf):
    transform = EvalTransform(spec=InputSpec(img_size=48))
    section = ClipSection(pack_format="uint8", num_clips=2, num_crops=3)
    plan = BatchPlan(epoch=0, rows=(0, 1))
    spec = ClipPackSpec(short_side=64, num_frames=T, section=section)
    with open_clip_pack(manifest, spec, folder=shelf) as pack:
        batches = []
        for chosen in (None, pack):
            samples = build_sample_set(manifest, "test", pack=chosen)
            reader = ClipReader(
                samples=samples, transform=transform, section=section, num_frames=T, seed=0, max_pixels=10**6
            )
            batches.append(reader(plan, [-1], 0).images)
    assert batches[0].shape == (2, 6, T, 3, 48, 48)
    assert (batches[0].float() - batches[1].float()).abs().mean() < 1.5  # two resamplers


def test_a_pack_is_found_again_and_one_that_holds_more_serves(manifest, shelf):
    log = PackLog()
    with open_clip_pack(manifest, ClipPackSpec(short_side=32, section=EXACT), folder=shelf, log=log) as pack:
        everything = pack.folder
    assert log.made
    log = PackLog()
    uniform = ClipPackSpec(short_side=32, num_frames=T, section=EXACT)
    with open_clip_pack(manifest, uniform, folder=shelf, log=log) as pack:
        assert pack.folder == everything
        fingerprint = pack.compute_fingerprint(list(pack.needs))
    assert not log.made
    shutil.rmtree(everything)
    with open_clip_pack(manifest, uniform, folder=shelf, log=log) as pack:
        assert pack.folder != everything
        # The same pixels are needed of it: the same fingerprint.
        assert pack.compute_fingerprint(list(pack.needs)) == fingerprint
    assert log.made


def test_another_decoder_or_format_is_another_pack(manifest, shelf):
    names = set()
    for section in (EXACT, ClipSection()):
        with open_clip_pack(
            manifest, ClipPackSpec(short_side=32, num_frames=2, section=section), folder=shelf
        ) as pack:
            names.add(pack.folder)
    assert len(names) == 2


@pytest.mark.parametrize("file", [FRAMES, INDEX, "header.json"])
def test_a_damaged_pack_is_made_again_and_said(manifest, shelf, file):
    spec = ClipPackSpec(short_side=32, num_frames=2, section=EXACT)
    with open_clip_pack(manifest, spec, folder=shelf) as pack:
        target, fingerprint = pack.folder, pack.compute_fingerprint(list(pack.needs))
    data = bytearray((target / file).read_bytes())
    data[len(data) // 2] ^= 0xFF
    (target / file).write_bytes(bytes(data))
    log = PackLog()
    with open_clip_pack(manifest, spec, folder=shelf, log=log) as pack:
        assert pack.compute_fingerprint(list(pack.needs)) == fingerprint
    assert log.made
    assert any(words in log.notes[0] for words in ("damaged", "no intact", "no header"))


def test_an_interrupted_build_leaves_nothing_that_counts(manifest, shelf):
    spec = ClipPackSpec(short_side=32, num_frames=2, section=EXACT)

    def stop(_phase, done, _total):
        if done > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), open_clip_pack(manifest, spec, folder=shelf, progress=stop):
        pass
    assert not [path for path in shelf.iterdir() if not path.name.startswith(".")]
    log = PackLog()
    with open_clip_pack(manifest, spec, folder=shelf, log=log):
        assert log.made


def test_a_clip_that_changed_since_the_check_is_named(source, tmp_path, shelf):
    root = shutil.copytree(source, tmp_path / "copy")
    manifest = build_manifest(root, DataSection(), seed=0)
    encode(root / "train/run/a.mp4", count=13)
    spec = ClipPackSpec(short_side=32, num_frames=2, section=EXACT)
    with (
        pytest.raises(DataError, match=r"1 clip of .* can't be packed: train/run/a\.mp4: changed"),
        open_clip_pack(manifest, spec, folder=shelf),
    ):
        pass


def test_a_pack_never_lies_in_the_data_and_needs_room(manifest, shelf, monkeypatch):
    spec = ClipPackSpec(short_side=32, num_frames=2, section=EXACT)
    with (
        pytest.raises(UsageError, match="lies in the data folder"),
        open_clip_pack(manifest, spec, folder=manifest.root / "packs"),
    ):
        pass
    monkeypatch.setattr(
        "shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000, "total": 0, "used": 0})()
    )
    with (
        pytest.raises(EnvironmentProblem, match=r"needs .* MiB in .* are free"),
        open_clip_pack(manifest, spec, folder=shelf),
    ):
        pass


def test_what_a_pack_lacks_is_refused(manifest, shelf):
    with open_clip_pack(
        manifest, ClipPackSpec(short_side=32, num_frames=2, section=EXACT), folder=shelf
    ) as pack:
        sha256 = list_row(manifest, "train/run/a.mp4")["sha256"]
        with pytest.raises(IntegrityError, match="lacks frames of a clip"):
            pack.select([sha256]).read(0, [3])
        with pytest.raises(KeyError, match="holds no clip"):
            pack.select(["0" * 64])
        rows, folder = pack.select([sha256]), pack.folder
    header = (folder / "header.json").read_text(encoding="utf-8")
    (folder / "header.json").write_text(header + " ", encoding="utf-8")
    with pytest.raises(IntegrityError, match="replaced by another pack"):
        rows.read(0, [0])
    with pytest.raises(IntegrityError, match="is no intact pack"):
        read_clip_pack(folder / "absent")


def test_prepare_says_size_time_and_likeness(source, tmp_path):
    result = prepare_data(source, DataSection(pack=32), out=tmp_path / "out", clip=EXACT)
    text = "\n".join(result.lines)
    assert f"packed: {sum(range(12, 20))} frames of 8 clips" in text
    assert "evaluation crops equal those of the images themselves (8 compared)" in text
    assert "--set data.pack=32 --set clip.pack_format=uint8" in text
    result = prepare_data(source, DataSection(pack=32), out=tmp_path / "out", num_frames=2)
    assert "packed: 16 frames of 8 clips" in "\n".join(result.lines)
    assert result.likeness.worst is not None
    assert result.likeness.worst > 25


def test_training_and_evaluation_read_the_pack_and_say_so(source, tmp_path, monkeypatch):
    monkeypatch.setenv("PRAXISCOPE_CACHE", str(tmp_path / "cache"))
    recipe = px.load_recipe("demo-cnn", {
        "model.name": "resnet18-small-half", "model.img_size": 16, "model.num_frames": T, "train.epochs": 2,
        "train.batch_size": 4, "evaluate.resamples": 100, "train.precision": "fp32", "loader.workers": 0,
        "data.pack": 32, "clip.num_crops": 3, "clip.num_clips": 2,
    })  # fmt: skip
    run = px.train(recipe, data=source, output=tmp_path / "runs")
    described = run.read_run_json()["pack"]
    assert described["stored_as"] == "jpeg"
    assert described["decoder"] == "pyav"
    first = px.evaluate(run).predictions.logits()
    shutil.rmtree(tmp_path / "cache")  # nothing but time is lost
    assert np.array_equal(px.evaluate(run).predictions.logits(), first)
