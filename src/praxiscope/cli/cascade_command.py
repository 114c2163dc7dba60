"""``praxiscope cascade``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from praxiscope.cli.options import Device, RunsFolder

if TYPE_CHECKING:
    from praxiscope.workflows.cascade import CascadeResult


def cascade(  # noqa: PLR0913, PLR0917 - one parameter a flag
    small: Annotated[str, typer.Argument(metavar="SMALL", help="The cheaper run, asked first.")],
    large: Annotated[str, typer.Argument(metavar="LARGE", help="The run asked where the first isn't sure.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Gets the cascade.")],
    costs: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A profile.json that knows both runs.")
    ] = None,
    runtime: Annotated[
        str, typer.Option(metavar="NAME", help="Which of the profile's runtimes.")
    ] = "eager-fp32",
    cost_small: Annotated[
        float | None, typer.Option(metavar="MS", help="Milliseconds of a sample in the small model.")
    ] = None,
    cost_large: Annotated[
        float | None, typer.Option(metavar="MS", help="Milliseconds of a sample in the large model.")
    ] = None,
    max_latency_ms: Annotated[
        float | None, typer.Option(metavar="MS", help="The most accurate at this mean cost.")
    ] = None,
    min_accuracy: Annotated[
        float | None, typer.Option(metavar="A", help="The cheapest with this validation accuracy (0 to 1).")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(metavar="T", help="This threshold (0 to 1) instead of a chosen one.")
    ] = None,
    runs: RunsFolder = Path("runs"),
    device: Device = None,
) -> None:
    """Plan a cascade: a small model answers where it is sure, a large one elsewhere."""
    from praxiscope.cli.display import open_display
    from praxiscope.comparison.cascade import Wish
    from praxiscope.workflows.cascade import CascadeCosts
    from praxiscope.workflows.cascade import cascade as plan_cascade

    with open_display() as display:
        result = plan_cascade(
            small,
            large,
            output=output,
            costs=CascadeCosts(profile=costs, runtime=runtime, small_ms=cost_small, large_ms=cost_large),
            wish=Wish(max_latency_ms=max_latency_ms, min_accuracy=min_accuracy, threshold=threshold),
            runs=runs,
            device=device,
            watch=display,
        )
    for line in describe(result):
        typer.echo(line)


def describe(result: CascadeResult) -> list[str]:
    """Return what was planned and what test says about it, in lines."""
    figures = result.plan.figures
    plan, test, alone = figures["plan"], figures["confirmed"], figures["alone"]
    verdicts = [_tell_inside(test[key]) for key in ("planned_accuracy_inside", "planned_cost_inside")]
    gaps = [_tell_gap(test["differences"]["accuracy"], 100, ".1f", " points")]
    gaps += [_tell_gap(test["differences"]["cost_ms"], 1, ".2f", " ms")]
    return [
        f"Small {result.labels[0]}, large {result.labels[1]}",
        f"Threshold {result.plan.threshold:.4f}, temperature {result.plan.temperature:.3f}",
        f"Chosen as {figures['chosen_by']}.",
        f"  {'':<22}{'accuracy':<27}{'mean cost':<31}asks the large model",
        f"  {'planned on ' + plan['split']:<22}{_line(plan)}",
        f"  {'found on ' + test['split']:<22}{_line(test)}",
        f"  {'planned is inside':<22}{verdicts[0]:<27}{verdicts[1]}",
        f"  {'found - planned':<22}{gaps[0]:<27}{gaps[1]}",
        f"  {'small alone, test':<22}{_line(alone['small'])}",
        f"  {'large alone, test':<22}{_line(alone['large'])}",
        f"Costs: {figures['costs']['source']}. Intervals: 95 %.",
        f"Files: {result.folder}",
        f"Next: praxiscope predict {result.folder} SOURCE -o DIR",
    ]


def _line(figures: Mapping[str, Any]) -> str:
    accuracy = _tell(figures["accuracy"], 100, ".1f", " %")
    cost = _tell(figures["cost_ms"], 1, ".2f", " ms")
    return f"{accuracy:<27}{cost:<31}{_tell(figures['asked'], 100, '.1f', ' %')}"


def _tell(figure: Mapping[str, float | None], scale: float, form: str, unit: str) -> str:
    value, low, high = figure["value"], figure["low"], figure["high"]
    assert value is not None
    if low is None or high is None:
        return f"{scale * value:{form}}{unit}"
    return f"{scale * value:{form}}{unit} ({scale * low:{form}} to {scale * high:{form}})"


def _tell_inside(inside: bool | None) -> str:
    return {True: "yes", False: "NO", None: "no interval"}[inside]


def _tell_gap(gap: Mapping[str, Any], scale: float, form: str, unit: str) -> str:
    told = _tell(gap, scale, "+" + form, unit)
    return told if gap["agree"] is not False else f"{told}, differs"
