"""Words and number formats of the report. Each sentence is computed from numbers, or isn't said."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

NARROW = "\u202f"  # narrow no-break space: between number and unit, and in large numbers
MISSING = "\u2013"


class Block(str):
    """Text in which line breaks are part of the content (a YAML file), not a trick in a name."""

    __slots__ = ()


def format_percent(value: float | None, digits: int = 1) -> str:
    """Return ``0.783`` as ``78.3 %``, and None as a dash."""
    return MISSING if value is None else f"{100 * value:.{digits}f}{NARROW}%"


def format_interval(score: Mapping[str, Any] | None) -> str:
    """Return the interval of a score as ``76.4-80.2 %``, or an empty string where it has none."""
    if score is None or score.get("low") is None or score.get("high") is None:
        return ""
    return f"{100 * score['low']:.1f}\u2013{100 * score['high']:.1f}{NARROW}%"


def format_points(difference: float | None, digits: int = 1) -> str:
    """Return a difference of two shares, ``-0.021``, in points: ``\u22122.1``; None as a dash."""
    if difference is None:
        return MISSING
    shown = f"{100 * difference:+.{digits}f}".replace("-", "\u2212")
    return shown[1:] if float(shown.replace("\u2212", "-")) == 0 else shown


def format_p_value(p_value: float | None) -> str:
    """Return a p-value as ``0.012`` or ``< 0.001``, and None as a dash."""
    if p_value is None:
        return MISSING
    return f"<{NARROW}0.001" if p_value < 0.001 else f"{p_value:.2g}"


def describe_p_value(p_value: float | None) -> str:
    """Return a p-value for a sentence, ``p = 0.012`` or ``p < 0.001``."""
    shown = format_p_value(p_value)
    return f"p{NARROW}{shown}" if shown.startswith("<") else f"p{NARROW}={NARROW}{shown}"


def format_count(value: int | None) -> str:
    """Return ``10710`` as ``10,710``, and None as a dash."""
    return MISSING if value is None else f"{value:,}"


def format_parameters(count: int) -> str:
    """Return ``11184207`` as ``11.18 M``."""
    return f"{count / 1e6:.2f}{NARROW}M" if count >= 100_000 else format_count(count)


def format_duration(seconds: float | None) -> str:
    """Return seconds as ``2 h 05 min``, ``3 min 20 s`` or ``4.2 s``, and None as a dash."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f}{NARROW}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{NARROW}min {rest:02d}{NARROW}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{NARROW}h {minutes:02d}{NARROW}min"


def format_size(mib: float | None) -> str:
    """Return mebibytes as ``812 MiB`` or ``3.4 GiB``, and None as a dash."""
    if mib is None:
        return MISSING
    return f"{mib:.0f}{NARROW}MiB" if mib < 1024 else f"{mib / 1024:.1f}{NARROW}GiB"


def format_milliseconds(value: float | None) -> str:
    """Return ``3.42`` as ``3.42 ms`` and ``431.7`` as ``432 ms``, and None as a dash."""
    return MISSING if value is None else f"{_write_three(value)}{NARROW}ms"


def format_millisecond_interval(figure: Mapping[str, Any] | None) -> str:
    """Return the interval of a time as ``3.31-3.60 ms``, or an empty string where it has none."""
    if figure is None or figure.get("low") is None or figure.get("high") is None:
        return ""
    return f"{_write_three(figure['low'])}\u2013{_write_three(figure['high'])}{NARROW}ms"


def shorten(text: str, length: int = 28) -> str:
    """Return at most ``length`` characters of a text, with an ellipsis where some were cut."""
    return text if len(text) <= length else text[: length - 1] + "\u2026"


def show_text(text: str) -> str:
    """Return ``text`` with control and formatting characters made visible.

    A newline in a class name would break a table, a right-to-left override (U+202E) would reverse what
    follows it, and half a surrogate pair (an undecodable byte in a file name) can't be written as UTF-8.
    Joiners stay: emoji and several scripts need them. A `Block` keeps its line breaks and tabs.
    """
    if text.isprintable():  # a page's embedded pictures are megabytes of such text
        return text
    kept = "\u200c\u200d\n\t" if isinstance(text, Block) else "\u200c\u200d"
    return "".join(_show_character(character, kept) for character in text)


def describe_result(metrics: Mapping[str, Any]) -> str:
    """Return the verdict on one evaluation in one sentence.

    Args:
        metrics: The content of ``metrics.json``.
    """
    score = metrics["all"]["top1"]
    count = metrics["num_samples"]
    supports = [row["support"] for row in metrics["per_class"]]
    kind = {"test": "test", "val": "validation", "train": "training"}.get(metrics["split"], metrics["split"])
    sentence = f"Right on {format_percent(score['value'])} of {format_count(count)} {kind} samples"
    if interval := format_interval(score):
        sentence += f" ({100 * metrics['interval']['level']:g}{NARROW}% interval {interval})"
    if baseline := metrics.get("baseline"):
        most = format_percent(baseline["all"]["top1"])
        sentence += (
            f", where always naming {_quote(baseline['name'])}, the most frequent answer of training, would "
            f"be right on {most}"
        )
    elif count and max(supports) < count:
        most = format_percent(max(supports) / count)
        sentence += f", where always naming the most frequent class would be right on {most}"
    ranked = sorted(
        (row for row in metrics["per_class"] if row["support"] and row["f1"] is not None),
        key=lambda row: row["f1"],
    )
    if len(ranked) > 1 and ranked[0]["f1"] < ranked[-1]["f1"]:
        worst, best = ranked[0], ranked[-1]
        sentence += (
            f"; best at {_quote(best['name'])} (F1 {format_percent(best['f1'], 0)}),"
            f" worst at {_quote(worst['name'])} (F1 {format_percent(worst['f1'], 0)})"
        )
    return sentence + "."


def describe_clean(metrics: Mapping[str, Any]) -> str:
    """Return what the clean samples say beside all samples, in one sentence."""
    twins = metrics["num_samples"] - metrics["num_clean"]
    if metrics["clean"] is None:
        return "No sample of this split is clean: each one also occurs in an earlier split."
    if not twins:
        return "Every sample is clean: none duplicates a sample of an earlier split."
    gap = metrics["all"]["top1"]["value"] - metrics["clean"]["top1"]["value"]
    verb = "also occurs" if twins == 1 else "also occur"
    effect = "doesn't change top-1" if abs(gap) < 5e-4 else f"moves top-1 by {-100 * gap:+.1f} points"
    return (
        f"{format_count(twins)} of {format_count(metrics['num_samples'])} samples {verb} in an earlier split,"
        f" exactly or nearly; leaving them out {effect}."
    )


def describe_calibration(metrics: Mapping[str, Any]) -> str:
    """Return in one sentence how far confidence and accuracy lie apart, or an empty string without bins."""
    bins = [one for one in metrics["reliability"] if one["count"]]
    ece = (metrics["all"].get("ece") or {}).get("value")
    if not bins or ece is None:
        return ""
    total = sum(one["count"] for one in bins)
    gap = sum(one["count"] * (one["confidence"] - one["accuracy"]) for one in bins) / total
    trend = "less" if gap > 0 else "more"
    lean = f"; overall it is right {trend} often than it claims, by {100 * abs(gap):.1f} points"
    lean = lean if abs(gap) >= 5e-4 else ""
    return f"Confidence and accuracy lie {100 * ece:.1f} points apart on average (ECE){lean}."


def describe_joints(extensions: Sequence[Mapping[str, Any]]) -> list[tuple[int, str]]:
    """Return the epoch after which a run was continued, and what to write there, for each time it was.

    Args:
        extensions: As in ``run.json``.
    """
    joints = []
    for each in extensions:
        word = "continued" if each["to_epochs"] > each["from_epochs"] else "shortened"
        joints.append((int(each["at_epoch"]), f"{word} to {each['to_epochs']} epochs"))
    return joints


def _write_three(value: float) -> str:
    """Return a positive number with three digits, or all of them before the point."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if 0 < value < 100 else f"{value:,.0f}"


def _quote(name: str) -> str:
    return f"\u201c{show_text(name)}\u201d"


def _show_character(character: str, kept: str) -> str:
    if character in kept or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
        return character
    if ord(character) < 0x20:
        return chr(0x2400 + ord(character))
    return f"\u27e8U+{ord(character):04X}\u27e9"
