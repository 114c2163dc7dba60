"""Image-text models (CLIP, Radford et al. 2021) as classifiers that no image was trained on.

The class names are written into sentences, the text tower turns them into vectors, and these become the last
layer of the image tower: an ordinary network of timm with a ``text`` head, which evaluates, reports and
exports as any other. The text tower is not needed after that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from praxiscope.errors import EnvironmentProblem, UsageError, did_you_mean
from praxiscope.models.key_styles.open_clip import OPEN_CLIP_TOWER
from praxiscope.models.weights import WeightsMismatch, read_state
from praxiscope.recipe.schema import ModelSection

DEFAULT_TEMPLATES = ("a photo of a person {}.", "a photo of someone {}.", "a photo showing {}.", "{}")
"""Sentences around a class name of human action; their vectors are averaged (section 3.1.4)."""

_TIMM_NAME = "vit_base_patch32_clip_224"  # any plain ViT of CLIP: the sizes come as arguments
_VISION_KEYS = {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"}
_TEXT_KEYS = {"context_length", "vocab_size", "width", "heads", "layers"}
_TOWER = "visual."
_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class ZeroShotClassifier:
    """What is needed to build and fill the network."""

    section: ModelSection
    """The network: CLIP's image tower with a ``text`` head."""
    state: dict[str, Tensor]
    """All of its tensors."""
    prompts: tuple[tuple[str, ...], ...]
    """For each class the sentences that stand for it."""


def list_image_text_models() -> tuple[str, ...]:
    """Return the open_clip names that can be used here: those with plain ViT and text towers.

    Raises:
        EnvironmentProblem: open_clip isn't installed.
    """
    clip = _import_open_clip()
    return tuple(name for name in clip.list_models() if _find_obstacle(clip.get_model_config(name)) is None)


def build_zero_shot(
    name: str,
    weights: Path,
    *,
    names: Sequence[str],
    templates: Sequence[str] = DEFAULT_TEMPLATES,
) -> ZeroShotClassifier:
    """Turn an image-text model and class names into a classifier.

    Args:
        name: As open_clip calls it: ``ViT-B-32``; ``ViT-B-32-quickgelu`` for OpenAI's own weights.
        weights: Its weights in open_clip's names, ``.safetensors`` or plain tensors in ``.pt`` or ``.bin``.
        names: Class names, in the order of the logits; underscores are read as spaces.
        templates: Sentences with one ``{}``.

    Returns:
        The classifier; its logits are CLIP's own: scaled cosine similarities, averaged over the templates.

    Raises:
        EnvironmentProblem: open_clip isn't installed.
        UsageError: Unknown or unsupported model, a template without ``{}``, or two classes of one name.
        WeightsMismatch: The file isn't of this model.
        WeightsUnreadable: The file is damaged or holds more than tensors.
    """
    clip = _import_open_clip()
    config = _find_config(clip, name)
    prompts = _write_prompts(names, templates)
    model = _load_model(clip, name, config, weights)
    tokenizer = clip.SimpleTokenizer(context_length=config["text_cfg"].get("context_length", 77))
    texts_KE = torch.stack([_encode(model, tokenizer, sentences) for sentences in prompts])
    tower = {
        key.removeprefix(_TOWER): value for key, value in model.state_dict().items() if key.startswith(_TOWER)
    }
    body = OPEN_CLIP_TOWER.rename(tower)
    body.pop("head.bias", None)  # CLIP's projection has none
    scale = cast("Tensor", model.logit_scale).detach().exp()
    head = {"head.proj.weight": body.pop("head.weight"), "head.fc.weight": scale * texts_KE}
    return ZeroShotClassifier(
        section=_build_section(config),
        state={key: tensor.detach().clone().contiguous() for key, tensor in {**body, **head}.items()},
        prompts=prompts,
    )


def _import_open_clip() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise EnvironmentProblem(
            "Zero-shot classifiers need open_clip: pip install 'praxiscope[clip]'."
        ) from error
    return open_clip


def _find_config(clip: Any, name: str) -> dict[str, Any]:
    config = clip.get_model_config(name)
    allowed = list_image_text_models()
    if config is None:
        raise UsageError(
            f"open_clip has no model '{name}'.{did_you_mean(name, allowed)} Allowed: {', '.join(allowed)}."
        )
    if (obstacle := _find_obstacle(config)) is not None:
        raise UsageError(f"'{name}' can't be used here: {obstacle}. Allowed: {', '.join(allowed)}.")
    return cast("dict[str, Any]", config)


def _find_obstacle(config: dict[str, Any]) -> str | None:
    """Return why a model of open_clip is none of the plain kind, or None."""
    more = sorted(config.keys() - {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"})
    more += sorted(config["vision_cfg"].keys() - _VISION_KEYS) + sorted(
        config["text_cfg"].keys() - _TEXT_KEYS
    )
    if more:
        return f"its towers aren't plain ones ({', '.join(more)})"
    if not isinstance(config["vision_cfg"]["layers"], int):
        return "its image tower is a ResNet"
    return None


def _write_prompts(names: Sequence[str], templates: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    if not templates:
        raise UsageError("A zero-shot classifier needs at least one template, such as 'a photo of {}.'.")
    for template in templates:
        if template.count("{}") != 1:
            raise UsageError(f"The template '{template}' must hold {{}} once, where the class name goes.")
    words = [" ".join(name.replace("_", " ").split()) for name in names]
    if twice := sorted({word for word in words if words.count(word) > 1}):
        raise UsageError(
            f"Several classes read '{twice[0]}', so no text can tell them apart; give each its own words."
        )
    return tuple(tuple(template.replace("{}", word) for template in templates) for word in words)


def _load_model(clip: Any, name: str, config: dict[str, Any], weights: Path) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        model: nn.Module = clip.CLIP(
            config["embed_dim"],
            clip.CLIPVisionCfg(**config["vision_cfg"]),
            clip.CLIPTextCfg(**config["text_cfg"]),
            quick_gelu=config.get("quick_gelu", False),
        )
    state = read_state(weights)
    own = model.state_dict()
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    misshaped = [key for key in own.keys() & state.keys() if own[key].shape != state[key].shape]
    if missing or unknown or misshaped:
        raise WeightsMismatch(
            f"The weights in '{weights}' don't belong to {name} in open_clip's names: of its {len(own)} "
            f"tensors {len(missing)} are missing ({', '.join(missing[:3]) or 'none'}), {len(unknown)} of the "
            f"file are unknown ({', '.join(unknown[:3]) or 'none'}), {len(misshaped)} have another shape. "
            "Nothing was loaded. Give the file of this model that open_clip uses "
            "(open_clip_model.safetensors)."
        )
    model.load_state_dict(state, strict=True)
    return model.eval()


@torch.no_grad()
def _encode(model: nn.Module, tokenizer: Any, sentences: Sequence[str]) -> Tensor:
    """Return the unit vector (E,) that stands for all sentences: the mean of theirs."""
    parts = [
        cast("Any", model).encode_text(tokenizer(list(sentences[start : start + _BATCH])), normalize=True)
        for start in range(0, len(sentences), _BATCH)
    ]
    return nn.functional.normalize(torch.cat(parts).mean(dim=0), dim=0)


def _build_section(config: dict[str, Any]) -> ModelSection:
    vision = config["vision_cfg"]
    kwargs = {
        "embed_dim": vision["width"],
        "depth": vision["layers"],
        "num_heads": vision["width"] // vision.get("head_width", 64),
        "patch_size": vision["patch_size"],
        "mlp_ratio": vision.get("mlp_ratio", 4.0),
    }
    if config.get("quick_gelu", False):
        kwargs["act_layer"] = "quick_gelu"
    return ModelSection(
        name=_TIMM_NAME,
        img_size=vision["image_size"],
        head="text",
        head_hidden=config["embed_dim"],
        kwargs=kwargs,
    )
