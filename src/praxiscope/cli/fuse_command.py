"""``praxiscope fuse``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def fuse(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN ...", help="Evaluated runs, two or more.")],
    weights: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Weight of each run's probabilities; equal by default."),
    ] = None,
    fit: Annotated[bool, typer.Option("--fit", help="Choose the weights on the validation split.")] = False,
    split: Annotated[str, typer.Option(metavar="SPLIT", help="test, val or train.")] = "test",
    name: Annotated[str, typer.Option(metavar="NAME", help="What the fusion is called.")] = "fused",
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of all runs.")] = Path(
        "runs"
    ),
) -> None:
    """Average the probabilities of several runs (late fusion) and evaluate the mean like a run."""
    from praxiscope.evaluation.text import format_test_report
    from praxiscope.workflows.fuse import fuse as run_fusion

    result = run_fusion(runs, weights=_parse(weights), fit=fit, split=split, name=name, output=output)
    typer.echo(format_test_report(result.metrics, title=f"{name} ({result.run.run_id}) on {split}"))
    typer.echo(f"Weights ({result.chosen_by}):")
    for label, weight in zip(result.labels, result.weights, strict=True):
        typer.echo(f"  {weight:.3f}  {label}")
    typer.echo(f"Next: praxiscope compare {' '.join(runs)} {result.run.path}")


def _parse(weights: str | None) -> list[float] | None:
    """Read ``0.6,0.4``."""
    from praxiscope.errors import UsageError

    if weights is None:
        return None
    try:
        return [float(word) for word in weights.split(",")]
    except ValueError:
        raise UsageError(
            f"--weights '{weights}': give numbers with commas between, such as 0.6,0.4."
        ) from None
