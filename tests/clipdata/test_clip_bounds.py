"""D10: eight conventions of start and stop, exact, read out of pictures that carry their number."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numbered_frames import read_number, write_frames, write_video

from praxiscope.data.build import build_manifest
from praxiscope.data.clips.frames import read_frames
from praxiscope.data.clips.timeline import number_frames, read_timeline
from praxiscope.recipe.schema import ClipSection, DataSection

OPTIONS = DataSection(val_fraction=0.0, test_fraction=0.0)


def read_clips(root, *, clip=None, **options):
    """Return {sample id: numbers that the pictures of its span carry} and the manifest."""
    section = DataSection(val_fraction=0.0, test_fraction=0.0, **options)
    manifest = build_manifest(root, section, seed=0, clip=clip, use_cache=False)
    found = {}
    for row in manifest.usable(None).to_pylist():
        places = range(row["first_frame"], row["first_frame"] + row["num_frames"])
        found[row["sample_id"]] = [
            read_number(each) for each in read_frames(root / row["path"], list(places))
        ]
    return found, manifest


def write_table(root, rows, header="path,label,start_frame,stop_frame"):
    (root / "clips.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    root = tmp_path_factory.mktemp("numbered")
    write_video(root / "a.mp4", 60)
    write_frames(root / "zero", list(range(60)))
    write_frames(root / "one", list(range(1, 61)))
    return root


@pytest.mark.parametrize("base", [0, 1])
@pytest.mark.parametrize("stop", ["exclusive", "inclusive"])
@pytest.mark.parametrize("source", ["video", "frames"])
def test_eight_conventions_are_exact(sources, base, stop, source):
    path = {"video": "a.mp4", "frames": ("zero", "one")[base]}[source]
    write_table(sources, [f"{path},wave,10,15", f"{path},clap,{base},{base + 3}"])
    found, _ = read_clips(sources, clip=ClipSection(frame_base=base, stop=stop))
    # A video's pictures carry their number from 0, a folder's the number in their file's name.
    shift = base if source == "video" else 0
    last = 15 + (stop == "inclusive")
    assert found[f"{path}#10-15"] == list(range(10 - shift, last - shift))
    assert found[f"{path}#{base}-{base + 3}"] == list(
        range(base - shift, base + 3 - shift + (stop == "inclusive"))
    )


def test_a_missing_frame_shifts_no_other(tmp_path):
    write_frames(tmp_path / "v", [n for n in range(1, 41) if n not in {5, 22}])
    write_table(tmp_path, ["v,clap,1,11", "v,wave,20,31", "v,run,31,41"])
    found, manifest = read_clips(tmp_path)
    assert found["v#1-11"] == [1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert found["v#20-31"] == [20, 21, *range(23, 31)]
    assert found["v#31-41"] == list(range(31, 41))
    (finding,) = [f for f in manifest.findings if f.code == "D10.missing-frames"]
    assert finding.count == 2
    assert "2 files" in finding.message
    assert finding.examples == ("v#1-11: 1 missing", "v#20-31: 1 missing")
    assert {r["sample_id"]: r["start_frame"] for r in manifest.table.to_pylist()}["v#31-41"] == 31


def test_frames_are_ordered_by_their_number_not_by_letters(tmp_path):
    write_frames(tmp_path / "v", list(range(1, 13)), pattern="{}.png")
    write_table(tmp_path, ["v,clap,9,12", "v,wave,1,3"])
    assert read_clips(tmp_path)[0] == {"v#1-3": [1, 2], "v#9-12": [9, 10, 11]}


def test_numbers_need_all_names_to_ascend():
    assert number_frames(["a_1.jpg", "b.jpg"]) is None
    assert number_frames(["u_1.jpg", "v_1.jpg"]) is None
    assert number_frames(["cam2_frame_07_rgb.jpg"]).tolist() == [7]


def test_seconds_go_by_the_videos_own_times(tmp_path):
    times = [0, 40, 80, 400, 440, 480, 900, 1000, 1100, 1200]  # variable: a long pause, then 10 a second
    write_video(tmp_path / "a.mkv", 10, times=times)
    rows = [
        "a.mkv,clap,0.0,0.4",
        "a.mkv,wave,0.41,0.9",
        "a.mkv,run,0.95,1.3",
        "a.mkv,sit,00:00:00.44,00:00:00.45",
    ]
    write_table(tmp_path, rows, header="path,label,start_s,stop_s")
    assert read_timeline(tmp_path / "a.mkv").times == pytest.approx(np.array(times) / 1000, abs=1e-3)
    found, _ = read_clips(tmp_path)
    assert found["a.mkv#0.0-0.4"] == [0, 1, 2]
    assert found["a.mkv#0.41-0.9"] == [3, 4, 5]
    assert found["a.mkv#0.95-1.3"] == [6, 7, 8, 9]
    assert found["a.mkv#00:00:00.44-00:00:00.45"] == [4]


def test_seconds_of_a_folder_of_frames_need_its_rate(tmp_path):
    write_frames(tmp_path / "v", list(range(1, 31)))
    write_table(tmp_path, ["v,clap,0.5,1.0"], header="path,label,start_s,stop_s")
    _, manifest = read_clips(tmp_path)
    assert "give their rate with a column fps or clip.fps" in manifest.rejected()[0][1]
    assert read_clips(tmp_path, clip=ClipSection(fps=10))[0] == {"v#0.5-1.0": [6, 7, 8, 9, 10]}
    write_table(tmp_path, ["v,clap,0.5,1.0,20"], header="path,label,start_s,stop_s,fps")
    found, manifest = read_clips(tmp_path)
    assert found == {"v#0.5-1.0": list(range(11, 21))}
    assert manifest.table["fps"].to_pylist() == [20.0]


def test_what_a_source_does_not_hold_is_left_out_with_the_reason(tmp_path):
    write_video(tmp_path / "a.mp4", 30)
    write_frames(tmp_path / "v", list(range(1, 11)))
    rows = ["a.mp4,clap,5,99", "a.mp4,clap,9,9", "a.mp4,clap,0,9", "a.mp4,clap,x,9", "v,clap,3,13", "w,clap,1,2",
            "a.mp4,wave,1,31"]  # fmt: skip
    found, manifest = read_clips(write_table(tmp_path, rows))
    assert found == {"a.mp4#1-31": list(range(30))}
    reasons = dict(manifest.rejected())
    assert "has 30 frames, but its label asks for those up to number 98" in reasons["a.mp4#5-99"]
    assert "there is no frame" in reasons["a.mp4#9-9"]
    assert "lies before the first" in reasons["a.mp4#0-9"]
    assert reasons["a.mp4#x-9"] == "its start 'x' is no frame number"
    assert "has frames 1 to 10, but its label asks for 3 to 12" in reasons["v#3-13"]
    assert reasons["w#1-2"] == "no such file"


def test_seconds_behind_the_end_are_refused_but_for_rounding(tmp_path):
    write_video(tmp_path / "a.mp4", 25)
    rows = ["a.mp4,clap,0.8,1.2", "a.mp4,clap,0.5,9", "a.mp4,clap,3,4", "a.mp4,clap,0.5,0.5"]
    found, manifest = read_clips(write_table(tmp_path, rows, header="path,label,start_s,stop_s"))
    assert found == {"a.mp4#0.8-1.2": [20, 21, 22, 23, 24]}
    reasons = dict(manifest.rejected())
    assert "is 1.00 s long, but its label asks for 0.50 to 9.00 s" in reasons["a.mp4#0.5-9"]
    assert "asks for 3.00 to 4.00 s" in reasons["a.mp4#3-4"]
    assert "stops at 0.50 s and starts at 0.50 s" in reasons["a.mp4#0.5-0.5"]


def test_a_rate_unlike_the_annotations_is_bridged_by_time():
    from praxiscope.data.clips.cues import Cue, place_clip
    from praxiscope.data.clips.timeline import Timeline

    rate = Fraction(60000, 1001)
    times = np.arange(100_000) / float(rate)
    video = Timeline(count=100_000, fps=float(rate), times=times)
    placing = place_clip(Cue(start=60_001, stop=60_061, rate=60.0), video, ClipSection())
    # 1000 s into the video: frame 59,940 from 0, not 60,000.
    assert (placing.span.first, placing.span.count) == (59_940, 60)
    assert placing.start_frame is None
    even = Timeline(count=100_000, fps=60.0, times=np.arange(100_000) / 60)
    placing = place_clip(Cue(start=60_001, stop=60_061, rate=60.0), even, ClipSection())
    assert (placing.span.first, placing.span.count, placing.start_frame) == (60_000, 60, 60_001)
