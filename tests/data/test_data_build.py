from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import sys
from collections import Counter
from pathlib import Path

import pytest
from data_pictures import MALFORMED, draw_picture, encode, save_tree
from PIL import Image, ImageOps

from praxiscope.data import audit
from praxiscope.data.audit import verify_files
from praxiscope.data.build import build_manifest
from praxiscope.data.cache import cache_folder
from praxiscope.data.manifest import Finding, Manifest
from praxiscope.errors import UsageError
from praxiscope.recipe.schema import DataSection


def build(root: Path, *, seed: int = 0, use_cache: bool = False, **options: object) -> Manifest:
    return build_manifest(root, DataSection(**options), seed=seed, use_cache=use_cache)


def codes(manifest: Manifest) -> dict[str, Finding]:
    return {finding.code: finding for finding in manifest.findings}


def rows(manifest: Manifest) -> dict[str, dict[str, object]]:
    return {row["sample_id"]: row for row in manifest.table.to_pylist()}


def counts(manifest: Manifest) -> dict[str, int]:
    return {split: manifest.usable(split).num_rows for split in ("train", "val", "test")}


def hash_tree(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        digest.update(
            f"{path.relative_to(root)} {status.st_mode} {status.st_size} {status.st_mtime_ns}".encode()
        )
        if path.is_file() and not path.is_symlink():
            digest.update(path.read_bytes())
    return digest.hexdigest()


class TestSplits:
    def test_given_splits_stay(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"train/a": 3, "train/b": 3, "val/a": 1, "val/b": 1, "test/a": 1, "test/b": 1})
        manifest = build(tmp_path)
        assert counts(manifest) == {"train": 6, "val": 2, "test": 2}
        assert manifest.heads == {"action": ("a", "b")}
        assert manifest.findings == ()

    def test_val_is_cut_from_train(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"train/a": 20, "train/b": 10, "test/a": 2, "test/b": 2})
        manifest = build(tmp_path, val_fraction=0.2)
        assert counts(manifest) == {"train": 24, "val": 6, "test": 4}
        assert Counter(manifest.usable("val")["action"].to_pylist()) == {"a": 4, "b": 2}
        assert "6 val cut from train by seed 0" in codes(manifest)["split.cut"].message

    def test_undivided_folder_gets_all_three(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"a": 10, "b": 10})
        first, again, other = build(tmp_path), build(tmp_path), build(tmp_path, seed=1)
        assert counts(first) == {"train": 16, "val": 2, "test": 2}
        assert first.fingerprint == again.fingerprint != other.fingerprint

    def test_without_test_the_manifest_says_so(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"train/a": 3, "train/b": 3, "val/a": 1, "val/b": 1})
        manifest = build(tmp_path)
        assert counts(manifest) == {"train": 6, "val": 2, "test": 0}
        assert codes(manifest)["split.no-test"].severity == "note"

    def test_no_validation_when_none_is_wanted(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"train/a": 3, "train/b": 3, "test/a": 1, "test/b": 1})
        manifest = build(tmp_path, val_fraction=0.0)
        assert counts(manifest) == {"train": 6, "val": 0, "test": 2}
        assert "split.no-val" in codes(manifest)

    def test_fractions_that_leave_nothing_are_refused(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"a": 3, "b": 3})
        with pytest.raises(UsageError, match="leave nothing to train on"):
            build(tmp_path, val_fraction=0.6, test_fraction=0.4)

    def test_groups_and_duplicates_never_straddle_a_cut(self, tmp_path: Path) -> None:
        for subject in range(12):
            for label in ("a", "b"):
                save_tree(
                    tmp_path / label, {f"s{subject}": 2}, start=100 * subject + (50 if label == "b" else 0)
                )
        # A mirrored copy of subject 0 under subject 11: both subjects must stay together.
        copy = ImageOps.mirror(Image.open(tmp_path / "a/s0/000.jpg"))
        (tmp_path / "a/s11/copy.jpg").write_bytes(encode(copy, quality=90))
        for seed in range(6):
            manifest = build(tmp_path, seed=seed, group=r"/(s\d+)/", near_distance=24)
            places: dict[str, set[str]] = {}
            for row in rows(manifest).values():
                places.setdefault(str(row["group"]), set()).add(str(row["split"]))
            assert all(len(found) == 1 for found in places.values())
            assert places["s0"] == places["s11"]
            assert min(counts(manifest).values()) > 0

    def test_groups_across_given_splits_are_named(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"train/a/s1": 1, "train/b/s2": 1, "test/a/s1": 1, "test/b/s3": 1})
        finding = codes(build(tmp_path, group=r"/(s\d)/"))["D1.group-across"]
        assert finding.examples == ("s1",)


class TestLabels:
    def test_numeric_names_are_sorted_by_code_point_and_mapped_by_name(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {f"train/{n}": 1 for n in (0, 2, 10)} | {f"test/{n}": 1 for n in (2, 10)})
        manifest = build(tmp_path, val_fraction=0.0)
        assert manifest.heads["action"] == ("0", "10", "2")
        assert codes(manifest)["C3.missing-class"].examples == ("0",)

    @pytest.mark.skipif(sys.platform in {"darwin", "win32"}, reason="the file system ignores case")
    def test_names_that_differ_in_case_are_refused_naming_both(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"train/Run": 1, "test/run": 1, "train/sit": 1})
        finding = codes(build(tmp_path))["C3.case-only"]
        assert finding.severity == "error"
        assert "'Run' and 'run'" in finding.message

    def test_a_class_without_training_samples_is_an_error(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"train/a": 2, "train/b": 2, "test/a": 1, "test/c": 1})
        finding = codes(build(tmp_path))["C3.unknown-class"]
        assert (finding.severity, finding.examples) == ("error", ("c",))

    def test_one_class_no_training_split_or_nothing_are_errors(self, tmp_path: Path) -> None:
        assert codes(build(save_tree(tmp_path / "1", {"train/a": 2})))["C3.single-class"].severity == "error"
        assert (
            codes(build(save_tree(tmp_path / "2", {"test/a": 1, "test/b": 1})))["C3.no-train"].severity
            == "error"
        )
        assert codes(build(save_tree(tmp_path / "3", {"a": 0})))["D2.nothing-usable"].severity == "error"

    def test_unequal_classes_are_noted(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"train/a": 20, "train/b": 2})
        assert codes(build(tmp_path, val_fraction=0.0))["C3.imbalance"].examples == ("a", "b")


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    """Two test images that train has too (one mirrored), one that val has, and a label conflict."""
    save_tree(tmp_path, {"train/a": 4, "train/b": 4, "val/a": 2, "val/b": 2, "test/a": 3, "test/b": 3})
    shutil.copy(tmp_path / "train/a/000.jpg", tmp_path / "test/a/exact.jpg")
    picture = ImageOps.mirror(Image.open(tmp_path / "train/b/000.jpg"))
    (tmp_path / "test/b/near.jpg").write_bytes(encode(picture, quality=70))
    shutil.copy(tmp_path / "val/a/000.jpg", tmp_path / "test/b/conflict.jpg")
    return tmp_path


class TestDuplicates:
    def test_twins_point_to_the_earlier_split(self, leaky: Path) -> None:
        manifest = build(leaky, near_distance=24)
        twins = {k: (r["twin_of"], r["twin_kind"]) for k, r in rows(manifest).items() if r["twin_of"]}
        assert twins == {
            "test/a/exact.jpg": ("train/a/000.jpg", "exact"),
            "test/b/near.jpg": ("train/b/000.jpg", "near"),
            "test/b/conflict.jpg": ("val/a/000.jpg", "exact"),
        }
        assert (
            rows(manifest)["train/b/000.jpg"]["cluster"]
            == rows(manifest)["test/b/near.jpg"]["cluster"]
            is not None
        )
        found = codes(manifest)
        assert (found["D1.exact-across"].severity, found["D1.exact-across"].count) == ("warning", 2)
        assert found["D1.near-across"].examples == ("test/b/near.jpg = train/b/000.jpg",)
        assert found["D1.label-conflict"].examples == ("test/b/conflict.jpg (b) = val/a/000.jpg (a)",)
        assert manifest.errors == ()

    def test_drop_train_leaves_the_training_copies_out(self, leaky: Path) -> None:
        manifest = build(leaky, near_distance=24, duplicates="drop-train")
        dropped = {k: r["quarantine"] for k, r in rows(manifest).items() if r["quarantine"]}
        assert dropped == {
            "train/a/000.jpg": "duplicate of test/a/exact.jpg (test, exact)",
            "train/b/000.jpg": "duplicate of test/b/near.jpg (test, near)",
        }
        assert [k for k, r in rows(manifest).items() if r["twin_of"]] == ["test/b/conflict.jpg"]
        assert codes(manifest)["D1.dropped"].count == 2

    def test_refuse_is_an_error(self, leaky: Path) -> None:
        found = {finding.code for finding in build(leaky, near_distance=24, duplicates="refuse").errors}
        assert found == {"D1.exact-across", "D1.near-across"}

    def test_repeats_within_a_split_are_noted(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"train/a": 3, "train/b": 3})
        shutil.copy(tmp_path / "train/a/000.jpg", tmp_path / "train/a/copy.jpg")
        picture = Image.open(tmp_path / "train/b/000.jpg")
        (tmp_path / "train/b/small.jpg").write_bytes(encode(picture.resize((64, 56)), quality=85))
        found = codes(build(tmp_path, near_distance=24, val_fraction=0.0))
        assert found["D1.exact-within"].examples == ("train/a/000.jpg = train/a/copy.jpg",)
        assert found["D1.near-within"].examples == ("train/b/000.jpg = train/b/small.jpg",)


class TestMalformed:
    def test_every_kind_is_named_and_the_rest_is_used(self, tmp_path: Path) -> None:
        """D2: more than 20 kinds x 10 files, 0 crashes, all named."""
        save_tree(tmp_path, {"train/a": 3, "train/b": 3})
        bad = set()
        for kind, make in MALFORMED.items():
            for seed in range(10):
                path = tmp_path / "train" / "a" / f"{kind}-{seed}.jpg"
                path.write_bytes(make(seed))
                bad.add(path.relative_to(tmp_path).as_posix())
        assert len(bad) >= 200
        manifest = build(tmp_path)
        reasons = {k: r["quarantine"] for k, r in rows(manifest).items() if r["quarantine"]}
        assert reasons.keys() == bad
        assert all(reasons.values())
        assert manifest.usable(None).num_rows == 6
        assert codes(manifest)["D2.unreadable"].count == len(bad)

    def test_torture_folder(self, tmp_path: Path) -> None:
        names = ["new\nline", "\u202egpj.exe", "\U0001f3c3 run", "a'b\"c", "%s{0}", " lead"]
        if os.name == "nt":
            names = ["\u202egpj.exe", "\U0001f3c3 run", "a'b", "%s{0}", " lead"]
        else:
            names.append("<script>alert(1)")
        save_tree(tmp_path, {f"train/{name}": 2 for name in names})
        save_tree(tmp_path, {"train/empty": 0, "train/empty/deeper": 0})
        (tmp_path / "train" / names[0] / "zero.jpg").write_bytes(b"")
        (tmp_path / "train" / names[0] / "UPPER.JPG").write_bytes(encode(draw_picture(900)))
        (tmp_path / "train" / names[0] / "bare").write_bytes(encode(draw_picture(901)))
        if os.name != "nt":
            (tmp_path / "train" / names[0] / "loop").symlink_to(tmp_path)
            (tmp_path / "train" / names[0] / "gone.png").symlink_to(tmp_path / "nowhere")
        manifest = build(tmp_path, val_fraction=0.0)
        assert set(manifest.heads["action"]) == {name.strip() for name in names}
        assert manifest.usable("train").num_rows == 2 * len(names) + 2
        assert manifest.errors == ()

    def test_suspicious_images_are_usable_and_named(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"train/a": 3, "train/b": 3})
        (tmp_path / "train/a/blank.png").write_bytes(encode(Image.new("RGB", (64, 64), "white"), "PNG"))
        (tmp_path / "train/a/tiny.png").write_bytes(encode(draw_picture(50, (16, 18)), "PNG"))
        (tmp_path / "train/a/long.png").write_bytes(encode(draw_picture(51, (400, 40)), "PNG"))
        (tmp_path / "train/a/alpha.png").write_bytes(encode(draw_picture(52).convert("RGBA"), "PNG"))
        (tmp_path / "train/a/deep.png").write_bytes(
            encode(draw_picture(53).convert("L").convert("I;16"), "PNG")
        )
        exif = Image.Exif()
        exif[0x0112] = 6
        (tmp_path / "train/a/rotated.jpg").write_bytes(encode(draw_picture(54), exif=exif))
        found = codes(build(tmp_path))
        for code, name in {
            "D2.constant": "blank.png", "D2.tiny": "tiny.png", "D2.aspect": "long.png",
            "D4.alpha": "alpha.png", "D4.deep": "deep.png", "D4.rotated": "rotated.jpg",
        }.items():  # fmt: skip
            assert found[code].examples == (f"train/a/{name}",), code
        assert not {f.severity for f in found.values()} & {"error"}
        row = rows(build(tmp_path))["train/a/rotated.jpg"]
        assert (row["width"], row["height"]) == (80, 96)

    def test_the_pixel_cap_is_the_callers(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"a": 1, "b": 1})
        (tmp_path / "a/big.png").write_bytes(encode(Image.new("L", (200, 200)), "PNG"))
        manifest = build_manifest(tmp_path, DataSection(), seed=0, use_cache=False, max_pixels=30_000)
        assert "cap of 30,000" in str(rows(manifest)["a/big.png"]["quarantine"])


class TestUsersTree:
    def test_is_never_written(self, leaky: Path) -> None:
        before = hash_tree(leaky)
        manifest = build(leaky, use_cache=True)
        verify_files(manifest)
        assert hash_tree(leaky) == before

    @pytest.mark.skipif(os.name == "nt", reason="folders have no read-only mode on Windows")
    def test_may_be_read_only(self, leaky: Path) -> None:
        folders = [leaky, *(path for path in leaky.rglob("*") if path.is_dir())]
        for folder in folders:
            folder.chmod(0o555)
        try:
            assert build(leaky, use_cache=True).usable(None).num_rows == 21
        finally:
            for folder in folders:
                folder.chmod(0o755)

    def test_a_folder_that_is_not_there_or_a_file(self, leaky: Path) -> None:
        with pytest.raises(UsageError, match="does not exist"):
            build(leaky / "nowhere")
        with pytest.raises(UsageError, match="is a file"):
            build(leaky / "train/a/000.jpg")
        table = leaky / "labels.csv"
        table.write_text("filename,label\n", encoding="utf-8")
        with pytest.raises(UsageError, match=r"folder that it lies in.*--set data\.csv=labels\.csv"):
            build(table)


class TestVerify:
    @pytest.mark.parametrize("num_files", [20, pytest.param(200, marks=pytest.mark.soak)])
    def test_every_flipped_file_is_named(self, tmp_path: Path, num_files: int) -> None:
        """D7: 200 of 200; size and time stay the same, so that only the content tells."""
        save_tree(tmp_path, {"a": num_files, "b": 2})
        manifest = build(tmp_path, use_cache=True)
        assert verify_files(manifest) == []
        for path in sorted((tmp_path / "a").iterdir()):
            status = path.stat()
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        lines = verify_files(manifest)
        assert [line.partition(": changed")[0] for line in lines] == [
            f"a/{n:03}.jpg" for n in range(num_files)
        ]

    def test_files_that_are_gone_are_named(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"a": 2, "b": 2})
        manifest = build(tmp_path)
        (tmp_path / "b/001.jpg").unlink()
        assert verify_files(manifest) == ["b/001.jpg: is gone"]


class TestCache:
    @pytest.fixture
    def looks(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Names of the files that were really opened."""
        names: list[str] = []
        really = audit.take_fingerprint

        def spy(path: Path, **options: int) -> object:
            names.append(path.name)
            return really(path, **options)

        monkeypatch.setattr(audit, "take_fingerprint", spy)
        return names

    def test_unchanged_files_are_not_opened_again(self, leaky: Path, looks: list[str]) -> None:
        first = build(leaky, use_cache=True)
        looks.clear()
        again = build(leaky, use_cache=True)
        assert looks == []
        assert (again.table, again.findings) == (first.table, first.findings)

    def test_a_changed_file_is(self, leaky: Path, looks: list[str]) -> None:
        build(leaky, use_cache=True)
        looks.clear()
        (leaky / "test/a/002.jpg").write_bytes(encode(draw_picture(77)))
        build(leaky, use_cache=True)
        assert looks == ["002.jpg"]

    def test_it_can_be_bypassed(self, leaky: Path, looks: list[str]) -> None:
        build(leaky, use_cache=True)
        looks.clear()
        build(leaky, use_cache=False)
        assert len(looks) == 21

    @pytest.mark.parametrize(
        "damage", [b"no database", b"SQLite format 3\0" + bytes(50)], ids=["text", "truncated"]
    )
    def test_a_damaged_cache_costs_time_only(self, leaky: Path, damage: bytes) -> None:
        first = build(leaky, use_cache=True)
        (stored,) = cache_folder().iterdir()
        stored.write_bytes(damage)
        assert build(leaky, use_cache=True).fingerprint == first.fingerprint

    def test_a_table_of_another_shape_costs_time_only(self, leaky: Path) -> None:
        first = build(leaky, use_cache=True)
        (stored,) = cache_folder().iterdir()
        stored.unlink()
        with sqlite3.connect(stored) as connection:
            connection.execute("CREATE TABLE files (root TEXT)")
        connection.close()
        assert build(leaky, use_cache=True).fingerprint == first.fingerprint

    def test_a_cache_folder_that_cannot_be_made_costs_time_only(
        self, leaky: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        blocker = tmp_path_factory.mktemp("x") / "file"
        blocker.write_text("", encoding="utf-8")
        monkeypatch.setenv("PRAXISCOPE_CACHE", str(blocker / "below"))
        assert build(leaky, use_cache=True).usable(None).num_rows == 21

    def test_where_it_lies(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv("PRAXISCOPE_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_folder() == tmp_path / "praxiscope"


def test_progress_counts_up_to_the_number_of_files(tmp_path: Path) -> None:
    save_tree(tmp_path, {"a": 4, "b": 4})
    calls: list[tuple[str, int, int]] = []
    build_manifest(
        tmp_path, DataSection(), seed=0, use_cache=False, progress=lambda *call: calls.append(call)
    )
    assert calls[-1] == ("read", 8, 8)
