"""Weights in other libraries' names compute here what they compute there: features and logits."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from praxiscope.models.build import build_model
from praxiscope.models.weights import WeightsMismatch, load_weights
from praxiscope.recipe.schema import ModelSection

VIT = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "mlp_ratio": 2, "img_size": 32}
CONFIG = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip
NUM_CLASSES = 5


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A network of another library, and timm's twin."""

    build: Callable[[], nn.Module]
    twin: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    style: str
    run: Callable[[nn.Module, Tensor], Tensor] = lambda network, images: network(images)
    library: str | None = None
    size: int = 32
    left_out: int = 0


def _transformers(network: str, config: str, **kwargs: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        library = importlib.import_module("transformers")
        module: nn.Module = getattr(library, network)(getattr(library, config)(**kwargs))
        return module

    return build


def _clip_tower(network: nn.Module, images: Tensor) -> Tensor:
    embedding: Tensor = network(pixel_values=images).image_embeds
    return embedding


def _logits(network: nn.Module, images: Tensor) -> Tensor:
    logits: Tensor = network(pixel_values=images).logits
    return logits


def _open_clip() -> nn.Module:
    model = importlib.import_module("open_clip.model")
    vision = model.CLIPVisionCfg(layers=2, width=32, head_width=16, patch_size=8, image_size=32)
    text = model.CLIPTextCfg(context_length=8, vocab_size=50, width=16, heads=2, layers=1)
    network: nn.Module = model.CLIP(embed_dim=NUM_CLASSES, vision_cfg=vision, text_cfg=text)
    return network


def _whole_clip() -> nn.Module:
    library = importlib.import_module("transformers")
    text = {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
        "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    network: nn.Module = library.CLIPModel(
        library.CLIPConfig(vision_config=CONFIG, text_config=text, projection_dim=NUM_CLASSES)
    )
    return network


RESNET = {"embedding_size": 64, "hidden_sizes": (64, 128, 256, 512), "depths": (1, 2, 1, 1), "num_labels": 5}
FOREIGN: dict[str, Foreign] = {
    "torchvision vit": Foreign(
        build=lambda: torchvision.models.VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=NUM_CLASSES),
        twin="vit_tiny_patch16_224",
        kwargs=VIT,
        style="torchvision's ViT",
    ),
    "torchvision resnet": Foreign(
        build=lambda: torchvision.models.ResNet(
            torchvision.models.resnet.Bottleneck, [1, 2, 1, 1], num_classes=NUM_CLASSES
        ),
        twin="resnet50",
        kwargs={"layers": (1, 2, 1, 1)},
        style="timm",
    ),
    "torchvision efficientnet": Foreign(
        build=lambda: torchvision.models.efficientnet_b0(num_classes=NUM_CLASSES),
        twin="efficientnet_b0",
        style="torchvision's EfficientNet",
        size=64,
    ),
    "transformers vit": Foreign(
        build=_transformers("ViTForImageClassification", "ViTConfig", num_labels=NUM_CLASSES, **CONFIG),
        twin="vit_tiny_patch16_224",
        kwargs=VIT,
        style="transformers' ViT",
        run=_logits,
        library="transformers",
    ),
    "transformers deit": Foreign(
        build=_transformers(
            "DeiTForImageClassificationWithTeacher", "DeiTConfig", num_labels=NUM_CLASSES, **CONFIG
        ),
        twin="deit_tiny_distilled_patch16_224",
        kwargs=VIT,
        style="transformers' ViT",
        run=_logits,
        library="transformers",
    ),
    "transformers resnet, basic": Foreign(
        build=_transformers("ResNetForImageClassification", "ResNetConfig", layer_type="basic", **RESNET),
        twin="resnet18",
        kwargs={"layers": (1, 2, 1, 1)},
        style="transformers' ResNet",
        run=_logits,
        library="transformers",
    ),
    "transformers resnet, bottleneck": Foreign(
        build=_transformers(
            "ResNetForImageClassification",
            "ResNetConfig",
            **{**RESNET, "hidden_sizes": (256, 512, 1024, 2048)},
        ),
        twin="resnet50",
        kwargs={"layers": (1, 2, 1, 1)},
        style="transformers' ResNet",
        run=_logits,
        library="transformers",
    ),
    "transformers clip tower": Foreign(
        build=_transformers(
            "CLIPVisionModelWithProjection", "CLIPVisionConfig", projection_dim=NUM_CLASSES, **CONFIG
        ),
        twin="vit_base_patch32_clip_quickgelu_224",
        kwargs=VIT,
        style="transformers' CLIP",
        run=_clip_tower,
        library="transformers",
    ),
    "transformers clip, whole": Foreign(
        build=_whole_clip,
        twin="vit_base_patch32_clip_quickgelu_224",
        kwargs=VIT,
        style="transformers' CLIP",
        run=lambda network, images: network.visual_projection(
            network.vision_model(pixel_values=images).pooler_output
        ),
        library="transformers",
        left_out=22,
    ),
    "open_clip": Foreign(
        build=_open_clip,
        twin="vit_base_patch32_clip_224",
        kwargs={**VIT, "mlp_ratio": 4},
        style="open_clip",
        run=lambda network, images: network.encode_image(images),
        library="open_clip",
        left_out=18,
    ),
    "open_clip's tower": Foreign(
        build=lambda: _open_clip().visual,  # type: ignore[return-value]
        twin="vit_base_patch32_clip_224",
        kwargs={**VIT, "mlp_ratio": 4},
        style="open_clip's image tower",
        library="open_clip",
    ),
}


def _randomise(module: nn.Module) -> nn.Module:
    """Draw every number anew: heads start at zero in some libraries, BatchNorm at the identity in all."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.ndim <= 1 and name.endswith("weight"):
                tensor.uniform_(0.8, 1.2, generator=generator)
            elif tensor.is_floating_point():
                tensor.normal_(std=0.1, generator=generator)
    return module.eval()


def _full(build: Callable[[], nn.Module]) -> nn.Module:
    """Build at full size without the libraries' slow initialisations."""
    with torch.device("meta"):
        module = build()
    return _randomise(module.to_empty(device="cpu"))


def _assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    assert theirs.std() > 1e-3  # so that equal zeros can't pass


@pytest.fixture(params=FOREIGN, scope="module")
def foreign(request: pytest.FixtureRequest) -> tuple[Foreign, nn.Module]:
    entry = FOREIGN[request.param]
    if entry.library is not None:
        pytest.importorskip(entry.library)
    return entry, _randomise(entry.build())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_foreign_weights_give_equal_logits(
    foreign: tuple[Foreign, nn.Module], suffix: str, tmp_path: Path
) -> None:
    entry, theirs = foreign
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": {f"model.{n}": t for n, t in theirs.state_dict().items()}}, path)
    else:
        save_file(theirs.state_dict(), path)
    ours = timm.create_model(entry.twin, num_classes=NUM_CLASSES, **entry.kwargs).eval()
    report = load_weights(ours, path, keep_head=True)
    images = torch.randn(2, 3, entry.size, entry.size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        _assert_close(ours(images), entry.run(theirs, images))
    assert report.key_style == entry.style
    assert len(report.left_out) == entry.left_out
    assert report.num_loaded == report.num_tensors


def test_foreign_weights_give_equal_features_below_a_new_head(
    foreign: tuple[Foreign, nn.Module], tmp_path: Path
) -> None:
    entry, theirs = foreign
    save_file(theirs.state_dict(), tmp_path / "w.safetensors")
    whole, ours = (
        timm.create_model(entry.twin, num_classes=n, **entry.kwargs).eval() for n in (NUM_CLASSES, 3)
    )
    load_weights(whole, tmp_path / "w.safetensors", keep_head=True)
    report = load_weights(ours, tmp_path / "w.safetensors")
    images = torch.randn(2, 3, entry.size, entry.size)
    with torch.no_grad():
        assert torch.equal(ours.forward_features(images), whole.forward_features(images))
    assert "new head" in str(report)
    assert (f"names of {entry.style} mapped" in str(report)) == (entry.style != "timm")
    assert report.head_ignored


@pytest.mark.parametrize(
    ("network", "config"), [("ViTForImageClassification", "ViTConfig"), ("DeiTModel", "DeiTConfig")]
)
def test_what_save_pretrained_writes_loads(network: str, config: str, tmp_path: Path) -> None:
    """transformers renames on saving: the file has other names than the network in memory."""
    pytest.importorskip("transformers")
    theirs = _randomise(_transformers(network, config, **CONFIG)())
    theirs.save_pretrained(tmp_path)  # type: ignore[operator]
    twin = "vit_tiny_patch16_224" if "ViT" in network else "deit_tiny_distilled_patch16_224"
    ours = timm.create_model(twin, num_classes=NUM_CLASSES, **VIT).eval()
    report = load_weights(ours, tmp_path / "model.safetensors")
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        tokens = theirs.base_model(pixel_values=images).last_hidden_state  # type: ignore[operator]
        _assert_close(ours.forward_features(images), tokens)
    assert report.key_style == "transformers' ViT"
    assert "LayerNorm eps" in str(report)
    assert all("pooler" in name for name in report.left_out)
    assert bool(report.left_out) == (network == "DeiTModel")


def _slim_vgg() -> nn.Module:
    """VGG-11 whose first hidden layer has 64 units for 4096: 0.1 GB less to draw and write."""
    vgg = torchvision.models.vgg
    module = vgg.VGG(vgg.make_layers(vgg.cfgs["A"], batch_norm=True), num_classes=1, init_weights=False)
    module.classifier[0] = nn.Linear(512 * 7 * 7, 64)
    module.classifier[3] = nn.Linear(64, 4096)
    module.classifier[6] = nn.Linear(4096, NUM_CLASSES)
    return module


def test_vgg_of_torchvision_loads_under_each_head(tmp_path: Path) -> None:
    theirs, slim = _full(_slim_vgg), {"mlp_ratio": 64 / 4096}
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    ours = timm.create_model("vgg11_bn", num_classes=NUM_CLASSES, **slim).eval()
    report = load_weights(ours, tmp_path / "w.pth", keep_head=True)
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        _assert_close(ours(images), theirs(images))
    assert report.key_style == "torchvision's VGG"
    section = ModelSection(name="vgg11_bn", head="conv", weights=str(tmp_path / "w.pth"), kwargs=slim)
    conv = build_model(section, num_classes=3, seed=0)
    assert conv.loaded is not None
    assert sorted(conv.loaded.head_ignored) == [
        "head.fc.bias", "head.fc.weight",
        "pre_logits.fc1.bias", "pre_logits.fc1.weight", "pre_logits.fc2.bias", "pre_logits.fc2.weight",
    ]  # fmt: skip
    small = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        _assert_close(conv.module.eval().forward_features(small), theirs.features(small))


@pytest.mark.soak
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [(torchvision.models.vit_b_16, "vit_b_16"), (torchvision.models.resnet50, "resnet50")],
    ids=["ViT-B/16", "ResNet-50"],
)
def test_full_size_networks_of_torchvision_give_equal_logits(
    theirs: Callable[[], nn.Module], ours: str, tmp_path: Path
) -> None:
    published = _full(theirs)
    with torch.no_grad():  # keeps activations of so many random layers finite
        for name, parameter in published.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(0.2 if "vit" in ours or "conv" in name else 1.0)
    save_file(published.state_dict(), tmp_path / "w.safetensors")
    twin = _full(lambda: timm.create_model(ours.replace("vit_b_16", "vit_base_patch16_224")))
    load_weights(twin, tmp_path / "w.safetensors", keep_head=True)
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        _assert_close(twin(images), published(images))


def _jax_arrays() -> dict[str, np.ndarray[Any, Any]]:
    """A ViT of width 32, two blocks, two heads, patches of 8, in Flax's names and layouts."""
    draw = np.random.default_rng(4)
    width, heads, hidden = 32, 2, 64

    def array(*shape: int) -> np.ndarray[Any, Any]:
        return draw.normal(0, 0.1, shape).astype(np.float32)

    arrays = {
        "cls": array(1, 1, width),
        "embedding/kernel": array(8, 8, 3, width),
        "embedding/bias": array(width),
        "Transformer/posembed_input/pos_embedding": array(1, 17, width),
        "Transformer/encoder_norm/scale": array(width),
        "Transformer/encoder_norm/bias": array(width),
        "head/kernel": array(width, NUM_CLASSES),
        "head/bias": array(NUM_CLASSES),
    }
    for index in range(2):
        block = f"Transformer/encoderblock_{index}"
        attention = f"{block}/MultiHeadDotProductAttention_1"
        for word in ("query", "key", "value"):
            arrays[f"{attention}/{word}/kernel"] = array(width, heads, width // heads)
            arrays[f"{attention}/{word}/bias"] = array(heads, width // heads)
        arrays[f"{attention}/out/kernel"] = array(heads, width // heads, width)
        arrays[f"{attention}/out/bias"] = array(width)
        for norm in (0, 2):
            arrays[f"{block}/LayerNorm_{norm}/scale"] = array(width)
            arrays[f"{block}/LayerNorm_{norm}/bias"] = array(width)
        for dense, (start, end) in enumerate([(width, hidden), (hidden, width)]):
            arrays[f"{block}/MlpBlock_3/Dense_{dense}/kernel"] = array(start, end)
            arrays[f"{block}/MlpBlock_3/Dense_{dense}/bias"] = array(end)
    return arrays


def test_npz_of_the_jax_code_loads_as_timm_loads_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **_jax_arrays())
    ours, reference = (
        timm.create_model("vit_tiny_patch16_224", num_classes=NUM_CLASSES, **VIT) for _ in range(2)
    )
    reference.load_pretrained(str(tmp_path / "w.npz"))
    report = load_weights(ours, tmp_path / "w.npz", keep_head=True)
    expected = reference.state_dict()
    assert {n for n, t in ours.state_dict().items() if not torch.equal(t, expected[n])} == set()
    assert report.key_style == "the JAX ViT"


def test_a_foreign_file_of_another_depth_is_refused_with_counts(tmp_path: Path) -> None:
    theirs = torchvision.models.VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=NUM_CLASSES)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    ours = timm.create_model("vit_tiny_patch16_224", num_classes=NUM_CLASSES, **{**VIT, "depth": 3})
    with pytest.raises(
        WeightsMismatch,
        match=r"\(names of torchvision's ViT mapped\) don't belong .*: 12 of the network's 44 tensors are "
        r"missing \(blocks\.2\.",
    ):
        load_weights(ours, tmp_path / "w.pth")


def test_a_foreign_file_of_another_architecture_is_refused(tmp_path: Path) -> None:
    theirs = torchvision.models.VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=NUM_CLASSES)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsMismatch, match=r"\d+ of the network's \d+ tensors are missing .* are unknown"):
        load_weights(timm.create_model("resnet18"), tmp_path / "w.pth")


def test_query_without_key_and_value_is_named(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    state = _transformers("ViTModel", "ViTConfig", **CONFIG)().state_dict()
    state = {n: t for n, t in state.items() if "layers.1.attention.k_proj" not in n}
    torch.save(state, tmp_path / "w.pth")
    ours = timm.create_model("vit_tiny_patch16_224", num_classes=NUM_CLASSES, **VIT)
    with pytest.raises(WeightsMismatch, match=r"blocks\.1\.attn\.qkv\.q\.bias"):
        load_weights(ours, tmp_path / "w.pth")


def test_foreign_position_embeddings_are_resampled_too(tmp_path: Path) -> None:
    theirs = torchvision.models.VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=NUM_CLASSES)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    ours = timm.create_model("vit_tiny_patch16_224", num_classes=3, **{**VIT, "img_size": 48})
    report = load_weights(ours, tmp_path / "w.pth")
    assert report.resampled == ("pos_embed",)
    assert "names of torchvision's ViT mapped; new head; resampled pos_embed" in str(report)


def test_clip_tower_warns_that_the_activation_is_not_in_the_file(tmp_path: Path) -> None:
    pytest.importorskip("open_clip")
    torch.save(_open_clip().state_dict(), tmp_path / "w.pth")
    ours = timm.create_model("vit_base_patch32_clip_224", num_classes=3, **{**VIT, "mlp_ratio": 4})
    report = load_weights(ours, tmp_path / "w.pth")
    assert "doesn't say its activation" in str(report)
    assert "18 of other parts left out (ln_final.bias" in str(report)
