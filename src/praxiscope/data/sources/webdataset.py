"""WebDataset shards: plain tar files in which ``<key>.jpg`` and ``<key>.cls`` belong together.

Source: T. Breuel, "WebDataset", section "The format": a sample's key is its path up to the first dot of the
file's name. Members are read where they lie; no path of a shard is ever written to.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from praxiscope.data.containers.handles import ContainerUnreadable, RandomReader
from praxiscope.data.containers.tar import TarIndex, TarMember, index_tar
from praxiscope.data.images import IMAGE_SUFFIXES
from praxiscope.data.manifest import Finding, Severity, quantify
from praxiscope.data.media import join_member
from praxiscope.data.sources.listing import Listing, Sample, find_group, is_text, normalise_label
from praxiscope.data.sources.members import (
    MAX_NUMBER,
    find_member_group,
    find_names,
    find_split,
    name_numbers,
    search_below,
)
from praxiscope.errors import DataError
from praxiscope.recipe.schema import DataSection

LABEL_ENDINGS = ("cls", "txt", "json")
"""Where a sample's label stands, the first that it has: a number, a text, or ``{"label": ...}``."""

_MAX_BYTES = {"cls": 64, "txt": 1_024, "json": 2**20}
_MAX_LABEL_CHARACTERS = 200


@dataclass(kw_only=True)
class _Notes:
    """What was met in the shards besides samples; names begin with the shard."""

    others: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    undecodable: list[str] = field(default_factory=list)
    imageless: list[str] = field(default_factory=list)
    unended: list[str] = field(default_factory=list)
    no_split: list[str] = field(default_factory=list)

    def describe(self) -> list[Finding]:
        """Return a finding for each kind that was met."""
        entries: tuple[tuple[str, Severity, list[str], str, str], ...] = (
            ("E3.strange-member", "warning", self.others, "link or device", "in shards: not read."),
            ("E3.outside-path", "warning", self.outside, "member", "with a path that leads out: not read."),
            ("D8.undecodable-name", "warning", self.undecodable, "member", "whose name is no text."),
            ("webdataset.no-image", "note", self.imageless, "sample", "without an image: left out."),
            ("webdataset.no-end", "warning", self.unended, "shard", "without an end mark: cut short?"),
            ("webdataset.no-split", "warning", self.no_split, "shard", "whose name says no split: left out."),
        )  # fmt: skip
        plurals = {"link or device": "links and devices"}
        return [
            Finding.of(code, severity, f"{quantify(len(names), noun, plurals.get(noun))} {words}", names)
            for code, severity, names, noun, words in entries
            if names
        ]


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A sample with its label as stored."""

    sample_id: str
    path: str
    split: str | None
    label: int | str | None
    problem: str | None


def find_webdataset(root: Path) -> tuple[Path, ...]:
    """Return the tar files in `root` and in folders below it, where one of them has images beside labels."""
    shards = _find_shards(root)
    return shards if any(_pairs_up(shard) for shard in shards) else ()


def _find_shards(root: Path) -> tuple[Path, ...]:
    return search_below(root, lambda name: name.lower().endswith(".tar"))


def _pairs_up(shard: Path) -> bool:
    """Whether an image of a shard has a label beside it."""
    try:
        index = index_tar(shard)
    except ContainerUnreadable:
        return False  # named when the source is asked for
    return any(
        _find_images(parts) and any(ending in parts for ending in LABEL_ENDINGS)
        for parts in _group_members("", index, _Notes()).values()
    )


def list_webdataset(root: Path, section: DataSection) -> Listing:
    """List the images of WebDataset shards.

    Args:
        root: Absolute data folder.
        section: ``columns.label`` names the ending (``cls``, ``txt``) or the key of ``.json`` that holds the
            label; ``group`` is used.

    Returns:
        Samples sorted by id, such as ``train-000000#n01440764_10026``.

    Raises:
        DataError: There are no shards, or they are compressed.
        ContainerUnreadable: A shard is damaged.
    """
    shards = _find_shards(root)
    if not shards:
        raise DataError(_explain_absence(root))
    splits = {shard: find_split(PurePosixPath(shard.relative_to(root).as_posix())) for shard in shards}
    undivided = not any(splits.values())
    notes, found = _Notes(), []
    for shard in shards:
        if undivided or splits[shard] is not None:
            found += _list_shard(root, shard, splits[shard], section.columns.get("label"), notes)
        else:
            notes.no_split.append(shard.relative_to(root).as_posix())
    samples, label_notes = _name_classes(found, (root, *dict.fromkeys(s.parent for s in shards)), section)
    return Listing(
        source="webdataset",
        samples=tuple(sorted(samples, key=lambda sample: sample.sample_id)),
        findings=(*notes.describe(), *label_notes),
    )


def _explain_absence(root: Path) -> str:
    packed = search_below(
        root, lambda name: name.lower().endswith((".tar.gz", ".tgz", ".tar.zst", ".tar.xz"))
    )
    if packed:
        return (
            f"{packed[0]} is compressed, so its members can't be read where they lie; unpack it to a "
            "plain .tar (gunzip)."
        )
    return f"{root} has no shards (.tar), nor have the folders in it."


def _group_members(shard: str, index: TarIndex, notes: _Notes) -> dict[str, dict[str, list[TarMember]]]:
    """Return {key: {ending in lower case: members}}, keys in their order."""
    groups: dict[str, dict[str, list[TarMember]]] = defaultdict(lambda: defaultdict(list))
    for member in index.members:
        path = PurePosixPath(member.name)
        base, dot, ending = path.name.partition(".")
        if not base or not dot:
            continue  # hidden files, and those without an ending
        named = f"{shard}#{member.name}"
        if path.is_absolute() or ".." in path.parts:
            notes.outside.append(named)
        elif not is_text(member.name):
            notes.undecodable.append(named.encode("utf-8", "backslashreplace").decode())
        else:
            groups[str(path.with_name(base))][ending.lower()].append(member)
    return groups


def _find_images(endings: Iterable[str]) -> list[str]:
    """Return the endings of images: ``jpg`` before ``left.jpg``."""
    images = [ending for ending in endings if f".{ending.rpartition('.')[2]}" in IMAGE_SUFFIXES]
    return [ending for ending in images if "." not in ending] or images


def _list_shard(
    root: Path, shard: Path, split: str | None, wanted: str | None, notes: _Notes
) -> list[_Found]:
    file = shard.relative_to(root).as_posix()
    index = index_tar(shard)
    if not index.ended:
        notes.unended.append(file)
    notes.others += [f"{file}#{name}".encode("utf-8", "backslashreplace").decode() for name in index.others]
    reader = RandomReader(shard)
    found = []
    for key, parts in _group_members(file, index, notes).items():
        images = _find_images(parts)
        sample_id = f"{file[: -len('.tar')]}#{key}"
        if not images:
            notes.imageless.append(sample_id)
            continue
        member = parts[images[0]][0]
        label, problem = _read_label(reader, parts, wanted)
        if len(images) > 1:
            problem = f"has several images: {', '.join(sorted(images))}"
        if repeated := sorted(ending for ending, members in parts.items() if len(members) > 1):
            problem = f"stands in the shard more than once ({', '.join(repeated)})"
        found.append(
            _Found(
                sample_id=sample_id,
                path=join_member(file, "tar", f"{member.offset}:{member.size}"),
                split=split,
                label=label,
                problem=problem,
            )
        )
    return found


def _find_group(sample_id: str, rule: str | None) -> str | None:
    """Return the group by the rule; ``parent`` needs keys with a folder in them."""
    in_folder = "/" in sample_id.rpartition("#")[2]
    return find_group(sample_id, rule) if in_folder else find_member_group(sample_id, rule)


def _read_label(
    reader: RandomReader, parts: Mapping[str, Sequence[TarMember]], wanted: str | None
) -> tuple[int | str | None, str | None]:
    """Return (label, None), or (None, why there is none)."""
    if wanted is None:
        ending = next((ending for ending in LABEL_ENDINGS if ending in parts), None)
    else:
        ending = wanted if wanted in {"cls", "txt"} else "json"
    if ending is None or ending not in parts:
        return (
            None,
            f"has no label ({', '.join(f'.{each}' for each in ([ending] if ending else LABEL_ENDINGS))})",
        )
    member = parts[ending][0]
    if member.size > _MAX_BYTES[ending]:
        return None, f"has a .{ending} of {member.size:,} bytes, too many for a label"
    content = reader.read(member.offset, member.size)
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return None, f"has a .{ending} that is not UTF-8 text"
    if ending == "json":
        return _read_json(text, "label" if wanted is None else wanted)
    return _check_number(text) if ending == "cls" else _check_text(text, ".txt")


def _read_json(text: str, key: str) -> tuple[int | str | None, str | None]:
    try:
        stored = json.loads(text)
    except (ValueError, RecursionError) as problem:
        return None, f"has a .json that can't be read ({problem})"
    if not isinstance(stored, dict) or key not in stored:
        return None, f"has a .json without {key!r}"
    value = stored[key]
    if type(value) is int and 0 <= value < MAX_NUMBER:
        return value, None
    if isinstance(value, str):
        return _check_text(value.strip(), f"{key!r} in .json")
    return None, f"has a {key!r} in .json that is neither a class number nor a text"


def _check_number(text: str) -> tuple[int | None, str | None]:
    if text.isascii() and text.isdigit() and int(text) < MAX_NUMBER:
        return int(text), None
    return None, f"has a .cls that holds {text[:20]!r} instead of a class number"


def _check_text(text: str, place: str) -> tuple[str | None, str | None]:
    if not text or len(text) > _MAX_LABEL_CHARACTERS or not text.isprintable():
        what = f"{len(text):,} characters" if text else "nothing"
        return None, f"has {what} in {place}, which is no class name"
    return normalise_label(text), None


def _name_classes(
    found: Sequence[_Found], folders: Iterable[Path], section: DataSection
) -> tuple[list[Sample], list[Finding]]:
    numbers = Counter(entry.label for entry in found if isinstance(entry.label, int))
    named = find_names(folders) if numbers else None
    names = dict(enumerate(named[1])) if named is not None else name_numbers(numbers)
    samples = []
    for entry in found:
        label, problem = entry.label, entry.problem
        if isinstance(label, int) and label not in names:
            problem = problem or f"has label {label}, but there are {len(names)} classes"
        samples.append(
            Sample(
                sample_id=entry.sample_id,
                split=entry.split,
                label=names.get(label, str(label)) if isinstance(label, int) else label or "",
                group=_find_group(entry.sample_id, section.group),
                problem=problem,
                path=entry.path,
            )
        )
    if named is not None or not numbers:
        return samples, []
    message = (
        f"{quantify(len(numbers), 'class', 'classes')} without names: called by their numbers. A file "
        "classes.txt with a name a line gives them names."
    )
    return samples, [
        Finding(code="webdataset.no-names", severity="note", message=message, count=len(numbers))
    ]
