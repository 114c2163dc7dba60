"""Fetch: a published data set comes into a folder that the user names, and nowhere else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from praxiscope.data.archives import Progress, unpack_archive
from praxiscope.data.fetch.catalog import CARDS, DataCard, find_card
from praxiscope.data.fetch.clients import FetchFailed, check_tree, download, find_remote_files
from praxiscope.data.fetch.http import compute_md5
from praxiscope.errors import DataError, EnvironmentProblem, IntegrityError, UsageError
from praxiscope.offline import is_offline
from praxiscope.runs import atomic

_OWN = ".praxiscope-fetch"  # the work folder; with .json, what was fetched


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A data set on this machine.

    Attributes:
        folder: what ``--data`` takes.
        files: how many there are.
        size: of all of them, in bytes.
    """

    folder: Path
    files: int
    size: int


def describe_data_sets() -> list[str]:
    """Return what can be fetched, in lines for a person."""
    lines = []
    for card in CARDS:
        lines += [
            f"{card.name}: {card.title}, about {card.size}",
            f"    {card.what}",
            f"    from {card.platform}, through {card.client}",
            f"    terms: {card.terms}",
        ]
    return lines


def fetch_data(
    name: str,
    target: Path | str,
    *,
    archive: Path | str | None = None,
    note: Callable[[str], None] = lambda _text: None,
    progress: Progress | None = None,
) -> Fetched:
    """Fetch a data set into a folder.

    Args:
        name: of the catalogue.
        target: a new or empty folder, or one that an earlier fetch of the same data set did not finish.
        archive: a file downloaded by hand, to be checked and unpacked instead of downloading.
        note: told the terms, and whether something is continued.
        progress: told about bytes.

    Returns:
        Where it is.

    Raises:
        UsageError: no such data set, or the folder holds something else.
        EnvironmentProblem: no network, no permission, no client, no space; says how to do it by hand.
        IntegrityError: a checksum is wrong.
        DataError: an archive is damaged or hostile.
    """
    card, target = find_card(name), Path(target).absolute()
    state = _read_state(card, target)
    if state == "complete":
        note(f"{target} holds all of '{card.name}' already; nothing was fetched.")
        return _describe(card, target)
    if state == "unfinished":
        note(f"Going on with what an earlier fetch left in {target}.")
    note(f"{card.title}, from {card.platform}, about {card.size}. Terms: {card.terms}.")
    work = target / _OWN
    work.mkdir(parents=True, exist_ok=True)
    _write_state(card, target, "unfinished")
    try:
        tree = _bring(card, target, work, None if archive is None else Path(archive), progress)
        _place(tree, target)
    except (DataError, IntegrityError):
        shutil.rmtree(work, ignore_errors=True)
        _withdraw(target, work)
        raise
    except (EnvironmentProblem, UsageError):
        _withdraw(target, work)
        raise
    shutil.rmtree(work)
    _write_state(card, target, "complete")
    return _describe(card, target)


def _bring(card: DataCard, target: Path, work: Path, archive: Path | None, progress: Progress | None) -> Path:
    if archive is not None:
        return _unpack_own(card, archive, work, progress)
    if is_offline():
        raise EnvironmentProblem(_explain_by_hand(card, target, "PRAXISCOPE_OFFLINE forbids the network"))
    try:
        return download(card, work, progress=progress)
    except FetchFailed as problem:
        raise EnvironmentProblem(_explain_by_hand(card, target, str(problem))) from problem


def _unpack_own(card: DataCard, archive: Path, work: Path, progress: Progress | None) -> Path:
    """Check and unpack an archive that the user has downloaded."""
    if not card.packed:
        raise UsageError(
            f"--archive: '{card.name}' is not published as an archive. Copy {_join(card.files)} into a "
            "folder as they are, and run 'praxiscope data check' on it."
        )
    if not archive.is_file():
        raise UsageError(f"--archive: there is no file {archive}.")
    if card.client == "torchvision":
        (published,) = find_remote_files(card)
        if (found := compute_md5(archive)) != published.md5:
            raise IntegrityError(
                f"{archive} is not {published.name} as it was published: its md5 is {found}, not "
                f"{published.md5}. Download it again."
            )
    tree = work / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    unpack_archive(archive, tree, progress=progress)
    check_tree(tree)
    return tree


def _place(tree: Path, target: Path) -> None:
    """Move what was fetched to where it belongs; what an interrupted move has put there is replaced."""
    for entry in sorted(tree.iterdir()):
        if entry.name.startswith(_OWN):
            raise DataError(f"The data set holds '{entry.name}', a name that praxiscope keeps for itself.")
        there = target / entry.name
        if there.is_dir():
            shutil.rmtree(there)
        entry.replace(there)


def _withdraw(target: Path, work: Path) -> None:
    """Leave no trace of a fetch that brought nothing."""
    if any(path.is_file() for path in work.rglob("*")):
        return  # to go on with
    shutil.rmtree(work, ignore_errors=True)
    if {path.name for path in target.iterdir()} <= {f"{_OWN}.json"}:
        (target / f"{_OWN}.json").unlink()
        target.rmdir()


def _read_state(card: DataCard, target: Path) -> str:
    """Return ``new``, ``unfinished`` or ``complete``."""
    if not target.exists():
        return "new"
    if not target.is_dir():
        raise UsageError(f"--to {target}: that is a file. Name a folder.")
    marker = target / f"{_OWN}.json"
    if not marker.is_file():
        if any(target.iterdir()):
            raise UsageError(f"--to {target}: it holds other files. Name a new or an empty folder.")
        return "new"
    stored = atomic.read_json(marker)
    if stored.get("name") != card.name:
        raise UsageError(
            f"--to {target}: it holds '{stored.get('name')}'. Name another folder for '{card.name}'."
        )
    return "complete" if stored.get("state") == "complete" else "unfinished"


def _write_state(card: DataCard, target: Path, state: str) -> None:
    """Keep what is there and where it came from."""
    stored = {
        "schema": 1,
        "name": card.name,
        "state": state,
        "title": card.title,
        "source": card.platform,
        "terms": card.terms,
        "updated": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    atomic.write_json(target / f"{_OWN}.json", stored)


def _describe(card: DataCard, target: Path) -> Fetched:
    inner = target / card.subfolder
    folder = inner if inner.is_dir() else target
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != f"{_OWN}.json")
    sizes = [path.stat().st_size for path in files]
    return Fetched(folder=folder, files=len(sizes), size=sum(sizes))


def _explain_by_hand(card: DataCard, target: Path, why: str) -> str:
    own = target / card.subfolder if card.packed else target
    if card.packed:
        unpack = f'praxiscope data fetch {card.name} --to "{target}" --archive FILE   (checks and unpacks it)'
    else:
        unpack = f'copy them as they are into an empty folder, for example "{target}"'
    hint = ""
    if card.client == "kagglehub":
        hint = (
            "\nkagglehub comes with pip install 'praxiscope[fetch]'; where Kaggle asks for an account, it "
            "reads KAGGLE_API_TOKEN, or kaggle.json as Kaggle's settings page gives it."
        )
    return (
        f"'{card.name}' could not be fetched: {why}.{hint}\nBy hand:\n"
        f"  1. Where there is a network, find '{card.title}' ({card.platform}) and download "
        f"{_join(card.files)}. Terms: {card.terms}.\n"
        f"  2. {unpack}\n"
        f'  3. praxiscope data check "{own}"'
    )


def _join(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
