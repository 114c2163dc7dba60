"""All measures for several methods on the same samples: the table that ranks them for this model and data."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from praxiscope.errors import UsageError
from praxiscope.explaining.measure.deletion import DEFAULT_STEPS, Canvas, Curves, prepare_canvas, trace_curves
from praxiscope.explaining.measure.pointing import Targets, prepare_targets, score_energy, score_pointing
from praxiscope.explaining.measure.ranking import RANDOM, find_pair, rank_methods
from praxiscope.explaining.measure.result import MaskMeasures, MaskReference, Measured, MethodMeasure, Sanity
from praxiscope.explaining.measure.rules import BASELINE, RULES
from praxiscope.explaining.measure.samples import Classes, Images, Maps, MeasuredSamples
from praxiscope.explaining.measure.sanity import DEFAULT_DEPTHS, Explain, check_sanity
from praxiscope.explaining.saliency.catalog import find_methods
from praxiscope.explaining.saliency.compute import compute_maps
from praxiscope.explaining.saliency.target import choose_target_layer, describe_coarse
from praxiscope.explaining.subject import Subject
from praxiscope.models.layer_uses import list_layers
from praxiscope.stats.bootstrap import bootstrap_means, code_groups
from praxiscope.stats.intervals import Interval

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Explainer:
    """A method to be measured: one of the catalogue's, or any function that gives maps."""

    name: str
    explain: Explain
    """(subject, uint8 (N, S, S, 3), int64 (N,)) -> float32 (N, S, S), larger is more evidence."""
    layer: str | None = None


@dataclass(frozen=True, kw_only=True)
class MeasurePlan:
    """How thoroughly."""

    steps: int = DEFAULT_STEPS
    """Of deletion and insertion."""
    batch_size: int = 32
    """Images in one pass."""
    sanity_samples: int = 32
    """Samples of the sanity check, at even distances (in order of ids the first ones would be of one class);
    0 leaves it out."""
    sanity_depths: int = DEFAULT_DEPTHS
    resamples: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field."""
        for name, least in {
            "steps": 1,
            "batch_size": 1,
            "sanity_samples": 0,
            "sanity_depths": 1,
            "resamples": 1,
        }.items():
            if getattr(self, name) < least:
                raise UsageError(f"MeasurePlan.{name} is {getattr(self, name)}; it must be at least {least}.")


@dataclass(frozen=True, kw_only=True)
class _Found:
    """One method's figures, sample by sample."""

    explainer: Explainer
    curves: Curves
    pointing: FloatArray | None
    energy: FloatArray | None
    ms_per_image: float

    @property
    def scores(self) -> FloatArray:
        return self.curves.insertion_auc - self.curves.deletion_auc


def build_explainers(
    subject: Subject,
    names: Sequence[str] | None,
    *,
    layer: str | None = None,
    plan: MeasurePlan | None = None,
) -> tuple[Explainer, ...]:
    """Return methods of the catalogue, ``random`` left out; the family's usual ones where none is named.

    Raises:
        UsageError: Unknown method or layer.
    """
    plan = plan or MeasurePlan()
    found = []
    for method in find_methods(names, subject.family):
        if method.name != RANDOM:
            where = (layer or choose_target_layer(subject)) if method.needs_layer else None
            explain = partial(_explain_by_name, method.name, where, plan)
            found.append(Explainer(name=method.name, explain=explain, layer=where))
    return tuple(found)


def measure_methods(
    subject: Subject,
    samples: MeasuredSamples,
    methods: Sequence[str | Explainer] | None = None,
    *,
    layer: str | None = None,
    plan: MeasurePlan | None = None,
    watch: Progress | None = None,
) -> Measured:
    """Measure methods on the same samples and rank them; each explains the class that the network answers.

    Args:
        subject: The network; it is left as it was.
        samples: What to measure on; masks are optional.
        methods: Names of the catalogue, functions of your own, or both, each once; None for the family's
            usual ones. The random map is always measured beside them.
        layer: For methods that look at one layer; None for the usual one.
        plan: How thoroughly.
        watch: Follows progress.

    Raises:
        UsageError: Unknown method or layer, or one given twice.
    """
    plan, watch = plan or MeasurePlan(), watch or (lambda _text, _done, _total: None)
    explainers = _resolve(subject, methods, layer, plan)
    targets = subject.compute_logits(samples.images).argmax(axis=1).astype(np.int64)
    floor = Explainer(name=RANDOM, explain=partial(_explain_by_name, RANDOM, None, plan))
    noise = floor.explain(subject, samples.images, targets)
    canvas = prepare_canvas(
        subject, samples.images, targets, noise, steps=plan.steps, batch_size=plan.batch_size
    )
    places = (
        prepare_targets(samples.masks[samples.masked])
        if samples.masks is not None and len(samples.masked)
        else None
    )
    found = []
    for done, explainer in enumerate((*explainers, floor)):
        watch(f"measuring {explainer.name}", done, len(explainers) + 1)
        found.append(_measure_one(subject, samples, explainer, canvas, places))
    watch("sanity check", len(explainers), len(explainers) + 1)
    sanity = _check(subject, samples, explainers, targets, plan)
    watch("measured", len(explainers) + 1, len(explainers) + 1)
    return _summarize(subject, samples, found, sanity, places, plan)


def _resolve(
    subject: Subject, methods: Sequence[str | Explainer] | None, layer: str | None, plan: MeasurePlan
) -> list[Explainer]:
    named = [each for each in methods or () if isinstance(each, str)]
    known = {}
    if named or not methods:
        known = {each.name: each for each in build_explainers(subject, named, layer=layer, plan=plan)}
    order = [each for each in methods or known if each != RANDOM]
    found = [known[each] if isinstance(each, str) else each for each in order]
    names = [each.name for each in found]
    for name in names:
        if names.count(name) > 1 or name == RANDOM:
            raise UsageError(
                f"A method to measure is called '{name}' twice; 'random' is always there by itself."
            )
    return found


def _explain_by_name(
    name: str, layer: str | None, plan: MeasurePlan, subject: Subject, images: Images, targets: Classes
) -> Maps:
    return compute_maps(
        subject, name, images, targets, layer=layer, batch_size=plan.batch_size, seed=plan.seed
    ).maps


def _measure_one(
    subject: Subject, samples: MeasuredSamples, explainer: Explainer, canvas: Canvas, places: Targets | None
) -> _Found:
    maps, ms_per_image = _time_maps(subject, explainer, samples.images, canvas)
    mine = maps[samples.masked]
    return _Found(
        explainer=explainer,
        curves=trace_curves(subject, canvas, maps),
        pointing=None if places is None else score_pointing(mine, places.near),
        energy=None if places is None else score_energy(mine, places.masks),
        ms_per_image=ms_per_image,
    )


def _time_maps(subject: Subject, explainer: Explainer, images: Images, canvas: Canvas) -> tuple[Maps, float]:
    """Explain batch by batch; the time is the median over full batches, the first (warm-up) left out."""
    parts, seconds = [], []
    for start in range(0, len(images), canvas.batch_size):
        rows = slice(start, start + canvas.batch_size)
        _wait(subject)
        began = time.perf_counter()
        maps = explainer.explain(subject, images[rows], canvas.targets[rows])
        _wait(subject)
        seconds.append((time.perf_counter() - began) / len(maps))
        if maps.shape != images[rows].shape[:3]:
            raise UsageError(
                f"The method '{explainer.name}' gives maps of shape {maps.shape}; they must be "
                f"{images[rows].shape[:3]}."
            )
        parts.append(maps)
    whole = seconds[1:] if len(images) % canvas.batch_size == 0 else seconds[1:-1]
    return np.concatenate(parts), 1000 * median(whole or seconds)


def _wait(subject: Subject) -> None:
    if subject.runtime.device.type == "cuda":
        torch.cuda.synchronize(subject.runtime.device)


def _check(
    subject: Subject,
    samples: MeasuredSamples,
    explainers: Sequence[Explainer],
    targets: Classes,
    plan: MeasurePlan,
) -> dict[str, Sanity]:
    count = min(plan.sanity_samples, len(samples.images))
    if not count or not explainers:
        return {}
    rows = np.linspace(0, len(samples.images) - 1, count).round().astype(np.int64)
    found = check_sanity(
        subject,
        [explainer.explain for explainer in explainers],
        samples.images[rows],
        targets[rows],
        [samples.groups[row] for row in rows],
        depths=plan.sanity_depths,
        seed=plan.seed,
    )
    return {explainer.name: each for explainer, each in zip(explainers, found, strict=True)}


def _summarize(
    subject: Subject,
    samples: MeasuredSamples,
    found: Sequence[_Found],
    sanity: Mapping[str, Sanity],
    places: Targets | None,
    plan: MeasurePlan,
) -> Measured:
    groups = list(samples.groups)
    ranking = rank_methods(
        {each.explainer.name: each.scores for each in found},
        groups,
        sanity=sanity,
        cost_ms={each.explainer.name: each.ms_per_image for each in found},
        resamples=plan.resamples,
        seed=plan.seed,
    )
    floor = found[-1]
    measures = []
    for each in found:
        name = each.explainer.name
        measures.append(
            _describe(
                each,
                floor,
                samples,
                places,
                plan,
                ranked=(ranking.ranks[name], find_pair(ranking.pairs, RANDOM, name)[0], sanity.get(name)),
            )
        )
    ordered = sorted(measures[:-1], key=lambda each: (each.rank, -each.score.value))
    return Measured(
        run=subject.label,
        split=samples.split,
        n=len(samples.images),
        num_groups=int(code_groups(groups, len(groups)).max()) + 1,
        methods=tuple(ordered),
        random=measures[-1],
        pairs=ranking.pairs,
        best=ranking.best,
        ranking=(*ranking.sentences, *_describe_layers(subject, samples, measures)),
        mask_reference=None if places is None else _describe_places(places, samples, plan),
        baseline=BASELINE,
        rules={**RULES, "steps": f"{plan.steps} equal steps over at most 28 x 28 cells."},
    )


def _describe_layers(
    subject: Subject, samples: MeasuredSamples, measures: Sequence[MethodMeasure]
) -> list[str]:
    """Warn of each layer whose map is too coarse to point."""
    named = {each.layer for each in measures} - {None}
    if not named:
        return []
    uses = list_layers(subject.module, subject.prepare(samples.images[:1]))
    found = [describe_coarse(uses, use) for use in uses if use.name in named and use.grid is not None]
    return [warning for warning in found if warning is not None]


def _describe(
    each: _Found,
    floor: _Found,
    samples: MeasuredSamples,
    places: Targets | None,
    plan: MeasurePlan,
    *,
    ranked: tuple[int, float, Sanity | None],
) -> MethodMeasure:
    values = {
        "deletion": each.curves.deletion_auc,
        "insertion": each.curves.insertion_auc,
        "score": each.scores,
        "deletion_gain": floor.curves.deletion_auc - each.curves.deletion_auc,
        "insertion_gain": each.curves.insertion_auc - floor.curves.insertion_auc,
        "score_gain": each.scores - floor.scores,
    }
    intervals = _estimate(values, samples.groups, plan)
    return MethodMeasure(
        method=each.explainer.name,
        layer=each.explainer.layer,
        **intervals,
        p_random=ranked[1],
        shares=_round(each.curves.shares),
        deletion_curve=_round(each.curves.deletion.mean(axis=0)),
        insertion_curve=_round(each.curves.insertion.mean(axis=0)),
        masks=None if places is None else _describe_masks(each, places, samples, plan),
        sanity=ranked[2],
        ms_per_image=each.ms_per_image,
        rank=ranked[0],
    )


def _describe_masks(
    each: _Found, places: Targets, samples: MeasuredSamples, plan: MeasurePlan
) -> MaskMeasures:
    assert each.pointing is not None
    assert each.energy is not None
    values = {
        "pointing": each.pointing,
        "pointing_gain": each.pointing - places.chance,
        "energy": each.energy,
        "energy_gain": each.energy - places.area,
    }
    return MaskMeasures(**_estimate(values, _masked_groups(samples), plan))


def _describe_places(places: Targets, samples: MeasuredSamples, plan: MeasurePlan) -> MaskReference:
    values = {"mask_area": places.area, "pointing_chance": places.chance, "centre": places.centre}
    return MaskReference(n=len(places.area), **_estimate(values, _masked_groups(samples), plan))


def _masked_groups(samples: MeasuredSamples) -> list[str | None]:
    return [samples.groups[row] for row in samples.masked]


def _estimate(
    values: Mapping[str, FloatArray], groups: Sequence[str | None], plan: MeasurePlan
) -> dict[str, Interval]:
    return bootstrap_means(values, groups=list(groups), resamples=plan.resamples, seed=plan.seed)


def _round(values: FloatArray) -> tuple[float, ...]:
    return tuple(round(float(value), 5) for value in values)
