"""Do a cascade's plans come true? Two real runs, their samples split anew many times.

    python benchmarks/cascade.py SMALL LARGE [--cost-small 1 --cost-large 8] [--splits 300] [--resamples 1000]

First the plan as ``praxiscope cascade`` makes it: on the runs' validation predictions, confirmed on test.
Then both tables are pooled and cut anew ``--splits`` times at their sizes; each time temperature and
threshold are chosen on the one part and confirmed on the other. Two shares are counted, for accuracy and for
cost: how often the planned value lies inside the interval of test alone, which knows nothing of the plan's
own error, and how often the interval of found - planned holds 0, which should be so in 95 of 100.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import stats

from measuring import write_result
from praxiscope.comparison.cascade import Costs, Pair, Wish, pair_predictions, plan_cascade
from praxiscope.evaluation.predictions import Predictions, read_predictions
from praxiscope.runs.rundir import RunDir

FIGURES = {"accuracy": "planned_accuracy_inside", "cost_ms": "planned_cost_inside"}


def main() -> None:
    """Plan, split anew, count and write ``results/<name>.json``."""
    arguments = parse_arguments()
    runs = [RunDir.open(path) for path in (arguments.small, arguments.large)]
    labels = (runs[0].path.parent.name, runs[1].path.parent.name)
    tables = {split: [read_predictions(run.predictions(split)) for run in runs] for split in ("val", "test")}
    val, test = (pair_predictions(*tables[split], labels=labels) for split in ("val", "test"))
    costs = Costs(small_ms=arguments.cost_small, large_ms=arguments.cost_large, source="given")
    as_split = plan_cascade(val, test, costs, Wish(), resamples=10_000).figures
    pooled = [join(*both) for both in zip(tables["val"], tables["test"], strict=True)]
    whole = pair_predictions(*pooled, labels=labels)
    shares = count(whole, len(val.small), costs, arguments)
    for name, share in shares.items():
        print(name, share)
    write_result(
        arguments.name,
        {
            "small": labels[0],
            "large": labels[1],
            "as_split": as_split,
            "splits": arguments.splits,
            "shares": shares,
        },
    )


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("small", type=Path)
    parser.add_argument("large", type=Path)
    parser.add_argument("--cost-small", type=float, default=1.0)
    parser.add_argument("--cost-large", type=float, default=8.0)
    parser.add_argument("--splits", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--name", default="cascade-har")
    return parser.parse_args()


def join(first: Predictions, second: Predictions) -> Predictions:
    """Return both tables as one."""
    table = pa.concat_tables([first.table, second.table])
    place = table.schema.get_field_index("split")
    same = pa.array(["pooled"] * table.num_rows, table.schema.field(place).type)
    return replace(first, table=table.set_column(place, "split", same).sort_by("sample_id"))


def count(whole: Pair, size: int, costs: Costs, arguments: argparse.Namespace) -> dict[str, Any]:
    """Plan on ``size`` samples drawn anew, confirm on the rest; count how often the plan comes true."""
    inside: dict[str, list[bool]] = {name: [] for name in FIGURES}
    agrees: dict[str, list[bool]] = {name: [] for name in FIGURES}
    for seed in range(arguments.splits):
        drawn = np.zeros(len(whole.targets), bool)
        drawn[np.random.default_rng(seed).permutation(len(drawn))[:size]] = True
        plan = plan_cascade(
            select(whole, drawn),
            select(whole, ~drawn),
            costs,
            Wish(),
            resamples=arguments.resamples,
            seed=seed,
        )
        confirmed = plan.figures["confirmed"]
        for name, key in FIGURES.items():
            inside[name].append(bool(confirmed[key]))
            agrees[name].append(bool(confirmed["differences"][name]["agree"]))
    return {
        name: {"inside_test_interval": share(inside[name]), "difference_holds_0": share(agrees[name])}
        for name in FIGURES
    }


def select(pair: Pair, mask: np.ndarray) -> Pair:
    """Return the samples that ``mask`` names."""
    return Pair(
        small=pair.small.select(mask),
        large=pair.large.select(mask),
        targets=pair.targets[mask],
        right_small=pair.right_small[mask],
        right_large=pair.right_large[mask],
    )


def share(flags: list[bool]) -> dict[str, float]:
    """Return a share with its exact 95 % interval (Clopper & Pearson 1934)."""
    found = stats.binomtest(sum(flags), len(flags))
    low, high = found.proportion_ci()
    return {"value": sum(flags) / len(flags), "low": round(float(low), 4), "high": round(float(high), 4)}


if __name__ == "__main__":
    main()
