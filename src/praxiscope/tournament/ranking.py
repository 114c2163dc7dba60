"""The order of contestants, and the whole result, from the ledger alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from praxiscope.tournament.ledger import Entry, Ledger


def order_by_figure(results: Mapping[str, Entry], *, mode: Literal["max", "min"]) -> list[str]:
    """Return names, best first.

    Args:
        results: {name: line with ``value`` and ``val_loss``}, in the order in which models were given.
        mode: whether a high or a low figure is better.

    Returns:
        By the monitored figure; equals by validation loss, then as given; without a finite figure last.
    """
    sign = -1.0 if mode == "max" else 1.0

    def key(name: str) -> tuple[float, float]:
        value, loss = results[name]["value"], results[name]["val_loss"]
        return (math.inf if value is None else sign * value, math.inf if loss is None else loss)

    return sorted(results, key=key)  # a stable sort: equals stay in their order


def build_result(ledger: Ledger) -> dict[str, Any]:
    """Return ``bakeoff.json``: what was asked for, planned, decided and found.

    The order is decided on validation alone: finalists by the mean over their seeds, then those that left at
    each rung, latest first, then those that failed. Test figures stand beside it and move nobody.
    """
    begin = ledger.require("begin")
    final, plan, verdict = (ledger.find(kind) for kind in ("finalists", "plan", "verdict"))
    rounds = ledger.select("round")
    opened = ledger.find("test-opened")
    return {
        "schema": 1,
        "created": begin["at"],
        "asked": begin["asked"],
        "data": begin["data"],
        "monitor": begin["monitor"],
        "monitor_mode": begin["monitor_mode"],
        "budget_s": begin["asked"]["budget_s"],
        "spent_s": ledger.spent_s,
        "plan": None if plan is None else plan["plan"],
        "rungs": [
            _pick(e, "number", "epochs", "order", "kept", "left", "figures") for e in ledger.select("rung")
        ],
        "final": None
        if final is None
        else {
            "names": final["names"],
            "epochs": rounds[0]["epochs"] if rounds else None,
            "seeds": [entry["seed"] for entry in rounds],
            "stands_in": opened is not None and not rounds,
        },
        "cuts": [{k: v for k, v in e.items() if k not in {"kind", "at"}} for e in ledger.select("cut")],
        "ranking": rank(ledger),
        "verdict": None if verdict is None else verdict["verdict"],
        "comparison": None if verdict is None else verdict["folder"],
        "runs": [
            _pick(e, "contestant", "stage", "seed", "epochs", "run", "value", "best_epoch", "curve", "took_s")
            for e in ledger.select("trained")
        ],
    }


def rank(ledger: Ledger) -> list[dict[str, Any]]:
    """Return one row a contestant, best first."""
    begin = ledger.require("begin")
    given = [each["name"] for each in begin["contestants"]]
    rows = [_describe(ledger, name) for name in given]
    sign = -1.0 if begin["monitor_mode"] == "max" else 1.0

    def key(row: Mapping[str, Any]) -> tuple[bool, int, float, float]:
        value, loss = row["value"], row["val_loss"]
        return (
            row["reason"] is not None,
            -row["reached"],
            math.inf if value is None else sign * value,
            math.inf if loss is None else loss,
        )

    ordered = sorted(rows, key=key)
    return [
        {"place": place, **{k: v for k, v in row.items() if k != "reached"}}
        for place, row in enumerate(ordered, start=1)
    ]


def _describe(ledger: Ledger, name: str) -> dict[str, Any]:
    out = ledger.find("out", contestant=name)
    opened = ledger.find("test-opened")
    runs: Sequence[str] = [] if opened is None else opened["runs"].get(name, [])
    decided = {entry["epochs"] for entry in ledger.select("rung")}
    rung_runs = [
        entry
        for entry in ledger.select("trained", contestant=name, stage="rungs")
        if entry["epochs"] in decided  # not those of a rung that time ran out in
    ]
    finals = ledger.select("trained", contestant=name, stage="finals")
    counted = [entry for entry in finals if entry["run"] in runs]
    counted = counted or rung_runs[-1:]
    values = [e["value"] for e in counted]
    losses = [e["val_loss"] for e in counted]
    tested = [e["figures"] for e in ledger.select("tested", contestant=name)]
    return {
        "contestant": name,
        "stage": _name_stage(ledger, name, finalist=bool(runs)),
        "reached": math.inf if runs else _count_reached(ledger, name),
        "epochs": counted[-1]["epochs"] if counted else 0,
        "value": _mean(values),
        "values": values,
        "val_loss": _mean(losses),
        "test": _summarise_tests(tested) if tested else None,
        "train_s": sum(e["took_s"] for e in ledger.select("trained", contestant=name)),
        "reason": None if out is None else out["reason"],
    }


def _count_reached(ledger: Ledger, name: str) -> int:
    """Return the rungs that a contestant was judged at, those that it left counted half."""
    return sum((name in entry["order"]) + (name in entry["kept"]) for entry in ledger.select("rung"))


def _name_stage(ledger: Ledger, name: str, *, finalist: bool) -> str:
    out = ledger.find("out", contestant=name)
    if out is not None:
        return f"failed in {out['stage']}"
    if finalist:
        return "final"
    left = next((e for e in ledger.select("rung") if name in e["left"]), None)
    return "not reached" if left is None else f"out after rung {left['number']}"


def _summarise_tests(tested: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    values = [figures["top1"]["value"] for figures in tested]
    return {
        "top1": statistics.fmean(values),
        "spread": statistics.stdev(values) if len(values) > 1 else None,
        "seeds": [dict(figures) for figures in tested],
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def _pick(entry: Entry, *keys: str) -> dict[str, Any]:
    return {key: entry[key] for key in keys}
