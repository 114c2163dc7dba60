"""The video networks of torchvision: one card each, as their Kinetics-400 weights want to be fed.

Published crops keep 7/8 of a resized frame. torchvision stretches the frames of the 112-px networks to
171 x 128 and those of S3D to 256 x 256 first; here the aspect ratio is kept, as everywhere.
"""

from __future__ import annotations

from praxiscope.models.card import IMAGENET_MEAN, IMAGENET_STD, RGB, ModelCard

KINETICS_MEAN: RGB = (0.43216, 0.394666, 0.37645)
KINETICS_STD: RGB = (0.22803, 0.22145, 0.216989)
_MVIT_MEAN: RGB = (0.45, 0.45, 0.45)
_MVIT_STD: RGB = (0.225, 0.225, 0.225)
_RESNET_PAPER = "Tran et al. 2018, A Closer Look at Spatiotemporal Convolutions"
_SWIN_PAPER = "Liu et al. 2022, Video Swin Transformer"


def _card(  # noqa: PLR0913 - a row of a table
    name: str,
    params_m: float,
    note: str,
    paper: str,
    *,
    num_frames: int = 16,
    img_size: int = 224,
    mean: RGB = KINETICS_MEAN,
    std: RGB = KINETICS_STD,
    min_frames: int = 1,
    min_img_size: int = 1,
    fixed_input: bool = False,
) -> ModelCard:
    return ModelCard(
        name=name, timm_name=name, family="other", library="torchvision", params_m=params_m,
        num_frames=num_frames, img_size=img_size, mean=mean, std=std, interpolation="bilinear",
        min_frames=min_frames, min_img_size=min_img_size, fixed_input=fixed_input, note=note, paper=paper,
    )  # fmt: skip


VIDEO_CARDS: tuple[ModelCard, ...] = (
    _card(
        "r3d_18",
        33.37,
        "ResNet-18 with 3D convolutions; 40.7 GMACs for 16 frames of 112 px.",
        _RESNET_PAPER,
        img_size=112,
    ),
    _card(
        "mc3_18",
        11.70,
        "3D convolutions in the first two stages, 2D after; 43.3 GMACs.",
        _RESNET_PAPER,
        img_size=112,
    ),
    _card(
        "r2plus1d_18",
        31.51,
        "Each 3D convolution as one in space and one in time; 40.5 GMACs.",
        _RESNET_PAPER,
        img_size=112,
    ),
    _card(
        "s3d",
        8.32,
        "Separable 3D Inception, 64 frames as published; at least 13 frames of 209 px.",
        "Xie et al. 2018, Rethinking Spatiotemporal Feature Learning",
        num_frames=64,
        min_frames=13,
        min_img_size=209,
    ),
    _card(
        "mvit_v1_b",
        36.61,
        "Multiscale Vision Transformer; 16 frames of 224 px, 70.6 GMACs.",
        "Fan et al. 2021, Multiscale Vision Transformers",
        mean=_MVIT_MEAN,
        std=_MVIT_STD,
        fixed_input=True,
    ),
    _card(
        "mvit_v2_s",
        34.54,
        "MViTv2-S; 16 frames of 224 px, 64.2 GMACs.",
        "Li et al. 2022, MViTv2",
        mean=_MVIT_MEAN,
        std=_MVIT_STD,
        fixed_input=True,
    ),
    *(
        _card(name, params_m, note, _SWIN_PAPER, num_frames=32, mean=IMAGENET_MEAN, std=IMAGENET_STD)
        for name, params_m, note in (
            ("swin3d_t", 28.16, "Video Swin-T; 43.9 GMACs for 32 frames of 224 px."),
            ("swin3d_s", 49.82, "Video Swin-S; 82.8 GMACs."),
            ("swin3d_b", 88.05, "Video Swin-B; 140.7 GMACs."),
        )
    ),
)
