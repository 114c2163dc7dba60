"""What there is to say about clips that were looked at."""

from __future__ import annotations

from collections.abc import Mapping

from praxiscope.data.clips.audit import ClipLook
from praxiscope.data.fingerprint import Unreadable
from praxiscope.data.manifest import Finding, quantify
from praxiscope.recipe.schema import ClipSection


def describe_clips(looks: Mapping[str, ClipLook | Unreadable], section: ClipSection) -> tuple[Finding, ...]:
    """Say which videos break off, which clips have other frames than annotated, and how frames were counted.

    Args:
        looks: What is known of each clip by sample id.
        section: How annotated frames were read.
    """
    sound = {name: look for name, look in looks.items() if isinstance(look, ClipLook)}
    findings = []
    if torn := sorted({look.fault for look in sound.values() if look.fault is not None}):
        message = (
            f"{quantify(len(torn), 'video')} cut off or damaged, with fewer frames than the header promises: "
            "those up to there are used. Fetch such videos again, or leave them out."
        )
        findings.append(Finding.of("D2.breaks-off", "warning", message, torn))
    if lacking := {name: look.placing.lacking for name, look in sound.items() if look.placing.lacking}:
        message = (
            f"{quantify(len(lacking), 'clip')} without some of the frames that the label names "
            f"({sum(lacking.values()):,} files): the frames that are there keep their numbers."
        )
        names = [f"{name}: {count:,} missing" for name, count in lacking.items()]
        findings.append(Finding.of("D10.missing-frames", "warning", message, names))
    if odd := {name: look.placing.odd for name, look in sound.items() if look.placing.odd is not None}:
        message = (
            f"{quantify(len(odd), 'clip')} cut out with another number of frames than annotated (at another "
            "rate?): used whole."
        )
        names = [f"{name}: {count:,} frames" for name, count in odd.items()]
        findings.append(Finding.of("D10.cut-length", "warning", message, names))
    if any(look.placing.start_frame is not None for look in sound.values()):
        message = (
            f"Annotated frames count from {section.frame_base} (clip.frame_base); the stop frame "
            f"{'is the last one' if section.stop == 'inclusive' else 'is not part of the clip'} (clip.stop: "
            f"{section.stop})."
        )
        findings.append(Finding(code="D10.rule", severity="note", message=message, count=len(sound)))
    return tuple(findings)
