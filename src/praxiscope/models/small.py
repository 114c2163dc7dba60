"""Networks of large images, adapted to images of about 32 pixels.

An ImageNet stem reduces a 32-pixel image to 8 x 8 before the first block and ends at 1 x 1. For small images
the stem keeps the size instead: a 3 x 3 convolution, stride 1, no pooling (He et al. 2016, section 4.2).
"""

from __future__ import annotations

from timm.layers.classifier import ClassifierHead
from timm.models.resnet import ResNet
from timm.models.vgg import VGG
from torch import nn


def adapt_to_small_images(module: nn.Module) -> nn.Module:
    """Give a network of timm the stem and the head that suit images of about 32 px.

    Args:
        module: A ResNet with a one-layer stem, or a VGG, newly built; changed in place. New layers draw their
            weights from torch's global generator.

    Returns:
        ``module``.

    Raises:
        ValueError: Another kind of network.
    """
    if isinstance(module, ResNet) and isinstance(module.conv1, nn.Conv2d):
        return _adapt_resnet(module)
    if isinstance(module, VGG):
        return _adapt_vgg(module)
    raise ValueError(f"{type(module).__name__} has no small-image form here; ResNet and VGG have")


def fit_patches(img_size: int) -> int:
    """Return the patch size that cuts an image into about 8 x 8 tokens, a divisor of its side.

    Args:
        img_size: Side of the square image in pixels.

    Returns:
        The divisor nearest to ``img_size / 8``, the smaller of two; 16 from 112 px on.

    >>> [fit_patches(size) for size in (28, 32, 64, 96, 224)]
    [4, 4, 8, 12, 16]
    """
    if img_size >= 112:
        return 16
    divisors = [size for size in range(1, img_size + 1) if img_size % size == 0]
    return min(divisors, key=lambda size: (abs(size - img_size / 8), size))


def _adapt_resnet(module: ResNet) -> nn.Module:
    stem = module.conv1
    assert isinstance(stem, nn.Conv2d)
    small = nn.Conv2d(stem.in_channels, stem.out_channels, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
    module.set_submodule("conv1", small, strict=True)
    module.set_submodule("maxpool", nn.Identity(), strict=True)
    return module


def _adapt_vgg(module: VGG) -> nn.Module:
    """Drop the two hidden layers of 4096 units, which are made for a 7 x 7 map, and pool instead."""
    module.set_submodule("pre_logits", nn.Identity(), strict=True)
    module.head = ClassifierHead(module.num_features, module.num_classes, drop_rate=module.drop_rate)
    module.head_hidden_size = module.num_features
    for layer in module.head.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, 0.01)
            nn.init.zeros_(layer.bias)
    return module
