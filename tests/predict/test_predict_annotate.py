from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from praxiscope.prediction.annotate import (
    BOX,
    annotate,
    break_lines,
    format_caption,
    load_font,
    plan_layout,
)

SIZES = [(12, 12), (40, 28), (128, 128), (640, 480), (90, 1600), (1600, 60), (1600, 1200)]
LONG = "playing_a_very_long_game_of_outdoor_volleyball_with_many_friends_on_the_beach"


def draw(size, caption, ground=(0, 0, 0)):
    return np.asarray(annotate(Image.new("RGB", size, ground), caption)).astype(int)


def bounds(pixels):
    """Return rows and columns that hold bright ink."""
    ink = (pixels > 180).all(axis=2)
    return np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))


@pytest.mark.parametrize("size", [*SIZES, pytest.param((8000, 6000), marks=pytest.mark.soak)])
@pytest.mark.parametrize("label", ["run", LONG])
def test_text_is_whole_at_every_size(size, label):
    caption = format_caption(label, 0.931)
    layout = plan_layout(size, [caption])
    pixels = draw(size, caption)
    assert pixels.shape == (layout.canvas[1], layout.canvas[0], 3)
    box = pixels[size[1] :] if layout.below else pixels
    rows, columns = bounds(box)
    assert rows.size
    assert columns.size
    # Nothing touches the last row or column but the box's own edge: no letter is cut.
    if layout.below:
        assert rows[-1] < box.shape[0] - 1
        assert columns[-1] < box.shape[1] - 1
    font = load_font(caption, layout.letter_px)
    lines = break_lines(caption, font, layout.canvas[0] - 2 * max(2, layout.letter_px // 3))
    assert "".join(lines).replace(" ", "") == caption.replace(" ", "")
    assert max(font.getlength(line) for line in lines) <= layout.canvas[0]


@pytest.mark.parametrize("size", [(128, 128), (640, 480), (1600, 1200)])
def test_a_picture_with_room_keeps_its_size(size):
    assert draw(size, format_caption("listening_to_music", 0.5)).shape[:2] == (size[1], size[0])


def test_a_small_picture_keeps_all_its_pixels_above_the_text():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    result = np.asarray(annotate(Image.fromarray(picture), format_caption("run", 0.9)))
    assert (result[:12, :12] == picture).all()
    assert result.shape[0] > 12


def test_letters_grow_with_the_short_side():
    heights = [plan_layout((side, side), ["run  90.0 %"]).letter_px for side in (12, 200, 1000, 8000)]
    assert heights == [11, 11, 45, 360]


@pytest.mark.parametrize("ground", [(0, 0, 0), (255, 255, 255), BOX])
def test_the_box_shows_on_every_ground(ground):
    pixels = draw((200, 200), "run  90.0 %", ground)
    # Walking along the first row, the light edge or the dark box differs from the ground.
    assert np.abs(pixels[:40, :60] - np.array(ground)).max() > 150
    dark, light = (pixels < 60).all(axis=2)[:20, :60], (pixels > 200).all(axis=2)[:20, :60]
    assert dark.any()
    assert light.any()


def test_lines_break_at_spaces_and_underscores_first():
    font = load_font("x", 20)
    assert break_lines("playing_guitar  93.1 %", font, font.getlength("playing_guitar ")) == [
        "playing_guitar",
        "93.1 %",
    ]
    assert break_lines("playing_guitar", font, font.getlength("playing_g")) == ["playing_", "guitar"]
    assert break_lines("abc", font, 1) == ["a", "b", "c"]
    assert break_lines("", font, 10) == [""]


@pytest.mark.parametrize("label", ["прыжок", "άλμα", "łódź", "über", "sauter_à_la_corde"])
def test_letters_beyond_english_are_drawn(label):
    """Each letter differs from the box that stands for a missing one."""
    font = load_font(label, 20)
    missing = bytes(font.getmask("\ufffe"))
    assert all(bytes(font.getmask(letter)) != missing for letter in label)


def test_letters_that_no_font_has_still_give_a_caption():
    pixels = draw((400, 200), format_caption("\U00012000\U0001f9ff", 0.5))
    assert bounds(pixels)[0].size


def test_control_characters_become_visible():
    assert format_caption("a\nb\u202e", 0.9999) == "a\u25a1b\u25a1  100.0 %"


def test_one_layout_serves_all_labels_of_a_video():
    layout = plan_layout((64, 48), ["run  1.0 %", f"{LONG}  100.0 %"])
    small = annotate(Image.new("RGB", (64, 48)), "run  1.0 %", layout)
    assert small.size == layout.canvas == annotate(Image.new("RGB", (64, 48)), f"{LONG}  9.0 %", layout).size
