"""The checks in their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from praxiscope.debugging.data_checks import (
    check_data,
    check_frames,
    check_input,
    check_labels,
    check_samples,
)
from praxiscope.debugging.network_checks import (
    check_finite,
    check_first_loss,
    check_gradients,
    check_shapes,
)
from praxiscope.debugging.result import Check
from praxiscope.debugging.subject import Subject
from praxiscope.debugging.training_checks import (
    check_baseline,
    check_overfits,
    check_schedule,
    check_updates,
)
from praxiscope.errors import UsageError, did_you_mean

CHECKS: Mapping[str, Callable[[Subject], Check]] = {
    "data": check_data,
    "frames": check_frames,
    "samples": check_samples,
    "input": check_input,
    "labels": check_labels,
    "shapes": check_shapes,
    "first-loss": check_first_loss,
    "gradients": check_gradients,
    "finite": check_finite,
    "schedule": check_schedule,
    "updates": check_updates,
    "overfits": check_overfits,
    "baseline": check_baseline,
}
"""Every check by its name, in the order in which they run: from the data to the training."""
_OF_CLIPS = frozenset({"frames"})


def choose_checks(only: Sequence[str], *, clips: bool) -> list[str]:
    """Return the names of the checks to run.

    Args:
        only: what was asked for; all where empty.
        clips: whether samples are clips; some checks are about clips only.

    Raises:
        UsageError: there is no such check.
    """
    for name in only:
        if name not in CHECKS:
            raise UsageError(
                f"--only: there is no check '{name}'.{did_you_mean(name, CHECKS)} There are "
                f"{', '.join(CHECKS)}."
            )
        if name in _OF_CLIPS and not clips:
            raise UsageError(f"--only: the check '{name}' is about clips; these samples are images.")
    return [name for name in CHECKS if (name in only if only else clips or name not in _OF_CLIPS)]
