"""The gallery shows the most confident mistakes with the pictures that were evaluated."""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_runs import draw_picture

from praxiscope.evaluation.predictions import HeadOutputs, Predictions, PredictionsInfo, build_predictions
from praxiscope.reporting.gallery import (
    THUMBNAIL_BYTES,
    THUMBNAIL_SIDE,
    Pictures,
    collect_failures,
    encode_thumbnail,
)

NOWHERE = Pictures(root=None, files={})


def predict(probs: list[list[float]], targets: list[int]) -> Predictions:
    info = PredictionsInfo(
        heads={"action": ("a", "b", "c", "d")},
        weights_sha256="0",
        manifest_fingerprint="0",
        recipe_name="r",
        created="2026-01-01T00:00:00+00:00",
    )
    outputs = HeadOutputs(targets=np.array(targets), logits=np.log(np.array(probs)))
    ids = [f"sample{index}" for index in range(len(targets))]
    clean = np.arange(len(targets)) != 1
    return build_predictions(info, sample_ids=ids, splits="test", outputs={"action": outputs}, clean=clean)


THREE_WRONG = predict(
    [[0.7, 0.1, 0.15, 0.05], [0.05, 0.8, 0.1, 0.05], [0.4, 0.3, 0.2, 0.1], [0.05, 0.8, 0.1, 0.05]],
    [0, 0, 1, 2],
)


def test_failures_come_by_falling_confidence_then_by_id() -> None:
    gallery = collect_failures(THREE_WRONG, "action", NOWHERE, max_failures=10)
    assert [one.sample_id for one in gallery.failures] == ["sample1", "sample3", "sample2"]
    assert (gallery.total, gallery.num_samples) == (3, 4)
    first = gallery.failures[0]
    assert (first.true_name, first.predicted_name, first.clean) == ("a", "b", False)
    assert first.confidence == pytest.approx(0.8, rel=1e-6)
    assert [(guess.name, round(guess.prob, 6)) for guess in first.guesses] == [
        ("b", 0.8),
        ("c", 0.1),
        ("a", 0.05),
    ]


@pytest.mark.parametrize("most", [0, 1, 3])
def test_the_number_of_failures_is_capped_and_the_total_stays(most: int) -> None:
    gallery = collect_failures(THREE_WRONG, "action", NOWHERE, max_failures=most)
    assert len(gallery.failures) == most
    assert gallery.total == 3


def describe(
    tmp_path: Path, content: bytes | None, sha256: str | None = None
) -> tuple[str | None, str | None]:
    if content is not None:
        (tmp_path / "one.jpg").write_bytes(content)
    digest = sha256 or hashlib.sha256(content or b"").hexdigest()
    pictures = Pictures(root=tmp_path, files={"sample1": ("one.jpg", digest)})
    (failure,) = collect_failures(THREE_WRONG, "action", pictures, max_failures=1).failures
    return failure.picture, failure.absence


def test_a_picture_is_shown_whole_and_small(tmp_path: Path) -> None:
    picture, absence = describe(tmp_path, draw_picture(3, (400, 300)))
    assert absence is None
    assert picture is not None
    image = Image.open(io.BytesIO(base64.b64decode(picture.removeprefix("data:image/jpeg;base64,"))))
    assert image.size == (THUMBNAIL_SIDE, THUMBNAIL_SIDE * 3 // 4)
    with Image.open(io.BytesIO(draw_picture(3, (400, 300)))) as original:
        wanted = np.asarray(original.resize(image.size), dtype=float)
    assert np.abs(np.asarray(image, dtype=float) - wanted).mean() < 6


@pytest.mark.parametrize(
    ("content", "sha256", "reason"),
    [
        (None, None, "file not found"),
        (b"<html>", None, "unreadable: no image but an HTML page"),
        (draw_picture(1, (64, 64)), "0" * 64, "file has changed since the manifest was made"),
        (draw_picture(1, (64, 64))[:400], None, "unreadable: "),
        (b"", None, "unreadable: "),
    ],
)
def test_an_absent_picture_has_a_reason(
    tmp_path: Path, content: bytes | None, sha256: str | None, reason: str
) -> None:
    picture, absence = describe(tmp_path, content, sha256)
    assert picture is None
    assert absence is not None
    assert absence.startswith(reason)


def test_without_a_manifest_or_a_root_that_is_the_reason() -> None:
    (failure,) = collect_failures(THREE_WRONG, "action", NOWHERE, max_failures=1).failures
    assert failure.absence == "not in the manifest"
    known = Pictures(root=None, files={"sample1": ("one.jpg", "0")})
    assert (
        collect_failures(THREE_WRONG, "action", known, max_failures=1).failures[0].absence
        == "data folder not known"
    )
    odd = Pictures(root=Path(), files={"sample1": ("nul\x00.jpg", "0")})
    assert (
        collect_failures(THREE_WRONG, "action", odd, max_failures=1).failures[0].absence == "file not found"
    )


@pytest.mark.parametrize("shape", [(500, 400), (1, 1), (3, 900), (2000, 20)])
def test_noise_stays_within_the_budget(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    content = base64.b64decode(encode_thumbnail(noise).removeprefix("data:image/jpeg;base64,"))
    assert len(content) <= THUMBNAIL_BYTES
    assert max(Image.open(io.BytesIO(content)).size) <= THUMBNAIL_SIDE
