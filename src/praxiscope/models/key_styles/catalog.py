"""Every key style that is understood besides timm's own."""

from __future__ import annotations

from praxiscope.models.key_styles.efficientnet_lite import EFFICIENTNET_LITE
from praxiscope.models.key_styles.jax_vit import JAX_VIT
from praxiscope.models.key_styles.open_clip import OPEN_CLIP, OPEN_CLIP_TOWER
from praxiscope.models.key_styles.style import KeyStyle
from praxiscope.models.key_styles.torchvision_efficientnet import TORCHVISION_EFFICIENTNET
from praxiscope.models.key_styles.torchvision_vgg import TORCHVISION_VGG
from praxiscope.models.key_styles.torchvision_vit import TORCHVISION_VIT
from praxiscope.models.key_styles.transformers_clip import TRANSFORMERS_CLIP
from praxiscope.models.key_styles.transformers_resnet import TRANSFORMERS_RESNET
from praxiscope.models.key_styles.transformers_vit import TRANSFORMERS_VIT

KEY_STYLES: tuple[KeyStyle, ...] = (
    EFFICIENTNET_LITE,
    TORCHVISION_VIT,
    TORCHVISION_VGG,
    TORCHVISION_EFFICIENTNET,
    TRANSFORMERS_VIT,
    TRANSFORMERS_RESNET,
    TRANSFORMERS_CLIP,
    OPEN_CLIP,
    OPEN_CLIP_TOWER,
    JAX_VIT,
)
"""The first that matches is used, else the names are taken for timm's. torchvision's ResNets need none: they
are named as timm's are."""
