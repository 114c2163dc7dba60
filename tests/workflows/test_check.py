from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from praxiscope.recipe.schema import DataSection
from praxiscope.workflows.check import check_data, make_printable


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRAXISCOPE_CACHE", str(tmp_path_factory.mktemp("cache")))


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (64, 48), (seed * 37 % 256, seed * 91 % 256, 90))
    pen = ImageDraw.Draw(image)
    pen.ellipse(
        (seed * 13 % 50, seed * 7 % 30, seed * 13 % 50 + 25, seed * 7 % 30 + 14), fill=(250, 240, seed % 200)
    )
    pen.line((0, seed * 5 % 48, 63, seed * 11 % 48), fill=(0, 0, 0), width=3)
    image.save(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    seed = 1
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        for label in ("run", "sit"):
            for number in range(count):
                draw(tmp_path / split / label / f"{number}.png", seed)
                seed += 1
    (tmp_path / "test/run/copy.png").write_bytes((tmp_path / "train/run/0.png").read_bytes())
    (tmp_path / "train/sit/broken.png").write_bytes(b"<html>")
    return tmp_path


def test_counts_leaks_and_findings(data: Path) -> None:
    result = check_data(data)
    assert result.usable
    assert result.summary["splits"] == {
        "train": {"run": 6, "sit": 6}, "val": {"run": 2, "sit": 2}, "test": {"run": 3, "sit": 2},
    }  # fmt: skip
    assert result.summary["leaks"] == [
        {"split": "test", "seen_in": "train", "exact": 1, "near": 0, "num_samples": 5}
    ]
    assert result.summary["sizes"]["long_side"] == {"min": 64, "median": 64, "max": 64}
    assert result.summary["quarantined"] == [
        {
            "sample_id": "train/sit/broken.png",
            "reason": "no image but an HTML page, such as a failed download",
        }
    ]
    assert json.loads(json.dumps(result.summary, allow_nan=False)) == result.summary


def test_a_person_reads_the_same(data: Path) -> None:
    text = "\n".join(check_data(data).lines)
    assert text.startswith(f"{data} (folder): 21 of 22 samples usable\n")
    assert "test seen in train                 1      0   20.0% of test" in text
    assert "warning: 1 sample unusable and left out of everything" in text
    assert "train/sit/broken.png: no image but an HTML page" in text
    assert text.endswith("\nusable")


def test_errors_come_first_and_make_it_unusable(data: Path) -> None:
    draw(data / "test" / "jump" / "0.png", 99)
    result = check_data(data, DataSection(duplicates="refuse"))
    assert not result.usable
    kinds = [line.partition(":")[0] for line in result.lines if line.startswith(("ERROR", "warning", "note"))]
    assert kinds == sorted(kinds, key=["ERROR", "warning", "note"].index)
    assert kinds[:2] == ["ERROR", "ERROR"]
    assert result.lines[-1] == "NOT usable as it is: see ERROR above"


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    result = check_data(tmp_path)
    assert not result.usable
    assert "No usable image was found" in "\n".join(result.lines)
    assert result.summary["sizes"] is None


@pytest.mark.skipif(os.name == "nt", reason="such names can't exist on Windows")
def test_names_cannot_play_tricks_in_a_terminal(data: Path) -> None:
    draw(data / "train" / "\x1b[31mred\n\u202eevil" / "0.png", 50)
    result = check_data(data)
    assert all(make_printable(line) == line for line in result.lines)
    assert any(r"\x1b[31mred\n\u202eevil" in line for line in result.lines)
    assert "\x1b[31mred\n\u202eevil" in result.summary["splits"]["train"]


def test_many_classes_are_shortened(tmp_path: Path) -> None:
    for number in range(45):
        draw(tmp_path / "train" / f"class{number:02}" / "0.png", number)
        if number < 40:
            draw(tmp_path / "train" / f"class{number:02}" / "1.png", number + 100)
    lines = check_data(tmp_path, DataSection(val_fraction=0.0)).lines
    assert "... and 15 larger classes" in lines
    assert all(any(line.startswith(f"class{number}") for line in lines) for number in range(40, 45))
