"""``praxiscope explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from praxiscope.cli.options import Device, RunsFolder


def explain(  # noqa: PLR0913, PLR0917 - one parameter a flag
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or RECIPE@latest.")],
    samples: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGE|VIDEO|SAMPLE_ID ...]", help="Pictures or clips from anywhere, or ids of samples."
        ),
    ] = None,
    random: Annotated[int, typer.Option(metavar="N", min=0, help="So many random samples.")] = 0,
    failures: Annotated[
        int, typer.Option(metavar="N", min=0, help="So many of the most confident failures.")
    ] = 0,
    methods: Annotated[
        list[str] | None,
        typer.Option("--method", metavar="NAMES", help="Saliency methods; default: what suits the network."),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option("--layer", metavar="NAMES", help="Layers to look at; default: the usual, two before."),
    ] = None,
    activations: Annotated[
        bool,
        typer.Option("--activations/--no-activations", help="Draw activations and kernels, of 12 samples."),
    ] = True,
    nearest: Annotated[
        int, typer.Option(metavar="N", min=0, help="Nearest training images of each sample; 0 for none.")
    ] = 5,
    embedding: Annotated[
        bool, typer.Option("--embedding", help="Map the features of the whole split in two dimensions.")
    ] = False,
    histograms: Annotated[
        bool, typer.Option("--histograms", help="Distributions of activations and gradients, dead units.")
    ] = False,
    measure: Annotated[
        int, typer.Option(metavar="N", min=0, help="Measure the methods on N samples: which to trust.")
    ] = 0,
    masks: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Masks of the actors, named like the samples.")
    ] = None,
    reliance: Annotated[
        bool, typer.Option("--reliance", help="How far the network relies on the background; needs masks.")
    ] = False,
    split: Annotated[str, typer.Option(metavar="SPLIT", help="test, val or train.")] = "test",
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="The data folder, if it moved.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Default: explain/ of the run.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the random samples.")] = 0,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with exit code 4 if a picture could not be read.")
    ] = False,
    runs: RunsFolder = Path("runs"),
    device: Device = None,
) -> None:
    """Show what a run's network looks at: saliency, activations, nearest training images, one page."""
    from praxiscope.cli.arguments import split_names
    from praxiscope.cli.display import open_display
    from praxiscope.data.manifest import quantify
    from praxiscope.errors import DataError
    from praxiscope.workflows.explain import explain as run_explanation

    with open_display() as display:
        outcome = run_explanation(
            run,
            samples or (),
            random=random,
            failures=failures,
            methods=split_names(methods),
            layers=split_names(layers),
            activations=activations,
            nearest=nearest,
            embedding=embedding,
            histograms=histograms,
            measure=measure,
            masks=masks,
            reliance=reliance,
            split=split,
            data=data,
            output=output,
            runs=runs,
            seed=seed,
            device=device,
            watch=display,
        )
    skipped = f"; {quantify(len(outcome.skipped), 'picture')} could not be read" if outcome.skipped else ""
    for sentence in outcome.findings:
        typer.echo(sentence)
    if outcome.entries or skipped:
        typer.echo(f"Explained {quantify(len(outcome.entries), 'sample')}{skipped}")
    typer.echo(f"Page: {outcome.page}")
    if strict and outcome.skipped:
        named = "; ".join(f"{name} ({reason})" for name, reason in outcome.skipped[:3])
        raise DataError(
            f"--strict: {quantify(len(outcome.skipped), 'picture')} could not be read: {named}"
            f"{' ...' * (len(outcome.skipped) > 3)}"
        )
