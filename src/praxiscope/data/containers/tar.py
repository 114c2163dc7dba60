"""Members of a plain tar file, read where they lie; nothing is ever extracted."""

from __future__ import annotations

import struct
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from praxiscope.data.containers.handles import ContainerUnreadable, RandomReader

_BLOCK = 512
# What tarfile was seen to raise on damaged files.
_TAR_ERRORS = (
    tarfile.TarError, OSError, EOFError, ValueError, LookupError, OverflowError, MemoryError, RecursionError,
    struct.error,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class TarMember:
    """One regular file of a tar."""

    name: str
    offset: int
    """Of its content, in bytes."""
    size: int


@dataclass(frozen=True, kw_only=True)
class TarIndex:
    """What a tar holds."""

    members: tuple[TarMember, ...]
    """Regular files, in their order."""
    others: tuple[str, ...]
    """Names of links, devices and the like; folders are left out."""
    ended: bool
    """Whether its end is marked: a tar that was cut between two members has none."""


class TarImages:
    """The members of a plain tar, named ``offset:size``: no index is needed to read one."""

    def __init__(self, path: Path) -> None:
        self._reader = RandomReader(path)

    def read(self, member: str) -> bytes:
        """Return the `size` bytes at `offset` of ``offset:size``."""
        offset, _, size = member.partition(":")
        if not (offset.isascii() and offset.isdigit() and size.isascii() and size.isdigit()):
            raise ContainerUnreadable(
                f"has no member {member!r}; it is called offset:size", self._reader.path
            )
        return self._reader.read(int(offset), int(size))


def index_tar(path: Path) -> TarIndex:
    """Read the headers of a plain tar.

    Raises:
        ContainerUnreadable: It is missing, compressed, cut short, or no tar.
    """
    members, others = [], []
    try:
        with path.open("rb") as stream:
            _refuse_compressed(stream, path)
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                for entry in archive:
                    if entry.isreg() and entry.sparse is None:
                        members.append(TarMember(name=entry.name, offset=entry.offset_data, size=entry.size))
                    elif not entry.isdir():
                        others.append(entry.name)
                stream.seek(archive.offset)
                tail = stream.read(_BLOCK)
                place = archive.offset
            size = stream.seek(0, 2)
    except ContainerUnreadable:
        raise
    except FileNotFoundError:
        raise ContainerUnreadable("no such file", path) from None
    except _TAR_ERRORS as problem:
        raise ContainerUnreadable(f"is no whole tar file ({problem}); fetch it again", path) from problem
    if members and members[-1].offset + members[-1].size > size:
        raise ContainerUnreadable(f"ends within {members[-1].name!r}; fetch it again", path)
    if tail.strip(b"\0"):  # tarfile takes a damaged header for the end
        raise ContainerUnreadable(f"has a damaged header at byte {place:,}; fetch it again", path)
    return TarIndex(members=tuple(members), others=tuple(others), ended=len(tail) == _BLOCK)


def _refuse_compressed(stream: IO[bytes], path: Path) -> None:
    if stream.read(2) == b"\x1f\x8b":
        raise ContainerUnreadable(
            "is compressed, so its members can't be read where they lie; unpack it to a plain .tar (gunzip)",
            path,
        )
    stream.seek(0)
