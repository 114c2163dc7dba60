"""``evaluate``, ``report``, ``verify``, ``doctor``, ``demo``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from praxiscope.cli.bakeoff_command import bakeoff
from praxiscope.cli.cascade_command import cascade
from praxiscope.cli.compare_command import compare
from praxiscope.cli.debug_command import debug
from praxiscope.cli.explain_command import explain
from praxiscope.cli.export_command import export
from praxiscope.cli.fuse_command import fuse
from praxiscope.cli.grouped_help import ABOUT, GroupedCommand
from praxiscope.cli.jobs_command import jobs
from praxiscope.cli.options import Device
from praxiscope.cli.predict_command import predict
from praxiscope.cli.profile_command import profile
from praxiscope.cli.submit_command import SETTINGS as SUBMIT_SETTINGS
from praxiscope.cli.submit_command import submit
from praxiscope.cli.train_command import train
from praxiscope.cli.tune_command import tune
from praxiscope.cli.zeroshot_command import zeroshot
from praxiscope.runs.environment import is_first_rank

if TYPE_CHECKING:
    from praxiscope.evaluation.submission import SupervisionLevels

_Data = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="The data folder.")]
_Output = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of all runs.")]
_Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or RECIPE@latest.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    _add_training(app)
    _add_judging(app)
    for name, function, line in (
        ("predict", predict, "Predict pictures, videos or a camera."),
        ("export", export, "Write a run as one ONNX file, compared with the run."),
        ("cascade", cascade, "Plan a small model that asks a large one where it is unsure."),
    ):
        app.command(name, rich_help_panel="Use", short_help=line)(function)
    cluster: Any = {"rich_help_panel": "Slurm"}
    app.command(
        "submit", cls=GroupedCommand, context_settings=SUBMIT_SETTINGS, **cluster,
        short_help="Train on a cluster: write a job file and submit it.",
    )(submit)  # fmt: skip
    app.command("jobs", short_help="Follow the jobs that were submitted.", **cluster)(jobs)
    app.command("doctor", rich_help_panel=ABOUT, short_help="Say what this machine has.")(doctor)


def _add_training(app: typer.Typer) -> None:
    panel: Any = {"rich_help_panel": "Train"}
    app.command("demo", short_help="Try everything on rendered images.", **panel)(demo)
    app.command("debug", short_help="Check a recipe on its data before the long training.", **panel)(debug)
    app.command(
        "train", cls=GroupedCommand, short_help="Train a model on labelled images or clips.", **panel
    )(train)  # fmt: skip
    app.command(
        "tune", cls=GroupedCommand, short_help="Search recipe keys for the best validation figure.", **panel
    )(tune)  # fmt: skip
    app.command("bakeoff", short_help="Find the model that suits the data, in a time box.", **panel)(bakeoff)
    app.command(
        "zeroshot", short_help="Make a classifier of class names with an image-text model.", **panel
    )(zeroshot)  # fmt: skip


def _add_judging(app: typer.Typer) -> None:
    for name, function, line in (
        ("evaluate", evaluate, "Evaluate a run's best weights, with intervals."),
        ("report", report, "Write a run's report: one HTML file."),
        ("compare", compare, "Compare models on the same samples: a verdict with its test."),
        ("fuse", fuse, "Average the probabilities of several runs."),
        ("explain", explain, "Show what a network looks at, and how far to believe it."),
        ("profile", profile, "Measure what models cost in each runtime."),
        ("verify", verify, "Compute every fingerprint of a run again."),
    ):
        app.command(name, rich_help_panel="Judge", short_help=line)(function)
    app.command("val", hidden=True)(evaluate)


def evaluate(  # noqa: PLR0913, PLR0917 - one parameter a flag
    run: _Run,
    split: Annotated[str, typer.Option(metavar="SPLIT", help="test, val or train.")] = "test",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write metrics.json there.")] = None,
    groups: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Groups of classes to compare: columns class,group.")
    ] = None,
    head: Annotated[
        str | None, typer.Option(metavar="HEAD", help="Whose classes --groups holds: verb, noun, ...")
    ] = None,
    temporal: Annotated[
        bool,
        typer.Option("--temporal", help="Also on shuffled, reversed, frozen and halved frames of clips."),
    ] = False,
    submission: Annotated[
        Path | None,
        typer.Option(metavar="ZIP", help="Also write the answers for EPIC-KITCHENS-100's server."),
    ] = None,
    segments: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV", help="Answer this table of segments without labels instead; with --submission."
        ),
    ] = None,
    sls: Annotated[
        tuple[int, int, int],
        typer.Option(
            metavar="PT TL TD", help="The submission's levels of supervision: pretraining, labels, data."
        ),
    ] = (2, 3, 3),
    data: _Data = None,
    output: _Output = Path("runs"),
    device: Device = None,
) -> None:
    """Evaluate a run's best weights; figures with 95 % intervals, on all and on clean samples."""
    from praxiscope.cli.display import open_display
    from praxiscope.evaluation.submission import SupervisionLevels
    from praxiscope.evaluation.text import format_test_report
    from praxiscope.workflows.evaluate import evaluate as run_evaluation

    levels = SupervisionLevels(pretraining=sls[0], labels=sls[1], data=sls[2])
    if segments is not None:
        _refuse_scores({
            "--split": None if split == "test" else split, "--out": out, "--groups": groups, "--head": head,
            "--temporal": temporal or None,
        })  # fmt: skip
        where = {"data": data, "output": output, "device": device}
        _answer_challenge(run, segments, submission, levels, where)
        return
    with open_display() as display:
        result = run_evaluation(
            run, split=split, out=out, data=data, output=output, device=device, groups=groups, head=head,
            temporal=temporal, submission=submission, levels=levels, watch=display,
        )  # fmt: skip
    if not is_first_rank():
        return
    typer.echo(format_test_report(result.metrics, title=f"{result.run.run_id} on {split}"))
    typer.echo(f"Files: {result.folder}")
    if submission is not None:
        typer.echo(f"Submission: {submission}")
    typer.echo(f"Next: praxiscope report {result.run.path}")


def _refuse_scores(flags: Mapping[str, object]) -> None:
    from praxiscope.errors import UsageError

    if given := [flag for flag, value in flags.items() if value is not None]:
        raise UsageError(
            f"{given[0]} goes with labels, and --segments names a table without them; leave one of both out."
        )


def _answer_challenge(
    run: str, segments: Path, submission: Path | None, levels: SupervisionLevels, where: Mapping[str, Any]
) -> None:
    from praxiscope.cli.display import open_display
    from praxiscope.errors import UsageError
    from praxiscope.workflows.challenge import answer_challenge

    if submission is None:
        raise UsageError("--segments: where to? Name the zip with --submission FILE.zip.")
    with open_display() as display:
        result = answer_challenge(
            run, segments=segments, submission=submission, levels=levels, watch=display, **where
        )
    if is_first_rank():
        typer.echo(
            f"Submission: {result.path}: {result.num_segments:,} segments of {result.num_sources:,} videos. "
            "They have no labels here, so nothing is scored."
        )


def report(
    run: _Run,
    data: _Data = None,
    output: _Output = Path("runs"),
    max_failures: Annotated[
        int, typer.Option(metavar="N", min=0, help="Thumbnails of failures at most.")
    ] = 200,
) -> None:
    """Write a run's report: one HTML file that needs no network."""
    from praxiscope.workflows.report import report as write_report

    typer.echo(f"Report: {write_report(run, data=data, output=output, max_failures=max_failures)}")


def verify(run: _Run, data: _Data = None, output: _Output = Path("runs")) -> None:
    """Compute every fingerprint of a run again. Exit code 4: something is not what it was."""
    from praxiscope.cli.display import open_display
    from praxiscope.workflows.verify import verify as run_verification

    with open_display() as display:
        checks = run_verification(run, output=output, data=data, progress=display.phase)
    for check in checks:
        typer.echo(
            f"{'ok  ' if check.passed else 'FAIL'}  {check.name}{': ' if check.detail else ''}{check.detail}"
        )
        for problem in check.problems[:20]:
            typer.echo(f"      {problem}")
        if len(check.problems) > 20:
            typer.echo(f"      and {len(check.problems) - 20} more")
    failed = sum(not check.passed for check in checks)
    typer.echo(f"{len(checks) - failed} of {len(checks)} checks passed")
    if failed:
        raise typer.Exit(4)


def doctor() -> None:
    """Say what this machine has: Python, torch, devices, threads, precision, disk, optional parts."""
    from praxiscope.workflows.doctor import examine

    for section in examine(Path.cwd()):
        typer.echo(section.title)
        for name, value in section.facts.items():
            typer.echo(f"  {name:<22} {value}")


def demo(
    output: _Output = Path("demo-output"),
    images: Annotated[int, typer.Option(metavar="N", min=1, help="Training images to render.")] = 1200,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two epochs each, to see that everything works.")
    ] = False,
) -> None:
    """Render stage images, train a CNN and a ViT on them, evaluate both, write reports, compare them."""
    from praxiscope.cli.display import open_display
    from praxiscope.workflows.demo import run_demo

    with open_display() as display:
        result = run_demo(output, images=images, quick=quick, watch=display)
    for name, one in result.evaluations.items():
        typer.echo(f"{name}: {_headline(one.metrics)}")
    typer.echo(result.comparison.to_dict()["verdict"])
    for name, one in result.evaluations.items():
        typer.echo(f"Report of {name}: {one.run.report}")
    typer.echo(f"Comparison: {output / 'comparison' / 'comparison.html'}")


def _headline(metrics: Mapping[str, Any]) -> str:
    top1 = metrics["all"]["top1"]
    return (
        f"test top-1 {100 * top1['value']:.1f} % (95 % interval {100 * top1['low']:.1f} to "
        f"{100 * top1['high']:.1f}, {metrics['num_samples']} images)"
    )
