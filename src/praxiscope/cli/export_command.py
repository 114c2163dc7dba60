"""``praxiscope export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from praxiscope.cli.options import RunsFolder


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or RECIPE@latest.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The file: model.onnx.")
    ] = Path("model.onnx"),
    int8: Annotated[
        bool, typer.Option("--int8", help="8-bit weights and activations, calibrated on training images.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Keep an 8-bit file that loses more than 1 point of accuracy.")
    ] = False,
    split: Annotated[
        str, typer.Option(metavar="SPLIT", help="Whose samples are compared: val, test or train.")
    ] = "val",
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="The data folder, if it has moved.")
    ] = None,
    runs: RunsFolder = Path("runs"),
) -> None:
    """Write a run as one ONNX file, compared with the run on real samples before it is kept."""
    from praxiscope.cli.display import open_display
    from praxiscope.workflows.export import export as run_export

    with open_display() as display:
        result = run_export(
            run, output, int8=int8, force=force, split=split, data=data, runs=runs, watch=display
        )
    parity = result.parity
    typer.echo(
        f"Compared with eager fp32 on {result.samples} samples: largest difference {parity.max_abs_diff:.2g} "
        f"({100 * parity.relative_diff:.2g} % of the largest logit), same top-1 on "
        f"{100 * parity.agreement:.1f} %"
    )
    if result.difference is not None:
        low, value, high = (
            100 * each for each in (result.difference.low, result.difference.value, result.difference.high)
        )
        typer.echo(
            f"Accuracy in 8 bits: {value:+.1f} points on {result.difference.n} {split} samples "
            f"({low:+.1f} to {high:+.1f})"
        )
    typer.echo(f"File: {result.path}")
    typer.echo(f"Next: praxiscope predict {result.path} SOURCE -o DIR")
