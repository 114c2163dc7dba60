"""How long ``praxiscope --help`` takes beside an interpreter that imports typer and pydantic.

    python benchmarks/startup.py [--runs 15]

The two alternate; each is a whole process. Also checks that ``--help`` imports no torch.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from measuring import format_summary, summarize, write_result

HELP = [sys.executable, "-m", "praxiscope", "--help"]
YARDSTICK = [sys.executable, "-c", "import typer, pydantic"]
_PROBE = (
    "import sys; from praxiscope.cli.main import main\n"
    "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
    "heavy = sorted({'torch', 'timm', 'torchvision', 'matplotlib', 'scipy', 'numpy'} & sys.modules.keys())\n"
    "sys.exit(' '.join(heavy) if heavy else 0)"
)


def _time(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure and write ``results/startup.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    for command in (HELP, YARDSTICK):
        _time(command)  # fills the file cache
    pairs = [(_time(HELP), _time(YARDSTICK)) for _ in range(runs)]
    probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=False)
    figures = {
        "help_ms": summarize([1000 * ours for ours, _ in pairs]),
        "yardstick_ms": summarize([1000 * theirs for _, theirs in pairs]),
        "ratio": summarize([ours / theirs for ours, theirs in pairs]),
        "heavy_imports_of_help": probe.stderr.strip(),
    }
    print(format_summary("praxiscope --help", figures["help_ms"], "ms"))
    print(format_summary('python -c "import typer, pydantic"', figures["yardstick_ms"], "ms"))
    print(format_summary("ratio, pair by pair", figures["ratio"], "x"))
    print(f"heavy imports of --help: {figures['heavy_imports_of_help'] or 'none'}")
    write_result("startup", figures)


if __name__ == "__main__":
    main()
