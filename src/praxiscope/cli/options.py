"""Options that several commands have, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Device = Annotated[
    str | None,
    typer.Option(
        "--device", "--gpu", metavar="NAME", help="cpu, cuda, cuda:N, N or mps; default: the best here."
    ),
]
RunsFolder = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Folder of all runs, for names.")]
