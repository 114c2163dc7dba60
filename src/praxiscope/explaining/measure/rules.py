"""What the figures of a measurement are, in sentences that stand beside them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from praxiscope.explaining.measure.sanity import THRESHOLD

BASELINE: Mapping[str, str] = MappingProxyType(
    {
        "deletion": "mean colour of the measured images",
        "insertion": "the image blurred with a standard deviation of 1/20 of its side",
    }
)
RULES: Mapping[str, str] = MappingProxyType(
    {
        "explained": "The class that the network answers, right or wrong.",
        "deletion": "Area under that class's probability while cells go, most evidence first; small is good.",
        "insertion": "Area under that probability while cells come, most evidence first; large is good.",
        "score": "Insertion minus deletion; methods are ranked by it.",
        "ties": "Cells of equal evidence go as in the random map, so a constant map is the random map.",
        "random": "Smooth noise of 7 x 7, drawn for each image; gains over it are paired, image by image.",
        "pointing": "Share of images whose largest value lies within 15/224 of the side of the mask; "
        "equally large values are averaged. Chance is the area of the mask grown by as much.",
        "energy": "Share of the positive mass inside the mask. Chance is the mask's area.",
        "masks": "They tell where network and method look together: a network that goes by the background "
        "is explained well by maps that miss the actor.",
        "sanity": "Mean rank correlation of absolute maps with the original ones while weights are shuffled "
        f"from head to stem. With all shuffled: passes if the interval ends below {THRESHOLD}, fails if it "
        "begins there or above.",
        "rank": "1 + the number of methods told apart as better (t test over groups, Holm, p < 0.05).",
        "intervals": "95 % percentile bootstrap by group.",
        "cost": "Median milliseconds an image over batches.",
    }
)
