"""What was measured about explanations, as typed values and as the dictionary of ``measured.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from praxiscope.stats.intervals import Interval

SCHEMA = 1
Verdict = Literal["passes", "fails", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Sanity:
    """What is left of a method's maps while the weights are randomised from head to stem."""

    layers: tuple[str, ...]
    """For each depth the lowest layer that was randomised."""
    correlation: tuple[float, ...]
    """Mean rank correlation with the original maps, in [-1, 1]."""
    low: tuple[float, ...]
    high: tuple[float, ...]
    """95 % interval, NaN where there is none."""
    verdict: Verdict
    sentence: str


@dataclass(frozen=True, kw_only=True)
class MaskMeasures:
    """A method's maps against masks of the actor, over the samples that have one."""

    pointing: Interval
    """Hits of the pointing game."""
    pointing_gain: Interval
    """The same minus the hits of a random point, sample by sample."""
    energy: Interval
    """Share of the map's mass inside the mask."""
    energy_gain: Interval
    """The same minus the mask's share of the image, sample by sample."""


@dataclass(frozen=True, kw_only=True)
class MaskReference:
    """What pointing without looking would give."""

    n: int
    """Samples with a mask."""
    mask_area: Interval
    """Share of the image inside the mask."""
    pointing_chance: Interval
    """Share inside the mask grown by the tolerance."""
    centre: Interval
    """Hits of the image's centre."""


@dataclass(frozen=True, kw_only=True)
class MethodMeasure:
    """One method on one model and data."""

    method: str
    layer: str | None
    deletion: Interval
    """Area under the deletion curve; smaller is better."""
    insertion: Interval
    """Area under the insertion curve; larger is better."""
    score: Interval
    """Insertion minus deletion, by which methods are ranked."""
    deletion_gain: Interval
    """Random map's deletion minus this one's, sample by sample; above 0 is better than random."""
    insertion_gain: Interval
    """This one's insertion minus the random map's; above 0 is better than random."""
    score_gain: Interval
    p_random: float
    """Of ``score_gain``, Holm-corrected over all pairs; 1 for the random map itself."""
    shares: tuple[float, ...]
    deletion_curve: tuple[float, ...]
    insertion_curve: tuple[float, ...]
    """Mean probability of the explained class at each share of cells gone, or come."""
    masks: MaskMeasures | None
    sanity: Sanity | None
    ms_per_image: float
    """Median over batches."""
    rank: int
    """One more than the number of methods that are told apart as better."""


@dataclass(frozen=True, kw_only=True)
class PairDifference:
    """Score of the second method minus that of the first on the same samples."""

    first: str
    second: str
    difference: Interval
    p_holm: float
    """Two-sided t test over groups, corrected after Holm over all pairs."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Accuracy under one way of changing the images."""

    name: str
    title: str
    accuracy: Interval
    kept: Interval
    """Share of samples whose answer is that on the whole image."""


@dataclass(frozen=True, kw_only=True)
class BackgroundScore:
    """How far answers rest on the background, from 0 (on the actor alone) to 1 (on the background alone)."""

    score: Interval | None
    """Mean of the two parts; None where undefined, then ``reason`` says why."""
    survives: Interval | None
    """Share of the skill that is left without the actor, in [0, 1]."""
    lost: Interval | None
    """Share of the skill that is lost with the own background, in [0, 1]."""
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class ClassReliance:
    """One class, by true label."""

    name: str
    support: int
    recall: Mapping[str, float]
    """Condition -> share of the class's samples answered rightly."""
    background: BackgroundScore


@dataclass(frozen=True, kw_only=True)
class Reliance:
    """Person against background."""

    n: int
    num_groups: int
    conditions: tuple[Condition, ...]
    background: BackgroundScore
    """From accuracies: labels decide."""
    answers: BackgroundScore
    """The same with the model's own answers on whole images in place of labels."""
    per_class: tuple[ClassReliance, ...]
    left_out: int
    """Samples without a usable mask or without a partner."""
    sentence: str
    rules: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the value of ``reliance`` in ``measured.json``."""
        return _plain_dict({**_fields(self), "per_class": [_plain(each) for each in self.per_class]})


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Several methods on one model and data, ranked."""

    run: str
    split: str
    n: int
    num_groups: int
    methods: tuple[MethodMeasure, ...]
    """In the order of rank, then of score."""
    random: MethodMeasure
    """The random map, measured in the same way."""
    pairs: tuple[PairDifference, ...]
    best: tuple[str, ...]
    """The methods to trust, which can't be told apart; empty where none is better than random."""
    ranking: tuple[str, ...]
    """The same in words."""
    mask_reference: MaskReference | None
    baseline: Mapping[str, str]
    """What deletion leaves, and where insertion begins."""
    rules: Mapping[str, str]
    """What the figures are."""

    def to_dict(self, reliance: Reliance | None = None) -> dict[str, Any]:
        """Return the content of ``measured.json``; NaN becomes null."""
        found = _fields(self)
        found["methods"] = [self._method_dict(each) for each in self.methods]
        found["random"] = self._method_dict(self.random)
        return _plain_dict({"schema": SCHEMA, **found, "reliance": reliance and reliance.to_dict()})

    def _method_dict(self, each: MethodMeasure) -> dict[str, Any]:
        entry = asdict(each)
        masks, reference = entry.pop("masks") or {}, self.mask_reference
        entry.update(
            {name: masks.get(name) for name in ("pointing", "pointing_gain", "energy", "energy_gain")}
        )
        entry["mask_area"] = asdict(reference.mask_area) if reference else None
        entry["random_deletion"] = asdict(self.random.deletion)
        entry["random_insertion"] = asdict(self.random.insertion)
        return entry


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def _plain_dict(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _plain(value) for key, value in values.items()}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: no dataclasses, no tuples, no NaN."""
    if hasattr(value, "__dataclass_fields__"):
        return _plain_dict(_fields(value))
    if isinstance(value, Mapping):
        return _plain_dict(value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
