"""``praxiscope data``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from praxiscope.cli.grouped_help import ABOUT

_app = typer.Typer(help="Look at data before anything is trained on it.", no_args_is_help=True)


def add_to(app: typer.Typer, settings: dict[str, Any]) -> None:
    """Add the command group."""
    app.add_typer(_app, name="data", rich_help_panel=ABOUT, context_settings=settings)


@_app.command("check")
def check(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The data folder; nothing is written to it.")
    ],
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Also write everything as JSON there.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="data.key=value or, of clips, clip.key=value.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the splits that the data doesn't have.")] = 0,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Read every file again, without the audit cache.")
    ] = False,
) -> None:
    """Say what is there, what is wrong with it, and what leaks between splits. Exit code 4: can't be used."""
    from praxiscope.cli.arguments import collect_data_overrides
    from praxiscope.cli.display import open_display
    from praxiscope.recipe.load import load_recipe
    from praxiscope.runs import atomic
    from praxiscope.workflows.check import check_data

    overrides = collect_data_overrides({}, settings or (), also=("clip.", "model.num_frames"))
    recipe = load_recipe({"name": "check"}, overrides)
    with open_display() as display:
        result = check_data(
            directory,
            recipe.data,
            seed=seed,
            clip=recipe.clip,
            num_frames=recipe.model.num_frames or 8,
            progress=display.phase,
            use_cache=not fresh,
        )
    typer.echo("\n".join(result.lines))
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_json(json_path, result.summary)
        typer.echo(f"Written: {json_path}")
    if not result.usable:
        raise typer.Exit(4)


@_app.command("show")
def show(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The data folder; nothing is written to it.")
    ],
    recipe: Annotated[str | None, typer.Option(metavar="RECIPE", help="Whose frames and crops.")] = None,
    sample: Annotated[list[str] | None, typer.Option(metavar="ID", help="A sample; repeatable.")] = None,
    random: Annotated[int | None, typer.Option(metavar="N", help="So many, drawn by seed.")] = None,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder of the pictures.")] = Path(
        "show"
    ),
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value, as in a recipe.")] = None,
) -> None:
    """Draw what a network is fed: the sampled frames of a clip with their numbers, or an image's crops."""
    from praxiscope.cli.arguments import collect_overrides
    from praxiscope.cli.display import open_display
    from praxiscope.data.manifest import quantify
    from praxiscope.recipe.load import load_recipe
    from praxiscope.workflows.show import show_data

    asked = load_recipe(recipe or {"name": "show"}, collect_overrides({}, settings or ()))
    with open_display() as display:
        result = show_data(
            directory, asked, samples=sample or (), random=random, out=out, progress=display.phase
        )
    typer.echo("\n".join(result.lines))
    typer.echo(f"Written: {quantify(len(result.pictures), 'picture')} and show.json in {result.folder}")


@_app.command("prepare")
def prepare(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The data folder; nothing is written to it.")
    ],
    pack: Annotated[
        int | None, typer.Option("--pack", metavar="PX", help="Short side of the packed images; 256.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="data.key=value or, of clips, clip.key=value.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the splits that the data doesn't have.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write there instead of to the user's cache.")
    ] = None,
) -> None:
    """Look at every file and write a packed copy of images or clips, which is read several times as fast."""
    from praxiscope.cli.arguments import collect_data_overrides
    from praxiscope.cli.display import open_display
    from praxiscope.recipe.load import load_recipe
    from praxiscope.workflows.prepare import prepare_data

    overrides = collect_data_overrides(
        {"data.pack": pack}, settings or (), also=("clip.", "model.num_frames")
    )
    recipe = load_recipe({"name": "prepare"}, overrides)
    with open_display() as display:
        result = prepare_data(
            directory,
            recipe.data,
            clip=recipe.clip,
            num_frames=recipe.model.num_frames,
            seed=seed,
            out=out,
            progress=display.phase,
        )
    typer.echo("\n".join(result.lines))


@_app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set, or 'list'.")],
    to: Annotated[Path | None, typer.Option("--to", metavar="DIR", help="A new or empty folder.")] = None,
    archive: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Check and unpack this file, downloaded by hand.")
    ] = None,
) -> None:
    """Download a published data set; its terms are shown. The only command that fetches data."""
    from praxiscope.cli.display import open_display
    from praxiscope.errors import UsageError
    from praxiscope.runs.atomic import format_bytes
    from praxiscope.workflows.fetch import describe_data_sets, fetch_data

    if name == "list":
        typer.echo("\n".join(describe_data_sets()))
        return
    if to is None:
        raise UsageError("Where to? Name a new or empty folder with --to DIR.")
    with open_display() as display:
        result = fetch_data(name, to, archive=archive, note=display.note, progress=display.phase)
    typer.echo(f"Data: {result.folder} ({result.files:,} files, {format_bytes(result.size)})")
    typer.echo(f'Next: praxiscope data check "{result.folder}"')


@_app.command("stage")
def stage(  # noqa: PLR0913, PLR0917 - one parameter a flag
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")],
    kind: Annotated[str, typer.Option(metavar="KIND", help="images or clips.")] = "images",
    train: Annotated[int, typer.Option(metavar="N", help="Training samples of each action.")] = 75,
    val: Annotated[int, typer.Option(metavar="N", help="Validation samples of each action.")] = 15,
    test: Annotated[int, typer.Option(metavar="N", help="Test samples of each action.")] = 25,
    size: Annotated[int, typer.Option(metavar="PX", help="Side of a picture.")] = 96,
    seed: Annotated[int, typer.Option(metavar="N")] = 0,
    shortcut: Annotated[
        bool, typer.Option("--shortcut", help="Tie the background to the class in train.")
    ] = False,
) -> None:
    """Render the embedded data: a mannequin that acts, with masks."""
    from praxiscope.cli.display import open_display
    from praxiscope.data.stage.dataset import StageSpec, write_stage_clips, write_stage_images
    from praxiscope.errors import UsageError

    writers = {"images": write_stage_images, "clips": write_stage_clips}
    if kind not in writers:
        raise UsageError(f"--kind '{kind}': choose images or clips.")
    spec = StageSpec(
        seed=seed,
        size=size,
        train_per_action=train,
        val_per_action=val,
        test_per_action=test,
        shortcut=shortcut,
    )
    with open_display() as display:
        folder = writers[kind](directory, spec, progress=display.phase)
    typer.echo(f"Data: {folder}")
