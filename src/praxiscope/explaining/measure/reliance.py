"""Person against background: what a network still answers without the actor, and without the place.

Each image is shown five times:

============== ==========================================================================================
``whole``      as it is
``no_actor``   the actor, grown by a margin, filled from around it
``damaged``    control: a hole of the same outline elsewhere, filled in the same way
``other``      the background masked out: the actor on that of another sample, drawn from all
``alike``      control: the actor on the background of another sample with the same answer
============== ==========================================================================================

The controls do the same damage to the pixels and leave the evidence: only what is lost beyond them counts.
Cut and paste onto real backgrounds, with a partner of the same class as control, is how Xiao et al. 2021,
Noise or Signal (https://arxiv.org/abs/2006.09994) measure it on ImageNet.

**Skill** of a class is recall minus the share of other samples that are called so (Youden 1950): 0 for
guessing, 1 for always right, whatever the class sizes; with classes of one size the mean over classes is
(accuracy - 1/K) / (1 - 1/K). With that mean

* ``survives`` = skill(no_actor) / skill(damaged), cut to [0, 1];
* ``lost`` = 1 - skill(other) / skill(alike), cut to [0, 1];
* ``score`` = (survives + lost) / 2.

So 1 means that the answers survive without the actor and die without the background, 0 the opposite, and
about 1/2 that either is enough or both are needed; the two parts tell which. Where the skill on whole
images or under a control can't be told from guessing there is nothing to divide, and the score is None.

``answers`` is the same with the network's own answers on whole images in place of labels. It also holds
where labels are of no use, as for a network that learned a shortcut and is measured where the shortcut
doesn't work.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from praxiscope.errors import DataError
from praxiscope.explaining.measure.background_score import LEVEL, Skills, compute_skills, score_background
from praxiscope.explaining.measure.reliance_images import (
    MARGIN_SHARE,
    TITLES,
    Fill,
    Rows,
    Scenes,
    pair_scenes,
    show_scenes,
)
from praxiscope.explaining.measure.result import BackgroundScore, ClassReliance, Condition, Reliance
from praxiscope.explaining.measure.samples import Answerer, Classes, Images, MeasuredSamples
from praxiscope.stats.bootstrap import bootstrap_means, code_groups

MIN_SUPPORT = 5
"""Below so many samples a class gets no score."""


def measure_reliance(
    subject: Answerer,
    samples: MeasuredSamples,
    *,
    fill: Fill = "scene",
    batch_size: int = 64,
    resamples: int = 2000,
    seed: int = 0,
) -> Reliance:
    """Measure how far answers rest on the background.

    Args:
        subject: The network.
        samples: With masks; samples without one are left out.
        fill: ``scene`` fills holes from around them and takes backgrounds from other samples, so that
            images stay
            images. ``colour`` paints both in the images' mean colour: that leaves the actor's outline to be
            read and shows the network what it never saw, and the control of the background is the whole
            image. It is there to be compared with.
        batch_size: Images in one forward pass.
        resamples: Of the bootstrap, by group.
        seed: Draws partners, places and resamples.

    Returns:
        Accuracies under each condition with 95 % intervals, and the scores, in all and per class.

    Raises:
        DataError: Fewer than two samples have a usable mask, or none has a partner with the same answer.
    """
    rows = samples.masked
    if len(rows) < 2:
        raise DataError(
            f"Person against background needs masks of the actor, and {len(rows)} of {len(samples.images)} "
            "samples have one. Name a folder of masks with --masks, or leave this measure out."
        )
    assert samples.masks is not None
    rng = np.random.default_rng(seed)
    whole = _answer(subject, samples.images[rows], batch_size)
    scenes = pair_scenes(samples.images[rows], samples.masks[rows], whole, fill=fill, rng=rng)
    kept = scenes.usable
    if not len(kept):
        raise DataError(
            f"No two of the {len(rows)} samples with a mask get the same answer, so that no "
            f"background can be "
            "exchanged for a like one. Measure on more samples."
        )
    preds = {"whole": whole[kept], **_answer_scenes(subject, scenes, kept, batch_size, rng)}
    return _summarize(
        preds, samples, rows[kept], subject.names, _tell_rules(fill), resamples=resamples, seed=seed
    )


def _answer_scenes(
    subject: Answerer, scenes: Scenes, kept: Rows, batch_size: int, rng: np.random.Generator
) -> dict[str, Classes]:
    parts: dict[str, list[Classes]] = {name: [] for name in TITLES if name != "whole"}
    for start in range(0, len(kept), batch_size):
        for name, images in show_scenes(scenes, kept[start : start + batch_size], rng).items():
            parts[name].append(_answer(subject, images, batch_size))
    return {name: np.concatenate(found) for name, found in parts.items()}


def _answer(subject: Answerer, images: Images, batch_size: int) -> Classes:
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    return np.concatenate([subject.compute_logits(batch).argmax(axis=1) for batch in batches]).astype(
        np.int64
    )


def _summarize(
    preds: Mapping[str, Classes],
    samples: MeasuredSamples,
    rows: Rows,
    names: tuple[str, ...],
    rules: Mapping[str, str],
    *,
    resamples: int,
    seed: int,
) -> Reliance:
    targets, groups = samples.targets[rows], [samples.groups[row] for row in rows]
    drawing = {"resamples": resamples, "seed": seed}
    right = bootstrap_means({name: part == targets for name, part in preds.items()}, groups=groups, **drawing)
    kept = bootstrap_means(
        {name: part == preds["whole"] for name, part in preds.items()}, groups=groups, **drawing
    )
    skills = compute_skills(targets, preds, len(names), groups, **drawing)
    own = compute_skills(preds["whole"], preds, len(names), groups, **drawing)
    background, answers = score_background(skills, 0), score_background(own, 0)
    return Reliance(
        n=len(rows),
        num_groups=int(code_groups(groups, len(rows)).max()) + 1,
        conditions=tuple(
            Condition(name=name, title=title, accuracy=right[name], kept=kept[name])
            for name, title in TITLES.items()
        ),
        background=background,
        answers=answers,
        per_class=_judge_classes(skills, preds, targets, names),
        left_out=len(samples.images) - len(rows),
        sentence=tell_reliance(background, answers),
        rules=rules,
    )


def _judge_classes(
    skills: Skills, preds: Mapping[str, Classes], targets: Classes, names: tuple[str, ...]
) -> tuple[ClassReliance, ...]:
    found = []
    for place, name in enumerate(names):
        mine = targets == place
        support = int(mine.sum())
        if support == 0:
            continue
        found.append(
            ClassReliance(
                name=name,
                support=support,
                recall={each: float((part[mine] == place).mean()) for each, part in preds.items()},
                background=score_background(skills, 1 + place)
                if support >= MIN_SUPPORT
                else _too_few(support),
            )
        )
    return tuple(found)


def _too_few(support: int) -> BackgroundScore:
    reason = f"The class has {support} samples with a mask; a score needs {MIN_SUPPORT}."
    return BackgroundScore(score=None, survives=None, lost=None, reason=reason)


def tell_reliance(background: BackgroundScore, answers: BackgroundScore) -> str:
    """Say in a sentence or two what the scores mean."""
    used, what = (background, "by accuracy") if background.score else (answers, "by the model's own answers")
    if used.score is None:
        return f"Whether answers rest on the actor or the background is undefined. {background.reason}"
    score = used.score
    if np.isnan(score.low):
        where = "the samples are one group, so that there is no interval and no verdict"
    elif score.low > 0.5:
        where = "the answers rest more on the background than on the actor"
    elif score.high < 0.5:
        where = "the answers rest more on the actor than on the background"
    else:
        where = "which of the two the answers rest on more can't be told"
    text = f"Background score {score.value:.2f} ({score.low:.2f} to {score.high:.2f}) {what}: {where}."
    return text if background.score else f"{text} By accuracy it is undefined. {background.reason}"


def _tell_rules(fill: Fill) -> dict[str, str]:
    behind = "the background of another sample" if fill == "scene" else "the images' mean colour"
    hole = "filled smoothly from around it" if fill == "scene" else "filled with the images' mean colour"
    return {
        "actor masked out": f"The mask, grown by {MARGIN_SHARE:.0%} of the side, is {hole}.",
        "background masked out": f"Outside the mask stands {behind}.",
        "score": "(survives + lost) / 2, with survives = skill without the actor / skill with the same hole "
        "elsewhere and lost = 1 - skill on another background / skill under its control, cut to [0, 1].",
        "skill": "Mean over classes of recall minus false alarms: 0 is guessing, 1 is always right.",
        "undefined": "null where whole images or a control can't be told from guessing, "
        f"and for classes of fewer than {MIN_SUPPORT} samples.",
        "intervals": f"{LEVEL:.0%} percentile bootstrap by group, the same draws under all conditions.",
    }
