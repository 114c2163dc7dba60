"""Archives that a careless reader would write outside its folder with, or fill a disk."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

Maker = Callable[[Path], None]


def write_tar(path: Path, *members: tarfile.TarInfo | tuple[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            if isinstance(member, tuple):
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
            else:
                tar.addfile(member)


def write_zip(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def _zip_link(path: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    write_zip(path, (info, b"../../escaped"), ("link/escaped", b"x"))


def _zip_device(path: Path) -> None:
    info = zipfile.ZipInfo("null")
    info.create_system = 3
    info.external_attr = (stat.S_IFCHR | 0o666) << 16
    write_zip(path, (info, b""))


def _zip_nul(path: Path) -> None:
    write_zip(path, ("innocentX.png", b"x"))
    path.write_bytes(path.read_bytes().replace(b"innocentX.png", b"innocent\0.png"))


def _zip_encrypted(path: Path) -> None:
    write_zip(path, ("a.png", b"x" * 50))
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + place] |= 1
    path.write_bytes(bytes(content))


def _zip_lies(path: Path) -> None:
    """The header says 10 bytes, the data is 11 MB of zeros."""
    write_zip(path, ("small.png", bytes(11_000_000)))
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = content.index(mark) + place
        content[start : start + 4] = (10).to_bytes(4, "little")
    path.write_bytes(bytes(content))


def _tar_lies(path: Path) -> None:
    """The header says 1 TiB."""
    info = tarfile.TarInfo("huge.png")
    info.size = 1 << 40
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))


def _tar_hidden_header(path: Path) -> None:
    """A long name of 2 GiB, which a reader would load whole."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2 << 30
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))


def _tar_sparse(path: Path) -> None:
    info = tarfile.TarInfo("sparse.png")
    info.pax_headers = {
        "GNU.sparse.map": "0,1",
        "GNU.sparse.size": str(1 << 40),
        "GNU.sparse.name": "sparse.png",
    }
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info)


def _zip_overlapping(path: Path) -> None:
    """Many entries for one and the same data (D. Fifield, "A better zip bomb", 2019)."""
    write_zip(path, ("a000.png", bytes(10_000_000)), ("b.png", b"x"))
    content = path.read_bytes()
    start = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x05\x06")
    entry = content[start : content.index(b"PK\x01\x02", start + 4)]
    entries = [entry.replace(b"a000.png", b"a%03d.png" % number) for number in range(400)]
    tail = bytearray(content[end:])
    tail[8:10] = tail[10:12] = len(entries).to_bytes(2, "little")
    tail[12:16] = sum(map(len, entries)).to_bytes(4, "little")
    path.write_bytes(content[:start] + b"".join(entries) + bytes(tail))


def _with_name(name: str) -> dict[str, Maker]:
    return {
        "zip": lambda path: write_zip(path, (name, b"escaped")),
        "tar": lambda path: write_tar(path, (name, b"escaped")),
    }


def _name_kinds() -> dict[str, tuple[Maker, str]]:
    kinds = {
        "parent": ("../escaped.png", "leads out of the folder"),
        "deep-parent": ("a/b/../../../../escaped.png", "leads out of the folder"),
        "absolute": ("/tmp/escaped.png", "absolute path"),
        "drive": ("C:/escaped.png", "colon"),
        "drive-relative": ("C:escaped.png", "colon"),
        "backslash": ("..\\escaped.png", "backslash"),
        "stream": ("a.png:hidden", "colon"),
        "device-name": ("images/NUL.png", "a device on Windows"),
        "trailing-dot": ("images./a.png", "ends in a dot or space"),
        "newline": ("a\nb.png", "control character"),
        "long-part": ("x" * 256, "more than 255 bytes"),
        "long-name": ("/".join(["x" * 99] * 11), "more than 1,000 characters"),
    }
    return {
        f"{kind}-{form}": (maker, message)
        for kind, (name, message) in kinds.items()
        for form, maker in _with_name(name).items()
    }


HOSTILE: dict[str, tuple[Maker, str]] = {
    **_name_kinds(),
    "symlink-tar": (
        lambda path: write_tar(path, special("link", tarfile.SYMTYPE, "/tmp"), ("link/escaped", b"x")),
        "is a link, a device or sparse",
    ),
    "hardlink-tar": (lambda path: write_tar(path, special("link", tarfile.LNKTYPE, "../../x")), "is a link"),
    "fifo-tar": (lambda path: write_tar(path, special("pipe", tarfile.FIFOTYPE)), "is a link, a device"),
    "chardev-tar": (lambda path: write_tar(path, special("null", tarfile.CHRTYPE)), "is a link, a device"),
    "blockdev-tar": (lambda path: write_tar(path, special("disk", tarfile.BLKTYPE)), "is a link, a device"),
    "symlink-zip": (_zip_link, "is a link or a device"),
    "device-zip": (_zip_device, "is a link or a device"),
    "nul-zip": (_zip_nul, "control character"),
    "encrypted-zip": (_zip_encrypted, "is encrypted"),
    "case-zip": (
        lambda path: write_zip(path, ("Run/a.png", b"1"), ("run/b.png", b"2")),
        "differ only in case",
    ),
    "unicode-tar": (
        lambda path: write_tar(path, ("caf\u00e9/a.png", b"1"), ("cafe\u0301/b.png", b"2")),
        "differ only in case or Unicode form",
    ),
    "twice-tar": (lambda path: write_tar(path, ("a.png", b"1"), ("./a.png", b"2")), "is in it twice"),
    "file-and-folder-tar": (
        lambda path: write_tar(path, ("a", b"1"), ("a/b.png", b"2")),
        "both a file and a folder",
    ),
    "bomb-zip": (lambda path: write_zip(path, ("a.png", bytes(11_000_000))), "times as many"),
    "bomb-gz": (lambda path: write_tar(path, ("a.png", bytes(11_000_000)), mode="w:gz"), "times as many"),
    "bomb-bz2": (lambda path: write_tar(path, ("a.png", bytes(11_000_000)), mode="w:bz2"), "times as many"),
    "bomb-xz": (lambda path: write_tar(path, ("a.png", bytes(11_000_000)), mode="w:xz"), "times as many"),
    "overlapping-zip": (_zip_overlapping, "times as many|damaged|free"),
    "lying-zip": (_zip_lies, "damaged or incomplete"),
    "lying-tar": (_tar_lies, "damaged or incomplete"),
    "huge-header-tar": (_tar_hidden_header, "declares 2,147,483,648 bytes"),
    "sparse-tar": (_tar_sparse, "sparse"),
    "empty-zip-of-folders": (lambda path: write_zip(path, ("a/", b"")), "holds no file"),
}
