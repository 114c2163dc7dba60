"""What ``data check`` says about clips: how many, how long, and which are shorter than a network looks."""

from __future__ import annotations

from typing import Any

import numpy as np

from praxiscope.data.manifest import Manifest, quantify


def summarise_clips(manifest: Manifest, num_frames: int) -> dict[str, Any] | None:
    """Return counts and lengths of the usable clips as JSON types; None for images or without a clip.

    Keys: ``num_clips``, ``num_sources`` (videos or folders), ``frames`` and ``seconds`` {total, min, median,
    max} (``seconds`` None where the rate of a clip is unknown), ``shortest`` and ``longest`` (sample ids),
    ``num_frames`` (T) and ``num_shorter`` (clips with fewer frames than T).
    """
    if not manifest.holds_clips:
        return None
    rows = manifest.usable(None).select(["sample_id", "path", "num_frames", "fps"]).to_pydict()
    if not rows["sample_id"]:
        return None
    frames = np.array(rows["num_frames"], dtype=np.int64)
    rates = np.array([rate or np.nan for rate in rows["fps"]], dtype=np.float64)
    known = not np.isnan(rates).any()
    return {
        "num_clips": len(frames),
        "num_sources": len(set(rows["path"])),
        "frames": {key: int(value) for key, value in _measure(frames).items()},
        "seconds": {k: round(float(v), 3) for k, v in _measure(frames / rates).items()} if known else None,
        "shortest": rows["sample_id"][int(frames.argmin())],
        "longest": rows["sample_id"][int(frames.argmax())],
        "num_frames": num_frames,
        "num_shorter": int((frames < num_frames).sum()),
    }


def _measure(values: np.ndarray[Any, np.dtype[Any]]) -> dict[str, Any]:
    return {
        "total": values.sum(),
        "min": values.min(),
        "median": np.median(values),
        "max": values.max(),
    }


def render_clips(summary: dict[str, Any]) -> list[str]:
    """Return the same as lines for a person."""
    frames, seconds = summary["frames"], summary["seconds"]
    length = "" if seconds is None else f", {_write_seconds(seconds['total'])}"
    places = quantify(summary["num_sources"], "video or folder", "videos or folders")
    lines = [f"clips: {summary['num_clips']:,} in {places}, {frames['total']:,} frames{length}"]
    for name, key, word in (("shortest", "min", "shortest"), ("longest", "max", "longest")):
        timed = "" if seconds is None else f" ({seconds[key]:.2f} s)"
        lines.append(f"{word}: {quantify(frames[key], 'frame')}{timed}, {summary[name]}")
    lines[1:] = ["; ".join(lines[1:]) + f"; median {frames['median']:,} frames"]
    if summary["num_shorter"]:
        lines.append(
            f"{quantify(summary['num_shorter'], 'clip')} with fewer than {summary['num_frames']} frames: "
            "some frames are seen twice."
        )
    else:
        lines.append(f"none has fewer than {summary['num_frames']} frames")
    return lines


def _write_seconds(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    if hours:
        return f"{hours} h {rest // 60} min"
    return f"{rest // 60} min {rest % 60} s" if rest >= 60 else f"{seconds:.1f} s"
