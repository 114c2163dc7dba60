"""The pages of explanations: what they say, and that nothing leaves them."""

from __future__ import annotations

import base64
import hashlib
import importlib
import shutil
from dataclasses import replace

import numpy as np
import pytest
from explain_pages import assert_stays_at_home, copy_run

from html_reader import read_page
from payloads import PAYLOADS
from praxiscope.errors import IntegrityError
from praxiscope.explaining.index import add_to_index, read_index
from praxiscope.reporting.build import build_report
from praxiscope.reporting.explanations.page import build_explain_pages
from praxiscope.reporting.explanations.saliency import (
    blend,
    choose_scale,
    colour_map,
    draw_saliency,
    format_value,
    overlap,
)
from praxiscope.reporting.wording import show_text
from praxiscope.workflows.explain import explain

explain_workflow = importlib.import_module("praxiscope.workflows.explain")


@pytest.fixture(scope="module")
def explained(small_run, tmp_path_factory):
    run = copy_run(small_run, tmp_path_factory.mktemp("pages"))
    settings = {"methods": ["gradcam", "eigencam"], "nearest": 2, "device": "cpu"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explain_workflow, "MAX_DRAWN", 1)  # each takes seconds
        return run, explain(run, random=2, failures=1, **settings)


def test_the_page_has_every_sample_method_and_layer(explained):
    _, outcome = explained
    page = read_page(outcome.page)
    assert_stays_at_home(page, outcome.folder)
    keys = {one["data-key"] for one in page.all("li") if "data-key" in one}
    assert {key.split()[0] for key in keys} == {"gradcam", "eigencam"}
    assert len(keys) == len({(one.method, one.layer) for one in outcome.entries[0].maps})
    assert len(page.all("article")) == len(outcome.entries)
    for entry in outcome.entries:
        assert entry.sample_id in page.text
    assert "evaluation feeds to the network, as 32 x 32 pixels" in page.text


def test_a_sample_has_a_place_to_say_that_a_map_is_missing(explained):
    _, outcome = explained
    page = read_page(outcome.page)
    absent = [one for one in page.all("p") if "data-absent" in one]
    assert len(absent) == len(outcome.entries)
    assert all("hidden" in one for one in absent)  # without the script every map is shown


def test_only_the_pages_own_script_runs(explained):
    _, outcome = explained
    page = read_page(outcome.page)
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for kind, text in (("style", page.inside["style"][0]), ("script", page.inside["script"][1])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_a_samples_own_page(explained):
    _, outcome = explained
    for entry in outcome.entries:
        path = outcome.folder / entry.slug / f"epoch{entry.epoch:02d}.html"
        page = read_page(path)
        assert_stays_at_home(page, path.parent)
        assert entry.predicted in page.section("result")
        assert "Compared by the cosine of the features" in page.section("nearest")
        assert "with 36 training images" in page.section("nearest")
        shown = {image["alt"] for image in page.all("img")}
        assert "Kernels of the network" in shown
        assert ("Activations" in shown) == (entry == outcome.entries[0])


def test_hostile_names_stay_text(explained, tmp_path):
    run, _ = explained
    own = copy_run(run, tmp_path)
    entry = read_index(own.explain).entries[0]
    hostile = []
    for place, payload in enumerate(PAYLOADS):
        slug = f"{entry.slug}-{place}"
        (own.explain / slug).mkdir()
        for name in (entry.crop_file, entry.original_file, entry.maps[0].values, entry.maps[0].picture):
            shutil.copyfile(own.explain / entry.slug / name, own.explain / slug / name)
        named = replace(
            entry,
            sample_id=f"{payload}.jpg",
            slug=slug,
            true=payload,
            predicted=payload,
            guesses=((payload, 0.9),),
            maps=(replace(entry.maps[0], target=payload, title=payload, layer=payload),),
            figures=(),
            neighbours=(),
        )
        hostile.append(named)
    about = {"model": PAYLOADS[0], "run": PAYLOADS[1], "epoch": 1}
    add_to_index(own.explain, entries=hostile, about=about)
    paths = [build_explain_pages(own.explain)]
    paths += [own.explain / one.slug / f"epoch{one.epoch:02d}.html" for one in hostile]
    for path, wrong in zip(paths, (PAYLOADS[0], *PAYLOADS), strict=True):
        found = read_page(path)
        assert_stays_at_home(found, path.parent)
        assert show_text(" ".join(wrong.split())) in found.text
        assert not found.all("iframe")
        assert len(found.all("script")) == 2


def test_the_report_shows_explanations(explained, tmp_path):
    run, outcome = explained
    own = copy_run(run, tmp_path)
    page = read_page(build_report(own))
    assert "All 3 explained samples" in page.section("explanations")
    assert "explain/index.html" in {link.get("href") for link in page.all("a")}
    assert_stays_at_home(page, own.path)
    assert outcome.entries[0].sample_id in page.section("explanations")


def test_a_report_without_explanations_has_no_such_section(small_run, tmp_path):
    own = copy_run(small_run, tmp_path)
    assert "explanations" not in read_page(build_report(own)).inside


def test_missing_files_are_named(explained, tmp_path):
    own = copy_run(explained[0], tmp_path)
    entry = read_index(own.explain).entries[0]
    stored = own.explain / entry.slug / entry.maps[0].values
    np.save(stored, np.zeros(3))
    with pytest.raises(IntegrityError, match="no map"):
        build_explain_pages(own.explain)
    stored.unlink()
    with pytest.raises(IntegrityError, match="damaged or missing"):
        build_explain_pages(own.explain)


def test_colours_follow_values():
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    scale = choose_scale(0.0, 1.0, signed=False)
    colours = colour_map(values, scale).astype(int)
    assert colours[0, 0].tolist() == [68, 1, 84]  # viridis begins so, and ends so
    assert colours[-1, -1].tolist() == [253, 231, 37]
    light = colours @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light.ravel()) > 0).all()


def test_signed_scales_are_symmetric_and_white_at_zero():
    scale = choose_scale(-0.2, 0.5, signed=True)
    assert (scale.low, scale.high) == (-0.5, 0.5)
    colours = colour_map(np.array([[-0.5, 0.0, 0.5]], np.float32), scale).astype(int)
    assert colours[0, 1].min() > 240
    assert colours[0, 0, 2] > colours[0, 0, 0]
    assert colours[0, 2, 0] > colours[0, 2, 2]


def test_blending_keeps_the_picture_where_nothing_speaks():
    image = np.full((4, 4, 3), 77, np.uint8)
    scale = choose_scale(-1.0, 1.0, signed=True)
    np.testing.assert_array_equal(blend(image, np.zeros((4, 4), np.float32), scale), image)
    plain = choose_scale(0.0, 1.0, signed=False)
    np.testing.assert_array_equal(blend(image, np.ones((4, 4), np.float32), plain, opacity=0.0), image)


def test_a_flat_map_says_so():
    flat = np.zeros((8, 8), np.float32)
    scale = choose_scale(0.0, 0.0, signed=False)
    assert scale.is_flat
    image = np.zeros((8, 8, 3), np.uint8)
    shown = draw_saliency(image, flat, scale, title="A title " * 30, note="n")
    assert shown.width == 3 * 288 + 4 * 14
    assert shown.height > draw_saliency(image, flat, scale, title="A", note="n").height


def test_overlap():
    left, right = np.zeros((2, 2), np.float32), np.zeros((2, 2), np.float32)
    left[0, 0], right[1, 1] = 2.0, 5.0
    assert overlap(left, left * 3) == pytest.approx(1.0)
    assert overlap(left, right) == 0.0
    assert overlap(left, np.ones((2, 2), np.float32)) == pytest.approx(0.25)
    assert overlap(left, -left) is None


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (0.012345, "0.0123"), (-2.5, "\u22122.5")])
def test_values_in_three_digits(value, text):
    assert format_value(value) == text
