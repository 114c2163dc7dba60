"""What is known about the networks: one card each, and a card made up for every other timm classifier.

``CARDS`` is a literal tuple that imports without torch, so that listings stay fast. A card only adds
knowledge (a short name, the input that the published weights expect, a source); no network needs one.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from praxiscope.errors import UsageError, did_you_mean
from praxiscope.models.card import RGB, Family, ModelCard
from praxiscope.models.video_cards import VIDEO_CARDS

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

__all__ = ["CARDS", "RGB", "Family", "ModelCard", "find_card", "find_timm_config", "list_names"]

HALF: RGB = (0.5, 0.5, 0.5)

# (x - 127) / 128 on 0..255, which is what EfficientNet-Lite was trained with (Liu 2020); timm's own 0.5 / 0.5
# is the nearest round figure. On 1,000 ImageNet images a wrong pair costs ten points without any message.
LITE_MEAN: RGB = (127 / 255, 127 / 255, 127 / 255)
LITE_STD: RGB = (128 / 255, 128 / 255, 128 / 255)


CARDS: tuple[ModelCard, ...] = (
    ModelCard(
        name="resnet18",
        timm_name="resnet18",
        family="cnn",
        params_m=11.69,
        crop_pct=0.95,
        note="The usual small CNN; 1.8 GMACs at 224 px.",
        paper="He et al. 2016; weights: Wightman et al. 2021, ResNet strikes back (A1)",
    ),
    ModelCard(
        name="resnet50",
        timm_name="resnet50",
        family="cnn",
        params_m=25.56,
        crop_pct=0.95,
        note="The usual CNN; 4.1 GMACs at 224 px.",
        paper="He et al. 2016; weights: Wightman et al. 2021, ResNet strikes back (A1)",
    ),
    ModelCard(
        name="tf_efficientnet_lite0",
        timm_name="tf_efficientnet_lite0",
        family="cnn",
        aliases=("efficientnet-lite0",),
        params_m=4.65,
        mean=LITE_MEAN,
        std=LITE_STD,
        note="Small and quick; its ImageNet weights come as a package (extra 'lite0'), no hub needed.",
        paper="Tan & Le 2019, EfficientNet; Liu 2020, EfficientNet-Lite",
    ),
    ModelCard(
        name="vit_base_patch16_224",
        timm_name="vit_base_patch16_224",
        family="vit",
        aliases=("vit-b16", "vit_base", "vit_b_16"),
        params_m=86.57,
        mean=HALF,
        std=HALF,
        crop_pct=0.9,
        note="ViT-B/16; 17.6 GMACs at 224 px. Needs pretrained weights on data of this size.",
        paper="Dosovitskiy et al. 2021, An Image is Worth 16x16 Words; weights: Steiner et al. 2022 (AugReg)",
    ),
    ModelCard(
        name="vit_small_patch16_224",
        timm_name="vit_small_patch16_224",
        family="vit",
        aliases=("vit-s16", "vit_small"),
        params_m=22.05,
        mean=HALF,
        std=HALF,
        crop_pct=0.9,
        note="ViT-S/16; a quarter of ViT-B's cost.",
        paper="Touvron et al. 2021, DeiT; weights: Steiner et al. 2022 (AugReg)",
    ),
    ModelCard(
        name="vit_tiny_patch16_224",
        timm_name="vit_tiny_patch16_224",
        family="vit",
        aliases=("vit-ti16", "vit_tiny"),
        params_m=5.72,
        mean=HALF,
        std=HALF,
        crop_pct=0.9,
        note="ViT-Ti/16; for small machines.",
        paper="Touvron et al. 2021, DeiT; weights: Steiner et al. 2022 (AugReg)",
    ),
    ModelCard(
        name="vgg16",
        timm_name="vgg16",
        family="cnn",
        params_m=138.36,
        interpolation="bilinear",
        note="VGG-16 as published; 15.5 GMACs at 224 px.",
        paper="Simonyan & Zisserman 2015; weights: torchvision's",
    ),
    ModelCard(
        name="vgg16_bn",
        timm_name="vgg16_bn",
        family="cnn",
        params_m=138.37,
        interpolation="bilinear",
        note="VGG-16 with BatchNorm; trains from scratch where VGG-16 doesn't.",
        paper="Simonyan & Zisserman 2015; Ioffe & Szegedy 2015; weights: torchvision's",
    ),
    ModelCard(
        name="vgg16-small",
        timm_name="vgg16_bn",
        family="cnn",
        params_m=15.24,
        img_size=32,
        crop_pct=1.0,
        interpolation="bilinear",
        pretrained=False,
        small=True,
        note="VGG-16 with BatchNorm for images of about 32 px: pooled, without 4096-unit layers.",
        paper="Simonyan & Zisserman 2015; Ioffe & Szegedy 2015",
    ),
    ModelCard(
        name="resnet18-small",
        timm_name="resnet18",
        family="cnn",
        aliases=("resnet18_cifar",),
        params_m=11.68,
        img_size=32,
        crop_pct=1.0,
        interpolation="bilinear",
        pretrained=False,
        small=True,
        note="ResNet-18 with the small-image stem (3x3, stride 1, no pooling); 0.56 GMACs at 32 px.",
        paper="He et al. 2016",
    ),
    ModelCard(
        name="resnet18-small-half",
        timm_name="resnet18",
        family="cnn",
        params_m=3.06,
        img_size=32,
        crop_pct=1.0,
        interpolation="bilinear",
        pretrained=False,
        small=True,
        kwargs=MappingProxyType({"channels": (32, 64, 128, 256)}),
        note="The same with half the channels, a quarter of the cost: for a CPU.",
        paper="He et al. 2016",
    ),
    ModelCard(
        name="resnet50-small",
        timm_name="resnet50",
        family="cnn",
        aliases=("resnet50_cifar",),
        params_m=25.55,
        img_size=32,
        crop_pct=1.0,
        interpolation="bilinear",
        pretrained=False,
        small=True,
        note="ResNet-50 with the small-image stem; 1.3 GMACs at 32 px.",
        paper="He et al. 2016",
    ),
    ModelCard(
        name="vit-scratch",
        timm_name="vit_small_patch16_224",
        family="vit",
        aliases=("vit_scratch", "vit-lite7"),
        params_m=3.98,
        img_size=32,
        mean=HALF,
        std=HALF,
        crop_pct=1.0,
        pretrained=False,
        fit_patches=True,
        kwargs=MappingProxyType({"embed_dim": 256, "depth": 7, "num_heads": 4, "mlp_ratio": 2}),
        note="Seven blocks of width 256 for small images, from scratch; patches of an eighth of the side.",
        paper="Dosovitskiy et al. 2021; size as ViT-Lite-7 of Hassani et al. 2021, Compact Transformers",
    ),
    ModelCard(
        name="demo-cnn",
        timm_name="resnet10t",
        family="cnn",
        params_m=1.27,
        img_size=64,
        mean=HALF,
        std=HALF,
        crop_pct=1.0,
        pretrained=False,
        kwargs=MappingProxyType({"channels": (32, 64, 128, 256)}),
        note="Half-width ResNet-10 for the demo: trains from scratch in two minutes on two cores.",
        paper="He et al. 2016; tiered stem: He et al. 2019, Bag of Tricks",
    ),
    ModelCard(
        name="demo-vit",
        timm_name="vit_tiny_patch16_224",
        family="vit",
        params_m=0.33,
        img_size=64,
        mean=HALF,
        std=HALF,
        crop_pct=1.0,
        pretrained=False,
        kwargs=MappingProxyType(
            {"patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3, "mlp_ratio": 2}
        ),
        note="Four-block ViT with 8-px patches for the demo: quick, but few images teach it little.",
        paper="Dosovitskiy et al. 2021",
    ),
)

# Only for names without a card: which of timm's source files hold plain ViTs and convolutional networks.
_VIT_MODULES = ("vision_transformer", "deit", "beit", "eva")
_CNN_MODULES = (
    "byobnet", "convnext", "cspnet", "densenet", "dla", "dpn", "efficientnet", "ghostnet", "hrnet",
    "inception_v3", "inception_v4", "mobilenetv3", "nfnet", "regnet", "repvit", "res2net", "resnest",
    "resnet", "resnetv2", "rexnet", "vgg", "vovnet", "xception", "xception_aligned",
)  # fmt: skip


def find_card(name: str) -> ModelCard:
    """Return the card of a network by name or alias, or one made from timm's own configuration.

    Args:
        name: A catalogue name, an alias, or a timm name with or without ``.tag``.

    Returns:
        The card. For a timm name without a card, ``params_m`` is None.

    Raises:
        UsageError: Nothing has this name; the message suggests the closest one.

    >>> find_card("vit-b16").timm_name
    'vit_base_patch16_224'
    """
    for card in (*CARDS, *VIDEO_CARDS):
        if name == card.name or name in card.aliases:
            return card
    return _card_from_timm(name)


def list_names() -> tuple[str, ...]:
    """Return every catalogue name and alias, in catalogue order."""
    return tuple(name for card in (*CARDS, *VIDEO_CARDS) for name in (card.name, *card.aliases))


def find_timm_config(timm_name: str) -> PretrainedCfg:
    """Return what timm records about an architecture's published weights and their input.

    Args:
        timm_name: An architecture, with or without ``.tag``.

    Raises:
        UsageError: timm has no such architecture or no such tag.
    """
    import timm

    config = None
    # `hf-hub:` and `local-dir:` names would fetch or read files here; only registered architectures pass.
    if ":" not in timm_name and "/" not in timm_name and timm.is_model(timm_name):
        try:
            config = timm.get_pretrained_cfg(timm_name)
        except RuntimeError as error:  # an unknown tag
            known = timm.list_pretrained(f"{timm_name.split('.', maxsplit=1)[0]}.*")
            raise UsageError(
                f"timm has no weights tag '{timm_name}'.{did_you_mean(timm_name, known)} "
                f"Known: {', '.join(known) or 'none'}."
            ) from error
    if config is None:
        allowed = (*list_names(), *timm.list_models())
        raise UsageError(
            f"No model is called '{timm_name}'.{did_you_mean(timm_name, allowed)} "
            f"Allowed: {', '.join(each.name for each in (*CARDS, *VIDEO_CARDS))}, or any of timm's "
            f"{len(allowed)} classifiers."
        )
    return config


def _card_from_timm(name: str) -> ModelCard:
    config = find_timm_config(name)
    return ModelCard(
        name=name,
        timm_name=name,
        family=_guess_family(name),
        img_size=config.input_size[1],
        mean=_rgb(config.mean),
        std=_rgb(config.std),
        interpolation=config.interpolation,
        crop_pct=config.crop_pct,
        pretrained=bool(config.has_weights),
    )


def _rgb(values: tuple[float, ...]) -> RGB:
    red, green, blue = values
    return red, green, blue


def _guess_family(timm_name: str) -> Family:
    from timm.models import is_model_in_modules

    architecture = timm_name.split(".", maxsplit=1)[0]
    if is_model_in_modules(architecture, set(_VIT_MODULES)):
        return "vit"
    return "cnn" if is_model_in_modules(architecture, set(_CNN_MODULES)) else "other"
