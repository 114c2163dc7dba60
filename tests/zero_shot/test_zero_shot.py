"""CLIP as a classifier: the same logits as open_clip's own two towers, and a run like any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import praxiscope as px
from praxiscope.data.stage.dataset import StageSpec, write_stage_clips
from praxiscope.data.transforms import EvalTransform, InputSpec
from praxiscope.errors import EnvironmentProblem, UsageError
from praxiscope.models.build import build_model
from praxiscope.models.weights import WeightsMismatch
from praxiscope.models.zero_shot import build_zero_shot, list_image_text_models
from praxiscope.workflows.zeroshot import read_class_texts, zeroshot

open_clip = pytest.importorskip("open_clip", reason="open_clip is an extra: pip install 'praxiscope[clip]'")

NAMES = ["calling", "riding_a_bike", "texting"]
CONFIGS: dict[str, dict[str, Any]] = {
    "Tiny-8": {"embed_dim": 24, "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32,
                                              "patch_size": 8},
               "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}},
}  # fmt: skip
CONFIGS["Tiny-8-quickgelu"] = {**CONFIGS["Tiny-8"], "quick_gelu": True}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path]]:
    """Small image-text models with random weights, registered with open_clip and saved."""
    folder = tmp_path_factory.mktemp("clip")
    made = {}
    for place, (name, config) in enumerate(CONFIGS.items()):
        (folder / f"{name}.json").write_text(json.dumps(config), encoding="utf-8")
        torch.manual_seed(place)
        model = open_clip.CLIP(
            config["embed_dim"],
            open_clip.CLIPVisionCfg(**config["vision_cfg"]),
            open_clip.CLIPTextCfg(**config["text_cfg"]),
            quick_gelu=config.get("quick_gelu", False),
        ).eval()
        path = folder / f"{name}.safetensors"
        save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, path)
        made[name] = (model, path)
    open_clip.add_model_config(folder)
    return made


def compute_reference(model: Any, images: torch.Tensor, sentences: list[list[str]]) -> torch.Tensor:
    tokenizer = open_clip.SimpleTokenizer(context_length=77)
    with torch.no_grad():
        texts = torch.stack(
            [model.encode_text(tokenizer(each), normalize=True).mean(0) for each in sentences]
        )
        texts = texts / texts.norm(dim=-1, keepdim=True)
        return model.logit_scale.exp() * model.encode_image(images, normalize=True) @ texts.T


@pytest.mark.parametrize("name", CONFIGS)
def test_the_logits_are_those_of_the_two_towers(models: dict[str, tuple[Any, Path]], name: str) -> None:
    model, path = models[name]
    templates = ("a photo of a person {}.", "{}")
    found = build_zero_shot(name, path, names=NAMES, templates=templates)
    assert found.prompts[1] == ("a photo of a person riding a bike.", "riding a bike")
    network = build_model(found.section, num_classes=3, seed=0).module.eval()
    network.load_state_dict(found.state, strict=True)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    expected = compute_reference(model, images, [list(each) for each in found.prompts])
    with torch.no_grad():
        assert torch.allclose(network(images), expected, rtol=1e-4, atol=1e-4)


def test_a_run_evaluates_reports_and_verifies_without_training(
    models: dict[str, tuple[Any, Path]], noise_folder: Path, tmp_path: Path
) -> None:
    model, path = models["Tiny-8"]
    run = zeroshot(
        "Tiny-8",
        data=noise_folder,
        weights=path,
        templates=["a photo of {}."],
        class_texts={"wave": "waving"},
        output=tmp_path,
        overrides=["evaluate.resamples=100", "loader.workers=0"],
    )
    result = px.evaluate(run)
    assert result.metrics["num_samples"] == 12
    paths = [noise_folder / sample for sample in result.predictions.sample_ids]
    built = build_model(px.load_recipe(run.recipe).model, num_classes=3, seed=0)
    transform = EvalTransform(
        spec=InputSpec(img_size=32, crop_pct=built.crop_pct, interpolation="bicubic", mean=built.mean)
    )
    pixels = np.stack([transform(Image.open(each).convert("RGB")) for each in paths]) / 255
    images = torch.from_numpy((pixels - built.mean) / built.std).permute(0, 3, 1, 2).float()
    sentences = [["a photo of clap."], ["a photo of run."], ["a photo of waving."]]
    expected = compute_reference(model, images, sentences).numpy()
    assert np.allclose(result.predictions.logits("action"), expected, atol=1e-2)
    assert "no image trained it" in run.read_run_json()["notes"][0]
    assert px.report(run).is_file()
    assert all(check.passed for check in px.verify(run))
    for epochs in (None, 30):
        with pytest.raises(UsageError, match=r"made without training .* nothing to go on with"):
            px.train(resume=run.path, epochs=epochs)


def test_a_clip_is_the_mean_of_its_frames(models: dict[str, tuple[Any, Path]], tmp_path: Path) -> None:
    model, path = models["Tiny-8"]
    spec = StageSpec(size=32, actions=("sit_down", "stand_up"), train_per_action=1, val_per_action=1,
                     test_per_action=2, num_frames=7)  # fmt: skip
    root = write_stage_clips(tmp_path / "stage", spec)
    overrides = ["evaluate.resamples=100", "loader.workers=0", "model.num_frames=3"]
    run = zeroshot("Tiny-8", data=root, weights=path, templates=["{}"], output=tmp_path, overrides=overrides)
    predictions = px.evaluate(run).predictions
    built = build_model(px.load_recipe(run.recipe).model, num_classes=2, seed=0)
    transform = EvalTransform(
        spec=InputSpec(img_size=32, crop_pct=built.crop_pct, interpolation="bicubic", mean=built.mean)
    )
    sentences = [["sit down"], ["stand up"]]
    for sample_id, found in zip(predictions.sample_ids, predictions.logits("action"), strict=True):
        files = [sorted((root / sample_id).glob("*.jpg"))[place] for place in (0, 3, 6)]
        pixels = np.stack([transform(Image.open(each).convert("RGB")) for each in files]) / 255
        frames = torch.from_numpy((pixels - built.mean) / built.std).permute(0, 3, 1, 2).float()
        expected = compute_reference(model, frames, sentences).mean(dim=0).numpy()
        assert np.allclose(found, expected, atol=1e-2)
    assert "no clip trained it" in run.read_run_json()["notes"][0]
    assert px.report(run).is_file()
    with pytest.raises(UsageError, match=r"only model\.num_frames can be set beside it"):
        zeroshot("Tiny-8", data=root, weights=path, output=tmp_path, overrides=["model.temporal=gru"])


def test_what_cant_be_used_is_said(models: dict[str, tuple[Any, Path]], tmp_path: Path) -> None:
    path = models["Tiny-8"][1]
    with pytest.raises(UsageError, match=r"no model 'Tiny-9'. Did you mean 'Tiny-8'"):
        build_zero_shot("Tiny-9", path, names=NAMES)
    with pytest.raises(UsageError, match="'RN50' can't be used here: its image tower is a ResNet"):
        build_zero_shot("RN50", path, names=NAMES)
    with pytest.raises(UsageError, match="its towers aren't plain ones"):
        build_zero_shot("ViT-B-16-SigLIP", path, names=NAMES)
    with pytest.raises(UsageError, match=r"'a photo' must hold \{\} once"):
        build_zero_shot("Tiny-8", path, names=NAMES, templates=["a photo"])
    with pytest.raises(UsageError, match="Several classes read 'a b'"):
        build_zero_shot("Tiny-8", path, names=["a_b", "a b"])
    other = tmp_path / "other.safetensors"
    save_file({"visual.proj": torch.zeros(2, 2)}, other)
    with pytest.raises(WeightsMismatch, match=r"of its \d+ tensors \d+ are missing"):
        build_zero_shot("Tiny-8", other, names=NAMES)
    assert "ViT-B-32-quickgelu" in list_image_text_models()


def test_an_unknown_class_in_the_texts_is_named(
    models: dict[str, tuple[Any, Path]], noise_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"no class 'waves'\. Did you mean 'wave'"):
        zeroshot(
            "Tiny-8",
            data=noise_folder,
            weights=models["Tiny-8"][1],
            class_texts={"waves": "x"},
            output=tmp_path,
        )
    with pytest.raises(UsageError, match=r"of the model\. keys only model\.num_frames can be set"):
        zeroshot(
            "Tiny-8",
            data=noise_folder,
            weights=models["Tiny-8"][1],
            overrides=["model.head=linear", "model.drop_rate=0.1"],
            output=tmp_path,
        )
    assert not list(tmp_path.iterdir())


def test_without_open_clip_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "open_clip", None)
    with pytest.raises(EnvironmentProblem, match=r"praxiscope\[clip\]"):
        build_zero_shot("ViT-B-32", tmp_path / "x.pt", names=NAMES)


def test_texts_come_from_a_table(tmp_path: Path) -> None:
    table = tmp_path / "texts.csv"
    table.write_text("class,text\nriding_a_bike,cycling\n", encoding="utf-8")
    assert read_class_texts(table) == {"riding_a_bike": "cycling"}
    table.write_text("name,text\na,b\n", encoding="utf-8")
    with pytest.raises(UsageError, match="header 'class,text'"):
        read_class_texts(table)
    with pytest.raises(UsageError, match="can't be read"):
        read_class_texts(tmp_path / "absent.csv")


def test_a_text_head_is_not_trained(noise_folder: Path, tmp_path: Path) -> None:
    recipe = px.load_recipe({"name": "text", "model": {"name": "test_vit", "head": "text"}})
    with pytest.raises(UsageError, match=r"model\.head is .text., which `praxiscope zeroshot` makes"):
        px.train(recipe, data=noise_folder, output=tmp_path)
