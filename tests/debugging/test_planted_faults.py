"""Each planted fault is found by name; a sound recipe has none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from class_folders import write_class_folders
from praxiscope.data.stage.dataset import StageSpec, write_stage_clips, write_stage_images
from praxiscope.debugging import training_checks
from praxiscope.debugging.checklist import CHECKS
from praxiscope.recipe.load import load_recipe
from praxiscope.training.watch import Silent
from praxiscope.workflows.debug import build_subject

SMALL = {
    "model.name": "resnet18-small-half", "model.img_size": 24, "train.batch_size": 8, "train.precision": "fp32",
    "train.lr": 3e-3, "train.epochs": 4, "train.warmup_epochs": 1, "loader.workers": 0,
}  # fmt: skip

TINY = {"model.name": "test_resnet", "model.img_size": 16}
"""For what takes a hundred steps."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    spec = StageSpec(
        size=32,
        actions=("clap", "wave", "sit_down"),
        train_per_action=12,
        val_per_action=4,
        test_per_action=4,
    )
    return write_stage_images(tmp_path_factory.mktemp("debug") / "stage", spec)


@pytest.fixture(scope="module")
def stage_clips(tmp_path_factory):
    spec = StageSpec(
        size=24, actions=("sit_down", "stand_up"), train_per_action=6, val_per_action=3, test_per_action=3,
        num_frames=6,
    )  # fmt: skip
    return write_stage_clips(tmp_path_factory.mktemp("debug") / "clips", spec)


def make_subject(data, **changes):
    recipe = load_recipe({"name": "planted"}, {**SMALL, **changes})
    return build_subject(recipe, data, "cpu", Silent())


@pytest.fixture(scope="module")
def sound(stage):
    return make_subject(stage)


def plant(subject, damage):
    """Return the subject with a damage done to every network that it builds."""

    def build():
        built = subject.build()
        damage(built.module)
        return built

    return replace(subject, build=build)


@pytest.mark.parametrize("name", [name for name in CHECKS if name != "frames"])
def test_a_sound_recipe_has_no_fault(sound, name):
    check = CHECKS[name](sound)
    assert check.status != "fault", check.line
    assert check.line
    assert check.rule
    assert check.to_dict()["name"] == name


@pytest.mark.parametrize("name", ["frames", "samples", "data", "shapes", "gradients", "updates"])
def test_sound_clips_have_no_fault(stage_clips, name):
    subject = make_subject(stage_clips, **{"model.num_frames": 4, "train.batch_size": 4})
    check = CHECKS[name](subject)
    assert check.status != "fault", check.line
    if name == "frames":
        assert check.tables[0].rows[0][2:] == ("0 1 3 5", "0 1 3 5")  # by hand: 0, 5/3, 10/3, 5 rounded down


def test_a_layer_frozen_by_accident(sound):
    check = CHECKS["gradients"](plant(sound, lambda m: m.layer2.requires_grad_(requires_grad=False)))
    assert check.status == "fault"
    assert "don't train (layer2.0.conv1.weight" in check.line
    assert "the recipe freezes nothing" in check.line


def test_a_detached_head(sound):
    def detach(module):
        module.fc.register_forward_pre_hook(lambda _m, inputs: tuple(each.detach() for each in inputs))

    check = CHECKS["gradients"](plant(sound, detach))
    assert check.status == "fault"
    assert "no gradient reaches" in check.line
    assert "(conv1.weight" in check.line


def test_a_dead_relu(sound):
    def kill(module):
        torch.nn.init.constant_(module.bn1.bias, -100.0)

    check = CHECKS["gradients"](plant(sound, kill))
    assert check.status == "fault"
    assert "dead activations in act1" in check.line
    assert "is and stays exactly 0 (conv1.weight" in check.line
    assert check.figures["dead"]["act1"] == 1.0


def test_a_learning_rate_of_nothing(stage):
    subject = make_subject(stage, **{**TINY, "train.lr": 1e-30})
    check = CHECKS["updates"](subject)
    assert check.status == "fault"
    assert "did not move" in check.line
    schedule = CHECKS["schedule"](subject)
    assert schedule.status == "warning"
    assert "nothing would be learnt" in schedule.line
    assert CHECKS["overfits"](subject).status != "ok"


@pytest.mark.parametrize("opt", ["sgd", "adamw"])
def test_a_learning_rate_far_too_high(stage, opt):
    check = CHECKS["updates"](make_subject(stage, **{"train.lr": 1e3, "train.opt": opt}))
    assert check.status == "fault"
    assert "too high" in check.line or "diverged" in check.line


def test_updates_are_in_proportion_to_the_learning_rate(stage):
    """SGD's steps are so small here that gradients stay the same: twice the rate moves weights twice as far."""
    one, two = (
        CHECKS["updates"](
            make_subject(stage, **{"train.opt": "sgd", "train.weight_decay": 0, "train.lr": lr})
        )
        for lr in (1e-5, 2e-5)
    )
    assert two.figures["median_ratio"] == pytest.approx(2 * one.figures["median_ratio"], rel=0.05)


def test_batchnorm_that_moves_in_a_frozen_part(sound):
    def freeze_half(module):
        for name, parameter in module.named_parameters():
            parameter.requires_grad_("fc" in name)

    check = CHECKS["updates"](plant(sound, freeze_half))
    assert check.status == "fault"
    assert "frozen BatchNorm statistics moved (bn1.running_mean" in check.line


def test_a_properly_frozen_backbone_is_fine(stage):
    subject = make_subject(stage, **{"model.freeze": ["backbone"], "train.lr": 0.05})
    for name in ("gradients", "updates"):
        check = CHECKS[name](subject)
        assert check.status != "fault", check.line


def test_inputs_that_were_not_normalised(sound):
    check = CHECKS["input"](replace(sound, normalize=lambda images: images.float()))
    assert check.status == "fault"
    assert "pixels were not divided by 255" in check.line


def test_inputs_that_were_divided_twice(sound):
    check = CHECKS["input"](replace(sound, normalize=lambda images: images.float() / 255 / 255))
    assert check.status == "fault"
    assert "spread is outside" in check.line


def test_labels_that_are_all_the_same(stage):
    subject = make_subject(stage)
    constant = replace(subject.train.samples, targets=np.zeros_like(subject.train.samples.targets))
    changed = replace(
        subject,
        train=replace(subject.train, samples=constant),
        plain=replace(subject.plain, samples=constant),
    )
    check = CHECKS["labels"](changed)
    assert check.status == "fault"
    assert "all training samples have the same label" in check.line


def test_a_label_that_depends_on_the_batch(sound):
    class Shifty:
        samples = sound.plain.samples

        def __call__(self, plan, report, slot):
            batch = sound.plain(plan, report, slot)
            return replace(batch, targets=batch.targets.roll(int(plan.rows[0])))

    check = CHECKS["labels"](replace(sound, plain=Shifty()))
    assert check.status == "fault"
    assert "have another label in another batch" in check.line


def test_a_class_folder_that_holds_another_class(tmp_path):
    data = write_class_folders(tmp_path / "p", splits={"train": 8, "val": 4}, names=("jump", "run"))
    subject = make_subject(data)
    table = subject.manifest.table
    place = table.schema.get_field_index("action")
    flip = {"jump": "run", "run": "jump"}
    swapped = table.set_column(
        place, "action", pa.array([flip[each] for each in table["action"].to_pylist()])
    )
    check = CHECKS["labels"](replace(subject, manifest=replace(subject.manifest, table=swapped)))
    assert check.status == "fault"
    assert "lie in a folder of another class" in check.line


def test_logits_of_another_length(sound):
    def widen(module):
        module.fc = torch.nn.Linear(module.fc.in_features, 7)

    check = CHECKS["shapes"](plant(sound, widen))
    assert check.status == "fault"
    assert "8 x 3 were expected" in check.line


def test_a_head_that_is_too_sure(sound):
    def shout(module):
        module.fc.weight.data.mul_(300)

    check = CHECKS["first-loss"](plant(sound, shout))
    assert check.status == "warning"
    assert "ln K = 1.099" in check.line


def test_numbers_that_are_not_finite(sound):
    def break_it(module):
        module.layer3[0].conv1.weight.data[0, 0, 0, 0] = float("nan")

    check = CHECKS["finite"](plant(sound, break_it))
    assert check.status == "fault"
    assert "not finite come first out of layer3.0.conv1" in check.line
    assert check.to_dict()["figures"]["loss"] is None  # JSON has no NaN


def test_a_network_that_does_not_look_at_its_input(stage):
    tiny = make_subject(stage, **TINY)

    def blind(module):
        module.fc.register_forward_pre_hook(lambda _m, inputs: (torch.zeros_like(inputs[0]),))

    check = CHECKS["baseline"](plant(tiny, blind))
    assert check.status == "fault"
    assert "no more from its input than from none" in check.line
    assert CHECKS["overfits"](plant(tiny, blind)).status != "ok"


def test_a_machine_too_slow_to_tell_is_no_fault(sound, monkeypatch):
    """Five steps in the time that there is say nothing about a recipe."""
    monkeypatch.setattr(training_checks, "MAX_S", 0.0)
    slow = CHECKS["overfits"](sound)
    assert slow.status == "warning"
    assert "too slow here to tell: in 1 steps" in slow.line
    baseline = CHECKS["baseline"](sound)
    assert baseline.status == "warning"
    assert "too little was learnt in 1 steps to tell" in baseline.line


def test_a_batch_of_one_label_tells_nothing_about_pixels(sound):
    batch = sound.clean
    alike = replace(sound)
    vars(alike)["clean"] = replace(batch, targets=torch.zeros_like(batch.targets))
    check = CHECKS["baseline"](alike)
    assert check.status == "ok"
    assert "have one label" in check.line


def test_blocks_that_start_faint_are_no_warning(stage):
    """ConvNeXt's layer scale starts at 1e-6: its blocks have next to no gradient before the first steps."""
    subject = make_subject(stage, **{"model.name": "test_convnext", "model.img_size": 32})
    check = CHECKS["gradients"](subject)
    assert check.status == "ok", check.line
    assert min(norm for norm in check.figures["layers"].values() if norm > 0) < 1e-6


def test_random_labels_are_learnt_by_heart_and_the_check_says_so(sound):
    shuffled = np.random.default_rng(0).permutation(sound.plain.samples.targets)
    samples = replace(sound.plain.samples, targets=shuffled)
    check = CHECKS["overfits"](replace(sound, plain=replace(sound.plain, samples=samples)))
    assert check.status != "fault"
    assert "can't show that labels are right" in check.rule


def test_augmentation_that_does_nothing_is_noticed(stage):
    subject = make_subject(stage)
    still = replace(subject, train=subject.plain)
    check = CHECKS["samples"](still)
    assert check.status == "warning"
    assert "augmentation changes nothing" in check.line


def test_the_schedule_is_the_loops(sound):
    figures = CHECKS["schedule"](sound).figures
    assert figures["steps"] == 4 * 5  # 36 samples in batches of 8: 8 8 8 8 4
    assert figures["peak"] == pytest.approx(3e-3)
    assert figures["peak_at"] == 5
