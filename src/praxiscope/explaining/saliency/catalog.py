"""The methods that say where in an image the evidence for a class lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from praxiscope.errors import UsageError, did_you_mean
from praxiscope.models.catalog import Family

_ALL: tuple[Family, ...] = ("cnn", "vit", "other")


@dataclass(frozen=True, kw_only=True)
class Method:
    """One method."""

    name: str
    """As users type it."""
    title: str
    """As figures show it."""
    source: str
    """The paper."""
    families: tuple[Family, ...]
    """Networks that it can explain."""
    default_for: tuple[Family, ...]
    """Networks for which it is used when nobody names a method."""
    needs_layer: bool
    """Whether it looks at one layer, which can be chosen."""
    signed: bool
    """Whether values below zero mean evidence against the class; the others' values are never negative."""
    class_blind: bool
    """Whether the map is the same for every class."""


METHODS: tuple[Method, ...] = (
    Method(
        name="gradcam",
        title="Grad-CAM",
        source="Selvaraju et al. 2017, Grad-CAM",
        families=_ALL,
        default_for=_ALL,
        needs_layer=True,
        signed=False,
        class_blind=False,
    ),
    Method(
        name="gradcam++",
        title="Grad-CAM++",
        source="Chattopadhyay et al. 2018, Grad-CAM++",
        families=_ALL,
        default_for=("cnn", "other"),
        needs_layer=True,
        signed=False,
        class_blind=False,
    ),
    Method(
        name="eigencam",
        title="EigenCAM",
        source="Muhammad & Yeasin 2020, Eigen-CAM",
        families=_ALL,
        default_for=("cnn", "other"),
        needs_layer=True,
        signed=False,
        class_blind=True,
    ),
    Method(
        name="rollout",
        title="Attention rollout",
        source="Abnar & Zuidema 2020, Quantifying Attention Flow in Transformers",
        families=("vit",),
        default_for=("vit",),
        needs_layer=False,
        signed=False,
        class_blind=True,
    ),
    Method(
        name="attention-gradient",
        title="Attention x gradient",
        source="Chefer et al. 2021, Generic Attention-model Explainability",
        families=("vit",),
        default_for=("vit",),
        needs_layer=False,
        signed=False,
        class_blind=False,
    ),
    Method(
        name="integrated-gradients",
        title="Integrated gradients",
        source="Sundararajan et al. 2017, Axiomatic Attribution for Deep Networks",
        families=_ALL,
        default_for=(),
        needs_layer=False,
        signed=True,
        class_blind=False,
    ),
    Method(
        name="occlusion",
        title="Occlusion",
        source="Zeiler & Fergus 2014, Visualizing and Understanding Convolutional Networks",
        families=_ALL,
        default_for=(),
        needs_layer=False,
        signed=True,
        class_blind=False,
    ),
    Method(
        name="random",
        title="Random map",
        source="smooth noise, the floor that every method is held against",
        families=_ALL,
        default_for=(),
        needs_layer=False,
        signed=False,
        class_blind=True,
    ),
)


def find_methods(names: Sequence[str] | None, family: Family) -> tuple[Method, ...]:
    """Return the methods of these names, in the order given; where none are named, the family's usual ones.

    Args:
        names: As users type them, each once; None or empty to choose.
        family: The network's.

    Raises:
        UsageError: A name is unknown or given twice, or the method can't explain such a network.

    >>> [method.name for method in find_methods(None, "vit")]
    ['gradcam', 'rollout', 'attention-gradient']
    """
    if not names:
        return tuple(method for method in METHODS if family in method.default_for)
    repeated = [name for place, name in enumerate(names) if name in names[:place]]
    if repeated:
        raise UsageError(f"The method '{repeated[0]}' is given twice.")
    return tuple(_find_method(name, family) for name in names)


def _find_method(name: str, family: Family) -> Method:
    allowed = [method.name for method in METHODS]
    method = next((each for each in METHODS if each.name == name), None)
    if method is None:
        raise UsageError(
            f"No method is called '{name}'.{did_you_mean(name, allowed)} Allowed: {', '.join(allowed)}."
        )
    if family not in method.families:
        fitting = ", ".join(each.name for each in METHODS if family in each.families)
        raise UsageError(
            f"The method '{name}' reads the attention of a plain Vision Transformer; this network is of the "
            f"family '{family}'. Use one of: {fitting}."
        )
    return method
