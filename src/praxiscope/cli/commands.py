"""``train``, ``evaluate``, ``report``, ``verify``, ``doctor``, ``demo``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from praxiscope.cli.arguments import LATEST, build_recipe_source, collect_overrides

_Data = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="The data folder.")]
_Output = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of all runs.")]
_Device = Annotated[
    str | None,
    typer.Option(
        "--device", "--gpu", metavar="NAME", help="cpu, cuda, cuda:N, N or mps; default: the best here."
    ),
]
_Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or RECIPE@latest.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("train")(train)
    app.command("evaluate")(evaluate)
    app.command("val", hidden=True)(evaluate)
    app.command("report")(report)
    app.command("verify")(verify)
    app.command("doctor")(doctor)
    app.command("demo")(demo)


def train(  # noqa: PLR0913, PLR0917 - one parameter a flag
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="A built-in recipe or a .yaml file.")
    ] = None,
    data: _Data = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="A model of the catalogue or of timm.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", "-b", metavar="N")] = None,
    lr: Annotated[float | None, typer.Option(metavar="X", help="Peak learning rate.")] = None,
    weight_decay: Annotated[float | None, typer.Option(metavar="X")] = None,
    opt: Annotated[
        str | None, typer.Option("--opt", "--optimizer", metavar="NAME", help="adamw, sgd, lamb ...")
    ] = None,
    warmup_epochs: Annotated[float | None, typer.Option(metavar="X")] = None,
    smoothing: Annotated[float | None, typer.Option(metavar="X", help="Label smoothing.")] = None,
    mixup: Annotated[float | None, typer.Option(metavar="ALPHA", help="MixUp; 0 for none.")] = None,
    cutmix: Annotated[float | None, typer.Option(metavar="ALPHA", help="CutMix; 0 for none.")] = None,
    amp: Annotated[str | None, typer.Option(metavar="P", help="Precision: auto, fp32, bf16, fp16.")] = None,
    img_size: Annotated[int | None, typer.Option(metavar="PX")] = None,
    pretrained: Annotated[
        bool | None, typer.Option("--pretrained/--no-pretrained", help="Published weights.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="FILE", help="Start from this .safetensors or .pth.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N")] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", "-j", metavar="N", help="Threads that read images.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any recipe key: `praxiscope recipes keys`."),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="[RUN]", help="Go on with RUN; bare: the newest of this recipe and data."),
    ] = None,
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="Resume although recipe or data differ.")
    ] = False,
    output: _Output = Path("runs"),
    device: _Device = None,
) -> None:
    """Train a model on a folder of labelled images."""
    flags = {
        "model.name": model if recipe is not None else None,
        "model.img_size": img_size, "model.pretrained": pretrained, "model.weights": weights,
        "train.epochs": epochs, "train.batch_size": batch_size, "train.lr": lr, "train.opt": opt,
        "train.weight_decay": weight_decay, "train.warmup_epochs": warmup_epochs,
        "train.smoothing": smoothing, "train.precision": amp,
        "augment.mixup": mixup, "augment.cutmix": cutmix,
        "loader.workers": workers, "seed": seed,
    }  # fmt: skip
    overrides = collect_overrides(flags, settings or ())
    source = build_recipe_source(recipe, model)
    if source is None and resume not in {None, LATEST}:
        source = _read_run_recipe(str(resume), output) if overrides else None

    from praxiscope.cli.display import open_display
    from praxiscope.recipe.load import load_recipe
    from praxiscope.workflows.train import train as run_training

    chosen = None if source is None else load_recipe(source, overrides)
    with open_display() as display:
        run = run_training(
            chosen,
            data=data,
            output=output,
            resume=True if resume == LATEST else resume or False,
            allow_changes=allow_changes,
            device=device,
            watch=display,
            command=["praxiscope", *sys.argv[1:]],
        )
    typer.echo(f"Run: {run.path}")
    typer.echo(f"Next: praxiscope evaluate {run.path}")


def evaluate(
    run: _Run,
    split: Annotated[str, typer.Option(metavar="SPLIT", help="test, val or train.")] = "test",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write metrics.json there.")] = None,
    data: _Data = None,
    output: _Output = Path("runs"),
    device: _Device = None,
) -> None:
    """Evaluate a run's best weights; figures with 95 % intervals, on all and on clean samples."""
    from praxiscope.cli.display import open_display
    from praxiscope.evaluation.text import format_test_report
    from praxiscope.workflows.evaluate import evaluate as run_evaluation

    with open_display() as display:
        result = run_evaluation(
            run, split=split, out=out, data=data, output=output, device=device, watch=display
        )
    typer.echo(format_test_report(result.metrics, title=f"{result.run.run_id} on {split}"))
    typer.echo(f"Files: {result.folder}")
    typer.echo(f"Next: praxiscope report {result.run.path}")


def report(
    run: _Run,
    data: _Data = None,
    output: _Output = Path("runs"),
    max_failures: Annotated[int, typer.Option(metavar="N", help="Thumbnails of failures at most.")] = 200,
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
    images: Annotated[int, typer.Option(metavar="N", help="Training images to render.")] = 1200,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two epochs each, to see that everything works.")
    ] = False,
) -> None:
    """Render stage images, train a CNN and a ViT on them, evaluate both, write a report of each."""
    from praxiscope.cli.display import open_display
    from praxiscope.workflows.demo import run_demo

    with open_display() as display:
        results = run_demo(output, images=images, quick=quick, watch=display)
    for name, result in results.items():
        typer.echo(f"{name}: {_headline(result.metrics)}")
    for name, result in results.items():
        typer.echo(f"Report of {name}: {result.run.report}")


def _headline(metrics: Mapping[str, Any]) -> str:
    top1 = metrics["all"]["top1"]
    return (
        f"test top-1 {100 * top1['value']:.1f} % (95 % interval {100 * top1['low']:.1f} to "
        f"{100 * top1['high']:.1f}, {metrics['num_samples']} images)"
    )


def _read_run_recipe(resume: str, output: Path) -> Mapping[str, Any]:
    from praxiscope.recipe.load import load_recipe
    from praxiscope.runs.find import find_run

    return load_recipe(find_run(resume, root=output).recipe).model_dump(mode="json")
