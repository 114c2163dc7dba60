"""Eight uniform frames of a clip: ways to decode them side by side, and whether each gives the right frames.

    python benchmarks/decoding.py [--rounds 9] [--frames 8] [--short-side 128] [--shared ../shared/data]
                                  [--clips 4]

All ways take turns in one process, in another order each round, with one thread; each runs once before
without a stopwatch. A way gives RGB pixels of 8 frames spread from the first to the last, at full size; the
packs give them reduced to ``--short-side``, and what reducing costs the others is not counted against them.

- ``pyav_every``: PyAV, every frame converted to RGB up to the last one, the usual way.
- ``pyav_wanted``: PyAV, every frame decoded, the wanted ones converted.
- ``opencv_grab``: OpenCV, ``grab`` for every frame, ``retrieve`` for the wanted ones.
- ``opencv_seek``: OpenCV, ``CAP_PROP_POS_FRAMES`` before each wanted frame.
- ``key_seek``: PyAV, for each wanted frame a seek to the key frame before it and decoding up to it, by time
  computed from the frame rate, as decord does.
- ``torchcodec``: where it loads.
- ``reader``: Praxiscope's, its index of the file made before; ``reader_cold`` makes it each time.
- ``pack_jpeg``, ``pack_uint8``: Praxiscope's packs.

Exact: the share of the wanted frames that are the right ones: bit for bit those of decoding from the start
for everything on PyAV; within a few levels on average for OpenCV, torchcodec and JPEGs, and nearer to the
right frame than to its neighbours. Packs are compared with frames reduced alike.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from measuring import format_summary, summarize, write_result
from praxiscope.data.build import build_manifest
from praxiscope.data.clips.frames import read_frames
from praxiscope.data.clips.pack import ClipPackSpec, open_clip_pack
from praxiscope.data.clips.torchcodec_reader import load_torchcodec
from praxiscope.data.pack_writer import compute_packed_size, reduce_image
from praxiscope.data.video import count_pictures
from praxiscope.data.video_index import _find_index, find_index  # the benchmark forgets it on purpose
from praxiscope.data.video_seek import read_from_start
from praxiscope.errors import EnvironmentProblem
from praxiscope.recipe.schema import ClipSection, DataSection

PREDICTED = {
    "dense": {"pyav_wanted": 2.3, "opencv_grab": 2.7, "opencv_seek": 0.7, "torchcodec": 6.0, "key_seek": 5.0,
              "reader": 8.0, "pack_jpeg": 60.0, "pack_uint8": 500.0},
    "sparse": {"pyav_wanted": 2.3, "opencv_grab": 2.7, "opencv_seek": 0.5, "torchcodec": 2.7, "key_seek": 0.7,
               "reader": 3.0, "pack_jpeg": 60.0, "pack_uint8": 500.0},
}  # fmt: skip
"""Times as fast as ``pyav_every``, written down before the first measurement."""

Pixels = npt.NDArray[np.uint8]
Way = Callable[[Path, Sequence[int]], Sequence[Any]]


def pyav_every(path: Path, wanted: Sequence[int]) -> list[Pixels]:
    """Convert every frame, then index."""
    with av.open(str(path)) as container:
        _use_one_thread(container)
        frames = []
        for number, frame in enumerate(container.decode(video=0)):
            frames.append(frame.to_ndarray(format="rgb24"))
            if number == wanted[-1]:
                break
    return [frames[index] for index in wanted]


def pyav_wanted(path: Path, wanted: Sequence[int]) -> list[Pixels]:
    """Decode every frame, convert the wanted ones."""
    left, frames = set(wanted), []
    with av.open(str(path)) as container:
        _use_one_thread(container)
        for number, frame in enumerate(container.decode(video=0)):
            if number in left:
                frames.append(frame.to_ndarray(format="rgb24"))
            if number == wanted[-1]:
                break
    return frames


def key_seek(path: Path, wanted: Sequence[int]) -> list[Pixels]:
    """Seek to the key frame before each frame's time, which follows from the rate."""
    frames = []
    with av.open(str(path)) as container:
        _use_one_thread(container)
        stream = container.streams.video[0]
        start, step = stream.start_time or 0, 1 / (stream.average_rate * stream.time_base)
        for index in wanted:
            due = start + round(index * step)
            container.seek(due, stream=stream)
            last = None
            for frame in container.decode(stream):
                last = frame
                if frame.pts is not None and frame.pts >= due:
                    break
            frames.append(last.to_ndarray(format="rgb24"))
    return frames


def opencv_grab(path: Path, wanted: Sequence[int]) -> list[Pixels]:
    """Grab every frame, retrieve the wanted ones."""
    capture, left, frames = _open_capture(path), set(wanted), []
    for number in range(wanted[-1] + 1):
        capture.grab()
        if number in left:
            frames.append(_to_rgb(capture.retrieve()))
    capture.release()
    return frames


def opencv_seek(path: Path, wanted: Sequence[int]) -> list[Pixels]:
    """Set the position before each frame."""
    capture, frames = _open_capture(path), []
    for index in wanted:
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        frames.append(_to_rgb(capture.read()))
    capture.release()
    return frames


def torchcodec(path: Path, wanted: Sequence[int]) -> list[Pixels]:
    """Let torchcodec find them, with its exact mode and one thread."""
    decoder = load_torchcodec()(str(path), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
    return list(decoder.get_frames_at(list(wanted)).data.numpy())


def reader_cold(path: Path, wanted: Sequence[int]) -> list[Image.Image]:
    """Praxiscope's reader on a file that it sees for the first time."""
    _find_index.cache_clear()
    return read_frames(path, wanted)


def _open_capture(path: Path) -> Any:
    # cv2.setNumThreads doesn't reach FFmpeg: it would decode with as many threads as there are cores.
    return cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])


def _use_one_thread(container: Any) -> None:
    container.streams.video[0].codec_context.thread_count = 1


def _to_rgb(answer: tuple[bool, Any]) -> Pixels:
    ok, pixels = answer
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if ok else np.zeros((1, 1, 3), np.uint8)


WAYS: dict[str, Way] = {
    "pyav_every": pyav_every, "pyav_wanted": pyav_wanted, "opencv_grab": opencv_grab,
    "opencv_seek": opencv_seek, "key_seek": key_seek, "torchcodec": torchcodec,
    "reader": read_frames, "reader_cold": reader_cold,
}  # fmt: skip
FOREIGN = {"opencv_grab": 2.0, "opencv_seek": 2.0, "torchcodec": 2.0, "pack_jpeg": 8.0}
"""Levels by which a way's right frame may differ on average: other colour conversion, or JPEG."""


def is_right(name: str, frame: Any, index: int, whole: dict[int, Image.Image]) -> bool:
    """Whether a way's frame is the wanted one; see the module."""
    right, given = np.asarray(whole[index]), np.asarray(frame)
    if given.shape != right.shape:
        return False
    if name not in FOREIGN:
        return bool((given == right).all())
    near = [
        np.abs(given.astype(np.int16) - np.asarray(whole[other])).mean()
        for other in (index, index - 1, index + 1)
        if other in whole
    ]
    return bool(near[0] <= FOREIGN[name] and near[0] == min(near))


def measure(folder: Path, arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Time all ways on the clips of a folder; return milliseconds a clip, ratios and exactness."""
    manifest = build_manifest(folder, DataSection(val_fraction=0, test_fraction=0), seed=0)
    rows = manifest.usable(None).to_pylist()[: arguments.clips]
    wanted = {
        row["path"]: np.linspace(0, row["num_frames"] - 1, arguments.frames).astype(int).tolist()
        for row in rows
    }
    ways = dict(WAYS)
    try:
        load_torchcodec()
    except EnvironmentProblem as problem:
        del ways["torchcodec"]
        print(f"torchcodec is left out: {problem}")
    sizes: dict[str, int] = {}
    with ExitStack() as stack:
        for name in ("jpeg", "uint8"):
            spec = ClipPackSpec(short_side=arguments.short_side, section=ClipSection(pack_format=name))
            pack = stack.enter_context(open_clip_pack(manifest, spec, folder=scratch / "packs"))
            packed = pack.select([row["sha256"] for row in rows])
            places = {row["path"]: place for place, row in enumerate(rows)}
            ways[f"pack_{name}"] = lambda path, frames, packed=packed, places=places: packed.read(
                places[path.relative_to(manifest.root).as_posix()], frames
            )
            sizes[f"pack_{name}"] = pack.num_bytes
        paths = [manifest.root / row["path"] for row in rows]
        seconds = _take_turns(ways, paths, list(wanted.values()), arguments.rounds)
        exact = {
            name: _check(name, way, paths, wanted, manifest.root, arguments) for name, way in ways.items()
        }
    base = seconds["pyav_every"]
    return {
        "clips": len(rows),
        "indexed": sum(find_index(path) is not None for path in paths),
        "video_bytes": sum(path.stat().st_size for path in paths),
        "pack_bytes": sizes,
        "ways": {
            name: {
                "ms_per_clip": summarize([1e3 * each / len(rows) for each in values]),
                "times_pyav_every": summarize([one / own for one, own in zip(base, values, strict=True)]),
                "exact": exact[name],
            }
            for name, values in seconds.items()
        },
    }


def _take_turns(
    ways: dict[str, Way], paths: list[Path], wanted: list[list[int]], rounds: int
) -> dict[str, list[float]]:
    rng = random.Random(0)  # noqa: S311 - an order, not a secret
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name in rng.sample(list(ways), len(ways)):
            started = time.perf_counter()
            for path, frames in zip(paths, wanted, strict=True):
                for frame in ways[name](path, frames):
                    np.asarray(frame)[-1, -1].sum()  # mapped pages are read when they are touched
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def _check(
    name: str,
    way: Way,
    paths: list[Path],
    wanted: dict[str, list[int]],
    root: Path,
    arguments: argparse.Namespace,
) -> float:
    right = total = 0
    for path in paths:
        frames = wanted[path.relative_to(root).as_posix()]
        count = count_pictures(path)[0]
        needed = sorted({i + d for i in frames for d in (-1, 0, 1) if 0 <= i + d < count})
        whole = read_from_start(path, needed)
        given = way(path, frames)
        if name.startswith("pack"):
            whole = {
                i: reduce_image(image, compute_packed_size(*image.size, arguments.short_side))
                for i, image in whole.items()
            }
        right += sum(is_right(name, frame, i, whole) for frame, i in zip(given, frames, strict=True))
        total += len(frames)
    return right / total


def write_clips(folder: Path, gop: int, count: int) -> Path:
    """Write 10 s of moving texture with some noise, 320x240, 25 a second, H.264 with 2 B-frames."""
    rng = np.random.default_rng(0)
    for clip in range(count):
        path = folder / "train" / f"class{clip % 2}" / f"{clip}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
        large = np.asarray(small.resize((700, 500), Image.Resampling.BICUBIC), np.int16)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
            stream.options = {
                "g": str(gop),
                "keyint_min": str(gop),
                "bf": "2",
                "crf": "23",
                "sc_threshold": "0",
            }
            for number in range(250):
                part = large[number : number + 240, number : number + 320]
                pixels = (part + rng.normal(0, 4, part.shape)).clip(0, 255).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
    return folder


def gather(sources: Sequence[Path], folder: Path) -> Path:
    """Link real clips into a class folder, as a data set is laid out."""
    for place, source in enumerate(sources):
        target = folder / "train" / f"class{place % 2}" / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    return folder


def main() -> None:
    """Measure generated clips and, where they lie, real ones; write ``results/decoding.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--short-side", type=int, default=128)
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"))
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        folders = {
            "dense": write_clips(scratch / "dense", 12, arguments.clips),
            "sparse": write_clips(scratch / "sparse", 250, arguments.clips),
        }
        if arguments.shared.is_dir():
            kinetics = ("abseiling_k400.mp4", "demo.mp4", "flipping_a_pancake.mkv")
            real = {
                "kinetics": [arguments.shared / "clips-edge-cases" / each for each in kinetics],
                "ucf101": [arguments.shared / "clips-edge-cases" / "v_Basketball_g01_c01.avi"] * 1,
                "epic100": sorted((arguments.shared / "epic100" / "clips").glob("*.mp4")),
                "mhi27": sorted((arguments.shared / "clips-mhi27").glob("*.avi"))[: arguments.clips],
            }
            folders |= {key: gather(paths, scratch / key) for key, paths in real.items()}
        content: dict[str, Any] = {"frames": arguments.frames, "short_side": arguments.short_side}
        for key, folder in folders.items():
            content[key] = measure(folder, arguments, scratch) | {"predicted": PREDICTED.get(key)}
            print(f"{key}: {content[key]['clips']} clips, {content[key]['indexed']} with an index")
            for way, figures in content[key]["ways"].items():
                note = f"  right {100 * figures['exact']:.0f} %"
                print(format_summary(f"  {way}", figures["ms_per_clip"], "ms") + note)
                print(format_summary("      times as fast as pyav_every", figures["times_pyav_every"], "x "))
    write_result("decoding", content)


if __name__ == "__main__":
    main()
