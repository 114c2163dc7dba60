"""Peak memory of a fresh process that does nothing but load a model and predict single images.

The process that profiles has held every runtime at once, so its own peak says nothing about any of them.
Run as ``python -m praxiscope.profiling.memory FOLDER RUNTIME``, this module is the fresh process.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from praxiscope.profiling.material import Material, read_material

_CALLS = 3
_TIMEOUT_S = 300.0
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def measure_peak_memory(material: Material, runtime: str) -> float | None:
    """Return the peak resident memory, in MiB, of a fresh process that predicts single images.

    It counts everything: the interpreter, the libraries, the weights, the activations.

    Args:
        material: the model; what the runtime needs is prepared.
        runtime: its name.

    Returns:
        None where the process failed or the system doesn't tell its peak.
    """
    material.write()
    threads = dict.fromkeys(_THREAD_VARIABLES, str(material.threads))
    try:
        ended = subprocess.run(  # noqa: S603 - this interpreter, our own module
            [sys.executable, "-m", "praxiscope.profiling.memory", str(material.folder), runtime],
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            timeout=_TIMEOUT_S,
            env={**os.environ, **threads},
        )
    except subprocess.TimeoutExpired:
        return None
    if ended.returncode != 0:
        return None
    found = json.loads(ended.stdout.splitlines()[-1])["peak_memory_mib"]
    return None if found is None else float(found)


def read_peak_resident_mib() -> float | None:
    """Return the peak resident memory of this process in MiB; None where the system doesn't tell."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not ru_maxrss, which on Linux a process inherits from the one that started it.
        match = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8"), re.MULTILINE)
        return int(match[1]) / 2**10 if match else None
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if platform.system() == "Darwin" else 2**10)


def main(arguments: list[str]) -> None:
    """Load a model, predict single images, and write the peak to standard output as JSON.

    Args:
        arguments: the material's folder, the runtime's name.
    """
    from praxiscope.profiling.runtimes.catalog import RUNTIMES

    folder, name = arguments
    material = read_material(Path(folder))
    runtime = next(runtime for runtime in RUNTIMES if runtime.name == name)
    session = runtime.open(material)
    image = np.load(material.samples)[:1]
    for _ in range(_CALLS):
        session(image)
    sys.stdout.write("\n" + json.dumps({"peak_memory_mib": read_peak_resident_mib()}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
