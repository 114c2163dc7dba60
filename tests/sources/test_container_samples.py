"""Members of containers go where files go: loader, audit, verify, report; and files go on as before."""

from __future__ import annotations

import errno
import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from container_files import (
    build,
    codes,
    counts,
    draw,
    encode,
    flatten,
    flip_byte,
    image_column,
    write_cifar10,
    write_idx,
    write_parquet,
    write_tar,
)

from praxiscope.data import media
from praxiscope.data.audit import verify_files
from praxiscope.data.build import build_manifest
from praxiscope.data.containers.handles import ContainerUnreadable, Handles, RandomReader
from praxiscope.data.containers.idx import IdxImages
from praxiscope.data.images import ImageUnreadable
from praxiscope.data.loader import BatchReader, Loader, SampleSet, build_sample_set
from praxiscope.data.manifest import Manifest, read_manifest, write_manifest
from praxiscope.data.media import decode_sample, hash_sample, open_container, read_sample, split_path
from praxiscope.data.plan import plan_evaluation
from praxiscope.data.sources.catalog import detect_source
from praxiscope.data.transforms import EvalTransform, InputSpec
from praxiscope.errors import DataError
from praxiscope.recipe.schema import DataSection, LoaderSection
from praxiscope.reporting.gallery import Pictures, read_thumbnail
from praxiscope.tensors import Heads

GREY = draw(24, 28, 28)
COLOUR = draw(24, 32, 32, 3, seed=3)
LABELS = [0, 1, 2] * 8
PLAIN_PARQUET = {"compression": "none", "use_dictionary": False, "write_statistics": False}
FORMATS = ("idx", "idx.gz", "cifar", "cifar.bin", "parquet", "tar")


def write_format(root: Path, kind: str) -> Path:
    """One small training set of 24 images in a folder of its own; returns the folder."""
    root.mkdir(parents=True)
    if kind.startswith("idx"):
        write_idx(root, GREY, LABELS, packed=kind == "idx.gz")
    elif kind == "cifar":
        write_cifar10(root, COLOUR, LABELS, ("a", "b", "c"))
    elif kind == "cifar.bin":
        records = (
            bytes([label]) + pixels.tobytes() for label, pixels in zip(LABELS, flatten(COLOUR), strict=True)
        )
        (root / "data_batch_1.bin").write_bytes(b"".join(records))
    elif kind == "parquet":
        import pyarrow as pa

        columns = {"image": image_column(COLOUR), "label": pa.array(LABELS)}
        write_parquet(root / "train.parquet", columns, row_group_size=5, **PLAIN_PARQUET)
    else:
        members = [(f"{row:02}.png", encode(pixels)) for row, pixels in enumerate(COLOUR)]
        members += [(f"{row:02}.cls", b"%d" % label) for row, label in enumerate(LABELS)]
        write_tar(root / "train.tar", members)
    return root


def whole(root: Path) -> Manifest:
    return build(root, val_fraction=0.0, test_fraction=0.0)


@pytest.fixture(params=FORMATS)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_format(tmp_path / "data", request.param)


# paths ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps ':' out of file names")
def test_files_named_like_members_are_files(tmp_path: Path) -> None:
    """Whatever stands in a file's name, it is no member: '/' alone can't."""
    names = (
        "data_batch_1#00042.png",
        "idx:42.png",
        "a.tar:512:99.png",
        "train.parquet#0!image.png",
        "x//y.png",
    )
    for number, name in enumerate(names):
        for label in ("a", "images-idx3-ubyte.gz"):
            path = tmp_path / label / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(draw(1, 40, 40, 3, seed=number + 10 * len(label))[0]))
    manifest = whole(tmp_path)
    assert manifest.usable(None).num_rows == 10
    assert manifest.source == "folder"
    for path in manifest.table["path"].to_pylist():
        assert split_path(path).kind is None
        assert read_sample(tmp_path, path) == (tmp_path / path).read_bytes()
        assert decode_sample(tmp_path, path).size == (40, 40)
    assert verify_files(manifest) == []


def test_ids_are_unique_and_paths_survive_the_manifest_file(stored: Path, tmp_path: Path) -> None:
    manifest = whole(stored)
    ids = manifest.table["sample_id"].to_pylist()
    assert len(set(ids)) == 24
    assert not any("//" in name or "\\" in name for name in ids)
    write_manifest(manifest, tmp_path / "manifest.parquet")
    again = read_manifest(tmp_path / "manifest.parquet")
    assert again.fingerprint == manifest.fingerprint
    assert again.table == manifest.table


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("train.tar//zip:5", "is a container of the kind 'zip', and this version knows cifar-python"),
        ("train.tar//", "is a container of the kind ''"),
        ("gone.tar//tar:0:5", "no such file"),
        ("train.tar//tar:5", "has no member '5'; it is called offset:size"),
        ("train.tar//tar:-5:5", "has no member '-5:5'"),
        ("train.tar//tar:99999999:5", "ends at byte .*; a sample has 5 bytes from 99,999,999 on"),
        ("train-images-idx3-ubyte//idx:24", "has 24 images, none of which is number '24'"),
        ("train-images-idx3-ubyte//idx:x", "none of which is number 'x'"),
        ("train-images-idx3-ubyte//idx:²", "none of which is number '²'"),
    ],
)
def test_a_path_that_leads_nowhere_is_named(tmp_path: Path, path: str, words: str) -> None:
    write_format(tmp_path / "tar", "tar").joinpath("train.tar").rename(tmp_path / "train.tar")
    write_idx(tmp_path, GREY, LABELS, packed=False)
    with pytest.raises(ImageUnreadable, match=words) as caught:
        decode_sample(tmp_path, path)
    assert path.partition("//")[0] in str(caught.value)


# audit and duplicates ------------------------------------------------------------------------------------


def test_equal_pixels_have_equal_hashes_in_every_array_format(tmp_path: Path) -> None:
    hashes = []
    for kind in ("cifar", "cifar.bin"):
        manifest = whole(write_format(tmp_path / kind, kind))
        hashes.append(set(manifest.table["sha256"].to_pylist()))
    assert hashes[0] == hashes[1]
    assert len(hashes[0]) == 24


def test_shape_is_part_of_the_hash(tmp_path: Path) -> None:
    pixels = np.zeros((1, 4, 9), np.uint8)
    write_idx(tmp_path / "a", pixels, [0])
    write_idx(tmp_path / "b", pixels.reshape(1, 6, 6), [0])
    first, second = (hash_sample(tmp_path / n, "train-images-idx3-ubyte.gz//idx:0") for n in "ab")
    assert first != second


def test_duplicates_across_splits_are_found(tmp_path: Path) -> None:
    write_idx(tmp_path, GREY, LABELS)
    test = np.concatenate([draw(5, 28, 28, seed=8), GREY[7:8]])
    write_idx(tmp_path, test, [0, 1, 2, 0, 1, 1], "t10k")
    manifest = build(tmp_path, val_fraction=0.0)
    assert codes(manifest)["D1.exact-across"].count == 1
    twins = {row["sample_id"]: row["twin_of"] for row in manifest.table.to_pylist() if row["twin_of"]}
    assert twins == {"t10k-images-idx3-ubyte#00005": "train-images-idx3-ubyte#00007"}


def test_small_look_alikes_are_no_duplicates_and_small_copies_are(tmp_path: Path) -> None:
    """Garments on black all look alike at 28 pixels; a copy with one grey level of noise is still found."""
    base = np.zeros((28, 28))
    base[4:24, 8:20] = 180
    rng = np.random.default_rng(5)
    images = np.stack([np.clip(base * rng.uniform(0.5, 1.3, (28, 1)) + rng.normal(0, 25, (28, 28)) * (base > 0), 0, 255)
                       for _ in range(60)]).astype(np.uint8)  # fmt: skip
    images[59] = np.clip(images[3].astype(int) + rng.integers(-1, 2, (28, 28)) * (base > 0), 0, 255)
    write_idx(tmp_path, images, [0, 1] * 30)
    finding = codes(whole(tmp_path))["D1.near-within"]
    assert finding.examples == ("train-images-idx3-ubyte#00003 = train-images-idx3-ubyte#00059",)


def test_the_audit_cache_serves_members_until_the_container_changes(stored: Path, monkeypatch) -> None:
    looked: list[str] = []
    really = media.load_sample
    monkeypatch.setattr(
        "praxiscope.data.audit.load_sample", lambda root, path: (looked.append(path), really(root, path))[1]
    )
    first = build_manifest(stored, DataSection(), seed=0)
    assert len(looked) == 24
    looked.clear()
    assert build_manifest(stored, DataSection(), seed=0).table == first.table
    assert looked == []
    for path in stored.iterdir():
        os.utime(path, ns=(1, 1))
    build_manifest(stored, DataSection(), seed=0)
    assert len(looked) == 24


def test_pixels_above_the_cap_are_left_out(stored: Path) -> None:
    manifest = build_manifest(stored, DataSection(), seed=0, use_cache=False, max_pixels=100)
    assert len(manifest.rejected()) == 24
    assert "above the cap of 100 (max_pixels)" in manifest.rejected()[0][1]
    with pytest.raises(ImageUnreadable, match="above the cap"):
        decode_sample(stored, manifest.table["path"].to_pylist()[0], max_pixels=100)


# verify --------------------------------------------------------------------------------------------------


def content_of(manifest: Manifest, row: dict[str, str]) -> bytes:
    """Return bytes that stand in the container for a sample."""
    found = media.load_sample(manifest.root, row["path"])
    if isinstance(found, bytes):
        return found
    return found.tobytes() if found.ndim == 2 else flatten(found[None]).tobytes()


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "idx.gz"])
def test_verify_finds_a_flipped_byte_in_any_member(tmp_path: Path, kind: str) -> None:
    root = write_format(tmp_path / "data", kind)
    manifest = whole(root)
    assert verify_files(manifest) == []
    for row in manifest.table.to_pylist():
        file = root / split_path(row["path"]).file
        before = file.read_bytes()
        flip_byte(file, content_of(manifest, row))  # behind the back of containers that are open
        assert [line.partition(": ")[0] for line in verify_files(manifest)] == [row["sample_id"]]
        file.write_bytes(before)


def test_verify_names_a_container_once_that_is_gone_or_damaged(stored: Path) -> None:
    manifest = whole(stored)
    files = {split_path(path).file for path in manifest.table["path"].to_pylist()}
    for file in files:
        (stored / file).rename(stored / f"{file}.away")
    lines = verify_files(manifest)
    assert len(lines) == len(files)
    assert all("no such file; it holds " in line for line in lines)


def test_verify_of_a_damaged_gzip_takes_one_look(tmp_path: Path, monkeypatch) -> None:
    root = write_format(tmp_path / "data", "idx.gz")
    manifest = whole(root)
    file = root / "train-images-idx3-ubyte.gz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)
    opened: list[Path] = []
    monkeypatch.setitem(media._FORMATS, "idx", lambda path: (opened.append(path), IdxImages(path))[1])
    [line] = verify_files(manifest)
    assert line.startswith("train-images-idx3-ubyte.gz: ")
    assert line.endswith("it holds 24 samples")
    assert len(opened) == 1


# loader --------------------------------------------------------------------------------------------------


def read_all(samples: SampleSet, *, workers: int, process: bool = False) -> torch.Tensor:
    transform = EvalTransform(spec=InputSpec(img_size=32))
    reader = BatchReader(samples=samples, transform=transform, seed=0, max_pixels=10**6)
    reader = pickle.loads(pickle.dumps(reader))  # what a spawned worker is given
    with Loader(reader, LoaderSection(), workers=workers, process=process) as loader:
        return torch.cat([batch.images for batch in loader.batches(plan_evaluation(len(samples), 8))])


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> SampleSet:
    """All formats below one folder, as one set of samples."""
    root = tmp_path_factory.mktemp("everything")
    ids, paths = [], []
    for kind in FORMATS:
        for row in build_sample_set(whole(write_format(root / kind, kind)), "train").paths:
            ids.append(f"{kind}/{row}")
            paths.append(f"{kind}/{row}")
    return SampleSet(
        root=root,
        sample_ids=tuple(ids),
        paths=tuple(paths),
        targets=np.zeros(len(ids), np.int64),
        heads=Heads(names={"action": ("a",)}),
    )


def test_threads_and_processes_give_the_same_pixels(everything: SampleSet) -> None:
    inline = read_all(everything, workers=0)
    assert torch.equal(read_all(everything, workers=4), inline)
    assert torch.equal(read_all(everything, workers=1, process=True), inline)
    assert len({image.numpy().tobytes() for image in inline}) == 48  # grey and colour, each once


def test_many_threads_read_one_container_right(everything: SampleSet) -> None:
    expected = [decode_sample(everything.root, path).tobytes() for path in everything.paths]
    wrong: list[int] = []

    def work(seed: int) -> None:
        places = np.random.default_rng(seed).integers(0, len(expected), 150).tolist()
        read = [decode_sample(everything.root, everything.paths[place]).tobytes() for place in places]
        wrong.extend(place for place, pixels in zip(places, read, strict=True) if pixels != expected[place])

    media._HANDLES.clear()
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# handles -------------------------------------------------------------------------------------------------


def test_a_container_is_opened_once_and_again_when_it_changed(tmp_path: Path) -> None:
    handles = Handles()
    write_idx(tmp_path, GREY, LABELS, packed=False)
    path = tmp_path / "train-images-idx3-ubyte"
    first = open_container(path, "idx", handles)
    assert open_container(path, "idx", handles) is first
    write_idx(tmp_path, GREY[::-1][:23], LABELS[:23], packed=False)
    second = open_container(path, "idx", handles)
    np.testing.assert_array_equal(second.read("0"), GREY[-1])


def test_handles_that_are_given_up_still_serve_who_reads(tmp_path: Path) -> None:
    handles = Handles(capacity=1)
    roots = [write_format(tmp_path / str(number), "tar") for number in range(3)]
    first = open_container(roots[0] / "train.tar", "tar", handles)
    for root in roots[1:]:
        open_container(root / "train.tar", "tar", handles)
    assert len(handles._open) == 1
    assert first.read("0:6") == b"00.png"
    handles.clear()
    assert len(handles._open) == 0


def test_a_file_that_shrinks_while_it_is_open_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(1000))
    reader = RandomReader(path)
    path.write_bytes(bytes(500))
    with pytest.raises(ContainerUnreadable, match="ends at byte 500 all of a sudden"):
        reader.read(400, 200)
    with pytest.raises(ContainerUnreadable, match="can't be read"):
        RandomReader(tmp_path / "gone")


# report --------------------------------------------------------------------------------------------------


def test_the_report_shows_members(stored: Path) -> None:
    row = whole(stored).table.to_pylist()[5]
    files = {"x": (row["path"], row["sha256"])}
    picture, absence = read_thumbnail("x", Pictures(root=stored, files=files))
    assert absence is None
    assert picture is not None
    assert picture.startswith("data:image/jpeg;base64,")
    changed = {"x": (row["path"], "0" * 64)}
    assert (
        read_thumbnail("x", Pictures(root=stored, files=changed))[1]
        == "file has changed since the manifest was made"
    )
    gone = {"x": ("gone.tar//tar:0:5", "0" * 64)}
    assert read_thumbnail("x", Pictures(root=stored, files=gone))[1] == "no such file"


# choice of the source ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_sources_are_told_by_what_lies_there(tmp_path: Path, kind: str) -> None:
    root = write_format(tmp_path / "data", kind)
    expected = {"idx.gz": "idx", "cifar.bin": "cifar", "tar": "webdataset"}.get(kind, kind)
    assert detect_source(root, DataSection()) == expected


def test_several_sources_are_not_guessed_from(tmp_path: Path) -> None:
    root = write_format(tmp_path / "data", "idx")
    write_format(tmp_path / "other", "cifar.bin")
    (tmp_path / "other/data_batch_1.bin").rename(root / "data_batch_1.bin")
    with pytest.raises(
        DataError, match=r"can be read as cifar or idx\. Say which with --set data\.source=cifar\."
    ):
        build(root)
    assert build(root, source="idx").source == "idx"


def test_other_tables_and_archives_beside_class_folders_change_nothing(tmp_path: Path) -> None:
    import pyarrow as pa

    for number in range(12):
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode(COLOUR[number]))
    write_parquet(tmp_path / "predictions.parquet", {"label": pa.array(LABELS)})
    write_tar(tmp_path / "code.tar", [("main.py", b"pass"), ("logo.png", b"x")])
    (tmp_path / "train").write_bytes(b"no pickle")
    (tmp_path / "broken.tar").write_bytes(b"x")
    assert detect_source(tmp_path, DataSection()) == "folder"


@pytest.mark.parametrize("table", [False, True])
def test_containers_among_class_folders_with_images_change_nothing(tmp_path: Path, table: bool) -> None:
    import pyarrow as pa

    for number in range(4):
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode(COLOUR[number]))
    if table:
        rows = [f"{number}.png,{'ab'[number % 2]}" for number in range(4)]
        (tmp_path / "labels.csv").write_text("\n".join(["filename,label", *rows]))
    before = build(tmp_path)
    assert before.source == ("csv" if table else "folder")
    write_parquet(tmp_path / "a/features.parquet", {"image": pa.array([b"x"]), "label": pa.array([1])})
    write_tar(tmp_path / "b/backup.tar", [("0.png", encode(COLOUR[0])), ("0.txt", b"a")])
    write_format(tmp_path / "a/raw", "idx")
    after = build(tmp_path)
    assert (after.source, after.fingerprint) == (before.source, before.fingerprint)


def test_a_folder_of_previews_beside_containers_is_no_class(tmp_path: Path) -> None:
    root = write_format(tmp_path / "data", "parquet")
    (root / "assets").mkdir()
    (root / "assets/preview.png").write_bytes(encode(COLOUR[0]))
    assert detect_source(root, DataSection()) == "parquet"


def test_a_folder_that_can_not_be_entered_is_no_reason_to_fail(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "closed").mkdir()
    stat = os.stat

    def refuse(path, *args, **options):
        if Path(str(path)).parent.name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, *args, **options)

    monkeypatch.setattr(os, "stat", refuse)
    assert detect_source(tmp_path, DataSection()) == "folder"


def test_members_without_a_folder_have_no_parent_to_be_grouped_by(tmp_path: Path) -> None:
    """All of them would be one group, which no validation split could be cut from."""
    from praxiscope.errors import UsageError

    with pytest.raises(UsageError, match=r"data\.group is 'parent', but the samples lie in containers"):
        build(write_format(tmp_path / "data", "tar"), group="parent")


# fewer training samples ----------------------------------------------------------------------------------


def test_train_per_class_keeps_as_many_of_each(tmp_path: Path) -> None:
    root = write_format(tmp_path / "data", "idx")
    full = build(root, val_fraction=0.25)
    some = build(root, val_fraction=0.25, train_per_class=3)
    assert counts(full) == {"train": 18, "val": 6, "test": 0}
    assert counts(some) == {"train": 9, "val": 6, "test": 0}
    labels = some.usable("train")["action"].to_pylist()
    assert sorted(labels) == ["0"] * 3 + ["1"] * 3 + ["2"] * 3
    finding = codes(some)["split.train-per-class"]
    assert (finding.severity, finding.count) == ("note", 9)
    assert (
        "9 training samples not drawn: data.train_per_class keeps 3 of each class, by seed 0."
        in finding.message
    )


def test_samples_that_are_not_drawn_are_no_bad_files(tmp_path: Path) -> None:
    from praxiscope.workflows.check import summarise_manifest

    manifest = build(write_format(tmp_path / "data", "idx"), train_per_class=2)
    assert manifest.rejected() == []
    assert summarise_manifest(manifest)["quarantined"] == []
    assert "D2.unreadable" not in codes(manifest)
    reasons = set(manifest.table["quarantine"].to_pylist()) - {None}
    assert reasons == {"not drawn: data.train_per_class is 2"}


def test_a_draw_is_by_seed_and_part_of_a_larger_one(tmp_path: Path) -> None:
    root = write_format(tmp_path / "data", "idx")

    def drawn(number: int, seed: int = 0) -> set[str]:
        options = {"val_fraction": 0.0, "test_fraction": 0.0, "train_per_class": number}
        return set(build(root, seed=seed, **options).usable("train")["sample_id"].to_pylist())

    assert drawn(3) == drawn(3)
    assert drawn(3) < drawn(5)
    assert drawn(3) != drawn(3, seed=1)


def test_classes_with_fewer_are_kept_whole_and_named(tmp_path: Path) -> None:
    write_idx(tmp_path, GREY, [0] * 12 + [1] * 10 + [2] * 2)
    manifest = build(tmp_path, val_fraction=0.0, test_fraction=0.0, train_per_class=5)
    assert counts(manifest)["train"] == 12
    assert codes(manifest)["split.few"].examples == ("2",)


# the validation split as test split ----------------------------------------------------------------------


def test_val_as_test_reports_on_val_and_cuts_another_from_train(tmp_path: Path) -> None:
    for part, rows in (("train", slice(0, 18)), ("val", slice(18, 24))):
        members = [(f"{row:02}.png", encode(COLOUR[row])) for row in range(24)[rows]]
        members += [(f"{row:02}.cls", b"%d" % LABELS[row]) for row in range(24)[rows]]
        write_tar(tmp_path / f"{part}.tar", members)
    plain, renamed = build(tmp_path), build(tmp_path, val_as_test=True, val_fraction=1 / 3)
    assert counts(plain) == {"train": 18, "val": 6, "test": 0}
    assert counts(renamed) == {"train": 12, "val": 6, "test": 6}
    own = set(plain.usable("val")["sample_id"].to_pylist())
    assert set(renamed.usable("test")["sample_id"].to_pylist()) == own
    assert "6 val cut from train by seed 0" in codes(renamed)["split.cut"].message


def test_val_as_test_is_refused_where_there_is_no_validation_split(tmp_path: Path) -> None:
    from praxiscope.errors import UsageError

    write_idx(tmp_path, GREY, LABELS)
    with pytest.raises(UsageError, match=r"data\.val_as_test is set, but the data has no validation split"):
        build(tmp_path, val_as_test=True)


def test_val_as_test_is_refused_where_there_is_a_test_split(tmp_path: Path) -> None:
    from praxiscope.errors import UsageError

    write_idx(tmp_path, GREY, LABELS)
    write_idx(tmp_path, GREY[:3], LABELS[:3], "t10k")
    with pytest.raises(
        UsageError, match=r"data\.val_as_test is set, but the data has a test split of its own"
    ):
        build(tmp_path, val_as_test=True)
