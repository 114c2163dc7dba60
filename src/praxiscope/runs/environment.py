"""What a run ran on, for ``run.json`` and ``praxiscope doctor``, with no secret in it.

Environment variables are never stored, and the command line only after :func:`mask_command`. torch is not
imported here: where it is loaded already, its threads and GPUs are described too.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MASK = "***"
"""What stands in the place of a secret."""

_PACKAGES = ("praxiscope", "torch", "torchvision", "timm", "numpy")
_SECRET_WORDS = {"token", "key", "apikey", "password", "passwd", "passphrase", "pwd", "secret", "secrets"}
_SECRET_WORDS |= {"credential", "credentials", "auth", "authorization", "bearer", "cookie", "pat"}
_USER_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_NAMED_VALUE = re.compile(r"(?P<name>[A-Za-z][\w.-]*)=(?P<value>[^&\s]*)")
# Shapes that the large services give their access tokens, wherever they stand.
_TOKEN_SHAPE = re.compile(
    r"\b(hf_\w{16,}|gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|sk-[\w-]{16,}|xox[abprs]-[\w-]{8,}|A[KS]IA[0-9A-Z]{16})\b"
)
_FLAGS = {"avx2": "avx2", "avx512": "avx512f", "avx512_bf16": "avx512_bf16", "amx_bf16": "amx_bf16"}
_ALLOCATORS = ("jemalloc", "tcmalloc", "mimalloc")


def describe_environment(folder: Path, *, command: Sequence[str] | None = None) -> dict[str, Any]:
    """Describe the machine and the software, as plain JSON values.

    Args:
        folder: Where the run is written: the free space there is told.
        command: The command line to store, masked; None leaves ``command`` out.

    Returns:
        ``python``, ``os``, ``machine``, ``cpu`` (model), ``cpu_flags`` (``{"avx2": bool, "avx512": bool,
        "avx512_bf16": bool, "amx_bf16": bool}``; empty where the system doesn't tell), ``cores`` (usable by
        this process), ``cores_total``, ``memory_mib`` (usable) or None, ``disk_free_mib``, ``malloc``, the
        versions ``praxiscope torch torchvision timm numpy`` (None when absent), ``threads`` and ``gpus``
        (None when torch isn't loaded), ``git_commit`` or None, and ``command``.
    """
    cpu, flags = _describe_cpu()
    described: dict[str, Any] = {
        "python": platform.python_version(),
        "os": platform.platform(),
        "machine": platform.machine(),
        "cpu": cpu,
        "cpu_flags": flags,
        "cores": count_cores(),
        "cores_total": os.cpu_count(),
        "memory_mib": _find_memory_mib(),
        "disk_free_mib": shutil.disk_usage(folder).free >> 20,
        "malloc": _name_allocator(),
        **{package: _find_version(package) for package in _PACKAGES},
        **_describe_torch(),
        "git_commit": find_git_commit(),
    }
    return described if command is None else {**described, "command": mask_command(command)}


def is_first_rank() -> bool:
    """Whether this process speaks for a job of several (torchrun), or is a job of its own."""
    return os.environ.get("RANK", "0") == "0" or os.environ.get("WORLD_SIZE", "1") == "1"


# ---------------------------------------------------------------------------------------- secrets


def mask_command(command: Sequence[str]) -> list[str]:
    """Return a command line with what looks like a secret replaced by :data:`MASK`.

    Masked are the values of options and ``name=value`` pairs whose name has a word such as token, key or
    password in it, the user part of addresses, and tokens of well-known shapes.

    >>> mask_command(["train", "--hub-token", "abc", "--set", "log.api_key=xyz", "--keep", "3"])
    ['train', '--hub-token', '***', '--set', 'log.api_key=***', '--keep', '3']
    """
    masked = []
    value_is_secret = False
    for word in command:
        is_option = word.startswith("-") and not _is_number(word)
        if value_is_secret and not is_option:
            masked.append(MASK)
        else:
            masked.append(_mask_word(word))
        value_is_secret = is_option and "=" not in word and _is_secret_name(word)
    return masked


def _is_number(word: str) -> bool:
    return re.fullmatch(r"-\d+(\.\d+)?", word) is not None


def _is_secret_name(name: str) -> bool:
    # camelCase and separators both part words: apiKey, api_key, api-key. "keep" and "keypoints" are no keys.
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return any(word.lower() in _SECRET_WORDS for word in words)


def _mask_word(word: str) -> str:
    def mask_value(match: re.Match[str]) -> str:
        return f"{match['name']}={MASK}" if _is_secret_name(match["name"]) else match[0]

    word = _USER_IN_ADDRESS.sub(MASK, word)
    return _TOKEN_SHAPE.sub(MASK, _NAMED_VALUE.sub(mask_value, word))


# ---------------------------------------------------------------------------------------- hardware


def count_cores() -> int:
    """Count the cores that this process may use: its affinity and its container's quota, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _read_cpu_quota()
    return max(1, affinity if quota is None else min(affinity, int(quota)))


def _read_cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """The container's limit in cores, from control groups of version 2 or 1; None without one."""
    words = (_read_first_line(root / "cpu.max") or "").split()
    if not words:
        words = [
            _read_first_line(root / "cpu" / name) or "" for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        ]
    if not all(word.isdigit() for word in words):  # "max" in version 2, "-1" in version 1
        return None
    return int(words[0]) / int(words[1])


def _find_memory_mib() -> int | None:
    """The machine's memory or the container's smaller limit, in MiB; None where the system doesn't tell."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        limit = _read_first_line(Path("/sys/fs/cgroup") / name) or ""
        if limit.isdigit():
            total = min(total, int(limit))
    return total >> 20


def _read_first_line(path: Path) -> str | None:
    with contextlib.suppress(OSError), path.open(encoding="utf-8") as stream:
        return stream.readline().strip()
    return None


def _describe_cpu() -> tuple[str, dict[str, bool]]:
    info = Path("/proc/cpuinfo")
    try:
        text = info.read_text(encoding="utf-8")
    except OSError:
        return _run("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor() or "unknown", {}
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.+)$", text, re.MULTILINE)
    known = set(flags[1].split()) if flags else set()
    name = model[1].strip() if model else platform.processor() or platform.machine()
    return name, {ours: theirs in known for ours, theirs in _FLAGS.items()} if flags else {}


def _name_allocator() -> str:
    """The C library's allocator or the one loaded before it; the choice is worth about 1.5 x in speed."""
    with contextlib.suppress(OSError):
        maps = Path("/proc/self/maps").read_text(encoding="utf-8")
        return next((name for name in _ALLOCATORS if name in maps), platform.libc_ver()[0] or "system")
    return "system"


# ---------------------------------------------------------------------------------------- software


def _find_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _describe_torch() -> dict[str, Any]:
    torch = sys.modules.get("torch")
    if torch is None:
        return {"threads": None, "gpus": None}
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"threads": torch.get_num_threads(), "gpus": gpus}


def find_git_commit(source: Path = Path(__file__)) -> str | None:
    """Return the commit of the checkout that `source` is a tracked file of, with ``-dirty`` after changes.

    None outside a checkout, for an installed package (even within somebody's repository), and without git.
    """
    folder, name = str(source.resolve().parent), source.name
    if _run("git", "-C", folder, "ls-files", "--error-unmatch", "--", name) is None:
        return None
    return _run("git", "-C", folder, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")


def _run(program: str, *arguments: str) -> str | None:
    """A program's output without its line end; None when it is absent, fails or hangs."""
    found = shutil.which(program)
    if found is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - literal programs found on the user's own PATH
            [found, *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
