from __future__ import annotations

import contextlib
import io
import tracemalloc
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from data_pictures import MALFORMED, draw_picture, encode, png_declaring
from PIL import Image

from praxiscope.data.images import ImageUnreadable, describe_content, read_image, sniff_format


def read(image: Image.Image, kind: str, **options: object) -> np.ndarray:
    return read_image(encode(image, kind, **options))


def gradient(dtype: type, top: float) -> np.ndarray:
    return np.linspace(0, top, 256).reshape(16, 16).astype(dtype)


def grey_rgb(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)


class TestPixelModes:
    """Golden pixels: what each stored mode must become."""

    def test_rgb_is_unchanged_and_writable(self) -> None:
        picture = draw_picture(1)
        pixels = read(picture, "PNG")
        assert pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous
        assert pixels.flags.writeable
        np.testing.assert_array_equal(pixels, np.asarray(picture))

    def test_grey(self) -> None:
        values = gradient(np.uint8, 255)
        np.testing.assert_array_equal(read(Image.fromarray(values), "PNG"), grey_rgb(values))

    def test_one_bit(self) -> None:
        values = np.indices((16, 16)).sum(axis=0) % 2 == 0
        np.testing.assert_array_equal(read(Image.fromarray(values), "PNG"), grey_rgb(values * 255))

    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_sixteen_bit_grey_is_scaled_not_clipped(self, kind: str) -> None:
        values = gradient(np.uint16, 65535)
        expected = np.floor(values / 257 + 0.5)
        np.testing.assert_array_equal(read(Image.fromarray(values), kind), grey_rgb(expected))

    def test_sixteen_bit_big_endian(self) -> None:
        values = gradient(np.uint16, 65535)
        image = Image.frombytes("I;16B", (16, 16), values.astype(">u2").tobytes())
        np.testing.assert_array_equal(read(image, "TIFF"), grey_rgb(np.floor(values / 257 + 0.5)))

    def test_a_dark_sixteen_bit_image_stays_dark(self) -> None:
        assert read(Image.fromarray(gradient(np.uint16, 255)), "PNG").max() == 1

    def test_sixteen_bit_pgm(self) -> None:
        values = gradient(np.uint16, 65535)
        data = b"P5 16 16 65535\n" + values.astype(">u2").tobytes()
        np.testing.assert_array_equal(read_image(data), grey_rgb(np.floor(values / 257 + 0.5)))

    def test_integers_of_32_bits(self) -> None:
        values = gradient(np.int32, 65535)
        np.testing.assert_array_equal(
            read(Image.fromarray(values), "TIFF"), grey_rgb(np.floor(values / 257 + 0.5))
        )

    @pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
    def test_floats_in_each_known_range(self, top: float) -> None:
        values = gradient(np.float32, top)
        expected = np.floor(values.astype(np.float64) * 255 / top + 0.5)
        np.testing.assert_array_equal(read(Image.fromarray(values), "TIFF"), grey_rgb(expected))

    @pytest.mark.parametrize("bad", [-1.0, 1e6, np.nan])
    def test_floats_of_no_known_range_are_refused(self, bad: float) -> None:
        values = gradient(np.float32, 1)
        values[3, 3] = bad
        with pytest.raises(ImageUnreadable, match="convert it to 8 or 16 bits"):
            read(Image.fromarray(values), "TIFF")

    @pytest.mark.parametrize("kind", ["PNG", "WEBP"])
    def test_alpha_is_composited_on_white(self, kind: str) -> None:
        rgba = np.zeros((8, 8, 4), np.uint8)
        rgba[..., 0], rgba[:4, :, 3], rgba[4:, :, 3] = 200, 255, 0
        options = {"lossless": True} if kind == "WEBP" else {}
        pixels = read(Image.fromarray(rgba), kind, **options)
        assert (pixels[:4] == [200, 0, 0]).all()
        assert (pixels[4:] == 255).all()

    def test_half_transparent_black_is_mid_grey(self) -> None:
        rgba = np.zeros((4, 4, 4), np.uint8)
        rgba[..., 3] = 128
        assert (read(Image.fromarray(rgba), "PNG") == 127).all()

    def test_grey_with_alpha(self) -> None:
        values = np.full((4, 4, 2), 255, np.uint8)
        values[..., 0], values[:2, :, 1] = 60, 0
        grey, alpha = (Image.fromarray(np.ascontiguousarray(values[..., band])) for band in (0, 1))
        pixels = read(Image.merge("LA", [grey, alpha]), "PNG")
        assert (pixels[:2] == 255).all()
        assert (pixels[2:] == 60).all()

    def test_palette(self) -> None:
        picture = draw_picture(2).quantize(16)
        np.testing.assert_array_equal(read(picture, "PNG"), np.asarray(picture.convert("RGB")))

    def test_palette_with_a_transparent_colour(self) -> None:
        image = Image.new("P", (4, 4), 1)
        image.putpalette([10, 20, 30, 40, 50, 60])
        image.putpixel((0, 0), 0)
        pixels = read(image, "PNG", transparency=0)
        assert pixels[0, 0].tolist() == [255, 255, 255]
        assert pixels[1, 1].tolist() == [40, 50, 60]

    def test_palette_with_alpha_per_colour(self) -> None:
        image = Image.new("P", (4, 4), 1)
        image.putpalette([10, 20, 30, 0, 0, 0])
        assert (read(image, "PNG", transparency=b"\xff\x80") == 127).all()

    def test_rgb_with_a_colour_key(self) -> None:
        image = Image.new("RGB", (4, 4), (1, 2, 3))
        image.putpixel((2, 2), (9, 9, 9))
        pixels = read(image, "PNG", transparency=(1, 2, 3))
        assert pixels[0, 0].tolist() == [255, 255, 255]
        assert pixels[2, 2].tolist() == [9, 9, 9]

    @pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
    def test_cmyk(self, kind: str) -> None:
        options = {"quality": 100} if kind == "JPEG" else {}
        pixels = read(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), kind, **options)
        assert np.abs(pixels.astype(int) - [255, 0, 0]).max() <= 3

    def test_lab(self) -> None:
        pixels = read(Image.new("LAB", (8, 8), (255, 128, 128)), "TIFF")
        assert pixels.min() >= 250

    @pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
    def test_of_several_frames_the_first(self, kind: str) -> None:
        frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
        options = {"lossless": True} if kind == "WEBP" else {}
        pixels = read(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert (pixels == [255, 0, 0]).all()

    @pytest.mark.parametrize("kind", ["BMP", "PPM", "WEBP", "TIFF", "GIF"])
    def test_content_decides_not_the_name(self, kind: str, tmp_path: Path) -> None:
        path = tmp_path / "photo.jpg"
        image = Image.new("RGB", (9, 7), (255, 0, 0))
        path.write_bytes(encode(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
        np.testing.assert_array_equal(read_image(path), np.asarray(image))


class TestOrientation:
    # What must be done to stored pixels to see them upright (EXIF 2.3, tag 0x0112), written without Pillow.
    UPRIGHT: ClassVar = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
        7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda a: a.transpose(1, 0, 2)[::-1],
    }

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_pixels_come_out_upright(self, orientation: int, kind: str) -> None:
        stored = np.zeros((16, 32, 3), np.uint8)
        stored[:8, :8] = [255, 0, 0]
        stored[8:, :8] = [0, 0, 255]
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
        pixels = read(Image.fromarray(stored), kind, exif=exif, **options)
        expected = self.UPRIGHT[orientation](stored)
        assert pixels.shape == expected.shape
        assert np.abs(pixels.astype(int) - expected).max() <= 6

    @pytest.mark.parametrize("orientation", [0, 9, 65535])
    def test_an_orientation_that_does_not_exist_is_upright(self, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture = draw_picture(3)
        assert read(picture, "JPEG", exif=exif).shape == (80, 96, 3)

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF")
    def test_broken_exif_beside_whole_pixels_is_ignored(self) -> None:
        assert read(draw_picture(3), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff").shape == (80, 96, 3)


class TestReducedScale:
    @pytest.mark.parametrize(
        ("size", "target"), [((800, 600), 160), ((600, 801), 299), ((130, 128), 128), ((64, 48), 224)]
    )
    def test_short_side_stays_at_least_the_target(self, size: tuple[int, int], target: int) -> None:
        data = encode(draw_picture(4, size))
        height, width = read_image(data, target_size=target).shape[:2]
        assert min(height, width) >= min(target, *size)

    def test_large_photos_are_reduced_and_look_the_same(self) -> None:
        data = encode(draw_picture(5, (1600, 1200)), quality=95)
        small = read_image(data, target_size=128)
        assert small.shape == (150, 200, 3)
        reference = np.asarray(Image.fromarray(read_image(data)).resize((200, 150), Image.Resampling.BOX))
        assert np.abs(small.astype(int) - reference).mean() < 2

    def test_orientation_holds_at_reduced_scale(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        assert read_image(encode(draw_picture(5, (1600, 800)), exif=exif), target_size=100).shape == (
            200,
            100,
            3,
        )


class TestRefusals:
    @pytest.mark.parametrize("kind", sorted(MALFORMED))
    def test_malformed_files_are_named_and_never_crash(self, kind: str, tmp_path: Path) -> None:
        for seed in range(10):
            path = tmp_path / f"{kind}-{seed}.jpg"
            path.write_bytes(MALFORMED[kind](seed))
            with pytest.raises(ImageUnreadable) as caught:
                read_image(path)
            assert path.name in str(caught.value)
            assert caught.value.reason
            assert "\n" not in caught.value.reason

    @pytest.mark.parametrize(
        ("kind", "words"),
        [("empty", "zero bytes"), ("html", "HTML"), ("svg", "SVG"), ("pdf", "PDF"), ("lfs", "git lfs pull"),
         ("zip", "zip"), ("jpeg-half", "truncated"), ("png-bomb", "too many pixels"), ("json", "text")],
    )  # fmt: skip
    def test_the_reason_says_what_the_file_is(self, kind: str, words: str) -> None:
        with pytest.raises(ImageUnreadable, match=words):
            read_image(MALFORMED[kind](0))

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ImageUnreadable, match="no such file"):
            read_image(tmp_path / "gone.jpg")

    def test_a_folder_is_no_image(self, tmp_path: Path) -> None:
        with pytest.raises(ImageUnreadable):
            read_image(tmp_path)

    @pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 2), (10_001, 10_000), (200_000, 50_000)])
    def test_bombs_are_refused_before_they_are_decoded(self, size: tuple[int, int]) -> None:
        data = png_declaring(*size)
        tracemalloc.start()
        with pytest.raises(ImageUnreadable, match="pixel"):
            read_image(data)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2_000_000

    def test_the_cap_is_the_callers(self) -> None:
        data = encode(draw_picture(6))
        assert read_image(data, max_pixels=96 * 80).shape == (80, 96, 3)
        with pytest.raises(ImageUnreadable, match="declares 96 x 80 pixels, above the cap of 7,679"):
            read_image(data, max_pixels=96 * 80 - 1)

    def test_a_compressed_text_bomb_inside_a_png_is_refused(self) -> None:
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_text("Comment", "A" * 80_000_000, zip=True)
        with pytest.raises(ImageUnreadable):
            read(draw_picture(7), "PNG", pnginfo=info)

    @pytest.mark.soak
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM"])
    def test_flipped_bytes_decode_or_are_named(self, kind: str) -> None:
        rng = np.random.default_rng(0)
        whole = encode(draw_picture(8), kind)
        for _ in range(2000):
            data = bytearray(whole)
            for place in rng.integers(0, len(data), rng.integers(1, 12)):
                data[place] = rng.integers(0, 256)
            with contextlib.suppress(ImageUnreadable):
                assert read_image(bytes(data)).ndim == 3


class TestSniffing:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"])
    def test_formats_by_their_first_bytes(self, kind: str) -> None:
        assert sniff_format(encode(draw_picture(9), kind)[:64]) == kind

    @pytest.mark.parametrize("text", [b"", b"P1ctures of cats", b"hello", b"\xff\xd8", b"RIFF1234WAVE"])
    def test_other_content_is_none(self, text: bytes) -> None:
        assert sniff_format(text) is None
        assert describe_content(text)

    def test_a_heic_photo_is_told_what_to_do(self) -> None:
        with pytest.raises(ImageUnreadable, match="HEIC photo; convert"):
            read_image(b"\0\0\0\x18ftypheic" + bytes(50))

    def test_reading_leaves_no_file_open(self, tmp_path: Path) -> None:
        path = tmp_path / "a.gif"
        path.write_bytes(encode(draw_picture(1).quantize(8), "GIF"))
        read_image(path)
        path.rename(tmp_path / "b.gif")  # fails on Windows while a handle is open
        assert io.BytesIO((tmp_path / "b.gif").read_bytes()).read(3) == b"GIF"
