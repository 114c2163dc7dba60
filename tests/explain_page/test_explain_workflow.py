"""``explain``: which samples, which files, what is said about what can't be read."""

from __future__ import annotations

import importlib
import json

import numpy as np
import pytest
import yaml
from explain_pages import assert_stays_at_home, copy_run, list_files
from PIL import Image

from html_reader import read_page
from praxiscope.cli.main import main
from praxiscope.data.images import ImageUnreadable
from praxiscope.data.media import decode_sample
from praxiscope.errors import DataError, EnvironmentProblem, IntegrityError, UsageError
from praxiscope.evaluation.predictions import read_predictions
from praxiscope.explaining.index import read_index
from praxiscope.recipe.load import load_recipe
from praxiscope.training.watch import Silent
from praxiscope.workflows import explain_features, explain_samples
from praxiscope.workflows.explain import explain
from praxiscope.workflows.explain_network import draw_kernels
from praxiscope.workflows.explain_subjects import open_explained

explain_workflow = importlib.import_module("praxiscope.workflows.explain")


class Notes:
    """Remembers what is said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, progress) -> None: ...

    def phase(self, text, done, total) -> None: ...

    def epoch(self, row) -> None: ...


@pytest.fixture(scope="module")
def explained(small_run, tmp_path_factory):
    run = copy_run(small_run, tmp_path_factory.mktemp("explained"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explain_workflow, "MAX_DRAWN", 1)  # each takes seconds
        return run, explain(run, device="cpu")


def test_nothing_given_explains_failures_and_random_samples(explained):
    run, outcome = explained
    predictions = read_predictions(run.predictions("test"))
    wrong = int((predictions.preds("action") != predictions.targets("action")).sum())
    reasons = [entry.reason for entry in outcome.entries]
    assert reasons == ["failure"] * min(4, wrong) + ["random"] * 4
    assert len({entry.sample_id for entry in outcome.entries}) == len(outcome.entries)
    assert outcome.folder == run.explain


def test_every_file_that_the_index_names_is_there(explained):
    _, outcome = explained
    index = read_index(outcome.folder)
    assert index.entries == outcome.entries
    there = list_files(outcome.folder)
    for entry in index.entries:
        names = [entry.crop_file, entry.original_file, f"epoch{entry.epoch:02d}.html"]
        names += [name for one in entry.maps for name in (one.values, one.picture)]
        names += [one.file for one in entry.figures] + [one.picture for one in entry.neighbours]
        assert {f"{entry.slug}/{name}" for name in names} <= there


def test_names_tell_sample_epoch_layer_and_method(explained):
    _, outcome = explained
    entry = outcome.entries[0]
    assert entry.slug.startswith("test-")
    for one in entry.maps:
        assert one.picture.startswith(f"epoch{entry.epoch:02d}-{one.layer.replace('.', '-')}-gradcam") or (
            one.method == "eigencam"
        )
    assert len({one.picture for one in entry.maps}) == len(entry.maps)


def test_the_crop_is_the_evaluated_one(explained, small_run):
    """What is stored gives the logits that evaluation stored."""
    from praxiscope.workflows.explain_subjects import open_explained

    run, outcome = explained
    opened = open_explained(run, device="cpu", data=None, split="test", watch=Notes())
    stored = read_predictions(run.predictions("test"))
    rows = {sample_id: row for row, sample_id in enumerate(stored.sample_ids)}
    for entry in outcome.entries:
        with Image.open(outcome.folder / entry.slug / entry.crop_file) as picture:
            pixels = np.array(picture.convert("RGB"))
        logits = opened.subject.compute_logits(pixels[None])[0]
        np.testing.assert_allclose(logits, stored.logits("action")[rows[entry.sample_id]], atol=1e-4)
        root = opened.samples.root
        decoded = decode_sample(root, entry.sample_id, target_size=opened.transform.decode_size)
        np.testing.assert_array_equal(pixels, opened.transform(decoded))


def test_maps_have_the_crops_size_and_the_stated_ends(explained):
    _, outcome = explained
    for entry in outcome.entries:
        for one in entry.maps:
            values = np.load(outcome.folder / entry.slug / one.values, allow_pickle=False)
            assert values.shape == (entry.crop.img_size, entry.crop.img_size)
            assert values.dtype == np.float32
            assert (one.low, one.high) == (float(values.min()), float(values.max()))


def test_failures_have_maps_of_both_classes(explained):
    _, outcome = explained
    for entry in outcome.entries:
        roles = {(one.method, one.role) for one in entry.maps}
        assert (("gradcam", "true") in roles) == entry.is_failure
        assert ("eigencam", "true") not in roles
        assert all(one.target in {entry.true, entry.predicted, None} for one in entry.maps)


def test_neighbours_are_training_images_nearest_first(explained):
    _, outcome = explained
    for entry in outcome.entries:
        cosines = [one.similarity for one in entry.neighbours]
        assert len(cosines) == 5
        assert cosines == sorted(cosines, reverse=True)
        assert all(one.sample_id.startswith("train/") for one in entry.neighbours)
        assert entry.num_compared == 36


def test_again_adds_and_replaces(small_run, tmp_path):
    run = copy_run(small_run, tmp_path)
    name = "test/clap/000.jpg"
    first = explain(run, [name], methods=["gradcam"], activations=False, nearest=0, device="cpu")
    before = list_files(run.explain)
    explain(run, [name], methods=["gradcam"], activations=False, nearest=0, device="cpu")
    assert list_files(run.explain) == before
    explain(run, [name, "test/run/001.jpg"], methods=["eigencam"], activations=False, nearest=0, device="cpu")
    index = read_index(run.explain)
    assert [entry.sample_id for entry in index.entries] == [name, "test/run/001.jpg"]
    assert {one.method for one in index.entries[0].maps} == {"gradcam", "eigencam"}
    assert set(first.entries[0].maps) < set(index.entries[0].maps)


def test_stopped_in_the_middle_leaves_a_sound_index(small_run, tmp_path, monkeypatch):
    run = copy_run(small_run, tmp_path)
    settings = {"methods": ["gradcam", "eigencam"], "activations": False, "nearest": 0, "device": "cpu"}
    explain(run, ["test/clap/000.jpg"], **settings)
    before, page = read_index(run.explain), (run.explain / "index.html").read_bytes()
    calls = []
    original = explain_samples.compute_maps

    def stop(*args, **kwargs):
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(explain_samples, "compute_maps", stop)
    with pytest.raises(KeyboardInterrupt):
        explain(run, ["test/run/000.jpg"], **settings)
    assert read_index(run.explain) == before
    assert (run.explain / "index.html").read_bytes() == page
    monkeypatch.undo()
    explain(run, ["test/run/000.jpg"], **settings)
    assert len(read_index(run.explain).entries) == 2


def test_a_picture_from_elsewhere_has_no_label(small_run, tmp_path):
    run = copy_run(small_run, tmp_path)
    rng = np.random.default_rng(0)
    path = tmp_path / "CON <b>é.png"
    Image.fromarray(rng.integers(0, 256, (50, 90, 3), dtype=np.uint8)).save(path)
    outcome = explain(run, [path], methods=["gradcam"], activations=False, nearest=0, device="cpu")
    (entry,) = outcome.entries
    assert entry.true is None
    assert entry.split is None
    assert not entry.is_failure
    assert entry.crop.left == pytest.approx((90 - entry.crop.side) / 2)
    assert "." not in entry.slug
    assert_stays_at_home(read_page(outcome.page), outcome.folder)


def test_a_picture_of_the_data_folder_has_its_label(small_run, tmp_path, noise_folder):
    run = copy_run(small_run, tmp_path)
    path = noise_folder / "test" / "run" / "002.jpg"
    outcome = explain(run, [path], methods=["gradcam"], activations=False, nearest=0, device="cpu")
    assert [(entry.sample_id, entry.true) for entry in outcome.entries] == [("test/run/002.jpg", "run")]


def test_bad_pictures_are_named_and_counted(small_run, tmp_path, capsys):
    run = copy_run(small_run, tmp_path)
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"not a picture")
    watch = Notes()
    settings = {"methods": ["gradcam"], "activations": False, "nearest": 0, "device": "cpu"}
    outcome = explain(run, ["test/run/000.jpg", bad], watch=watch, **settings)
    assert len(outcome.entries) == 1
    assert outcome.skipped == ((str(bad.resolve()), "no image but text"),)
    assert any("Skipped" in note and "bad.jpg" in note for note in watch.notes)
    with pytest.raises(DataError, match="None of 1 picture could be read, for example"):
        explain(run, [bad], **settings)
    words = ["explain", str(run.path), "test/run/000.jpg", str(bad), "--method", "gradcam"]
    words += ["--no-activations", "--nearest", "0", "--device", "cpu"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--strict"])
    assert ended.value.code == 4
    shown = capsys.readouterr()
    assert "Explained 1 sample; 1 picture could not be read" in shown.out
    assert "--strict: 1 picture could not be read" in shown.err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"samples": ["test/rnu/000.jpg"]},
            r"neither a sample of the run \(60 ids.*Did you mean 'test/run/000",
        ),
        ({"samples": ["/"]}, "is a folder; name pictures"),
        ({"random": -1}, "--random -1: must be 0 or more"),
        ({"split": "tets"}, "choose one of train, val, test"),
        ({"methods": ["gradcm"]}, "Did you mean 'gradcam'"),
        ({"layers": ["layr4"]}, "Did you mean"),
        ({"methods": ["random"], "layers": ["layer4"]}, "none of the methods random looks at a single layer"),
        ({"reliance": True}, "--reliance needs to know where the actor is"),
        ({"masks": "masks"}, "--masks is for --measure and --reliance, and neither is asked for"),
        ({"reliance": True, "masks": "nowhere"}, "There is no folder of masks at nowhere"),
    ],
)
def test_what_is_wrong_is_said(small_run, tmp_path, settings, message):
    run = copy_run(small_run, tmp_path)
    with pytest.raises(UsageError, match=message):
        explain(run, device="cpu", **settings)


def test_videos_are_refused(small_run, tmp_path):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"\0\0\0\x18ftypmp42")
    with pytest.raises(UsageError, match=r"clip\.mp4' is a video, and this run's network looks at images"):
        explain(small_run, [clip], device="cpu")


def test_failures_need_predictions_of_these_weights(small_run, tmp_path):
    run = copy_run(small_run, tmp_path)
    run.predictions("test").unlink()
    with pytest.raises(DataError, match=r"has no predictions on test.*praxiscope evaluate"):
        explain(run, failures=2, device="cpu")
    watch = Notes()
    outcome = explain(run, methods=["gradcam"], activations=False, nearest=0, device="cpu", watch=watch)
    assert {entry.reason for entry in outcome.entries} == {"random"}
    assert any(note.startswith("No failures shown:") for note in watch.notes)


def test_more_than_there_are_is_said(small_run, tmp_path):
    run, watch = copy_run(small_run, tmp_path), Notes()
    settings = {"methods": ["random"], "activations": False, "nearest": 0, "device": "cpu"}
    outcome = explain(run, random=50, watch=watch, **settings)
    assert len(outcome.entries) == 12
    assert "Only 12 random samples of 50 asked for: there are no more." in watch.notes


def test_a_damaged_index_is_named(small_run, tmp_path):
    run = copy_run(small_run, tmp_path)
    run.explain.mkdir()
    (run.explain / "samples.json").write_text(json.dumps({"schema": 1, "about": {}}), encoding="utf-8")
    with pytest.raises(IntegrityError, match=r"samples\.json is damaged"):
        explain(run, random=1, methods=["gradcam"], activations=False, nearest=0, device="cpu")


def test_the_run_stays_as_it_was(small_run, tmp_path):
    run = copy_run(small_run, tmp_path)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    output = tmp_path / "elsewhere"
    settings = {"methods": ["gradcam"], "activations": False, "nearest": 0, "device": "cpu"}
    outcome = explain(run, random=1, output=output, **settings)
    assert outcome.page == output / "index.html"
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_features_are_kept_until_something_changes(small_run, tmp_path, monkeypatch):
    from praxiscope.workflows import explain_features

    run = copy_run(small_run, tmp_path)
    settings = {"methods": ["gradcam"], "activations": False, "device": "cpu"}
    first = explain(run, ["test/run/000.jpg"], **settings)
    monkeypatch.setattr(explain_features, "_compute", lambda *_: pytest.fail("computed again"))
    second = explain(run, ["test/run/000.jpg"], **settings)
    assert first.entries[0].neighbours == second.entries[0].neighbours
    monkeypatch.undo()
    (run.explain / "features-train.npz").write_bytes(b"PK damaged")
    third = explain(run, ["test/run/000.jpg"], **settings)
    assert first.entries[0].neighbours == third.entries[0].neighbours


def test_features_of_half_the_images_are_not_kept(small_run, tmp_path, monkeypatch):
    """Otherwise a disk that wasn't there for a minute would leave its gap behind for good."""
    run, lost = copy_run(small_run, tmp_path), []
    decode = explain_features.decode_sample

    def read(root, path, **options):
        if not lost:
            lost.append(path)
            raise ImageUnreadable("gone for now")
        return decode(root, path, **options)

    monkeypatch.setattr(explain_features, "decode_sample", read)
    settings = {"methods": ["gradcam"], "activations": False, "nearest": 1, "device": "cpu", "random": 1}
    counts = [explain(run, **settings).entries[0].num_compared for _ in range(2)]
    assert counts == [35, 36]


def test_another_size_of_evaluation_reaches_every_part(small_run, tmp_path):
    run = copy_run(small_run, tmp_path)
    recipe = load_recipe(run.recipe, {"evaluate.img_size": 48})
    run.recipe.write_text(yaml.safe_dump(recipe.model_dump(mode="json")), encoding="utf-8")
    found = open_explained(run, device="cpu", data=None, split="test", watch=Notes())
    assert found.subject.img_size == found.transform.spec.img_size == 48
    notes = Notes()
    entry = explain(
        run, random=1, methods=["gradcam"], activations=False, nearest=0, device="cpu", watch=notes
    ).entries[0]
    assert (entry.crop.img_size, entry.crop_file) == (48, "evaluated-48px.png")
    assert np.load(run.explain / entry.slug / entry.maps[0].values).shape == (48, 48)


def test_embedding_histograms_and_measures_are_on_the_page(small_run, tmp_path):
    run = copy_run(small_run, tmp_path)
    settings = {"methods": ["gradcam"], "activations": False, "device": "cpu"}
    outcome = explain(run, embedding=True, histograms=True, measure=8, **settings)
    assert outcome.entries == ()
    there = list_files(run.explain)
    assert "measured.json" in there
    assert {name[7:] for name in there} >= {"-embedding-test-pca.png", "-histograms-test.png"}
    table = next(run.explain.glob("*embedding-test-pca.csv")).read_text(encoding="utf-8").splitlines()
    assert len(table) == 13
    page = read_page(outcome.page)
    assert "Measured on 8 samples of test" in page.section("methods")
    assert "Features of 12 samples of test, PCA" in page.section("network")
    assert_stays_at_home(page, outcome.folder)


def test_masks_and_reliance(small_run, tmp_path):
    run = copy_run(small_run, tmp_path)
    masks = tmp_path / "masks"
    for name in ("clap", "run", "wave"):
        (masks / "test" / name).mkdir(parents=True)
        for index in range(4):
            mask = np.zeros((40, 40), np.uint8)
            mask[12:28, 12:28] = 255
            Image.fromarray(mask).save(masks / "test" / name / f"{index:03d}.png")
    settings = {"methods": ["gradcam"], "activations": False, "device": "cpu"}
    outcome = explain(run, reliance=True, measure=12, masks=masks, **settings)
    content = json.loads((run.explain / "measured.json").read_text(encoding="utf-8"))
    assert content["reliance"]["n"] + content["reliance"]["left_out"] >= 12
    assert outcome.findings == (*content["ranking"], content["reliance"]["sentence"])
    text = read_page(outcome.page).section("methods")
    assert "Actor against background" in text
    assert "12 samples have a mask" in text
    measured = run.explain / "measured.json"
    explain(run, measure=4, masks=masks, **settings)
    assert json.loads(measured.read_text(encoding="utf-8"))["reliance"] == content["reliance"]
    measured.write_text(json.dumps({**content, "weights_sha256": "0" * 64}), encoding="utf-8")
    explain(run, measure=4, masks=masks, **settings)
    assert json.loads(measured.read_text(encoding="utf-8"))["reliance"] is None


def test_reliance_without_masks_is_refused_before_the_work(small_run, tmp_path):
    run = copy_run(small_run, tmp_path)
    with pytest.raises(UsageError, match="--reliance needs"):
        explain(run, random=1, reliance=True, device="cpu")
    assert not run.explain.exists()


def test_methods_are_measured_at_one_layer_and_that_is_said(small_run, tmp_path, monkeypatch):
    run, watch = copy_run(small_run, tmp_path), Notes()
    monkeypatch.setattr(explain_workflow, "measure_network", lambda *_, **__: ())
    settings = {"methods": ["gradcam"], "activations": False, "device": "cpu", "watch": watch}
    explain(run, measure=4, layers=["layer2", "layer3"], **settings)
    assert any(note.startswith("Methods are measured at layer2 only") for note in watch.notes)


def test_kernels_are_those_of_the_convolutions_that_were_named(small_run, tmp_path):
    run = copy_run(small_run, tmp_path)
    explained = open_explained(run, device="cpu", data=None, split="test", watch=Silent())
    folder = tmp_path / "kernels"
    folder.mkdir()
    draw_kernels(explained, folder, ["layer2.0.conv1", "layer3"])
    draw_kernels(explained, folder)
    drawn = sorted(path.name.partition("-")[2] for path in folder.glob("*.png"))
    assert drawn == ["kernels-layer2-0-conv1.png", "kernels.png"]
    assert {figure.title for figure in read_index(folder).figures} == {"Kernels", "Kernels of layer2.0.conv1"}


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(small_run, tmp_path, monkeypatch):
    run = copy_run(small_run, tmp_path)
    monkeypatch.setattr(explain_workflow.os, "access", lambda *_: False)
    with pytest.raises(EnvironmentProblem, match=r"explain can't be written\. Choose another with --output"):
        explain(run, random=1, device="cpu")


def test_no_space_for_a_folder(small_run, tmp_path):
    run = copy_run(small_run, tmp_path)
    blocked = tmp_path / "file"
    blocked.write_text("x", encoding="utf-8")
    with pytest.raises(UsageError, match=r"file is a file; name a folder"):
        explain(run, random=1, output=blocked, device="cpu")
