"""The first project's two models, compared by their published confusion matrices: unpaired.

    python benchmarks/peer_har.py --folder DIR

DIR holds ``resnet18_test_metrics_confusion_matrix.csv``, ``vit_b16_test_metrics_confusion_matrix.csv`` and
beside each its ``..._metrics.json`` with the published recalls, which must come out the same. The same on the
command line: ``praxiscope compare`` with the two CSV files.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from measuring import write_result
from praxiscope.workflows.compare import compare

MODELS = ("resnet18", "vit_b16")


def main() -> None:
    """Compare, hold the differences against the published recalls, write the results file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True)
    folder = parser.parse_args().folder
    matrices = [folder / f"{name}_test_metrics_confusion_matrix.csv" for name in MODELS]
    with tempfile.TemporaryDirectory() as output:
        content = compare(matrices, output=output, page=False).to_dict()
    published = [
        json.loads((folder / f"{name}_test_metrics.json").read_text(encoding="utf-8"))["per_class"]
        for name in MODELS
    ]
    pair = content["pairs"][0]
    gap = max(
        abs(row["difference"] - (published[1][row["name"]]["recall"] - published[0][row["name"]]["recall"]))
        for row in pair["per_class"]
    )
    for contestant in content["contestants"]:
        for member in contestant["members"]:
            member["source"] = Path(member["source"]).name
    print(content["verdict"])
    print(f"largest gap to the published per-class differences: {gap:.2g}")
    write_result("peer-har-unpaired", {"largest_gap_to_published_recalls": gap, "comparison": content})


if __name__ == "__main__":
    main()
