from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path

import pytest
from data_pictures import draw_picture, encode, save_tree

from praxiscope.data.manifest import Finding
from praxiscope.data.sources.catalog import detect_source, list_samples
from praxiscope.data.sources.listing import Listing, find_group
from praxiscope.errors import DataError, UsageError
from praxiscope.recipe.schema import DataSection


def listed(root: Path, **options: object) -> Listing:
    return list_samples(root, DataSection(**options))


def by_id(listing: Listing) -> dict[str, tuple[str | None, str]]:
    return {sample.sample_id: (sample.split, sample.label) for sample in listing.samples}


def codes(listing: Listing) -> dict[str, Finding]:
    return {finding.code: finding for finding in listing.findings}


class TestFolder:
    @pytest.mark.parametrize("val", ["val", "valid", "validation", "VALID", "Val"])
    def test_splits_in_any_usual_name_and_case(self, tmp_path: Path, val: str) -> None:
        save_tree(tmp_path, {"Train/a": 1, "Train/b": 1, f"{val}/a": 1, "test/b": 1})
        assert by_id(listed(tmp_path)) == {
            "Train/a/000.jpg": ("train", "a"),
            "Train/b/000.jpg": ("train", "b"),
            f"{val}/a/000.jpg": ("val", "a"),
            "test/b/000.jpg": ("test", "b"),
        }

    def test_undivided(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"run": 2, "sit": 1})
        assert by_id(listed(tmp_path)) == {
            "run/000.jpg": (None, "run"), "run/001.jpg": (None, "run"), "sit/000.jpg": (None, "sit"),
        }  # fmt: skip

    def test_a_class_called_train_in_an_undivided_folder(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"car": 1, "train": 2})
        assert {label for _, label in by_id(listed(tmp_path)).values()} == {"car", "train"}

    def test_two_folders_for_one_split_are_refused(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"train/a": 1, "val/a": 1, "valid/a": 1})
        with pytest.raises(DataError, match="two folders for the val split, 'val' and 'valid'"):
            listed(tmp_path)

    def test_deeper_folders_belong_to_their_class(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"train/run/clip1": 1, "train/run/clip2": 1, "train/sit": 1})
        found = listed(tmp_path)
        assert by_id(found)["train/run/clip1/000.jpg"] == ("train", "run")
        assert codes(found)["D8.nested"].count == 2

    def test_strays_empty_classes_and_images_outside_are_named(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"train/a": 1, "train/empty": 0, "extra/a": 1, "train": 1})
        (tmp_path / "train/a/notes.txt").write_text("x", encoding="utf-8")
        (tmp_path / "train/a/.DS_Store").write_bytes(b"\0")
        (tmp_path / "train/a/Thumbs.db").write_bytes(b"\0")
        found = codes(listed(tmp_path))
        assert found["D8.stray"].examples == ("train/a/Thumbs.db", "train/a/notes.txt")
        assert found["D8.empty-class"].examples == ("train/empty",)
        assert found["D8.outside-class"].examples == ("extra/a/000.jpg", "train/000.jpg")

    def test_images_are_known_by_content(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"a": 1, "b": 1})
        (tmp_path / "a" / "no_suffix").write_bytes(encode(draw_picture(5)))
        (tmp_path / "a" / "PHOTO.JPG").write_bytes(encode(draw_picture(6)))
        (tmp_path / "a" / "page.jpg").write_bytes(b"<html>")
        assert {"a/no_suffix", "a/PHOTO.JPG", "a/page.jpg"} <= by_id(listed(tmp_path)).keys()

    def test_composed_and_decomposed_names_mean_one_label(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {unicodedata.normalize("NFD", "train/café"): 1, "train/b": 1})
        assert {label for _, label in by_id(listed(tmp_path)).values()} == {
            "b",
            unicodedata.normalize("NFC", "café"),
        }

    @pytest.mark.skipif(sys.platform == "darwin", reason="the file system takes both spellings for one")
    def test_spellings_that_differ_between_splits_are_refused_naming_both(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"train/caf\u00e9": 1, "test/cafe\u0301": 1, "train/b": 1})
        finding = codes(listed(tmp_path))["C3.spelling"]
        assert finding.severity == "error"
        assert r"'caf\xe9'" in finding.message
        assert r"'cafe\u0301'" in finding.message

    @pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
    def test_link_loops_are_named_and_links_to_folders_followed(self, tmp_path: Path) -> None:
        elsewhere = save_tree(tmp_path / "elsewhere", {"x": 2})
        root = save_tree(tmp_path / "data", {"train/a": 1})
        (root / "train/b").symlink_to(elsewhere / "x")
        (root / "train/a/up").symlink_to(root)
        found = listed(root)
        assert by_id(found).keys() == {"train/a/000.jpg", "train/b/000.jpg", "train/b/001.jpg"}
        assert codes(found)["D8.symlink-loop"].examples == ("train/a/up",)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
    def test_a_named_pipe_is_left_alone(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"a": 1, "b": 1})
        os.mkfifo(tmp_path / "a" / "pipe.jpg")
        found = listed(tmp_path)
        assert "a/pipe.jpg" not in by_id(found)
        assert codes(found)["D8.stray"].examples == ("a/pipe.jpg",)

    @pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
    def test_names_that_are_no_text_are_named(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"a": 1})
        (tmp_path / "a" / os.fsdecode(b"bad\xff.jpg")).write_bytes(encode(draw_picture(5)))
        finding = codes(listed(tmp_path))["D8.undecodable-name"]
        assert finding.examples == (r"a/bad\udcff.jpg",)


class TestGroups:
    def test_parent_and_expression(self) -> None:
        assert find_group("train/run/v1/3.jpg", "parent") == "train/run/v1"
        assert find_group("train/run/subject07_3.jpg", r"subject(\d+)") == "07"
        assert find_group("train/run/other.jpg", r"subject(\d+)") is None
        assert find_group("train/run/other.jpg", None) is None

    @pytest.mark.parametrize(
        ("rule", "words"), [("(", "no regular expression"), ("a", "0 groups"), ("(a)(b)", "2 groups")]
    )
    def test_other_rules_are_refused(self, rule: str, words: str) -> None:
        with pytest.raises(UsageError, match=words):
            find_group("a/b.jpg", rule)


def write(path: Path, text: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding=encoding, newline="")


class TestTable:
    def test_kaggle_har_layout(self, tmp_path: Path) -> None:
        """Images flat in train/ and, with the same names, unlabelled in test/."""
        save_tree(tmp_path, {"train": 2, "test": 2})
        write(tmp_path / "Training_set.csv", "filename,label\n000.jpg,sitting\n001.jpg,running\n")
        write(tmp_path / "Testing_set.csv", "filename\n000.jpg\n001.jpg\n")
        found = listed(tmp_path)
        assert found.source == "csv"
        assert by_id(found) == {"train/000.jpg": (None, "sitting"), "train/001.jpg": (None, "running")}
        assert codes(found)["D8.unlisted"].examples == ("test/000.jpg", "test/001.jpg")

    def test_sports_layout(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"train/air hockey": 1, "valid/air hockey": 1, "test/judo": 1})
        write(
            tmp_path / "sports.csv",
            "class id,filepaths,labels,data set\r\n0,train/air hockey/000.jpg,air hockey,train\r\n"
            "0,valid/air hockey/000.jpg,air hockey,valid\r\n1,test\\judo\\000.jpg,judo,test\r\n",
        )
        assert by_id(listed(tmp_path, source="csv")) == by_id(listed(tmp_path, source="folder"))

    def test_files_in_split_and_class_folders_are_found_by_name(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"train/run": 1, "train/sit": 1, "test/run": 1, "test/sit": 1})
        write(tmp_path / "labels.csv", "filename,label,peer_split\n000.jpg,sit,test\n000,run,train\n")
        assert by_id(listed(tmp_path, csv="labels.csv")) == {
            "test/sit/000.jpg": ("test", "sit"),
            "train/run/000.jpg": ("train", "run"),
        }

    @pytest.mark.parametrize(
        ("delimiter", "encoding"), [(",", "utf-8-sig"), (";", "utf-8"), ("\t", "utf-8"), ("|", "utf-8")]
    )
    def test_delimiters_and_byte_order_mark(self, tmp_path: Path, delimiter: str, encoding: str) -> None:
        save_tree(tmp_path, {"images": 1})
        rows = [["image", "class"], ["images/000.jpg", '"été, ""1"""']]
        write(tmp_path / "t.csv", "\n".join(delimiter.join(row) for row in rows), encoding)
        assert by_id(listed(tmp_path)) == {"images/000.jpg": (None, 'été, "1"')}

    def test_columns_by_option(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"x": 1})
        write(tmp_path / "t.csv", "what,where,when,who\nrun,x/000.jpg,TRAIN,ann\n")
        columns = {"path": "where", "label": "what", "split": "when", "group": "who"}
        (sample,) = listed(tmp_path, csv="t.csv", columns=columns).samples
        assert (sample.sample_id, sample.label, sample.split, sample.group) == (
            "x/000.jpg",
            "run",
            "train",
            "ann",
        )

    def test_unknown_columns_are_listed(self, tmp_path: Path) -> None:
        write(tmp_path / "t.csv", "a,b\n1,2\n")
        with pytest.raises(DataError, match=r"'a', 'b'. Say which with --set data.columns.path"):
            listed(tmp_path, csv="t.csv")
        with pytest.raises(
            UsageError, match=r"data.columns.label is 'aa', but t.csv has the columns 'a', 'b'.*mean 'a'"
        ):
            listed(tmp_path, csv="t.csv", columns={"label": "aa"})

    def test_missing_files_are_samples_with_a_problem(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"x": 1})
        write(tmp_path / "t.csv", "path,label\nx/000.jpg,a\nx/gone.jpg,b\n")
        problems = {sample.sample_id: sample.problem for sample in listed(tmp_path, source="csv").samples}
        assert problems == {"x/000.jpg": None, "x/gone.jpg": "no such file"}

    @pytest.mark.parametrize("path", ["../secret.jpg", "/etc/passwd", "x/../../y.jpg", "..\\secret.jpg"])
    def test_paths_out_of_the_folder_are_not_followed(self, tmp_path: Path, path: str) -> None:
        root = save_tree(tmp_path / "data", {"x": 1})
        (tmp_path / "secret.jpg").write_bytes(encode(draw_picture(1)))
        write(root / "t.csv", f"path,label\n{path},a\n")
        (sample,) = listed(root, csv="t.csv").samples
        assert sample.problem == "lies outside the data folder"

    def test_absolute_paths_inside_the_folder_are_fine(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"x": 1})
        write(tmp_path / "t.csv", f"path,label\n{tmp_path / 'x' / '000.jpg'},a\n")
        assert by_id(listed(tmp_path, csv=str(tmp_path / "t.csv"))) == {"x/000.jpg": (None, "a")}

    def test_rows_that_repeat_or_contradict(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"x": 2})
        write(tmp_path / "t.csv", "path,label\nx/000.jpg,a\nx/000.jpg,a\nx/001.jpg,a\nx/001.jpg,b\n")
        found = listed(tmp_path, csv="t.csv")
        assert codes(found)["D1.repeated-row"].examples == ("x/000.jpg",)
        assert codes(found)["D1.contradicting-rows"].examples == ("x/001.jpg",)
        assert [sample.problem is None for sample in found.samples] == [True, False]

    def test_rows_without_label_or_split_or_path(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"x": 2})
        write(tmp_path / "t.csv", "path,label,split\nx/000.jpg,,train\nx/001.jpg,a\n,a,train\n")
        problems = {sample.sample_id: sample.problem for sample in listed(tmp_path, csv="t.csv").samples}
        assert problems == {
            "x/000.jpg": "the table gives no label",
            "x/001.jpg": "the table gives no split",
            "(no path)": "the table gives no path",
        }

    def test_several_fitting_files_are_not_guessed(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"one": 1, "two": 1})
        write(tmp_path / "t.csv", "path,label\n000.jpg,a\n")
        (sample,) = listed(tmp_path, csv="t.csv").samples
        assert sample.problem == "2 files fit: one/000.jpg, two/000.jpg"

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "is empty"),
            (b"path,label\n\xff\xfe\x00,a\n", "not UTF-8"),
            (b"path,label,split\nx.jpg,a,fold3\n", "'fold3', but a split is"),
            (b'path,label\n"' + b"x" * 200_000 + b'",a\n', "can't be read as a table"),
        ],
    )
    def test_bad_tables_are_named(self, tmp_path: Path, content: bytes, words: str) -> None:
        (tmp_path / "t.csv").write_bytes(content)
        with pytest.raises(DataError, match=words):
            listed(tmp_path, csv="t.csv")

    def test_several_tables_must_be_chosen_from(self, tmp_path: Path) -> None:
        write(tmp_path / "a.csv", "path,label\n")
        write(tmp_path / "b.csv", "path,label\n")
        with pytest.raises(DataError, match=r"'a.csv', 'b.csv'. Choose one with data.csv"):
            listed(tmp_path)

    def test_a_table_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"data.csv is 'no.csv'"):
            listed(tmp_path, csv="no.csv")
        with pytest.raises(DataError, match="has no table"):
            listed(tmp_path, source="csv")


class TestStage:
    HEADER = "path,split,action,noun,performer,mask\n"

    def test_groups_and_masks(self, tmp_path: Path) -> None:
        save_tree(tmp_path, {"train/wave": 1, "test/sit": 1, "masks": 2})
        write(tmp_path / "stage.json", "{}")
        write(
            tmp_path / "stage.csv",
            self.HEADER + "train/wave/000.jpg,train,wave,none,ann,masks/000.jpg\n"
            "test/sit/000.jpg,test,sit,chair,bob,masks/001.jpg\n",
        )
        found = listed(tmp_path)
        assert found.source == "stage"
        assert [(s.split, s.label, s.group, s.mask) for s in found.samples] == [
            ("test", "sit", "bob", "masks/001.jpg"),
            ("train", "wave", "ann", "masks/000.jpg"),
        ]
        assert not found.findings

    def test_a_stage_that_lacks_something_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"it has no stage.csv"):
            listed(tmp_path, source="stage")
        write(tmp_path / "stage.csv", "path,split\n")
        with pytest.raises(DataError, match="lacks the columns action, mask, performer"):
            listed(tmp_path)


def test_what_auto_takes(tmp_path: Path) -> None:
    divided = save_tree(tmp_path / "divided", {"train/a": 1})
    undivided = save_tree(tmp_path / "undivided", {"a": 1, "b": 1})
    assert detect_source(undivided, DataSection()) == "folder"
    for root in (divided, undivided):
        write(root / "labels.csv", "filename,label\n000.jpg,a\n")
        write(root / "other.csv", "x,y\n1,2\n")
    assert detect_source(divided, DataSection()) == "folder"
    assert detect_source(divided, DataSection(csv="labels.csv")) == "csv"
    assert detect_source(undivided, DataSection()) == "csv"
