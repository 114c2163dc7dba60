"""Imports of libraries that would otherwise send usage figures to their makers when they are imported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# What their own code takes for "send nothing": openvino_telemetry stays silent in continuous integration for
# the life of the process, nncf replaces its sender.
_SILENT = {"CI": "true", "NNCF_CI": "1"}


def import_openvino() -> Any:
    """Import openvino; nothing is sent, and no identifier is written to the user's home."""
    with _silent_environment():
        import openvino
    return openvino


def import_nncf() -> Any:
    """Import nncf likewise."""
    import_openvino()
    with _silent_environment():
        import nncf
    return nncf


def import_onnxruntime() -> Any:
    """Import onnxruntime; on Windows it would report to the system's event log, elsewhere it doesn't."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


@contextmanager
def _silent_environment() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _SILENT}
    os.environ.update(_SILENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
