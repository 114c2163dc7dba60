"""Tables and class folders of clips, groups, and leaving one person out."""

from __future__ import annotations

import io
import re
import tarfile

import pytest
from numbered_frames import draw_number, write_frames, write_video

import praxiscope as px
from class_folders import write_class_folders
from praxiscope.data.build import build_manifest
from praxiscope.data.cache import AuditCache
from praxiscope.data.clips import audit
from praxiscope.errors import DataError, UsageError
from praxiscope.recipe.schema import ClipSection, DataSection
from praxiscope.training.watch import Silent
from praxiscope.workflows.debug import build_subject


def build(root, *, use_cache=False, clip=None, **options):
    return build_manifest(root, DataSection(**options), seed=0, clip=clip, use_cache=use_cache)


def splits_of(manifest):
    found = {}
    for row in manifest.usable(None).to_pylist():
        found.setdefault(row["split"], set()).add(row["group"])
    return found


def codes(manifest):
    return {finding.code: finding for finding in manifest.findings}


@pytest.fixture
def people(tmp_path):
    """Three people who do two things twice, as files whose names tell the person."""
    for action in ("clap", "wave"):
        for person in (1, 2, 3):
            for trial in (1, 2):
                start = 100 * person + 30 * (action == "wave") + 7 * trial
                write_video(tmp_path / action / f"P{person}T{trial}.mp4", 6, start=start)
    return tmp_path


def test_a_table_names_videos_folders_and_tars(tmp_path):
    write_video(tmp_path / "videos" / "a.mp4", 10)
    write_frames(tmp_path / "frames" / "b", list(range(1, 8)))
    with tarfile.open(tmp_path / "c.tar", "w") as tar:
        for number in range(5):
            stream = io.BytesIO()
            draw_number(number + 500).save(stream, "PNG")
            member = tarfile.TarInfo(f"{number}.png")
            member.size = stream.tell()
            stream.seek(0)
            tar.addfile(member, stream)
    rows = "file,label\nframes/b,clap\na.mp4,wave\nc.tar,wave\n"
    (tmp_path / "labels.csv").write_text(rows, encoding="utf-8")
    manifest = build(tmp_path, csv="labels.csv")
    found = {r["sample_id"]: (r["path"], r["num_frames"]) for r in manifest.usable(None).to_pylist()}
    assert found == {
        "frames/b": ("frames/b", 7), "videos/a.mp4": ("videos/a.mp4", 10), "c.tar": ("c.tar", 5),
    }  # fmt: skip


def test_columns_are_found_or_named(tmp_path):
    write_video(tmp_path / "a.mp4", 40)
    (tmp_path / "t.csv").write_text("clip_file,begin,finish,what,who\na.mp4,1,9,clap,x\na.mp4,9,30,wave,y\n")
    columns = {"path": "clip_file", "label": "what", "start": "begin", "stop": "finish", "group": "who"}
    manifest = build(tmp_path, csv="t.csv", columns=columns, val_fraction=0, test_fraction=0)
    assert [(r["sample_id"], r["first_frame"], r["num_frames"], r["group"]) for r in manifest.table.to_pylist()] == [
        ("a.mp4#1-9", 0, 8, "x"), ("a.mp4#9-30", 8, 21, "y"),
    ]  # fmt: skip
    assert codes(manifest)["D10.unit"].message == "2 clips from 'begin' and 'finish', read as frames."
    assert "count from 1" in codes(manifest)["D10.rule"].message


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("path,label,start_frame", "no column is known to hold its stop"),
        ("path,label,end_s", "no column is known to hold its start"),
        ("path,label,start_frame,stop_s", "seem to count different things"),
    ],
)
def test_half_a_place_is_refused(tmp_path, header, words):
    write_video(tmp_path / "a.mp4", 5)
    (tmp_path / "t.csv").write_text(f"{header}\na.mp4,clap,1,2\n", encoding="utf-8")
    with pytest.raises(DataError, match=words):
        build(tmp_path, csv="t.csv")


def test_rows_that_name_no_clip_are_left_out(tmp_path):
    write_video(tmp_path / "x" / "a.mp4", 9)
    write_video(tmp_path / "y" / "a.mp4", 9)
    rows = ["path,label,start_frame,stop_frame,fps", "a.mp4,clap,1,5,", "../a.mp4,clap,1,5,", ",clap,1,5,",
            "x/a.mp4,clap,1,5,fast", "b,clap,1,5,", "y/a,clap,1,5,", "y/a.mp4,wave,1,4,25"]  # fmt: skip
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    manifest = build(tmp_path, csv="t.csv")
    assert dict(manifest.rejected()) == {
        "a.mp4#1-5": "2 files fit: x/a.mp4, y/a.mp4", "../a.mp4#1-5": "lies outside the data folder",
        "(no path)#1-5": "the table gives no path", "x/a.mp4#1-5": "fps 'fast' is no number above 0",
        "b#1-5": "no such file",
    }  # fmt: skip
    # A table of ids leaves the suffix out.
    assert manifest.usable(None)["sample_id"].to_pylist() == ["y/a.mp4#1-4", "y/a.mp4#1-5"]
    assert codes(manifest)["D2.missing-file"].severity == "warning"
    refusing = build(tmp_path, csv="t.csv", missing="refuse")
    assert codes(refusing)["D2.missing-file"].severity == "error"


def test_class_folders_of_frame_folders_are_clips_when_told_so(tmp_path):
    for action, start in (("clap", 1), ("wave", 200)):
        for clip in (1, 2, 3):
            write_frames(
                tmp_path / action / f"clip{clip:02d}", list(range(start + 9 * clip, start + 9 * clip + 6))
            )
    write_video(tmp_path / "clap" / "film.mp4", 5, start=700)
    (tmp_path / "clap" / "notes.txt").write_text("x", encoding="utf-8")
    # By itself such a tree is class folders of images, sorted further.
    assert not build(tmp_path).holds_clips
    manifest = build(tmp_path, source="clips", val_fraction=0.3, test_fraction=0.3)
    rows = {r["sample_id"]: (r["action"], r["num_frames"]) for r in manifest.usable(None).to_pylist()}
    assert len(rows) == 7
    assert rows["clap/clip02"] == ("clap", 6)
    assert rows["clap/film.mp4"] == ("clap", 5)
    assert codes(manifest)["D8.stray"].examples == ("clap/notes.txt",)


def test_frames_of_a_class_itself_are_no_clip(tmp_path):
    write_frames(tmp_path / "clap", [1, 2])
    with pytest.raises(DataError, match=r"holds no clip: data\.source=clips takes"):
        build(tmp_path, source="clips")


@pytest.mark.parametrize("person", ["1", "2", "3"])
def test_one_person_is_left_out(people, person):
    others = {"1", "2", "3"} - {person}
    manifest = build(people, group=r"P(\d)", test_groups=[person], val_fraction=0)
    assert splits_of(manifest) == {"train": others, "test": {person}}
    assert f"The test split is 4 samples of the group '{person}'" in codes(manifest)["split.groups"].message
    named = build(people, group=r"P(\d)", test_groups=[person], val_groups=[min(others)])
    assert splits_of(named) == {"train": {max(others)}, "val": {min(others)}, "test": {person}}


def test_a_split_that_is_not_named_is_still_cut_by_whole_groups(people):
    manifest = build(people, group=r"P(\d)", val_groups=["2"], test_fraction=0.3)
    found = splits_of(manifest)
    assert found["val"] == {"2"}
    assert found["train"] | found["test"] == {"1", "3"}
    assert not found["train"] & found["test"]


def test_named_groups_win_over_the_datas_own_splits(tmp_path):
    """Images: test is exactly who was named; others that the data would test on are trained on."""
    write_class_folders(tmp_path, splits={"train": 4, "test": 2}, names=("clap", "wave"))
    assert len(list(tmp_path.glob("*/*/*"))) == 12
    for index, path in enumerate(sorted(tmp_path.glob("*/*/*"))):
        path.rename(path.with_name(f"p{index % 2}-{path.name}"))
    manifest = build(tmp_path, group=r"p(\d)-", test_groups=["1"], val_fraction=0)
    assert splits_of(manifest) == {"train": {"0"}, "test": {"1"}}
    assert manifest.usable("test").num_rows == 6


def test_groups_that_are_not_there_are_refused_with_those_that_are(people):
    with pytest.raises(UsageError, match=r"data\.test_groups names '4', but the groups are '1', '2', '3'\."):
        build(people, group=r"P(\d)", test_groups=["4"])
    with pytest.raises(UsageError, match=r"both name '1'"):
        build(people, group=r"P(\d)", test_groups=["1", "2"], val_groups=["1"])
    with pytest.raises(UsageError, match="no sample has one: give a column of groups"):
        build(people, test_groups=["1"])
    with pytest.raises(UsageError, match="names 'P', but"):
        build(people, group=r"P(\d)", val_groups=["P"])


@pytest.mark.shared
@pytest.mark.parametrize("person", ["person1", "person2", "person3"])
def test_mhi27_leaves_each_person_out(shared_data, person):
    root = shared_data / "clips-mhi27"
    options = {"csv": "labels.csv", "test_groups": [person], "val_fraction": 0.0}
    manifest = build(root, use_cache=True, **options)
    assert splits_of(manifest)["test"] == {person}
    assert (manifest.usable("test").num_rows, manifest.usable("train").num_rows) == (9, 18)


@pytest.mark.shared
def test_groups_come_out_of_file_names_too(shared_data):
    rule = re.compile(r"v_\w+?_g(\d+)_c\d+")
    assert rule.search("Basketball/v_Basketball_g01_c01.avi").group(1) == "01"
    options = {"csv": "labels.csv", "columns": {"group": "trial"}, "test_groups": ["trial2"]}
    manifest = build(shared_data / "clips-mhi27", use_cache=True, **options)
    assert splits_of(manifest)["test"] == {"trial2"}


def test_a_video_of_many_clips_is_looked_at_once(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", 60)
    rows = [f"a.mp4,{'clap' if n % 2 else 'wave'},{1 + 5 * n},{6 + 5 * n}" for n in range(12)]
    (tmp_path / "t.csv").write_text("path,label,start_frame,stop_frame\n" + "\n".join(rows), encoding="utf-8")
    calls = {"read_timeline": 0, "hash_file": 0, "read_frames": 0}
    for name in calls:
        real = getattr(audit, name)

        def counted(*given, name=name, real=real, **named):
            calls[name] += 1
            return real(*given, **named)

        monkeypatch.setattr(audit, name, counted)
    first = build(tmp_path, use_cache=True, csv="t.csv")
    assert calls == {"read_timeline": 1, "hash_file": 1, "read_frames": 12}
    again = build(tmp_path, use_cache=True, csv="t.csv")
    assert calls == {"read_timeline": 1, "hash_file": 1, "read_frames": 12}
    assert again.fingerprint == first.fingerprint
    assert again.table == first.table
    write_video(tmp_path / "a.mp4", 61)
    changed = build(tmp_path, use_cache=True, csv="t.csv")
    assert calls["read_timeline"] == 2
    assert changed.fingerprint != first.fingerprint


def test_an_unusable_cache_costs_time_only(tmp_path):
    folder = tmp_path / "cache"
    folder.write_text("no folder", encoding="utf-8")
    cache = AuditCache(tmp_path, folder)
    assert cache.load_video("a.mp4", (1, 2)) is None
    cache.store_videos({"a.mp4": (1, 2)}, {"a.mp4": ("0" * 64, 3, None, b"", None)})


def test_long_videos_are_counted_without_decoding(tmp_path, monkeypatch):
    from praxiscope.data.clips import timeline

    write_video(tmp_path / "a.mp4", 40)
    monkeypatch.setattr(timeline, "DECODED_FRAMES", 10)
    monkeypatch.setattr(timeline, "survey_video", lambda path: pytest.fail(f"{path} was decoded"))
    found = timeline.read_timeline(tmp_path / "a.mp4")
    assert (found.count, found.fps) == (40, 25.0)


def test_broken_videos_are_named(tmp_path):
    for action, start in (("clap", 0), ("wave", 90)):
        for clip in range(2):
            write_video(tmp_path / action / f"{clip}.mp4", 8, start=start + 20 * clip)
    (tmp_path / "clap" / "2.mp4").write_bytes((tmp_path / "clap" / "1.mp4").read_bytes()[:300])
    (tmp_path / "wave" / "2.mp4").write_bytes(b"")
    manifest = build(tmp_path, val_fraction=0, test_fraction=0)
    assert sorted(dict(manifest.rejected())) == ["clap/2.mp4", "wave/2.mp4"]
    reasons = dict(manifest.rejected())
    assert reasons["clap/2.mp4"] == "holds no pictures, only sound or data"
    assert reasons["wave/2.mp4"] == "damaged or no video (Invalid data found when processing input)"
    (finding,) = [f for f in manifest.findings if f.code == "D2.unreadable"]
    assert finding.count == 2


@pytest.mark.parametrize("decoded", [3_000, 10])
def test_a_video_that_breaks_off_is_named_each_time(tmp_path, monkeypatch, decoded):
    from praxiscope.data.clips import timeline

    monkeypatch.setattr(timeline, "DECODED_FRAMES", decoded)  # of longer ones the packets are counted
    for number, action in enumerate(("clap", "wave")):
        write_video(tmp_path / action / "0.mkv", 60, start=100 * number)
    torn = write_video(tmp_path / "wave" / "1.mkv", 60, start=300)
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    for _ in range(2):  # the second time from the cache
        manifest = build(tmp_path, val_fraction=0, test_fraction=0, use_cache=True)
        (finding,) = [f for f in manifest.findings if f.code == "D2.breaks-off"]
        assert finding.severity == "warning"
        (line,) = finding.examples
        assert re.fullmatch(r"wave/1\.mkv: .*(the rest is missing|damaged).*, after \d+ frames", line), line
        assert len(manifest.usable("train")) == 3


def test_clips_that_look_alike_are_compared_by_their_middle_frames(tmp_path):
    for number, name in enumerate(("clap/0", "clap/1", "wave/0", "wave/1")):
        write_video(
            tmp_path / f"{name}.mp4", 9 + 2 * number, start=300 - number
        )  # all have 304 in the middle
    (finding,) = [f for f in build(tmp_path).findings if f.code == "D1.near-within"]
    assert finding.message == "6 pairs of nearly the same middle frame in one split."


@pytest.mark.shared
def test_the_corrupt_file_among_the_edge_cases_is_named(shared_data, tmp_path):
    folder = tmp_path / "edge"
    folder.mkdir()
    for path in (shared_data / "clips-edge-cases").iterdir():
        if path.suffix != ".md" and not path.name.startswith("S001"):
            (folder / path.name).symlink_to(path)
    manifest = build(tmp_path, val_fraction=0, test_fraction=0)
    (finding,) = [f for f in manifest.findings if f.code == "D2.breaks-off"]
    (line,) = finding.examples
    assert line.startswith("edge/corrupted.mp4: damaged or no video (")
    assert line.endswith(", after 28 frames")


def test_the_rule_of_counting_is_part_of_what_was_asked(tmp_path):
    write_video(tmp_path / "a.mp4", 30)
    (tmp_path / "t.csv").write_text("path,label,start,stop_frame\n", encoding="utf-8")
    rows = "path,label,start_frame,stop_frame\na.mp4,clap,1,9\na.mp4,wave,9,20\n"
    (tmp_path / "t.csv").write_text(rows, encoding="utf-8")
    one = build(tmp_path, csv="t.csv", clip=ClipSection(stop="inclusive"))
    other = build(tmp_path, csv="t.csv", clip=ClipSection())
    assert one.fingerprint != other.fingerprint
    assert "is the last one" in codes(one)["D10.rule"].message


def test_debug_counts_frames_as_training_does(tmp_path):
    write_video(tmp_path / "a.mp4", 30)
    rows = "path,label,start_frame,stop_frame\na.mp4,clap,0,8\na.mp4,wave,9,19\n"
    (tmp_path / "t.csv").write_text(rows, encoding="utf-8")
    asked = {
        "data.source": "csv", "data.csv": "t.csv", "data.val_fraction": 0, "data.test_fraction": 0,
        "clip.stop": "inclusive", "clip.frame_base": 0, "model.name": "test_resnet", "model.img_size": 32,
        "model.num_frames": 4, "loader.workers": 0,
    }  # fmt: skip
    subject = build_subject(px.load_recipe("demo-cnn", asked), tmp_path, "cpu", Silent())
    assert subject.manifest.table["first_frame"].to_pylist() == [0, 9]
    assert subject.manifest.table["num_frames"].to_pylist() == [9, 11]
