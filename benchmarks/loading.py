"""Reading images five ways, side by side: what a packed copy is worth.

    python benchmarks/loading.py [--data DIR] [--repeats 9] [--images 200] [--short-side 256]

imagefolder     torchvision's ImageFolder, v1 transforms on Pillow images, uint8 tensors out
imagefolder-n   the same as it is usually written: ToTensor and Normalize, float32 out
v2              torchvision.io's decoder and v2 transforms on uint8 tensors
reader          Praxiscope reading the JPEGs
pack            Praxiscope reading a packed copy of them (``praxiscope data prepare``)

Training crops are random resized crops of 224 px with a flip, evaluation crops 224 px out of a short side of
256 px; all bilinear and antialiased. Each is timed for single images in one thread, and for batches of 32
from a loader with two workers (torch's DataLoader: processes; Praxiscope's: threads), which is timed from its
second epoch on. The contestants take turns in an order that is drawn anew (of 20 images, or of an epoch), and
ratios are taken within a repetition, so that a machine whose speed drifts drifts for all. Files are in the
page cache. Without --data, 600 generated JPEGs of 600 x 450 are used.

The PSNR is that of evaluation crops from the pack against those from the JPEGs.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torchvision.io
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as v1
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from measuring import format_summary, summarize, write_result
from praxiscope.data.build import build_manifest
from praxiscope.data.loader import BatchReader, Loader, SampleSet
from praxiscope.data.manifest import Manifest
from praxiscope.data.media import decode_sample
from praxiscope.data.pack import list_hashes, open_pack
from praxiscope.data.pack_reader import Pack
from praxiscope.data.plan import AUGMENT_STREAM, plan_evaluation
from praxiscope.data.transforms import EvalTransform, InputSpec, TrainTransform
from praxiscope.models.runtime import tune_allocator
from praxiscope.recipe.schema import AugmentSection, DataSection, LoaderSection
from praxiscope.stats.psnr import compute_psnr
from praxiscope.tensors import Heads
from praxiscope.workflows.prepare import summarise_likeness

IMG_SIZE, RESIZE, BATCH, WORKERS = 224, 256, 32, 2
TURN = 20  # images
SPEC = InputSpec(img_size=IMG_SIZE, crop_pct=IMG_SIZE / RESIZE, interpolation="bilinear")
TARGETS = {"training": 3.5, "evaluation": 8.0}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Contestant(NamedTuple):
    """One way of reading.

    Attributes:
        image: reads and crops the image of a row.
        epoch: reads all images in batches; returns how many came.
    """

    image: Callable[[int], object]
    epoch: Callable[[], int]


class Decoded(Dataset[tuple[torch.Tensor, int]]):
    """torchvision's own decoder with v2 transforms."""

    def __init__(self, samples: list[tuple[str, int]], transform: v2.Transform) -> None:
        self._samples, self._transform = samples, transform

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        path, target = self._samples[row]
        pixels = torchvision.io.decode_image(path, torchvision.io.ImageReadMode.RGB)
        return self._transform(pixels), target


def build_torch_transforms(task: str) -> dict[str, Any]:
    """Return the transforms of torchvision's three ways."""
    normalize = [v1.ToTensor(), v1.Normalize(MEAN, STD)]
    if task == "training":
        old: list[Any] = [v1.RandomResizedCrop(IMG_SIZE), v1.RandomHorizontalFlip()]
        new = v2.Compose([v2.RandomResizedCrop(IMG_SIZE, antialias=True), v2.RandomHorizontalFlip()])
    else:
        old = [v1.Resize(RESIZE), v1.CenterCrop(IMG_SIZE)]
        new = v2.Compose([v2.Resize(RESIZE, antialias=True), v2.CenterCrop(IMG_SIZE)])
    return {
        "imagefolder": v1.Compose([*old, v1.PILToTensor()]),
        "imagefolder-n": v1.Compose([*old, *normalize]),
        "v2": new,
    }


def build_torch_contestants(samples: list[tuple[str, int]], root: Path, task: str) -> dict[str, Contestant]:
    """Return torchvision's three ways of reading."""
    contestants = {}
    for name, transform in build_torch_transforms(task).items():
        if name == "v2":
            dataset: Any = Decoded(samples, transform)
        else:
            dataset = ImageFolder(root, transform)
            dataset.samples = samples  # of all splits, those that are sound
        loader = DataLoader(
            dataset, BATCH, shuffle=task == "training", num_workers=WORKERS, persistent_workers=True
        )
        contestants[name] = Contestant(
            dataset.__getitem__, lambda loader=loader: sum(len(images) for images, _ in loader)
        )
    return contestants


@contextlib.contextmanager
def open_own_contestants(manifest: Manifest, pack: Pack, task: str) -> Iterator[dict[str, Contestant]]:
    """Yield Praxiscope's two ways of reading."""
    transform: Any = EvalTransform(spec=SPEC)
    if task == "training":
        transform = TrainTransform(spec=SPEC, augment=AugmentSection())
    rows = manifest.usable(None)
    with contextlib.ExitStack() as stack:
        contestants = {}
        for name, packed in (("reader", None), ("pack", pack.select(list_hashes(manifest)))):
            samples = SampleSet(
                root=manifest.root,
                sample_ids=tuple(rows["sample_id"].to_pylist()),
                paths=tuple(rows["path"].to_pylist()),
                targets=np.zeros(rows.num_rows, np.int64),
                heads=Heads(names={"action": ("any",)}),
                packed=packed,
            )
            reader = BatchReader(samples=samples, transform=transform, seed=0, max_pixels=10**8)
            loader = stack.enter_context(Loader(reader, LoaderSection(), workers=WORKERS, process=False))
            contestants[name] = Contestant(
                build_own_image(samples, transform),
                lambda loader=loader: sum(
                    len(batch.rows) for batch in loader.batches(plan_evaluation(rows.num_rows, BATCH))
                ),
            )
        yield contestants


def build_own_image(samples: SampleSet, transform: EvalTransform | TrainTransform) -> Callable[[int], object]:
    """Return what Praxiscope's loader does for one image, without the batch around it."""

    def read(row: int) -> object:
        if samples.packed is not None:
            image: Any = samples.packed.read(row)
        else:
            image = decode_sample(samples.root, samples.paths[row], target_size=transform.decode_size)
        if isinstance(transform, EvalTransform):
            return transform(image)
        return transform(image, np.random.default_rng([0, 0, AUGMENT_STREAM, row]))

    return read


def measure(
    contestants: dict[str, Contestant], *, repeats: int, images: int, total: int
) -> dict[str, dict[str, list[float]]]:
    """Return milliseconds per image of each contestant and repetition, for images and for loaders."""
    rng = random.Random(0)  # noqa: S311 - an order, not a secret
    times: dict[str, dict[str, list[float]]] = {"image": {}, "loader": {}}
    for repeat in range(repeats + 1):  # the first warms caches and starts workers
        rows = rng.sample(range(total), min(images, total))
        one_by_one = time_images(contestants, rows, rng)
        for name in rng.sample(list(contestants), len(contestants)):
            started = time.perf_counter()
            count = contestants[name].epoch()
            ended = time.perf_counter()
            if repeat:
                times["image"].setdefault(name, []).append(1e3 * one_by_one[name] / len(rows))
                times["loader"].setdefault(name, []).append(1e3 * (ended - started) / count)
    return times


def time_images(contestants: dict[str, Contestant], rows: list[int], rng: random.Random) -> dict[str, float]:
    """Return the seconds that each contestant takes for these images, in turns of a few images."""
    seconds = dict.fromkeys(contestants, 0.0)
    for start in range(0, len(rows), TURN):
        for name in rng.sample(list(contestants), len(contestants)):
            read = contestants[name].image
            started = time.perf_counter()
            for row in rows[start : start + TURN]:
                read(row)
            seconds[name] += time.perf_counter() - started
    return seconds


def describe(times: dict[str, dict[str, list[float]]], task: str) -> dict[str, Any]:
    """Print and return medians, and how many times as fast as ImageFolder each is."""
    result: dict[str, Any] = {}
    order = ("imagefolder", "imagefolder-n", "v2", "reader", "pack")
    for what, by_name in times.items():
        result[what] = {}
        print(
            f"{task} crops, {'one thread, image by image' if what == 'image' else 'loader with two workers'}"
        )
        for name in order:
            values = by_name[name]
            ratios = [base / own for base, own in zip(by_name["imagefolder"], values, strict=True)]
            entry = {"ms_per_image": summarize(values), "times_imagefolder": summarize(ratios)}
            result[what][name] = entry
            print(format_summary(f"  {name}", entry["ms_per_image"], "ms"))
            print(format_summary("      times as fast as imagefolder", entry["times_imagefolder"], "x "))
        reached = result[what]["pack"]["times_imagefolder"]["median"]
        verdict = "met" if reached >= TARGETS[task] else "MISSED"
        print(f"  target {TARGETS[task]:g} x: {verdict} at {reached:.2f} x")
    return result


def compare_pixels(manifest: Manifest, pack: Pack) -> dict[str, Any]:
    """Return the PSNR of evaluation crops from the pack against those from the files."""
    transform = EvalTransform(spec=SPEC)
    packed, paths = pack.select(list_hashes(manifest)), manifest.usable(None)["path"].to_pylist()
    ratios = []
    for row, path in enumerate(paths):
        image = decode_sample(manifest.root, path, target_size=transform.decode_size)
        ratios.append(compute_psnr(transform(image), transform(packed.read(row))))
    likeness = summarise_likeness(ratios)
    print(f"pack against reader: {likeness.describe()}")
    return likeness.__dict__


def write_photographs(folder: Path, count: int = 600) -> Path:
    """Write JPEGs of 600 x 450 with the detail of a photograph, in four classes."""
    rng = np.random.default_rng(0)
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((600, 450), Image.Resampling.BICUBIC), np.float32)
        pixels += rng.normal(0, 6, pixels.shape)
        path = folder / "train" / f"class{index % 4}" / f"{index:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return folder


def main() -> None:
    """Run all contestants in turn and write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--images", type=int, default=200, help="of a repetition, image by image")
    parser.add_argument("--short-side", type=int, default=256)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tune_allocator()  # as in training; for all contestants
    with tempfile.TemporaryDirectory() as scratch:
        data = arguments.data or write_photographs(Path(scratch) / "photographs")
        manifest = build_manifest(data, DataSection(), seed=0)
        rows = manifest.usable(None)
        samples = [(str(manifest.root / path), 0) for path in rows["path"].to_pylist()]
        folder = next(iter(sorted(manifest.root.glob("train"))), manifest.root)
        started = time.perf_counter()
        with open_pack(manifest, arguments.short_side, folder=Path(scratch) / "packs") as pack:
            content: dict[str, Any] = {
                "data": arguments.data.name if arguments.data else "generated JPEGs of 600 x 450",
                "images": rows.num_rows,
                "median_size": [int(np.median(rows[side].to_numpy())) for side in ("width", "height")],
                "file_mib": round(sum(Path(path).stat().st_size for path, _ in samples) / 2**20, 1),
                "pack": {
                    "short_side": pack.short_side,
                    "mib": round(pack.num_bytes / 2**20, 1),
                    "seconds_to_make": round(time.perf_counter() - started, 1),
                },
                "psnr_db": compare_pixels(manifest, pack),
                "targets": TARGETS,
            }
            for task in TARGETS:
                with open_own_contestants(manifest, pack, task) as own:
                    contestants = {**build_torch_contestants(samples, folder, task), **own}
                    times = measure(
                        contestants, repeats=arguments.repeats, images=arguments.images, total=rows.num_rows
                    )
                    content[task] = describe(times, task)
    write_result(f"loading{f'-{arguments.data.name}' if arguments.data else ''}", content)


if __name__ == "__main__":
    main()
