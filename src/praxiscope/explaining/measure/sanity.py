"""The sanity check: a map that stays when the weights go was never about the network.

Adebayo et al. 2018, Sanity Checks for Saliency Maps (https://arxiv.org/abs/1810.03292): the weights are
randomised from the head down to the stem, and the maps held against the originals at several depths.
Weights are shuffled within each tensor, which keeps their size and destroys what was learned; the
statistics of shuffled BatchNorm layers are taken anew from the images, so that the network stays alive
instead of putting out constants.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from praxiscope.explaining.measure.cells import Cells, correlate_ranks, count_cells, pool_cells
from praxiscope.explaining.measure.result import Sanity, Verdict
from praxiscope.explaining.measure.samples import Classes, Images, Maps
from praxiscope.explaining.subject import Subject, hold_still
from praxiscope.models.split import evaluating
from praxiscope.stats.bootstrap import bootstrap_means

THRESHOLD = 0.5
"""Rank correlation with the original map at which half of its order has outlived the network."""
DEFAULT_DEPTHS = 4
Explain = Callable[[Subject, Images, Classes], Maps]


def check_sanity(
    subject: Subject,
    explains: Sequence[Explain],
    images: Images,
    targets: Classes,
    groups: Sequence[str | None],
    *,
    depths: int = DEFAULT_DEPTHS,
    seed: int = 0,
) -> list[Sanity]:
    """Randomise a copy of the network from head to stem and hold each method's maps against the original.

    All methods see the same random networks. The network itself isn't touched.

    Args:
        subject: The network.
        explains: Methods, as functions from network, images and classes to maps (N, S, S).
        images: uint8 (N, S, S, 3).
        targets: (N,), the classes that are explained, before and after.
        groups: (N,), for the bootstrap.
        depths: How many random networks, at least 1: the head alone, then equal parts down to the stem.
        seed: Of the shuffling.

    Returns:
        One verdict a method.
    """
    originals = [_read_order(explain(subject, images, targets)) for explain in explains]
    names: list[str] = []
    found: list[list[tuple[float, float, float]]] = [[] for _ in explains]
    for name, random in _cascade(subject, images, depths, seed):
        names.append(name)
        for place, explain in enumerate(explains):
            alike = correlate_ranks(originals[place], _read_order(explain(random, images, targets)))
            interval = bootstrap_means({"alike": alike}, groups=list(groups), seed=seed)["alike"]
            found[place].append((interval.value, interval.low, interval.high))
    return [judge_sanity(tuple(names), tuple(values)) for values in found]


def judge_sanity(layers: tuple[str, ...], values: tuple[tuple[float, float, float], ...]) -> Sanity:
    """Judge a method by what is left of its maps when the whole network is random.

    Args:
        layers: For each depth the lowest layer that was randomised.
        values: For each depth mean correlation, lower and upper end of its interval (NaN where unknown).
    """
    value, low, high = values[-1]
    left = f"with all weights shuffled, their rank correlation with the original maps is {value:.2f}"
    rule = f"the threshold is {THRESHOLD}"
    verdict: Verdict
    if np.isnan(low):
        verdict = "undecided"
        sentence = (
            f"not known whether its maps go with the weights: {left}, on one group of samples, so without "
            f"interval ({rule})."
        )
    elif high < THRESHOLD:
        verdict, sentence = "passes", f"its maps go with the weights: {left} ({rule})."
    elif low >= THRESHOLD:
        verdict, sentence = "fails", f"its maps show the image, not the network: {left} ({rule})."
    else:
        verdict = "undecided"
        sentence = (
            f"not known whether its maps go with the weights: {left}, {low:.2f} to {high:.2f} ({rule})."
        )
    return Sanity(
        layers=layers,
        correlation=tuple(each[0] for each in values),
        low=tuple(each[1] for each in values),
        high=tuple(each[2] for each in values),
        verdict=verdict,
        sentence=sentence,
    )


def _read_order(maps: Maps) -> Cells:
    """Pool the absolute maps: a method whose signs flip has not lost the place."""
    return pool_cells(np.abs(maps), count_cells(maps.shape[1]))


def _cascade(subject: Subject, images: Images, depths: int, seed: int) -> Iterator[tuple[str, Subject]]:
    """Yield the lowest randomised layer and the network, ever deeper; it is one copy that is changed on."""
    random = replace(subject, module=copy.deepcopy(subject.module), label=f"{subject.label} (random)")
    batch = random.prepare(images)
    owners = _list_owners(random.module, batch[:1])[::-1]
    generator = torch.Generator().manual_seed(seed)
    steps = np.unique(np.rint(np.linspace(1, len(owners), depths))).astype(int).tolist()
    done = 0
    for step in steps if depths > 1 else [len(owners)]:
        for _, owner in owners[done:step]:
            _shuffle(owner, generator)
        norms = [owner for _, owner in owners[:step] if isinstance(owner, nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001 - the base class has no public name
        _settle(random, norms, batch)
        done = step
        yield owners[step - 1][0], random


def _list_owners(module: nn.Module, example: Tensor) -> list[tuple[str, nn.Module]]:
    """List modules that hold weights of their own in the order in which the forward pass enters them.

    One that is never entered (its weights are used by its parent) stands behind the one defined before it.
    """
    order: dict[nn.Module, int] = {}

    def enter(entered: nn.Module, _inputs: object) -> None:
        order.setdefault(entered, len(order))

    handles = [each.register_forward_pre_hook(enter) for each in module.modules()]
    try:
        with hold_still(module), torch.no_grad():
            module(example)
    finally:
        for handle in handles:
            handle.remove()
    last, places = -1, []
    for name, each in module.named_modules():
        last = order.get(each, last)
        if any(True for _ in each.parameters(recurse=False)):
            places.append((last, name or type(each).__name__, each))
    return [(name, each) for _, name, each in sorted(places, key=lambda place: place[0])]


@torch.no_grad()
def _shuffle(owner: nn.Module, generator: torch.Generator) -> None:
    for parameter in owner.parameters(recurse=False):
        order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
        parameter.copy_(parameter.flatten()[order].view_as(parameter))


def _settle(random: Subject, norms: Sequence[nn.Module], batch: Tensor) -> None:
    """Let BatchNorm layers take their statistics from a batch, as they would in training."""
    if not norms:
        return
    kept = [(norm, norm.momentum) for norm in norms if isinstance(norm, nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001
    with evaluating(random.module), torch.no_grad():
        for norm, _ in kept:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over batches
            norm.train()
        random.module(batch)
    for norm, momentum in kept:
        norm.momentum = momentum
