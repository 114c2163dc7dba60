"""``praxiscope train``: every flag is a recipe key, so a recipe and a command line say the same things."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from praxiscope.cli.arguments import LATEST, build_recipe_source, collect_overrides, split_names
from praxiscope.cli.tracking_flags import collect_tracking
from praxiscope.runs.environment import is_first_rank


def _flag(*names: str, metavar: str | None = None, text: str, panel: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=text, rich_help_panel=panel)


_DATA, _MODEL, _AUGMENT, _TRAIN, _RUN, _TRACK = (
    "Data", "Model", "Augmentation", "Training", "Run", "Experiment trackers",
)  # fmt: skip


# Recipe key -> the parameter of `train` that sets it; the model, frozen parts and trackers take a line more.
_KEYS = {
    "data.pack": "pack", "loader.workers": "workers", "seed": "seed",
    "model.img_size": "img_size", "model.pretrained": "pretrained", "model.weights": "weights",
    "model.head": "head", "model.freeze_depth": "freeze_depth", "model.drop_path_rate": "drop_path",
    "features.views": "cache_features",
    "augment.preset": "augmentation", "augment.mixup": "mixup", "augment.cutmix": "cutmix",
    "augment.repeats": "repeats",
    "train.epochs": "epochs", "train.batch_size": "batch_size", "train.opt": "opt", "train.lr": "lr",
    "train.min_lr": "min_lr", "train.schedule": "schedule", "train.warmup_epochs": "warmup_epochs",
    "train.weight_decay": "weight_decay", "train.momentum": "momentum", "train.layer_decay": "layer_decay",
    "train.clip_grad": "clip_grad", "train.loss": "loss", "train.smoothing": "smoothing",
    "train.class_weights": "class_weights", "train.sampling": "sampling", "train.ema_decay": "ema",
    "train.precision": "amp", "train.extend": "extend", "track.project": "project",
}  # fmt: skip


def train(  # noqa: PLR0913, PLR0917 - one parameter a flag
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="A built-in recipe or a .yaml file.")
    ] = None,
    data: Annotated[
        Path | None, _flag("--data", "--datapath", metavar="DIR", text="The data folder.", panel=_DATA)
    ] = None,
    pack: Annotated[
        int | None,
        _flag("--pack", metavar="PX", text="Read from a packed copy of this short side.", panel=_DATA),
    ] = None,
    workers: Annotated[
        int | None, _flag("--workers", "-j", metavar="N", text="Threads that read images.", panel=_DATA)
    ] = None,
    model: Annotated[
        str | None,
        _flag("--model", metavar="NAME", text="A model of the catalogue or of timm.", panel=_MODEL),
    ] = None,
    img_size: Annotated[
        int | None, _flag("--img-size", metavar="PX", text="Side of the input.", panel=_MODEL)
    ] = None,
    pretrained: Annotated[
        bool | None,
        _flag(
            "--pretrained/--no-pretrained",
            text="Start from published weights; never by itself.",
            panel=_MODEL,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        _flag("--weights", metavar="FILE", text="Start from this .safetensors or .pth.", panel=_MODEL),
    ] = None,
    head: Annotated[
        str | None, _flag("--head", metavar="KIND", text="linear, conv or mlp.", panel=_MODEL)
    ] = None,
    freeze: Annotated[
        list[str] | None,
        _flag(
            "--freeze",
            metavar="NAMES",
            text="Parts that don't train: backbone, layer1,layer2 ...",
            panel=_MODEL,
        ),
    ] = None,
    freeze_depth: Annotated[
        int | None,
        _flag("--freeze-depth", metavar="N", text="Groups that don't train, from the input.", panel=_MODEL),
    ] = None,
    drop_path: Annotated[
        float | None, _flag("--drop-path", metavar="P", text="Stochastic depth.", panel=_MODEL)
    ] = None,
    cache_features: Annotated[
        int | None,
        _flag(
            "--cache-features",
            metavar="[VIEWS]",
            text="Compute a frozen backbone's features once.",
            panel=_MODEL,
        ),
    ] = None,
    augmentation: Annotated[
        str | None,
        _flag(
            "--augmentation", metavar="PRESET", text="cutmix, autoaugment, cifar, none ...", panel=_AUGMENT
        ),
    ] = None,
    mixup: Annotated[
        float | None, _flag("--mixup", metavar="ALPHA", text="MixUp; 0 for none.", panel=_AUGMENT)
    ] = None,
    cutmix: Annotated[
        float | None, _flag("--cutmix", metavar="ALPHA", text="CutMix; 0 for none.", panel=_AUGMENT)
    ] = None,
    repeats: Annotated[
        int | None, _flag("--repeats", metavar="N", text="Draws of each sample in a batch.", panel=_AUGMENT)
    ] = None,
    epochs: Annotated[
        int | None, _flag("--epochs", metavar="N", text="Passes over the training split.", panel=_TRAIN)
    ] = None,
    batch_size: Annotated[
        int | None, _flag("--batch-size", "-b", metavar="N", text="Samples of a forward pass.", panel=_TRAIN)
    ] = None,
    opt: Annotated[
        str | None,
        _flag("--opt", "--optimizer", metavar="NAME", text="adamw, sgd, adam, lamb, muon ...", panel=_TRAIN),
    ] = None,
    lr: Annotated[float | None, _flag("--lr", metavar="X", text="Peak learning rate.", panel=_TRAIN)] = None,
    min_lr: Annotated[
        float | None, _flag("--min-lr", metavar="X", text="Where the schedule ends.", panel=_TRAIN)
    ] = None,
    schedule: Annotated[
        str | None,
        _flag("--schedule", metavar="NAME", text="cosine, step, plateau or constant.", panel=_TRAIN),
    ] = None,
    warmup_epochs: Annotated[
        float | None, _flag("--warmup-epochs", metavar="X", text="Linear warm-up.", panel=_TRAIN)
    ] = None,
    weight_decay: Annotated[
        float | None, _flag("--weight-decay", metavar="X", text="Not of biases and norms.", panel=_TRAIN)
    ] = None,
    momentum: Annotated[
        float | None, _flag("--momentum", metavar="X", text="Of SGD-like optimisers.", panel=_TRAIN)
    ] = None,
    layer_decay: Annotated[
        float | None,
        _flag("--layer-decay", metavar="X", text="Factor of lr from layer to layer.", panel=_TRAIN),
    ] = None,
    clip_grad: Annotated[
        float | None, _flag("--clip-grad", metavar="X", text="Largest norm of the gradient.", panel=_TRAIN)
    ] = None,
    loss: Annotated[
        str | None, _flag("--loss", metavar="NAME", text="CE, BCE or focal.", panel=_TRAIN)
    ] = None,
    smoothing: Annotated[
        float | None, _flag("--smoothing", metavar="X", text="Label smoothing.", panel=_TRAIN)
    ] = None,
    class_weights: Annotated[
        str | None, _flag("--class-weights", metavar="KIND", text="none or balanced.", panel=_TRAIN)
    ] = None,
    sampling: Annotated[
        str | None, _flag("--sampling", metavar="KIND", text="shuffle or balanced.", panel=_TRAIN)
    ] = None,
    ema: Annotated[
        float | None, _flag("--ema", metavar="DECAY", text="Moving average of the weights.", panel=_TRAIN)
    ] = None,
    amp: Annotated[
        str | None, _flag("--amp", metavar="P", text="Precision: auto, fp32, bf16, fp16.", panel=_TRAIN)
    ] = None,
    output: Annotated[
        Path, _flag("--output", "-o", metavar="DIR", text="Folder of all runs.", panel=_RUN)
    ] = Path("runs"),
    device: Annotated[
        str | None,
        _flag(
            "--device",
            "--gpu",
            metavar="NAME",
            text="cpu, cuda, cuda:N, N or mps; default: the best here.",
            panel=_RUN,
        ),
    ] = None,
    seed: Annotated[
        int | None, _flag("--seed", metavar="N", text="Every random draw follows from it.", panel=_RUN)
    ] = None,
    settings: Annotated[
        list[str] | None,
        _flag("--set", metavar="KEY=VALUE", text="Any recipe key: `praxiscope recipes keys`.", panel=_RUN),
    ] = None,
    resume: Annotated[
        str | None,
        _flag(
            "--resume",
            metavar="[RUN]",
            text="Go on with RUN; bare: the newest of this recipe and data.",
            panel=_RUN,
        ),
    ] = None,
    run: Annotated[
        Path | None,
        _flag(
            "--run",
            metavar="DIR",
            text="This very run folder: made, or gone on with where it is.",
            panel=_RUN,
        ),
    ] = None,
    extend: Annotated[
        str | None,
        _flag(
            "--extend",
            metavar="RULE",
            text="rejoin, stretch or hold: the schedule of more --epochs.",
            panel=_RUN,
        ),
    ] = None,
    allow_changes: Annotated[
        bool, _flag("--allow-changes", text="Resume although recipe or data differ.", panel=_RUN)
    ] = False,
    track: Annotated[
        list[str] | None, _flag("--track", metavar="NAMES", text="wandb, mlflow, trackio.", panel=_TRACK)
    ] = None,
    project: Annotated[
        str | None, _flag("--project", metavar="NAME", text="What the run is filed under.", panel=_TRACK)
    ] = None,
    run_name: Annotated[
        str | None, _flag("--run-name", metavar="NAME", text="Name that it is shown by.", panel=_TRACK)
    ] = None,
    wandb_run_name: Annotated[
        str | None,
        _flag(
            "--wandb-run-name",
            metavar="NAME",
            text="The same, with --track wandb where wandb is installed.",
            panel=_TRACK,
        ),
    ] = None,
) -> None:
    """Train a model on a folder of labelled images."""
    overrides = collect_train_overrides(locals())
    source = build_recipe_source(recipe, model)
    if source is None and resume not in {None, LATEST}:
        source = _read_run_recipe(str(resume), output) if overrides else None

    from praxiscope.cli.display import open_display
    from praxiscope.recipe.load import load_recipe
    from praxiscope.workflows.train import train as run_training

    chosen = None if source is None else load_recipe(source, overrides)
    with open_display() as display:
        trained = run_training(
            chosen,
            data=data,
            epochs=chosen.train.epochs if chosen is not None and "train.epochs" in overrides else None,
            output=output,
            resume=True if resume == LATEST else resume or False,
            folder=run,
            allow_changes=allow_changes,
            device=device,
            watch=display,
            command=["praxiscope", *sys.argv[1:]],
        )
    if is_first_rank():
        typer.echo(f"Run: {trained.path}")
        typer.echo(f"Next: praxiscope evaluate {trained.path}")


def collect_train_overrides(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the flags of ``train`` change in its recipe.

    Args:
        given: parameter of :func:`train` -> its value, as the command line gave it.

    Raises:
        UsageError: as :func:`~praxiscope.cli.arguments.collect_overrides`.
    """
    settings = given["settings"] or ()
    flags = {key: given[name] for key, name in _KEYS.items()}
    flags["model.name"] = given["model"] if given["recipe"] is not None else None
    flags["model.freeze"] = split_names(given["freeze"])
    flags |= collect_tracking(
        given["run_name"], given["wandb_run_name"], split_names(given["track"]), settings
    )
    return collect_overrides(flags, settings)


def _read_run_recipe(resume: str, output: Path) -> Mapping[str, Any]:
    from praxiscope.recipe.load import load_recipe
    from praxiscope.runs.find import find_run

    return load_recipe(find_run(resume, root=output).recipe).model_dump(mode="json")
