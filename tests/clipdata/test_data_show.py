"""``data check`` and ``data show`` on clips: lengths, and the sampled frames as numbers and pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numbered_frames import write_frames, write_video
from PIL import Image

from class_folders import write_class_folders
from praxiscope.cli.main import main
from praxiscope.errors import UsageError
from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import DataSection
from praxiscope.reporting.sheets import Cell, plot_sheet
from praxiscope.workflows.check import check_data
from praxiscope.workflows.show import show_data


@pytest.fixture
def films(tmp_path):
    """One video and one folder of frames, with three clips in them."""
    root = tmp_path / "films"
    write_video(root / "a.mp4", 60)
    write_frames(root / "v", [n for n in range(1, 41) if n != 12])
    rows = [
        "path,label,group,start_frame,stop_frame",
        "a.mp4,clap,x,11,51",
        "v,clap,x,5,25",
        "a.mp4,wave,y,3,8",
    ]
    (root / "t.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def ask(**changes):
    own = {"data.csv": "t.csv", "data.val_fraction": 0.0, "data.test_fraction": 0.0, "model.num_frames": 5}
    return load_recipe({"name": "x"}, {**own, **changes})


def test_check_says_how_long_clips_are(films):
    result = check_data(films, DataSection(csv="t.csv"), num_frames=8)
    assert result.summary["clips"] == {
        "num_clips": 3, "num_sources": 2, "frames": {"total": 64, "min": 5, "median": 19, "max": 40},
        "seconds": None, "shortest": "a.mp4#3-8", "longest": "a.mp4#11-51", "num_frames": 8, "num_shorter": 1,
    }  # fmt: skip
    text = "\n".join(result.lines)
    assert "clips: 3 in 2 videos or folders, 64 frames" in text
    assert "shortest: 5 frames, a.mp4#3-8; longest: 40 frames, a.mp4#11-51; median 19 frames" in text
    assert "1 clip with fewer than 8 frames: some frames are seen twice." in text


def test_check_gives_seconds_where_the_rate_is_known(tmp_path):
    for action in ("clap", "wave"):
        write_video(tmp_path / action / "1.mp4", 50, start=100 * (action == "wave"))
    result = check_data(tmp_path, DataSection(val_fraction=0, test_fraction=0), num_frames=8)
    assert result.summary["clips"]["seconds"] == {"total": 4.0, "min": 2.0, "median": 2.0, "max": 2.0}
    assert "100 frames, 4.0 s" in "\n".join(result.lines)
    assert "none has fewer than 8 frames" in result.lines


def test_images_have_no_lengths(noise_folder):
    assert check_data(noise_folder).summary["clips"] is None


def test_sampled_frames_are_shown_with_their_numbers(films, tmp_path):
    result = show_data(films, ask(), samples=["a.mp4#11-51", "v#5-25"], out=tmp_path / "out")
    stored = json.loads((tmp_path / "out" / "show.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(result.content))
    video, folder = stored["samples"]
    assert video["labels"] == {"action": "clap"}
    assert video["span"] == {"first_frame": 10, "num_frames": 40, "start_frame": 11}
    assert [frame["index"] for frame in video["views"][0]] == [0, 9, 19, 29, 39]
    assert [frame["annotated_frame"] for frame in video["views"][0]] == [11, 20, 30, 40, 50]
    assert [frame["time_s"] for frame in video["views"][0]] == [0.4, 0.76, 1.16, 1.56, 1.96]
    # Frame 12 is missing: the numbers of those behind it stay.
    assert [frame["frame"] for frame in folder["views"][0]] == [5, 9, 15, 19, 24]
    assert [frame["time_s"] for frame in folder["views"][0]] == [None] * 5
    for entry in stored["samples"]:
        with Image.open(tmp_path / "out" / entry["picture"]) as picture:
            assert np.asarray(picture.convert("L")).std() > 10
    assert ["9", "20", "20", "0.760"] in [line.split() for line in result.lines]
    assert any("the stop frame is not part of the clip" in line for line in result.lines)


def test_views_are_shown_one_by_one(films, tmp_path):
    changes = {"clip.sampling": "dense", "clip.num_clips": 3, "clip.frame_stride": 4}
    result = show_data(films, ask(**changes), samples=["a.mp4#11-51"], out=tmp_path)
    views = result.content["samples"][0]["views"]
    assert [[frame["index"] for frame in view] for view in views] == [
        [0, 4, 8, 12, 16], [11, 15, 19, 23, 27], [23, 27, 31, 35, 39],
    ]  # fmt: skip
    assert "5 frames, dense with stride 4, 3 views" in "\n".join(result.lines)


def test_random_samples_follow_the_seed(films, tmp_path):
    chosen = [
        [entry["sample_id"] for entry in show_data(films, ask(), random=2, out=tmp_path).content["samples"]]
        for _ in range(2)
    ]
    assert chosen[0] == chosen[1]
    assert len(set(chosen[0])) == 2
    both = show_data(films, ask(), samples=chosen[0][:1], random=2, out=tmp_path).content["samples"]
    assert len({entry["sample_id"] for entry in both}) == 3  # two besides the one that was named


def test_samples_that_cannot_be_shown_are_refused(films, tmp_path):
    with pytest.raises(UsageError, match=r"no such sample among the 3 usable ones .*a\.mp4#3-8'"):
        show_data(films, ask(), samples=["a.mp4#3-9"], out=tmp_path)
    with pytest.raises(UsageError, match="--random 0"):
        show_data(films, ask(), random=0, out=tmp_path)
    (films / "v" / "frame_0000000024.png").unlink()
    for number in range(25, 41):
        (films / "v" / f"frame_{number:010d}.png").unlink()
    with pytest.raises(UsageError, match=r"'v#5-25' can't be used: has frames 1 to 23"):
        show_data(films, ask(), samples=["v#5-25"], out=tmp_path)


def test_images_are_shown_with_their_crops(tmp_path):
    root = write_class_folders(
        tmp_path / "photos", splits={"train": 4, "val": 2, "test": 2}, names=("clap", "wave")
    )
    recipe = load_recipe({"name": "x"}, {"model.img_size": 32})
    result = show_data(root, recipe, random=1, out=tmp_path / "out")
    (entry,) = result.content["samples"]
    assert entry["img_size"] == 32
    assert result.pictures[0].is_file()


def test_a_sheet_breaks_long_rows_and_keeps_its_text():
    pixels = np.zeros((20, 20, 3), np.uint8)
    cells = [Cell(pixels=pixels, caption=f"{n}\n$x^2 {n}") for n in range(19)]
    figure = plot_sheet([cells], "title\u202e $a$", ["line " * 60])
    assert len(figure.axes) == 19
    rows = {round(axes.get_position().y0, 3) for axes in figure.axes}
    assert len(rows) == 3
    figure.canvas.draw()
    with pytest.raises(ValueError, match="needs a picture"):
        plot_sheet([[]], "x", [])


def test_the_command_writes_where_it_is_told(films, tmp_path, capsys):
    words = ["data", "show", str(films), "--set", "data.csv=t.csv", "--set", "model.num_frames=5", "--sample",
             "a.mp4#3-8", "-o", str(tmp_path / "here")]  # fmt: skip
    with pytest.raises(SystemExit, match="0"):
        main(words)
    assert "Written: 1 picture and show.json" in capsys.readouterr().out
    assert (tmp_path / "here" / "show.json").is_file()
    words = ["data", "check", str(films), "--set", "data.csv=t.csv", "--set", "clip.stop=inclusive"]
    with pytest.raises(SystemExit, match="4"):  # nothing to validate on: too few groups
        main(words)
    assert "is the last one (clip.stop: inclusive)" in capsys.readouterr().out
