"""Explaining clips, verifying them, and what they cost."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torchvision.models.video.mvit import MSBlockConfig, MViT

from praxiscope.data.manifest import read_manifest
from praxiscope.errors import IntegrityError, UsageError
from praxiscope.evaluation.predictions import read_predictions
from praxiscope.explaining.clip_index import read_clip_index
from praxiscope.explaining.clips import (
    ClipMaps,
    collect_frame_activations,
    compute_clip_maps,
    describe_empty,
    describe_steps,
    find_clip_layer,
    measure_frames,
    read_attention,
)
from praxiscope.explaining.saliency.compute import compute_maps
from praxiscope.explaining.subject import build_subject
from praxiscope.models import build, video
from praxiscope.models.build import build_model
from praxiscope.models.catalog import find_card
from praxiscope.models.runtime import Runtime
from praxiscope.profiling.plan import Plan
from praxiscope.recipe.schema import ModelSection
from praxiscope.reporting.build import build_report
from praxiscope.runs.rundir import RunDir
from praxiscope.stats.calibration import compute_log_softmax
from praxiscope.training.watch import Silent
from praxiscope.workflows.explain import explain
from praxiscope.workflows.explain_features import draw_evaluated
from praxiscope.workflows.explain_subjects import open_explained
from praxiscope.workflows.profile import profile
from praxiscope.workflows.verify import verify


def open_subject(run):
    return open_explained(run, device="cpu", data=None, split="test", watch=Silent()).subject


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 255, (2, 4, 32, 32, 3)).astype(np.uint8)


def test_maps_of_frames_are_those_of_the_mean_over_time(pixels):
    """With `mean` a clip's logit is the mean of its frames', so its Grad-CAM is a quarter of each frame's."""
    runtime = Runtime(device=torch.device("cpu"), precision="fp32", reason="test", channels_last=False)
    section = ModelSection(name="test_resnet", img_size=32, num_frames=4, temporal="mean")
    built = build_model(section, num_classes=3, seed=0)
    single = build_model(ModelSection(name="test_resnet", img_size=32), num_classes=3, seed=0)
    state = {key.replace("fc.fc.", "fc."): value for key, value in built.module.state_dict().items()}
    single.module.load_state_dict(state)
    clip = build_subject(built, runtime, ("a", "b", "c"), "clip")
    image = build_subject(single, runtime, ("a", "b", "c"), "image")
    goals = np.array([1, 2])
    maps = compute_clip_maps(clip, "gradcam", pixels, goals)
    frames = compute_maps(image, "gradcam", pixels.reshape(8, 32, 32, 3), np.repeat(goals, 4))
    np.testing.assert_allclose(maps.maps.reshape(8, 32, 32), frames.maps / 4, atol=1e-6)
    np.testing.assert_allclose(maps.evidence.sum(axis=1), 1, atol=1e-5)


def test_a_frame_that_repeats_its_neighbour_carries_nothing(clips, pixels):
    subject = open_subject(clips.one)
    pixels[:, 2] = pixels[:, 1]
    effects = measure_frames(subject, pixels, np.array([0, 1]))
    assert effects[:, 2] == pytest.approx([0, 0], abs=1e-6)
    assert np.abs(effects[:, 3]).min() > 0
    changed = pixels.copy()
    changed[:, 3] = pixels[:, 2]
    lost = subject.compute_logits(pixels) - subject.compute_logits(changed)
    assert effects[:, 3] == pytest.approx(lost[[0, 1], [0, 1]], abs=1e-6)


def test_attention_over_time_is_read_where_there_is_some(clips, pixels):
    weights = read_attention(open_subject(clips.two), pixels)
    assert weights.shape == (2, 4)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    assert read_attention(open_subject(clips.one), pixels) is None


def test_clips_of_two_heads_get_a_figure_each_and_a_page(clips, tmp_path):
    quick = {"nearest": 0, "activations": False, "output": tmp_path}
    outcome = explain(clips.two, [str(clips.video)], random=1, **quick)
    assert [entry.reason for entry in outcome.entries] == ["named", "random"]
    stored = json.loads((tmp_path / "clips.json").read_text(encoding="utf-8"))["entries"]
    for entry in stored:
        assert list(entry["files"]) == ["verb", "noun"]
        assert len(entry["attention"]) == len(entry["frames"]) == len(entry["effects"]["noun"]) == 4
        for file in entry["files"].values():
            with Image.open(tmp_path / entry["slug"] / file) as figure:
                assert figure.width > 500
    page = outcome.page.read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") >= 4
    assert "first" in page  # of two views


def test_failures_of_clips_are_explained_by_default(clips, tmp_path):
    outcome = explain(clips.one, nearest=0, activations=False, output=tmp_path)
    assert {entry.reason for entry in outcome.entries} <= {"failure", "random"}
    assert all(entry.is_failure for entry in outcome.entries if entry.reason == "failure")
    assert outcome.entries[0].reason == "failure"
    assert len(outcome.entries) == 6


def test_what_explains_images_only_is_refused_by_name(clips, tmp_path):
    for name in ("measure", "reliance"):
        with pytest.raises(UsageError, match=f"--{name} looks at single images"):
            explain(clips.one, output=tmp_path, **{name: 1})
    with pytest.raises(UsageError, match="'occlusion' explains single images; for clips choose of gradcam"):
        explain(clips.one, random=1, methods=["occlusion"], output=tmp_path)
    with pytest.raises(UsageError, match="clips are explained at one layer"):
        explain(clips.one, random=1, layers=["layer1", "layer2"], output=tmp_path)
    with pytest.raises(UsageError, match="draws no maps"):
        explain(clips.one, random=1, methods=["none"], layers=["layer1"], output=tmp_path)
    with pytest.raises(UsageError, match=r"neither a sample of the run .* nor a video or a folder of frames"):
        explain(clips.one, ["nowhere.mp4"], output=tmp_path)


def test_no_maps_still_measures_frames(clips, tmp_path):
    quick = {"nearest": 0, "activations": False, "output": tmp_path}
    (entry,) = explain(clips.one, random=1, methods=["none"], **quick).entries
    assert entry.evidence == {"action": {}}
    assert len(entry.effects["action"]) == 4


@pytest.mark.soak
@pytest.mark.parametrize("name", ["one", "two"])
def test_a_profile_of_clips_counts_and_times_clips(clips, tmp_path, name):
    run = getattr(clips, name)
    plan = Plan(runtimes=("onnxruntime",), batch_sizes=(1,), budget_s=1.0, threads=1)
    (entry,) = profile([run.path], plan=plan, output=tmp_path).result.entries
    assert entry.num_frames == 4
    assert [runtime.status for runtime in entry.runtimes] == ["ok"] * 2
    assert all(runtime.agreement == 1.0 for runtime in entry.runtimes)
    assert set(entry.stages_ms) == {"decode", "preprocess", "model", "postprocess"}
    assert any("2 views" in note for note in entry.notes) == (name == "two")
    assert "clip of 4 frames" in (tmp_path / "profile.html").read_text(encoding="utf-8")
    if name == "two":
        with pytest.raises(UsageError, match="two has the heads verb and noun"):
            profile([run.path], plan=Plan(accuracy=True), output=tmp_path)


def test_the_split_is_mapped_in_the_colours_of_each_head(clips, tmp_path):
    notes = Silent()
    outcome = explain(clips.two, embedding=True, activations=False, output=tmp_path, watch=notes)
    assert outcome.entries == ()
    figures = [one for one in read_clip_index(tmp_path).figures if one.kind == "embedding"]
    assert [one.title for one in figures[:2]] == [
        "Features of 6 clips of test, PCA, by verb", "Features of 6 clips of test, PCA, by noun"
    ]  # fmt: skip
    predictions = read_predictions(clips.two.predictions("test"))
    for head, figure in zip(("verb", "noun"), figures, strict=False):
        with (tmp_path / figure.file).with_suffix(".csv").open(encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        names = predictions.heads[head]
        assert [row["sample_id"] for row in rows] == list(predictions.sample_ids)
        assert [row["true"] for row in rows] == [names[place] for place in predictions.targets(head)]
        assert [row["predicted"] for row in rows] == [names[place] for place in predictions.preds(head)]
    page = outcome.page.read_text(encoding="utf-8")
    assert "No clip is explained yet" in page
    assert "--histograms" in page
    assert "--embedding" not in page  # it is drawn


def test_layers_are_measured_on_clips_of_several_heads(clips, tmp_path):
    outcome = explain(clips.two, histograms=True, activations=False, output=tmp_path)
    (figure,) = read_clip_index(tmp_path).figures
    assert figure.title == "Activations and gradients, layer by layer, 6 clips of test"
    assert all(sentence in outcome.page.read_text(encoding="utf-8") for sentence in outcome.findings)
    content = json.loads((tmp_path / figure.file).with_suffix(".json").read_text(encoding="utf-8"))
    assert (content["num_images"], content["thing"]) == (6, "clip")
    explained = open_explained(clips.two, device="cpu", data=None, split="test", watch=Silent())
    pixels, targets = draw_evaluated(explained, 64, seed=0, watch=Silent())
    logits = explained.subject.compute_logits(pixels)
    expected = sum(
        -compute_log_softmax(part)[range(6), targets[:, place]].mean()
        for place, part in enumerate(explained.samples.heads.split_logits(logits).values())
    )
    assert content["loss"] == pytest.approx(expected, rel=1e-4)


def test_the_report_shows_explained_clips(clips, tmp_path):
    shutil.copytree(clips.one.path, tmp_path / clips.one.run_id)
    own = RunDir.open(tmp_path / clips.one.run_id)
    assert 'id="explanations"' not in build_report(own).read_text(encoding="utf-8")
    outcome = explain(own, random=4, nearest=0, activations=False)
    page = build_report(own).read_text(encoding="utf-8")
    shown = page[page.index('id="explanations"') :]
    assert shown.count('class="strip"') == 3  # of four
    assert "All 4 explained samples" in shown
    assert outcome.entries[0].sample_id.rsplit("/", 1)[-1] in shown.replace("<wbr>", "")
    (own.explain / outcome.entries[0].slug / outcome.entries[0].files["action"]).write_bytes(b"no picture")
    with pytest.raises(IntegrityError, match="damaged or missing"):
        build_report(own)


def flip_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


@pytest.mark.parametrize("name", ["one", "two"])
def test_verify_names_the_clip_of_which_a_bit_changed(clips, tmp_path, name):
    run = getattr(clips, name)
    manifest = read_manifest(run.manifest)
    shutil.copytree(manifest.root, tmp_path / "moved")
    assert all(check.passed for check in verify(run, data=tmp_path / "moved"))
    sample = manifest.usable("test").to_pylist()[0]
    source = tmp_path / "moved" / sample["path"]
    flip_bit(source if source.is_file() else min(source.glob("*.jpg")))
    (failed,) = [check for check in verify(run, data=tmp_path / "moved") if not check.passed]
    assert [sample["sample_id"] in problem for problem in failed.problems] == [True]


def test_explaining_again_keeps_what_was_explained_before(clips, tmp_path):
    (first,) = explain(clips.one, random=1, seed=0, nearest=0, activations=False, output=tmp_path).entries
    ids = read_manifest(clips.one.manifest).usable("test")["sample_id"].to_pylist()
    named = next(name for name in ids if name != first.sample_id)
    quick = {"nearest": 0, "activations": False, "output": tmp_path}
    explain(clips.one, [named], **quick)
    outcome = explain(clips.one, [named], methods=["eigencam"], **quick)
    index = read_clip_index(tmp_path)
    assert [entry.sample_id for entry in index.entries] == [first.sample_id, named]
    assert list(index.entries[1].evidence["action"]) == ["eigencam"]
    page = outcome.page.read_text(encoding="utf-8")
    assert page.count('<article class="card">') == 2
    (tmp_path / "clips.json").write_text('{"schema": 1}', encoding="utf-8")
    with pytest.raises(IntegrityError, match=r"clips\.json is damaged .*Move the folder away"):
        explain(clips.one, [named], **quick)


def test_activations_kernels_and_neighbours_of_clips(clips, tmp_path):
    (entry,) = explain(clips.two, random=1, nearest=2, output=tmp_path).entries
    train = read_manifest(clips.two.manifest).usable("train").to_pylist()
    labels = {row["sample_id"]: f"{row['verb']} + {row['noun']}" for row in train}
    assert entry.num_compared == len(train)
    assert [near.name for near in entry.neighbours] == [labels[near.sample_id] for near in entry.neighbours]
    first, second = (near.similarity for near in entry.neighbours)
    assert 1 >= first >= second
    for file in (entry.activations, *(near.picture for near in entry.neighbours)):
        assert (tmp_path / entry.slug / file).is_file()
    (figure,) = read_clip_index(tmp_path).figures
    assert figure.kind == "kernels"
    assert (tmp_path / figure.file).is_file()
    # A training clip is its own neighbour only where it isn't left out.
    own_id, quick = train[0]["sample_id"], {"activations": False, "methods": ["none"], "output": tmp_path}
    (own,) = explain(clips.two, [own_id], nearest=2, **quick).entries
    assert own_id not in {near.sample_id for near in own.neighbours}


def test_activations_of_a_frame_are_the_frames_own(clips, pixels):
    subject = open_subject(clips.one)
    found = collect_frame_activations(subject, pixels[0], 2)
    kept = []
    end = subject.module.get_submodule(found.layers[-1].layer.module_name)
    handle = end.register_forward_hook(lambda _layer, _inputs, output: kept.append(output[2]))
    logits = subject.compute_logits(pixels[:1])[0]
    handle.remove()
    strongest = kept[0][list(found.layers[-1].channels)]
    np.testing.assert_allclose(found.layers[-1].maps, strongest.numpy(), atol=1e-6)
    np.testing.assert_allclose(found.logits, logits, atol=1e-5)


@pytest.fixture(scope="module")
def volume():
    """A video network whose second stage has two steps of time for four frames."""
    runtime = Runtime(device=torch.device("cpu"), precision="fp32", reason="test", channels_last=False)
    built = build_model(ModelSection(name="r3d_18", img_size=32, num_frames=4), num_classes=3, seed=0)
    return build_subject(built, runtime, ("a", "b", "c"), "video")


def test_gradcam_of_volumes_follows_its_definition(volume, pixels):
    found = compute_clip_maps(volume, "gradcam", pixels, np.array([1, 2]), layer="layer2")
    kept = {}
    layer = volume.module.get_submodule("layer2")
    handle = layer.register_forward_hook(lambda _layer, _inputs, output: kept.update(out=output))
    logits = volume.module(volume.prepare(pixels))
    handle.remove()
    gradient = torch.autograd.grad(logits[0, 1] + logits[1, 2], kept["out"])[0]
    weights = gradient.mean(dim=(2, 3, 4), keepdim=True)
    coarse = (weights * kept["out"]).sum(dim=1).relu()
    assert coarse.shape[1] == 2
    large = torch.nn.functional.interpolate(coarse[:, None], size=(4, 32, 32), mode="trilinear")[:, 0]
    np.testing.assert_allclose(found.maps, large.detach().numpy(), rtol=1e-3, atol=1e-6)


def test_volumes_with_fewer_steps_than_frames_are_told(volume):
    assert "'layer2' has 2 of 4 steps in time" in describe_steps(volume, find_clip_layer(volume, "layer2"))
    assert describe_steps(volume, find_clip_layer(volume, "layer1")) is None
    assert find_clip_layer(volume, None).name == "layer4"
    with pytest.raises(
        UsageError, match=r"'avgpool' puts out .*, which is no map for each step of time; choose"
    ):
        find_clip_layer(volume, "avgpool")


def build_small_mvit(_name, *, weights, num_classes):
    """MViT v2 of three blocks for 8 frames of 64 px: its parts, at a thousandth of the arithmetic."""
    del weights
    pooled = {"kernel_q": [3, 3, 3], "kernel_kv": [3, 3, 3], "stride_kv": [1, 2, 2]}
    blocks = [
        MSBlockConfig(num_heads=1, input_channels=16, output_channels=16, stride_q=[1, 1, 1], **pooled),
        MSBlockConfig(num_heads=2, input_channels=16, output_channels=32, stride_q=[1, 2, 2], **pooled),
        MSBlockConfig(num_heads=2, input_channels=32, output_channels=32, stride_q=[1, 1, 1], **pooled),
    ]
    return MViT(
        spatial_size=(64, 64), temporal_size=8, block_setting=blocks, residual_pool=True,
        residual_with_cls_embed=False, rel_pos_embed=True, proj_after_attn=True, num_classes=num_classes,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("frames", "side", "last"), [(8, 64, 2), pytest.param(16, 224, 15, marks=pytest.mark.soak)]
)
def test_tokens_of_all_frames_are_read_in_front_of_the_last_attention(monkeypatch, frames, side, last):
    """Behind it only the class token matters to the score: a map from there would be empty."""
    if side != 224:
        small = replace(find_card("mvit_v2_s"), img_size=side, num_frames=frames)
        monkeypatch.setattr(build, "find_card", lambda _name: small)
        monkeypatch.setattr(video, "get_model", build_small_mvit)
    runtime = Runtime(device=torch.device("cpu"), precision="fp32", reason="test", channels_last=False)
    section = ModelSection(name="mvit_v2_s", img_size=side, num_frames=frames)
    subject = build_subject(
        build_model(section, num_classes=3, seed=0), runtime, ("a", "b", "c"), "tokens over time"
    )
    clip = np.random.default_rng(0).integers(0, 256, (1, frames, side, side, 3), dtype=np.uint8)
    found = compute_clip_maps(subject, "gradcam", clip, np.array([1]))
    assert found.layer == f"blocks.{last}.norm1"
    kept = {}
    layer = subject.module.get_submodule(found.layer)
    handle = layer.register_forward_hook(lambda _layer, _inputs, output: kept.update(out=output))
    logits = subject.module(subject.prepare(clip))
    handle.remove()
    gradient = torch.autograd.grad(logits[0, 1], kept["out"])[0][:, 1:]
    coarse = (gradient.mean(dim=1, keepdim=True) * kept["out"][:, 1:]).sum(dim=2).relu()
    steps, places = frames // 2, side // (8 if side == 64 else 32)
    large = torch.nn.functional.interpolate(
        coarse.reshape(1, 1, steps, places, places), size=(frames, side, side), mode="trilinear"
    )
    np.testing.assert_allclose(found.maps, large[0].detach().numpy(), rtol=1e-3, atol=1e-7)
    assert found.maps.any()
    pool = f"blocks.{last}.attn.pool_q.pool"
    with pytest.raises(UsageError, match=rf"'{pool}' puts out .* choose a layer"):
        find_clip_layer(subject, pool)


def test_maps_that_hold_nothing_are_told():
    maps = np.zeros((1, 2, 4, 4), np.float32)
    empty = describe_empty(ClipMaps(maps=maps, method="gradcam", layer="layer4"))
    assert empty.startswith("gradcam at 'layer4' is zero everywhere: nothing there speaks for the answer")
    maps[0, 1, 2, 3] = 1e-6
    assert describe_empty(ClipMaps(maps=maps, method="gradcam", layer="layer4")) is None


def test_what_is_not_drawn_of_video_networks_is_said(volume):
    assert collect_frame_activations(volume, np.zeros((4, 32, 32, 3), np.uint8), 0) is None


def test_layers_of_a_run_with_several_heads_and_views_were_watched(clips):
    events = EventAccumulator(str(clips.two.tensorboard), size_guidance={"histograms": 0}).Reload()
    assert "gradients/conv1.2" in events.Tags()["histograms"]
