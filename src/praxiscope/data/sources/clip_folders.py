"""Class folders of clips that are folders of frames: ``<class>/<clip>/frame_0001.jpg``, or below a split.

Such folders look like class folders of images that are sorted further (``<class>/<camera>/0001.jpg``), so
they are read as clips only where ``data.source`` says ``clips``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from praxiscope.data.manifest import Finding, quantify
from praxiscope.data.sources.folder import find_split_folders
from praxiscope.data.sources.listing import (
    Listing,
    Sample,
    find_group,
    normalise_label,
    walk_findings,
    walk_images,
)
from praxiscope.errors import DataError
from praxiscope.recipe.schema import DataSection


def list_clip_folders(root: Path, section: DataSection) -> Listing:
    """List class folders in which each folder of pictures, each video and each ``.tar`` of frames is a clip.

    Args:
        root: Absolute data folder.
        section: ``group`` is used.

    Raises:
        DataError: There is no clip, or two folders claim one split.
        UsageError: ``section.group`` is no valid rule.
    """
    splits = find_split_folders(root)
    depth = 2 if splits else 1
    walk = walk_images(root)
    tars = [PurePosixPath(name) for name in walk.strays if name.lower().endswith(".tar")]
    clips = sorted({*walk.clips, *tars, *(picture.parent for picture in walk.images)})
    inside = [c for c in clips if len(c.parts) > depth and (not splits or c.parts[0] in splits)]
    if not inside:
        raise DataError(
            f"{root} holds no clip: data.source=clips takes <class>/<clip>/ with a picture a frame, or "
            "<class>/<clip>.mp4, undivided or below train, val and test."
        )
    samples = tuple(
        Sample(
            sample_id=str(clip),
            split=splits.get(clip.parts[0]),
            label=normalise_label(clip.parts[depth - 1]),
            group=find_group(str(clip), section.group),
        )
        for clip in inside
    )
    walk.clips, walk.strays = [], [name for name in walk.strays if PurePosixPath(name) not in tars]
    findings = (
        *_find_outside(sorted(map(str, set(clips) - set(inside)))),
        *_find_nested(inside),
        *walk_findings(walk),
    )
    return Listing(source="clips", samples=samples, findings=findings, clips=True)


def _find_outside(outside: Sequence[str]) -> list[Finding]:
    if not outside:
        return []
    message = (
        f"{quantify(len(outside), 'place')} with frames or videos outside of a class folder's clips: left "
        "out."
    )
    return [Finding.of("D8.outside-class", "warning", message, outside)]


def _find_nested(clips: Sequence[PurePosixPath]) -> list[Finding]:
    """Name clips that lie in another clip's folder: frames of one would be a part of the other."""
    inner: dict[str, int] = defaultdict(int)
    known = set(clips)
    for clip in clips:
        for above in clip.parents:
            if above in known:
                inner[str(above)] += 1
    if not inner:
        return []
    message = f"{quantify(len(inner), 'clip folder')} with further clips in them; each folder is a clip."
    return [Finding.of("D8.nested", "warning", message, sorted(inner))]
