"""Which names a member of an archive may have, so that it lands in its folder on every system."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_member_name(name: str) -> PurePosixPath:
    """Return a member's name as a path below the target.

    Raises:
        ValueError: it leads elsewhere, or is no plain name on some system; says why.
    """
    if _CONTROL.search(name):
        raise ValueError("has a control character in its name")
    if "\\" in name:
        raise ValueError("has a backslash in its name")
    if name.startswith("/"):
        raise ValueError("is an absolute path")
    if ":" in name:
        raise ValueError("has a colon in its name (a drive or a hidden stream on Windows)")
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if not parts:
        raise ValueError("has no name")
    for part in parts:
        _check_part(part)
    if len("/".join(parts)) > 1000:
        raise ValueError("has a name of more than 1,000 characters")
    return PurePosixPath(*parts)


def _check_part(part: str) -> None:
    if part == "..":
        raise ValueError("leads out of the folder ('..')")
    if part.endswith((" ", ".")):
        raise ValueError("has a part that ends in a dot or space, which Windows drops")
    if _RESERVED.fullmatch(part):
        raise ValueError(f"has the part '{part}', a device on Windows")
    try:
        if len(part.encode("utf-8")) > 255:
            raise ValueError("has a part of more than 255 bytes")
    except UnicodeEncodeError:
        raise ValueError("has a name that is no valid text") from None


def fold_name(path: PurePosixPath) -> str:
    """Return what two names have in common that are one on a file system without case or Unicode forms."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", str(path)).casefold())
