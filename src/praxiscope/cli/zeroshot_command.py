"""``praxiscope zeroshot``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from praxiscope.cli.options import Device


def zeroshot(  # noqa: PLR0913, PLR0917 - one parameter a flag
    model: Annotated[str, typer.Argument(metavar="MODEL", help="As open_clip calls it: ViT-B-32 ...")],
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="The data folder.")],
    weights: Annotated[Path, typer.Option(metavar="FILE", help="Its weights in open_clip's names.")],
    templates: Annotated[
        list[str] | None,
        typer.Option("--template", metavar="TEXT", help="A sentence with {} for the class; repeatable."),
    ] = None,
    class_texts: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Columns class,text: words to use instead of a class name."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any recipe key.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of all runs.")] = Path(
        "runs"
    ),
    device: Device = None,
) -> None:
    """Make a classifier of an image-text model (CLIP) and the class names, without training."""
    from praxiscope.cli.display import open_display
    from praxiscope.models.zero_shot import DEFAULT_TEMPLATES
    from praxiscope.workflows.zeroshot import read_class_texts
    from praxiscope.workflows.zeroshot import zeroshot as run_zeroshot

    with open_display() as display:
        run = run_zeroshot(
            model,
            data=data,
            weights=weights,
            templates=templates or DEFAULT_TEMPLATES,
            class_texts=None if class_texts is None else read_class_texts(class_texts),
            overrides=settings or (),
            output=output,
            device=device,
            watch=display,
            command=["praxiscope", *sys.argv[1:]],
        )
    typer.echo(f"Run: {run.path}")
    typer.echo(f"Next: praxiscope evaluate {run.path}")
