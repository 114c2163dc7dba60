"""Unpacks archives of unknown origin: zip, tar, and tar packed by gzip, bzip2 or xz.

Nothing that an archive says about itself is trusted. Names are checked before anything is made of them, sizes
are counted while bytes come out, and everything goes to a fresh folder beside the target, which takes the
target's name when the archive is whole. Only regular files and folders are made, by this module itself: no
link exists that a later member could be written through.
"""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import lzma
import secrets
import shutil
import stat
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol, Self, cast

from praxiscope.data.member_names import check_member_name, fold_name
from praxiscope.errors import DataError, EnvironmentProblem, UsageError

_CHUNK = 1 << 20
_BLOCK = 512  # of a tar
_LONGEST_EXTENSION = 1 << 20  # bytes of a long name or of extended headers, which tarfile reads whole
_STALE_S = 3600.0
_SUFFIX = ".unpacking"
_EXTENSIONS = frozenset({tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
                         tarfile.GNUTYPE_LONGLINK})  # fmt: skip
_DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, struct.error,
    NotImplementedError, RuntimeError, ValueError, OverflowError,
)  # fmt: skip
"""What the readers of the standard library raise about bytes that are not what they should be."""
# Windows reports a full disk as ERROR_DISK_FULL or ERROR_HANDLE_DISK_FULL; Python maps both to ENOSPC.
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


@dataclass(frozen=True, kw_only=True)
class ArchiveLimits:
    """What an archive may grow to.

    Attributes:
        total_bytes: of everything in it, unpacked.
        file_bytes: of one file.
        count: of files and folders.
        ratio: of unpacked bytes to those of the archive; photographs hardly shrink, tables about tenfold.
        ratio_from_bytes: below so many bytes unpacked the ratio doesn't matter.
    """

    total_bytes: int = 200 << 30
    file_bytes: int = 50 << 30
    count: int = 3_000_000
    ratio: float = 100.0
    ratio_from_bytes: int = 10 << 20


class Progress(Protocol):
    """Told about bytes: what is done, so far, in all."""

    def __call__(self, text: str, done: int, total: int, /) -> None:
        """Show it."""


def unpack_archive(
    archive: Path, target: Path, *, limits: ArchiveLimits | None = None, progress: Progress | None = None
) -> Path:
    """Unpack ``archive`` into the new folder ``target``: wholly, or not at all.

    What the archive is, is read from its first bytes, never from its name. Permissions, owners and times in
    it are ignored.

    Args:
        archive: a zip or tar file; is only read.
        target: the folder to make; may exist while it is empty.
        limits: what it may grow to.
        progress: told how much of the archive has been read.

    Returns:
        ``target``.

    Raises:
        UsageError: there is no such archive, or ``target`` exists and is not empty.
        DataError: it is none of these formats, damaged, encrypted, larger than ``limits``, or holds anything
            but regular files with plain names inside ``target``; the member is named.
        EnvironmentProblem: the disk is too small or can't be written to.
    """
    if not archive.is_file():
        raise UsageError(f"There is no archive {archive}.")
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise UsageError(
            f"{target} exists and is no empty folder; name a new one to unpack {archive.name} into."
        )
    limits = limits or ArchiveLimits()
    with _writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        aside = target.with_name(f".{target.name}.{secrets.token_hex(6)}{_SUFFIX}")
        aside.mkdir()
        try:
            writer = _Writer(archive, aside, limits, progress)
            _unpack(archive, writer)
            if not writer.written:
                raise writer.refuse("it holds no file")
            if target.exists():
                target.rmdir()
            aside.rename(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return target


# ---------------------------------------------------------------------------------------- writing


@dataclass
class _Writer:
    """Makes files below a folder, and counts."""

    archive: Path
    folder: Path
    limits: ArchiveLimits
    progress: Progress | None
    total: int = 0
    count: int = 0
    known: dict[str, tuple[PurePosixPath, bool]] = field(default_factory=dict)
    """By folded name: the path as it was given, and whether it is a file."""
    written: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.archive_bytes = self.archive.stat().st_size

    def refuse(self, reason: str) -> DataError:
        return DataError(f"{self.archive} was not unpacked: {reason}. Nothing of it was kept.")

    def refuse_member(self, name: str, reason: str) -> DataError:
        return self.refuse(f"its member {name[:200]!r} {reason}")

    def place(self, name: str, *, is_file: bool) -> Path:
        """Return where a member goes, its name checked against the rules and against all before it."""
        self.count += 1
        if self.count > self.limits.count:
            raise self.refuse(f"it has more than {self.limits.count:,} members")
        try:
            path = check_member_name(name)
        except ValueError as problem:
            raise self.refuse_member(name, str(problem)) from None
        for folder in reversed(path.parents[:-1]):
            self._claim(folder, is_file=False)
        self._claim(path, is_file=is_file)
        return self.folder / path

    def _claim(self, path: PurePosixPath, *, is_file: bool) -> None:
        key = fold_name(path)
        other, other_is_file = self.known.setdefault(key, (path, is_file))
        if other != path:
            raise self.refuse_member(
                str(path),
                f"and '{other}' differ only in case or Unicode form, and would be one on some systems",
            )
        if other_is_file != is_file:
            raise self.refuse_member(str(path), "is both a file and a folder")
        if is_file and key in self.written:
            raise self.refuse_member(str(path), "is in it twice")
        if is_file:
            self.written.add(key)

    def make_folder(self, name: str) -> None:
        self.place(name, is_file=False).mkdir(parents=True, exist_ok=True)

    def write(self, name: str, source: _Reader) -> None:
        path = self.place(name, is_file=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        size = 0
        with path.open("xb") as stream:
            while chunk := source.read(_CHUNK):
                size += len(chunk)
                if size > self.limits.file_bytes:
                    raise self.refuse_member(name, f"is larger than {self.limits.file_bytes:,} bytes")
                stream.write(chunk)

    def grow(self, more: int) -> None:
        """Count bytes that came out; refuse a bomb while it goes off."""
        self.total += more
        if self.total > self.limits.total_bytes:
            raise self.refuse(f"it holds more than {self.limits.total_bytes:,} bytes")
        allowed = max(self.limits.ratio_from_bytes, self.limits.ratio * self.archive_bytes)
        if self.total > allowed:
            raise self.refuse(
                f"its {self.archive_bytes:,} bytes have unpacked to {self.total:,}, more than "
                f"{self.limits.ratio:g} times as many"
            )

    def tell(self, read: int) -> None:
        if self.progress is not None:
            self.progress(f"unpacking {self.archive.name}", read, self.archive_bytes)


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        if problem.errno in _FULL:
            free = shutil.disk_usage(_find_existing(target)).free
            raise EnvironmentProblem(
                f"The disk is full: {target} was not unpacked, {free >> 20:,} MiB are free there. Free some "
                "space, or unpack elsewhere."
            ) from problem
        raise EnvironmentProblem(f"{target} was not unpacked: {problem}.") from problem


def _require_space(folder: Path, needed: int, archive: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise EnvironmentProblem(
            f"{archive} needs {needed >> 20:,} MiB to be unpacked, and {free >> 20:,} MiB are free in "
            f"{folder.parent}. Free some space, or unpack elsewhere."
        )


def _find_existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.absolute().parents) if parent.exists())


def _sweep(target: Path) -> None:
    """Remove what a killed process left of the same target."""
    for left in target.parent.glob(f".{target.name}.*{_SUFFIX}"):
        if time.time() - left.lstat().st_mtime > _STALE_S:
            shutil.rmtree(left, ignore_errors=True)


# ---------------------------------------------------------------------------------------- formats


def _unpack(archive: Path, writer: _Writer) -> None:
    with archive.open("rb") as stream:
        head = stream.read(_BLOCK)
        stream.seek(0)
        unpack = next((unpack for mark, at, unpack in _FORMATS if head.startswith(mark, at)), None)
        if unpack is None:
            raise writer.refuse("it is neither a zip nor a tar file (also packed by gzip, bzip2 or xz)")
        # Almost everything that is packed for the web comes out larger than it went in.
        _require_space(writer.folder, writer.archive_bytes, archive)
        try:
            unpack(stream, writer)
        except _DAMAGE as problem:
            raise writer.refuse(f"it is damaged or incomplete ({problem})") from problem
        except OSError as problem:
            # What gzip and bz2 raise about their data has no number; EINVAL: a place before the start.
            if problem.errno is None or (problem.errno == errno.EINVAL and problem.filename is None):
                raise writer.refuse(f"it is damaged or incomplete ({problem})") from problem
            raise


def _unpack_zip(stream: IO[bytes], writer: _Writer) -> None:
    with zipfile.ZipFile(stream) as opened:
        members = opened.infolist()
        _require_space(writer.folder, sum(member.file_size for member in members), writer.archive)
        for member in members:
            name = member.orig_filename  # filename is cut at a NUL
            kind = stat.S_IFMT(member.external_attr >> 16)
            if member.flag_bits & 1:
                raise writer.refuse_member(name, "is encrypted")
            if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                raise writer.refuse_member(name, "is a link or a device, not a regular file")
            if name.endswith("/"):
                writer.make_folder(name)
            elif kind == stat.S_IFDIR:
                raise writer.refuse_member(name, "is a folder by its mode and a file by its name")
            else:
                with opened.open(member) as source:
                    writer.write(name, _Counted(source, writer))
            writer.tell(stream.tell())


def _unpack_tar(stream: IO[bytes], writer: _Writer, unpacked: _Reader | None = None) -> None:
    """Read a tar from start to end; ``unpacked`` yields its bytes where ``stream`` is compressed."""
    counted = _Counted(unpacked or stream, writer)
    header = _make_header(writer)
    with tarfile.open(fileobj=cast("IO[bytes]", counted), mode="r|", tarinfo=header) as opened:
        while (member := opened.next()) is not None:
            if member.isreg() and not member.issparse():
                source = opened.extractfile(member)
                assert source is not None
                writer.write(member.name, source)
            elif not member.isdir():
                raise writer.refuse_member(member.name, "is a link, a device or sparse, not a regular file")
            elif member.name not in {"", "."}:  # the folder itself
                writer.make_folder(member.name)
            cast("Any", opened).members = []  # or the headers of a million files stay in memory
            writer.tell(stream.tell())
    if not header.ended:
        raise writer.refuse("it is damaged or incomplete (no end mark where the last member ends)")
    while counted.read(_CHUNK):  # the checksum of gzip and xz stands behind the last byte
        pass


def _unpack_gzip(stream: IO[bytes], writer: _Writer) -> None:
    with gzip.GzipFile(fileobj=stream) as unpacked:
        _unpack_tar(stream, writer, unpacked)


def _unpack_bzip2(stream: IO[bytes], writer: _Writer) -> None:
    with bz2.BZ2File(stream) as unpacked:
        _unpack_tar(stream, writer, unpacked)


def _unpack_xz(stream: IO[bytes], writer: _Writer) -> None:
    with lzma.LZMAFile(stream) as unpacked:
        _unpack_tar(stream, writer, unpacked)


_FORMATS: tuple[tuple[bytes, int, Callable[[IO[bytes], _Writer], None]], ...] = (
    (b"PK\x03\x04", 0, _unpack_zip),
    (b"\x1f\x8b", 0, _unpack_gzip),
    (b"BZh", 0, _unpack_bzip2),
    (b"\xfd7zXZ\x00", 0, _unpack_xz),
    (b"ustar", 257, _unpack_tar),
)
"""First bytes, where they stand, and who reads it."""


class _StrictHeader(tarfile.TarInfo):
    """A header of a tar. tarfile takes a damaged one for the archive's end, and reads long names whole."""

    writer: _Writer
    ended = False

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        cls.ended = len(buf) == _BLOCK and not any(buf)
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in _EXTENSIONS and header.size > _LONGEST_EXTENSION):
            raise cls.writer.refuse_member(header.name, f"declares {header.size:,} bytes")
        return header


def _make_header(for_writer: _Writer) -> type[_StrictHeader]:
    class Header(_StrictHeader):
        writer = for_writer

    return Header


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Counted:
    """Counts what comes out of a stream: headers and members that are passed over, too."""

    def __init__(self, source: _Reader, writer: _Writer) -> None:
        self._source = source
        self._writer = writer

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self._writer.grow(len(data))
        return data
