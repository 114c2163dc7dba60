"""Downloads one file whose checksum is known; an interrupted download goes on where it stopped."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from praxiscope.data.archives import Progress
from praxiscope.errors import IntegrityError

_CHUNK = 1 << 20
_TIMEOUT_S = 30.0
_PART = ".part"


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A published file.

    Attributes:
        url: ``http`` or ``https``.
        name: it gets on this machine.
        md5: published checksum. It guards against accidents and against a mirror's mistakes; to forge a
            second file with a given md5 is not known to be feasible.
    """

    url: str
    name: str
    md5: str


class DownloadEnded(OSError):
    """The connection ended before the file did; what came is kept."""


def download_file(remote: RemoteFile, folder: Path, *, progress: Progress | None = None) -> Path:
    """Download a file into ``folder``; it has its name only once it is whole and its checksum right.

    Args:
        remote: what to fetch.
        folder: exists; gets the file, until then ``<name>.part``.
        progress: told about bytes.

    Returns:
        The file.

    Raises:
        IntegrityError: what came is not what was published; it is removed.
        OSError: the network or the disk failed; what came so far is kept, and the next call goes on there.
    """
    path = folder / remote.name
    if path.is_file() and compute_md5(path) == remote.md5:
        return path
    part = folder / (remote.name + _PART)
    _receive(remote, part, progress)
    found = compute_md5(part)
    if found != remote.md5:
        part.unlink()
        raise IntegrityError(
            f"{remote.name} is not the file that was published: its md5 is {found}, not {remote.md5}. "
            "It was removed. Try again later, or another network: some answer with a page of their own."
        )
    part.replace(path)
    return path


def compute_md5(path: Path) -> str:
    """Return a file's md5 in hex."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _receive(remote: RemoteFile, part: Path, progress: Progress | None) -> None:
    if not remote.url.startswith(("https://", "http://")):
        raise ValueError(f"{remote.url} is no http address")
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(remote.url)  # noqa: S310 - the scheme is checked above
    if done:
        request.add_header("Range", f"bytes={done}-")
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as problem:
        problem.close()
        if problem.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        return  # all of it is here already: the checksum tells
    with answer:
        if answer.status != http.client.PARTIAL_CONTENT:
            done = 0  # this server starts anew
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length else 0
        with part.open("r+b" if done else "wb") as stream:
            stream.seek(done)
            while chunk := _read(answer):
                stream.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(f"downloading {remote.name}", done, max(total, done))
    if total and done < total:
        raise DownloadEnded(f"the connection ended after {done:,} of {total:,} bytes of {remote.name}")


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(_CHUNK)
    except http.client.IncompleteRead as problem:
        return problem.partial
