"""Views of an evaluated clip in time and in space."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from praxiscope.data.clips.crops import count_distinct_views, crop_views, describe_coinciding
from praxiscope.data.clips.reader import ClipReader
from praxiscope.data.clips.spans import Span
from praxiscope.data.loader import SampleSet
from praxiscope.data.plan import BatchPlan
from praxiscope.data.transforms import EvalTransform, InputSpec
from praxiscope.recipe.schema import ClipSection
from praxiscope.tensors import Heads

SQUARE = EvalTransform(spec=InputSpec(img_size=16, crop_pct=1.0))


def ramp(width: int, height: int) -> Image.Image:
    """Red grows from left to right, green from top to bottom."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)[None]
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels)


@pytest.mark.parametrize(("size", "channel"), [((48, 16), 0), ((16, 48), 1)])
def test_three_crops_lie_at_the_ends_and_the_centre_of_the_longer_side(size, channel):
    views = crop_views([np.array([0])], {0: ramp(*size)}, SQUARE, 3)
    assert views.shape == (3, 1, 16, 16, 3)
    levels = views[..., channel].reshape(3, -1).mean(axis=1)
    assert levels == pytest.approx([255 / 6, 255 / 2, 255 * 5 / 6], abs=4)
    others = views[..., 1 - channel].reshape(3, -1).mean(axis=1)
    assert others == pytest.approx([127.5] * 3, abs=4)


def test_the_centre_is_the_one_crop_that_there_is_otherwise():
    frame = ramp(50, 37)
    transform = EvalTransform(spec=InputSpec(img_size=24))
    one = crop_views([np.array([0])], {0: frame}, transform, 1)
    three = crop_views([np.array([0])], {0: frame}, transform, 3)
    assert np.array_equal(one[0], three[1])
    assert np.array_equal(one[0][0], transform(frame))
    assert not np.array_equal(three[0], three[1])
    # Packed pixels are cut alike, up to the resampler.
    packed = transform(np.asarray(frame), 0.0)
    assert np.abs(packed.astype(int) - three[0][0]).max() <= 3


def test_views_that_coincide_are_counted():
    section = ClipSection(num_clips=2, num_crops=3)
    assert count_distinct_views(100, (48, 32), 4, section, SQUARE) == 6
    assert count_distinct_views(1, (48, 32), 4, section, SQUARE) == 3
    assert count_distinct_views(100, (32, 32), 4, section, SQUARE) == 2
    # A smaller share of a square picture has no longer side to lie along either.
    part = EvalTransform(spec=InputSpec(img_size=16))
    assert count_distinct_views(100, (32, 32), 4, section, part) == 2


class FakeManifest:
    holds_clips = True

    def __init__(self, rows):
        import pyarrow as pa

        self._table = pa.Table.from_pylist(rows)

    def usable(self, _split):
        return self._table


def test_views_that_coincide_are_said():
    rows = [
        {"num_frames": 1, "width": 32, "height": 32},
        {"num_frames": 90, "width": 48, "height": 32},
        {"num_frames": 90, "width": 32, "height": 32},
    ]
    section = ClipSection(num_clips=2, num_crops=3)
    text = describe_coinciding(FakeManifest(rows), "test", 4, section, SQUARE)
    assert text is not None
    assert text.startswith("2 clips of 3 (test) have fewer than 6 different views")
    assert "1 at least" in text
    assert describe_coinciding(FakeManifest(rows[1:2]), "test", 4, section, SQUARE) is None
    assert describe_coinciding(FakeManifest(rows), "test", 4, ClipSection(), SQUARE) is None


@pytest.mark.parametrize(("clips", "crops"), [(1, 1), (2, 1), (1, 3), (2, 3)])
def test_a_reader_gives_views_in_time_times_views_in_space(tmp_path, clips, crops):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(9):
        ramp(30 + number, 20).save(folder / f"{number}.png")
    samples = SampleSet(
        root=tmp_path, sample_ids=("frames",), paths=("frames",), targets=np.zeros(1, np.int64),
        heads=Heads(names={"action": ("a",)}), spans=(Span(first=0, count=9),),
    )  # fmt: skip
    section = ClipSection(num_clips=clips, num_crops=crops)
    reader = ClipReader(
        samples=samples, transform=SQUARE, section=section, num_frames=4, seed=0, max_pixels=10**6
    )
    images = reader(BatchPlan(epoch=0, rows=(0,)), [-1], 0).images
    shape = (1, 4, 3, 16, 16) if clips * crops == 1 else (1, clips * crops, 4, 3, 16, 16)
    assert images.shape == shape
    assert images.dtype == torch.uint8
