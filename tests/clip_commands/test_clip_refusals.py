"""Commands beside the usual ones: they work with a head of any name, and refuse several heads or clips by name."""

from __future__ import annotations

import pytest

import praxiscope as px
from praxiscope.data.manifest import read_manifest
from praxiscope.errors import UsageError
from praxiscope.profiling.plan import Plan
from praxiscope.workflows.bakeoff import bakeoff
from praxiscope.workflows.explain import explain
from praxiscope.workflows.profile import profile

QUICK = {"nearest": 0, "activations": False}


def test_a_bakeoff_of_two_heads_is_refused_before_anything_is_trained(clips, tmp_path):
    both = {
        "data.source": "csv", "data.csv": "two.csv", "data.heads": {"verb": "verb", "noun": "noun"},
        "train.monitor": "val/verb_top1", "model.num_frames": 2,
    }  # fmt: skip
    with pytest.raises(
        UsageError, match=r"has the heads verb and noun; a bake-off ranks .* --set 'data\.heads"
    ):
        bakeoff(
            ["test_resnet", "test_vit"], data=clips.root.parent / "films", budget="60s", recipe="demo-cnn",
            overrides=both, output=tmp_path / "bakeoff",
        )  # fmt: skip
    assert not (tmp_path / "bakeoff").exists()


@pytest.fixture(scope="module")
def stills(clips):
    """One frame of each clip as an image, with the columns verb and noun."""
    lines = (clips.root.parent / "films" / "two.csv").read_text(encoding="utf-8").splitlines()
    frames = sorted(clips.root.glob("[tv]*/*/*/*04.jpg"))
    rows = [
        ",".join([frame.relative_to(clips.root).as_posix(), *line.split(",")[1:]])
        for frame, line in zip(frames, lines[1:], strict=True)
    ]
    (clips.root / "stills.csv").write_text("\n".join([lines[0], *rows]) + "\n", encoding="utf-8")
    return clips.root


def train_stills(stills, output, **changes):
    small = {
        "data.source": "csv", "data.csv": "stills.csv", "model.name": "test_resnet", "model.img_size": 32,
        "train.epochs": 1, "train.warmup_epochs": 0, "train.batch_size": 4, "evaluate.resamples": 100,
        "train.precision": "fp32", "loader.workers": 0,
    }  # fmt: skip
    run = px.train(px.load_recipe("demo-cnn", {**small, **changes}), data=stills, output=output)
    px.evaluate(run)
    return run


def test_images_with_a_head_of_another_name_are_explained(stills, tmp_path):
    run = train_stills(stills, tmp_path / "runs", **{"data.heads": {"verb": "verb"}})
    sample = run_ids(run)[0]
    quick = {**QUICK, "methods": ["gradcam"], "layers": ["layer1"]}
    outcome = explain(run, [sample], failures=1, embedding=True, output=tmp_path / "x", **quick)
    assert outcome.entries[0].sample_id == sample
    assert outcome.entries[0].true == sample.split("/")[1]


def test_images_of_two_heads_are_refused_by_name(stills, tmp_path):
    heads = {"data.heads": {"verb": "verb", "noun": "noun"}, "train.monitor": "val/verb_top1"}
    run = train_stills(stills, tmp_path / "runs", **heads)
    with pytest.raises(UsageError, match="has the heads verb and noun; images are explained for one label"):
        explain(run, random=1, output=tmp_path / "x")


def run_ids(run):
    return read_manifest(run.manifest).usable("test")["sample_id"].to_pylist()


def test_accuracy_of_two_heads_in_other_runtimes_is_refused(clips, tmp_path):
    with pytest.raises(UsageError, match="two has the heads verb and noun"):
        profile([clips.two.path], plan=Plan(accuracy=True), output=tmp_path)
