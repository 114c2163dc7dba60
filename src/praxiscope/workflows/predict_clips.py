"""How videos become clips: as a whole, or in windows whose length follows the clips that were trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from praxiscope.data.manifest import quantify
from praxiscope.data.video import estimate_seconds
from praxiscope.errors import UsageError
from praxiscope.prediction.sources import Item
from praxiscope.prediction.windows import Windowing

LONG = 2.0
"""A video longer than so many typical clips is cut into windows."""


@dataclass(frozen=True, kw_only=True)
class WindowChoice:
    """How to cut videos, as far as it was asked for.

    Attributes:
        window_s: length in seconds; 0 for whole videos; None to decide by the length of training clips.
        stride_s: seconds from one window to the next; half a window where None.
    """

    window_s: float | None = None
    stride_s: float | None = None

    def __post_init__(self) -> None:
        if self.window_s is not None and not 0 <= self.window_s < float("inf"):
            raise UsageError(
                f"--window {self.window_s:g}: must be a number of seconds, 0 for each video as one clip."
            )
        if self.stride_s is not None and self.window_s == 0:
            raise UsageError("--stride goes with windows; --window 0 predicts each video as one clip.")
        if self.stride_s is not None and not 0 < self.stride_s < float("inf"):
            raise UsageError(f"--stride {self.stride_s:g}: must be a number of seconds above 0.")

    @property
    def asked(self) -> bool:
        """Whether anything was asked for."""
        return self.window_s is not None or self.stride_s is not None


def plan_windows(
    items: Sequence[Item], choice: WindowChoice, typical_s: float | None
) -> tuple[Callable[[Item], Windowing | None], list[str]]:
    """Decide how each video is cut, and say so.

    Args:
        items: Videos, folders of frames, cameras.
        choice: What was asked for.
        typical_s: Median length of the training clips; None where unknown.

    Returns:
        What to ask for an item's windows, None for one clip; and sentences for the user.

    Raises:
        UsageError: Windows are needed and their length isn't known, or frames without times would be cut.
    """
    plans = {id(item): _plan(item, choice, typical_s) for item in items}
    counts = Counter("windows" if plan else "whole" for plan in plans.values())
    notes = []
    if counts["whole"]:
        why = _explain_whole(choice, typical_s)
        notes.append(f"{quantify(counts['whole'], 'source')} predicted as one clip each: {why}.")
    cut = [plan for plan in plans.values() if plan is not None]
    if cut:
        why = (
            "as asked"
            if choice.window_s is not None
            else f"the median length of the training clips, as they are longer than {LONG:g} of them"
        )
        notes.append(
            f"{quantify(len(cut), 'source')} predicted in windows of {cut[0].window_s:g} s ({why}), each "
            f"{cut[0].stride_s:g} s after the one before (--window, --stride; --window 0 for one clip)."
        )
    return lambda item: plans[id(item)], notes


def _plan(item: Item, choice: WindowChoice, typical_s: float | None) -> Windowing | None:
    if item.kind == "frames":
        if choice.window_s or choice.stride_s:
            raise UsageError(
                f"{item.shown} is a folder of frames, which have no times: it is predicted as one clip. "
                "Leave --window and --stride out, or give a video."
            )
        return None
    if choice.window_s == 0 and item.kind != "camera":
        return None
    window_s = choice.window_s or typical_s
    if item.kind == "camera" and not window_s:
        raise UsageError("A camera is predicted in windows: give their length with --window SECONDS.")
    if choice.window_s is None:
        if typical_s is None:
            if choice.stride_s is None:
                return None
            raise UsageError(
                "--stride: this model's training clips have no times; give --window SECONDS too."
            )
        seconds = None if item.kind == "camera" else estimate_seconds(item.path)
        if item.kind != "camera" and choice.stride_s is None and (seconds or 0.0) <= LONG * typical_s:
            return None
    assert window_s
    return Windowing(window_s=window_s, stride_s=choice.stride_s or window_s / 2)


def _explain_whole(choice: WindowChoice, typical_s: float | None) -> str:
    if choice.window_s == 0:
        return "as asked"
    if typical_s is None:
        return "the training clips have no times to choose windows by (--window SECONDS cuts videos)"
    return (
        f"folders of frames, and videos of at most {LONG:g} x {typical_s:g} s, the median length of the "
        "training clips"
    )
