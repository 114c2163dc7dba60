"""``praxiscope predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from praxiscope.cli.options import Device, RunsFolder


def predict(  # noqa: PLR0913, PLR0917 - one parameter a flag
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A run, an ONNX file, or the folder of a cascade.")
    ],
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Image, video, folder, quoted pattern, text file of paths, or a camera's number (0).",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Gets tables and annotated pictures.")
    ],
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", metavar="NAMES", help="Of csv, json, parquet; default: csv."),
    ] = None,
    top_k: Annotated[int, typer.Option(metavar="K", min=1, help="Labels of each row in CSV and JSON.")] = 5,
    every: Annotated[int, typer.Option(metavar="N", min=1, help="Each N-th frame of a video.")] = 1,
    fps: Annotated[
        float | None, typer.Option(metavar="F", help="So many frames a second of a video, by its own time.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="At most N frames of each video or camera.")
    ] = None,
    window: Annotated[
        float | None,
        typer.Option(metavar="S", help="Model of clips: cut videos into windows of S seconds; 0: don't."),
    ] = None,
    stride: Annotated[
        float | None, typer.Option(metavar="S", help="From one window to the next; default: half a window.")
    ] = None,
    images: Annotated[bool, typer.Option("--images/--no-images", help="Write annotated pictures.")] = True,
    save_video: Annotated[
        bool, typer.Option("--save-video", help="An annotated MP4 of each video instead of its frames.")
    ] = False,
    names: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Labels, one a line, of an ONNX file of another program."),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Pictures of a forward pass; default: evaluation's."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with exit code 4 if a file could not be read.")
    ] = False,
    runs: RunsFolder = Path("runs"),
    device: Device = None,
) -> None:
    """Predict pictures, videos or a camera: tables of the likeliest labels, and annotated pictures."""
    from praxiscope.cli.arguments import split_names
    from praxiscope.cli.display import open_display
    from praxiscope.data.manifest import quantify
    from praxiscope.data.video import Sampling
    from praxiscope.errors import DataError
    from praxiscope.workflows.predict import predict as run_prediction
    from praxiscope.workflows.predict_clips import WindowChoice
    from praxiscope.workflows.predict_record import PredictSettings

    settings = PredictSettings(
        formats=tuple(split_names(formats) or ("csv",)),
        top_k=top_k,
        images=images,
        video=save_video,
        sampling=Sampling(every=every, fps=fps, limit=limit),
        batch_size=batch_size,
        device=device,
        names=names,
        windows=WindowChoice(window_s=window, stride_s=stride),
    )
    with open_display() as display:
        result = run_prediction(model, sources, output=output, settings=settings, runs=runs, watch=display)
    failed = len(result.failures)
    told = f"; {quantify(failed, 'file')} could not be read whole" if failed else ""
    typer.echo(f"Predicted {quantify(result.pictures, result.unit)}{told}")
    if len(result.answered_by) > 1:
        typer.echo("Answered by " + ", ".join(f"{name}: {n:,}" for name, n in result.answered_by.items()))
    typer.echo(f"Files: {result.folder}")
    if strict and failed:
        named = "; ".join(f"{one.item.shown} ({one.reason})" for one in result.failures[:3])
        raise DataError(
            f"--strict: {quantify(failed, 'file')} could not be read whole: {named}{' ...' * (failed > 3)}"
        )
