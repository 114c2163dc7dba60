"""The 18 silent mistakes of docs/mistakes.md, one test each: impossible, or loud.

Each made a published number wrong without a message. The parts have closer tests of their own; here each mistake is
made on purpose, in the shortest way, and has to fail.
"""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import praxiscope as px
from praxiscope.data.build import build_manifest
from praxiscope.data.clips.sampling import list_views
from praxiscope.data.clips.spans import resolve_span
from praxiscope.data.manifest import Manifest, read_manifest
from praxiscope.data.transforms import EvalTransform, InputSpec, TrainTransform
from praxiscope.errors import UsageError
from praxiscope.models.activations import record_activations
from praxiscope.models.build import build_model
from praxiscope.models.catalog import CARDS
from praxiscope.models.cost import count_compute
from praxiscope.models.runtime import Normalizer, Runtime
from praxiscope.models.weights import WeightsMismatch
from praxiscope.recipe.schema import (
    MONITORS,
    AugmentSection,
    ClipSection,
    DataSection,
    ModelSection,
    TrainSection,
)
from praxiscope.reporting.gallery import Pictures, collect_failures
from praxiscope.runs.checkpoint import latest_checkpoint
from praxiscope.runs.rundir import RunDir
from praxiscope.stats.extremes import describe_extremes
from praxiscope.tensors import Heads
from praxiscope.training.losses import build_loss
from praxiscope.training.mixing import mix_batch
from praxiscope.training.state import TrainState
from praxiscope.workflows.evaluate import EvaluationResult

SPEC = InputSpec(img_size=32, crop_pct=1.0)
SECRET = "k-0123456789abcdef0123"
CPU = Runtime(device=torch.device("cpu"), precision="fp32", reason="test", channels_last=False)


@pytest.fixture(scope="module")
def run(noise_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Three epochs with a frozen backbone."""
    recipe = px.load_recipe(
        {"name": "small", "model": {"name": "test_resnet", "img_size": 32, "freeze": ["backbone"]}},
        {"train.epochs": 3, "train.batch_size": 8, "train.precision": "fp32", "loader.workers": 0,
         "evaluate.resamples": 100},
    )  # fmt: skip
    command = ["praxiscope", "train", "small", "--wandb-api-key", SECRET]
    return px.train(recipe, data=noise_folder, output=tmp_path_factory.mktemp("runs"), command=command)


@pytest.fixture(scope="module")
def result(run: RunDir) -> EvaluationResult:
    return px.evaluate(run)


def read_folder(folder: Path) -> Manifest:
    return build_manifest(folder, DataSection(), seed=0)


def test_01_validation_images_are_never_augmented() -> None:
    parameters = inspect.signature(EvalTransform.__call__).parameters
    assert list(parameters) == ["self", "image", "place"]  # no randomness to hand in
    assert parameters["place"].default == 0.5  # the centre, unless a view of several is asked for
    image = Image.effect_noise((48, 40), 60).convert("RGB")
    first, second = (EvalTransform(spec=SPEC)(image) for _ in range(2))
    assert np.array_equal(first, second)
    drawn = [
        TrainTransform(spec=SPEC, augment=AugmentSection())(image, np.random.default_rng(i)) for i in range(2)
    ]
    assert not np.array_equal(*drawn)


def test_02_a_frozen_backbone_does_not_move_nor_do_its_batch_statistics(run: RunDir) -> None:
    checkpoint, _ = latest_checkpoint(run.checkpoints)
    assert checkpoint is not None
    section = px.load_recipe(run.recipe).model
    start = build_model(section, num_classes=3, seed=0).module.state_dict()
    trained = checkpoint.groups["model"]
    moved = {name for name in start if not torch.equal(start[name], trained[name])}
    assert moved == {"fc.weight", "fc.bias"}
    assert any(name.endswith("running_mean") for name in start)


def test_03_weights_whose_names_miss_are_refused_with_the_counts(tmp_path: Path) -> None:
    section = ModelSection(name="demo-vit", img_size=32)
    state = build_model(section, num_classes=4, seed=1).module.state_dict()
    path = tmp_path / "vit.safetensors"
    save_file({f"encoder_{name}": tensor for name, tensor in state.items()}, path)
    with pytest.raises(WeightsMismatch, match=rf"\d+ of the network's {len(state)} tensors are missing"):
        build_model(section.model_copy(update={"weights": str(path)}), num_classes=4, seed=0)


def test_04_an_unreadable_or_missing_image_is_named_and_nothing_takes_its_place(photos: Path) -> None:
    broken = photos / "train" / "run" / "003.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    manifest = read_folder(photos)
    rows = {row["sample_id"]: row["quarantine"] for row in manifest.table.to_pylist()}
    assert "damaged" in rows["train/run/003.jpg"]
    assert manifest.usable(None).num_rows == len(rows) - 1
    named = [example for finding in manifest.findings for example in finding.examples]
    assert any("train/run/003.jpg" in example for example in named)


def test_05_the_same_photograph_in_train_and_test_is_named_and_scored_apart(photos: Path) -> None:
    shutil.copy(photos / "train" / "run" / "000.jpg", photos / "test" / "run" / "copy.jpg")
    manifest = read_folder(photos)
    row = next(row for row in manifest.table.to_pylist() if row["sample_id"] == "test/run/copy.jpg")
    assert (row["twin_of"], row["twin_kind"]) == ("train/run/000.jpg", "exact")
    assert any(
        finding.code.startswith("D1") and finding.severity == "warning" for finding in manifest.findings
    )


def test_06_no_epoch_can_be_chosen_on_the_test_images() -> None:
    """That other test images train the same weights is in test_training_test_split.py."""
    assert all(name.startswith("val/") for name in MONITORS)
    with pytest.raises(ValueError, match="monitor is 'test/top1'; choose one of val/loss"):
        TrainSection(monitor="test/top1")


def test_07_the_best_epoch_outlives_every_later_epoch_and_every_resume() -> None:
    state = TrainState.start(3)
    best = []
    for epoch, value in enumerate((0.5, 0.7, 0.6, float("nan"), 0.7), start=1):
        if state.is_better(value, "max"):
            state.best_value, state.best_epoch = value, epoch
        state = TrainState.from_json(json.loads(json.dumps(state.to_json())))
        best.append(state.best_epoch)
    assert best == [1, 2, 2, 2, 2]


def test_08_cutmix_weighs_by_the_box_that_was_pasted_not_by_the_one_that_was_drawn() -> None:
    corrected = 0
    for seed in range(200):
        images = torch.stack([torch.zeros(3, 32, 32), torch.ones(3, 32, 32)])
        mixed, goals = mix_batch(
            images,
            torch.tensor([0, 1]),
            AugmentSection(cutmix=1.0),
            sizes=(2,),
            rng=np.random.default_rng(seed),
        )
        assert float(goals[0, 1]) == pytest.approx(float(mixed[0, 0].mean()), abs=1e-6)
        rng = np.random.default_rng(seed)  # the same draws: mixed at all, which kind, the weight
        rng.random(), rng.integers(1)
        corrected += abs(float(goals[0, 0]) - rng.beta(1.0, 1.0)) > 0.02
    assert corrected > 50  # the border cuts most boxes


def test_09_bce_takes_class_indices_as_one_hot_targets() -> None:
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 3, 1, 1, 2])
    loss = build_loss(TrainSection(loss="bce"), class_counts=np.array([1, 2, 1, 1]))
    one_hot = np.eye(4)[targets.numpy()]
    probs = 1 / (1 + np.exp(-logits.double().numpy()))
    by_hand = -(one_hot * np.log(probs) + (1 - one_hot) * np.log(1 - probs)).mean(axis=1).sum()
    assert float(loss(logits, targets)) == pytest.approx(by_hand, rel=1e-5)


def test_10_one_relu_behind_two_layers_gives_two_activation_maps() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.relu(self.conv2(self.relu(self.conv1(images))))

    network = Twice()
    with record_activations(network, ["conv1", "relu"]) as found:
        network(torch.randn(1, 3, 8, 8))
    assert list(found) == ["conv1", "relu", "relu#2"]
    assert found["relu"].shape != found["relu#2"].shape
    assert float(found["conv1"].min()) < 0  # as it was before the ReLU wrote into it
    with pytest.raises(UsageError, match="no layer 'relu2'"), record_activations(network, ["relu2"]):
        pass


def test_11_a_row_of_the_log_holds_one_epoch_and_no_running_average(run: RunDir) -> None:
    rows = run.read_metrics()
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    state = TrainState.start(2)
    state.tally.confusions[0] += np.array([[3, 1], [0, 4]])
    state.tally.loss_sum = 16.0
    assert state.tally.compute_row("train", Heads(names={"action": ("a", "b")}))["train/loss"] == 2.0
    state.begin_epoch()
    assert state.tally.num_samples == 0
    assert state.tally.loss_sum == 0.0


def test_12_multiply_accumulates_are_called_so_and_flops_are_twice_as_many() -> None:
    section = ModelSection(name="resnet18")
    cost = count_compute(build_model(section, num_classes=1000, seed=0).module, img_size=224)
    assert cost.gmacs == pytest.approx(1.814, abs=0.001)  # printed as "1.8 GFLOPs" elsewhere
    assert cost.gflops == 2 * cost.gmacs
    assert not [card.name for card in CARDS if "flop" in card.note.lower()]


def test_13_the_frames_of_a_clip_get_one_draw() -> None:
    """Augmentation belongs to (seed, epoch, sample): what is equal before it is equal after it."""
    transform = TrainTransform(
        spec=SPEC, augment=AugmentSection(color_jitter=0.4, random_erasing=1.0, policy="trivialaugment")
    )
    frame = Image.effect_noise((64, 48), 60).convert("RGB")
    clip = [transform(frame, np.random.default_rng([0, 3, 2, 17])) for _ in range(8)]
    assert all(np.array_equal(clip[0], each) for each in clip)


def test_14_the_stop_frame_is_not_read_and_broken_clips_are_named(tmp_path: Path) -> None:
    span = resolve_span(8, 202, ClipSection())  # EPIC counts from 1; frame 201 is the last that may be read
    assert list_views(span.count, 8, ClipSection())[0][-1] + span.first + 1 == 201
    (tmp_path / "clap").mkdir()
    (tmp_path / "clap" / "P01_01.MP4").write_bytes(b"\0" * 64)
    manifest = read_folder(tmp_path)
    assert any("clap/P01_01.MP4" in str(finding.examples) for finding in manifest.findings)


def test_15_perfect_classes_come_with_what_chance_alone_would_give(result: EvaluationResult) -> None:
    supports, rng = np.full(100, 5), np.random.default_rng(0)
    found = describe_extremes(rng.binomial(supports, 0.6), supports)  # all classes are equally easy
    assert found is not None
    assert found.perfect.classes  # and yet some look perfect
    assert found.perfect.chance.low <= len(found.perfect.classes) <= found.perfect.chance.high
    assert found.differences.better == ()
    for entry in result.metrics["per_class"]:
        assert entry["recall_low"] < entry["recall_high"]


def test_16_predictions_come_with_their_figures_and_failures_show_the_images_that_were_judged(
    result: EvaluationResult, noise_folder: Path
) -> None:
    assert result.metrics["num_samples"] == 12
    assert (result.folder / "metrics.json").is_file()
    rows = read_manifest(result.run.manifest).table.to_pylist()
    files = {row["sample_id"]: (row["path"], row["sha256"]) for row in rows}
    pictures = Pictures(root=noise_folder, files=files)
    shown = collect_failures(result.predictions, "action", pictures, max_failures=12)
    assert shown.num_samples == 12
    assert all(failure.sample_id.startswith("test/") for failure in shown.failures)


def test_17_images_are_normalised_with_the_statistics_of_the_networks_own_weights() -> None:
    pixel = torch.full((1, 3, 1, 1), 127, dtype=torch.uint8)
    for name in ("resnet18", "vit-b16", "efficientnet-lite0"):
        card = next(card for card in CARDS if name in {card.name, *card.aliases})
        normalised = Normalizer(card.mean, card.std, CPU)(pixel).flatten()
        expected = (127 / 255 - np.array(card.mean)) / np.array(card.std)
        assert np.allclose(normalised.numpy(), expected, atol=1e-6)
    with pytest.raises(ValueError, match="mean"):  # no key to say it otherwise
        ModelSection.model_validate({"name": "resnet18", "mean": [0.5, 0.5, 0.5]})


def test_18_a_key_on_the_command_line_reaches_no_file(run: RunDir) -> None:
    files = [path for path in run.path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert "--wandb-api-key" in json.dumps(run.read_run_json())
