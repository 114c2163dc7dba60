"""What README and docs show is what the program takes."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path

import click
import pytest
import typer
import typer.main

from praxiscope.cli.arguments import normalize_arguments
from praxiscope.cli.main import _load_commands, app
from praxiscope.recipe.load import list_keys, load_recipe

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def read_commands() -> list[str]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        lines = [line for block in blocks for line in block.splitlines()]
        lines += re.findall(r"`(praxiscope [^`]+)`", text)
        found += [line.split(" #")[0].strip() for line in lines if line.strip().startswith("praxiscope ")]
    return sorted(set(found))


@pytest.fixture(scope="module")
def command() -> click.Command:
    _load_commands()
    return typer.main.get_command(app)


@pytest.mark.parametrize("line", read_commands())
def test_every_command_in_the_docs_parses(line, command):
    words = normalize_arguments([word for word in shlex.split(line)[1:] if word != "..."])
    group: click.Command = command
    while isinstance(group, click.Group) and words and not words[0].startswith("-"):
        context = click.Context(group)
        found = group.get_command(context, words[0])
        assert found is not None, f"{line}: there is no '{words[0]}'"
        group, words = found, words[1:]
    required = sum(isinstance(p, click.Argument) and p.required for p in group.params)
    if not words and required:
        return  # a command that is only named
    with contextlib.suppress(click.exceptions.Exit, typer.Exit):  # --help and --version end here
        group.make_context(line, list(words), resilient_parsing=False)


def test_the_docs_show_many_commands():
    assert len(read_commands()) > 12


def test_settings_in_the_docs_are_recipe_keys():
    settings = {
        m for page in PAGES for m in re.findall(r"--set \"?([\w.]+)=", page.read_text(encoding="utf-8"))
    }
    assert settings
    assert {s for s in settings if not s.startswith("data.columns.")} <= set(list_keys())


def test_recipes_in_the_docs_exist():
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    for name in re.findall(r"`((?:har|demo)-[\w-]+)`", text):
        assert load_recipe(name).name == name


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+?)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_python_in_the_readme_runs(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert photos == tmp_path / "photos"
    code = re.search(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert code is not None
    quick = code.group(1).replace(
        '"train.epochs": 2', '"train.epochs": 1, "train.warmup_epochs": 0, "model.img_size": 32'
    )
    assert quick != code.group(1)
    exec(compile(quick, "README.md", "exec"), {})
    assert list(tmp_path.glob("runs/demo-cnn/*/report.html"))


def test_public_names_are_these():
    import praxiscope as px

    assert set(px.__all__) == {
        "PraxiscopeError", "Predictions", "Recipe", "RunDir", "__version__", "bakeoff", "cascade", "check_data",
        "compare", "debug", "evaluate", "explain", "export", "find_run", "fuse", "load_recipe", "predict",
        "profile", "report", "submit", "train", "tune", "verify",
    }  # fmt: skip
    for name in px.__all__:
        assert getattr(px, name) is not None
    assert callable(px.train)
    with pytest.raises(AttributeError, match="it offers"):
        _ = px.tarin
