"""Files that are no video, or no whole one: each is named or readable, none turns black, none hangs."""

from __future__ import annotations

import io
import queue
import subprocess
import sys
import threading
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from videos_of_kinds import X264, encode, read_number

from praxiscope.data.clips.frames import read_frames
from praxiscope.data.clips.probe import probe_video
from praxiscope.data.clips.reader import ClipReader
from praxiscope.data.clips.spans import Span
from praxiscope.data.images import ImageUnreadable
from praxiscope.data.loader import Loader, SampleSet
from praxiscope.data.plan import BatchPlan
from praxiscope.data.transforms import EvalTransform, InputSpec
from praxiscope.recipe.schema import ClipSection, LoaderSection
from praxiscope.tensors import Heads

LIMIT_S = 20.0
"""For one file; the slowest was seen to take 0.1 s."""
Damage = Callable[[bytes, np.random.Generator], bytes]


def flip(data: bytes, rng: np.random.Generator, count: int, start: float = 0.0, stop: float = 1.0) -> bytes:
    changed = bytearray(data)
    for place in rng.integers(int(start * len(data)), max(1, int(stop * len(data))), count):
        changed[place] ^= int(rng.integers(1, 256))
    return bytes(changed)


def write_sound() -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    return stream.getvalue()


def hole(data: bytes, rng: np.random.Generator, fill: Callable[[int], bytes]) -> bytes:
    start = int(rng.integers(0, len(data) // 2))
    size = int(rng.integers(100, len(data) // 3))
    return data[:start] + fill(size) + data[start + size :]


DAMAGES: dict[str, Damage] = {
    "cut early": lambda data, rng: data[: int(rng.integers(1, len(data) // 10))],
    "cut in the middle": lambda data, rng: data[: int(rng.integers(len(data) // 4, 3 * len(data) // 4))],
    "cut at the end": lambda data, rng: data[: -int(rng.integers(1, 200))],
    "begun late": lambda data, rng: data[int(rng.integers(1, len(data) // 2)) :],
    "one byte": lambda data, rng: flip(data, rng, 1),
    "a few bytes": lambda data, rng: flip(data, rng, 8),
    "many bytes": lambda data, rng: flip(data, rng, 200),
    "header": lambda data, rng: flip(data, rng, 6, 0, 0.02),
    "tail": lambda data, rng: flip(data, rng, 20, 0.9, 1),
    "a hole of zeros": lambda data, rng: hole(data, rng, bytes),
    "a hole of noise": lambda data, rng: hole(data, rng, rng.bytes),
    "a piece left out": lambda data, rng: hole(data, rng, lambda _: b""),
    "twice": lambda data, rng: data + data[: int(rng.integers(1, len(data)))],
    "backwards": lambda data, rng: data[:64] + data[64:][::-1],
    "empty": lambda _data, _rng: b"",
    "zeros": lambda _data, rng: bytes(int(rng.integers(1, 5000))),
    "noise": lambda _data, rng: rng.bytes(int(rng.integers(10, 5000))),
    "a page": lambda _data, rng: b"<!DOCTYPE html><title>404</title>" * int(rng.integers(1, 50)),
    "sound alone": lambda _data, _rng: write_sound(),
    "no media box": lambda data, _rng: data.replace(b"moov", b"free"),
}
SUFFIXES = ("mp4", "mkv", "avi", "mov", "webm")


@pytest.fixture(scope="module")
def sound_videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    options = {**X264, "g": "10", "bf": "2"}
    return [
        encode(folder / "a.mp4", count=30, options=options),
        encode(folder / "b.mkv", count=30, options=options),
        encode(folder / "c.avi", codec="mpeg4", options={"qscale": "3", "g": "10"}, count=30),
    ]


def write_broken(folder: Path, sound: list[Path], repeats: int) -> Iterator[Path]:
    for kind, damage in DAMAGES.items():
        for number in range(repeats):
            rng = np.random.default_rng([number, len(kind), *kind.encode()])
            source = sound[number % len(sound)]
            # Also under the name of another format: what a file is, is not in its name.
            suffix = source.suffix[1:] if number % 3 else SUFFIXES[number % len(SUFFIXES)]
            path = folder / f"{kind.replace(' ', '-')}-{number}.{suffix}"
            path.write_bytes(damage(source.read_bytes(), rng))
            yield path


def look(path: Path) -> str:
    """Return 'readable' or why not; a frame that is black throughout is an error."""
    try:
        count = probe_video(path)[0]
        wanted = sorted({0, count // 2, count - 1})
        frames = read_frames(path, wanted)
    except ImageUnreadable as problem:
        return str(problem) or "(no words)"
    assert len(frames) == len(wanted)
    assert all(np.asarray(frame).max() > 40 for frame in frames), f"{path.name} turned black"
    return "readable"


def test_each_kind_of_damage_is_named_or_readable(tmp_path, sound_videos):
    looks = {path.name: look(path) for path in write_broken(tmp_path, sound_videos, repeats=2)}
    assert len(looks) == 2 * len(DAMAGES)
    hopeless = ("empty", "zeros", "noise", "a-page", "sound-alone")
    assert not [name for name, text in looks.items() if text == "readable" and name.startswith(hopeless)]
    assert [name for name, text in looks.items() if "only sound" in text]
    assert "(no words)" not in looks.values()


_CODE = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from test_broken_videos import look
print("ready", flush=True)
for line in sys.stdin:
    print(look(Path(line.rstrip())), flush=True)
"""


@pytest.mark.soak
def test_two_hundred_broken_videos_hang_nothing(tmp_path, sound_videos):
    """One process looks at all of them, as a loader would; each file has its own time limit."""
    paths = list(write_broken(tmp_path, sound_videos, repeats=10))
    assert len(paths) == 200
    code = _CODE.format(paths=[str(Path(__file__).parent)])
    answers: queue.Queue[str] = queue.Queue()
    with (
        (tmp_path / "stderr").open("w+", encoding="utf-8") as told,
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
        ) as child,
    ):
        listener = threading.Thread(target=lambda: [answers.put(line) for line in child.stdout])
        listener.start()
        try:
            assert answers.get(timeout=120) == "ready\n"
            for path in paths:
                child.stdin.write(f"{path}\n")
                child.stdin.flush()
                try:
                    answers.get(timeout=LIMIT_S)
                except queue.Empty:
                    told.seek(0)
                    pytest.fail(f"{path.name}: no answer in {LIMIT_S:g} s\n{told.read()[-2000:]}")
        except BaseException:
            child.kill()
            raise
        finally:
            child.stdin.close()
            listener.join()
    assert child.returncode == 0


@pytest.mark.shared
def test_every_edge_case_clip_is_readable_or_named(shared_data):
    counts = {}
    for path in sorted((shared_data / "clips-edge-cases").iterdir()):
        if path.suffix == ".md" or path.name.startswith("S001"):  # 1080p: in the soak test
            continue
        counts[path.name] = probe_video(path)[0]
        with pytest.raises(ImageUnreadable):
            read_frames(path, [counts[path.name] + 30])
    assert counts == {
        "abseiling_k400.mp4": 250, "corrupted.mp4": 28, "demo.mp4": 280, "flipping_a_pancake.mkv": 310,
        "test.avi": 164, "unordered.mov": 4, "v_Basketball_g01_c01.avi": 141, "video_0.mov": 3,
        "video_180.mov": 3, "video_270.mov": 3, "video_90.mov": 3,
    }  # fmt: skip


@pytest.mark.parametrize("process", [False, True])
def test_decodes_under_workers_do_not_stall(tmp_path, sound_videos, process):
    paths = tuple(path.name for path in sound_videos)
    samples = SampleSet(
        root=sound_videos[0].parent, sample_ids=paths, paths=paths, targets=np.zeros(3, np.int64),
        heads=Heads(names={"action": ("a",)}), spans=(Span(first=0, count=30),) * 3,
    )  # fmt: skip
    reader = ClipReader(
        samples=samples, transform=EvalTransform(spec=InputSpec(img_size=32)), section=ClipSection(),
        num_frames=4, seed=0, max_pixels=10**6,
    )  # fmt: skip
    plans = [BatchPlan(epoch=0, rows=(0, 1, 2)) for _ in range(80)]
    with Loader(reader, LoaderSection(timeout_s=60), workers=2, process=process) as loader:
        batches = [batch.images for batch in loader.batches(plans)]
    assert len(batches) == 80  # of 3 clips: 240 decodes
    assert all((batch == batches[0]).all() for batch in batches)


def test_a_video_that_breaks_off_gives_the_frames_before(tmp_path, sound_videos):
    path = tmp_path / "cut.mkv"
    data = sound_videos[1].read_bytes()
    path.write_bytes(data[: int(0.6 * len(data))])
    count = probe_video(path)[0]
    assert 5 < count < 30
    assert [read_number(image) for image in read_frames(path, [0, count - 3])] == [0, count - 3]
    with pytest.raises(ImageUnreadable, match=r"ends before frame|missing, after|damaged"):
        read_frames(path, [29])
    assert path.stat().st_size < len(data)
