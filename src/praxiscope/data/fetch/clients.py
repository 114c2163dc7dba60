"""The packages that download: kagglehub, huggingface_hub, and torchvision's addresses and checksums.

Each function brings a data set's files into a folder, and leaves nothing elsewhere. What it raises about the
network or about permissions comes as :class:`FetchFailed`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

from praxiscope.data.archives import Progress, unpack_archive
from praxiscope.data.fetch.catalog import Client, DataCard
from praxiscope.data.fetch.http import RemoteFile, download_file
from praxiscope.errors import DataError

_EXTRA = "pip install 'praxiscope[fetch]'"


class FetchFailed(Exception):
    """A download didn't come about; the message says why, in one line."""


def download(card: DataCard, folder: Path, *, progress: Progress | None = None) -> Path:
    """Bring a data set's files into ``folder``.

    Args:
        card: which.
        folder: for this data set alone; exists. What an earlier call left there is used.
        progress: told about bytes, where the client doesn't show its own bar.

    Returns:
        The folder within ``folder`` that holds the files as they are to be used.

    Raises:
        FetchFailed: no network, no permission, or the client is not installed.
        IntegrityError: a checksum is wrong.
        DataError: an archive is damaged or hostile.
        EnvironmentProblem: the disk is full.
    """
    tree = _CLIENTS[card.client](card, folder, progress)
    check_tree(tree)
    return tree


def check_tree(tree: Path) -> None:
    """Check that there are only regular files and folders.

    Raises:
        DataError: a link or a device was downloaded.
    """
    for path in tree.rglob("*"):
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise DataError(f"{path} is a link or a device; a data set has no use for one.")


def find_remote_files(card: DataCard) -> tuple[RemoteFile, ...]:
    """Return addresses and checksums of a data set as torchvision knows them."""
    datasets = importlib.import_module("torchvision.datasets")
    known: Any = getattr(datasets, card.handle)
    if hasattr(known, "resources"):
        mirror = known.mirrors[0]
        return tuple(RemoteFile(url=mirror + name, name=name, md5=md5) for name, md5 in known.resources)
    return (RemoteFile(url=known.url, name=known.filename, md5=known.tgz_md5),)


def _from_torchvision(card: DataCard, folder: Path, progress: Progress | None) -> Path:
    with _failing(OSError, HTTPException):
        files = [download_file(remote, folder, progress=progress) for remote in find_remote_files(card)]
    tree = folder / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    if card.packed:
        return unpack_archive(files[0], tree, progress=progress)
    tree.mkdir()
    for path in files:
        path.replace(tree / path.name)
    return tree


def _from_kaggle(card: DataCard, folder: Path, progress: Progress | None) -> Path:  # noqa: ARG001 - has its own
    kagglehub = _import("kagglehub")
    exceptions = importlib.import_module("kagglehub.exceptions")
    kinds = [
        getattr(exceptions, name)
        for name in (
            "BackendError",
            "CredentialError",
            "DataCorruptionError",
            "NotFoundError",
            "UnauthenticatedError",
        )
        if hasattr(exceptions, name)
    ]
    # Its cache within this folder: an unfinished archive stays there and is gone on with.
    with _environment(KAGGLEHUB_CACHE=str(folder / "kagglehub")), _failing(OSError, ValueError, *kinds):
        there = Path(kagglehub.dataset_download(card.handle))
    if there.is_relative_to(folder):
        return there
    # In Kaggle's and Colab's notebooks kagglehub answers with a folder of theirs, which is read-only.
    return Path(shutil.copytree(there, folder / "tree", dirs_exist_ok=True))


def _from_hub(card: DataCard, folder: Path, progress: Progress | None) -> Path:  # noqa: ARG001 - has its own
    # Xet keeps a cache in the user's home; plain HTTPS keeps none.
    with _environment(HF_HUB_DISABLE_XET="1"):
        hub = _import("huggingface_hub")
        errors = importlib.import_module("huggingface_hub.errors")
        # huggingface_hub has changed its HTTP library twice; its own error derives from that library's.
        kinds = (*errors.HfHubHTTPError.__bases__, errors.HfHubHTTPError, OSError, ValueError)
        tree = folder / "tree"
        with _failing(*kinds):
            hub.snapshot_download(
                card.handle, repo_type="dataset", local_dir=tree, allow_patterns=list(card.files)
            )
    shutil.rmtree(tree / ".cache", ignore_errors=True)
    return tree


_CLIENTS: dict[Client, Callable[[DataCard, Path, Progress | None], Path]] = {
    "torchvision": _from_torchvision,
    "kagglehub": _from_kaggle,
    "huggingface_hub": _from_hub,
}


def _import(package: str) -> Any:
    if importlib.util.find_spec(package) is None:
        raise FetchFailed(f"{package} is not installed ({_EXTRA})")
    return importlib.import_module(package)


@contextmanager
def _failing(*kinds: type[BaseException]) -> Iterator[None]:
    try:
        yield
    except kinds as problem:
        lines = str(problem).strip().splitlines()
        raise FetchFailed(
            f"{type(problem).__name__}: {lines[0][:200]}" if lines else type(problem).__name__
        ) from problem


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
