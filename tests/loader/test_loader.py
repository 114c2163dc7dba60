"""What a batch holds depends on (seed, epoch, rows) alone, and whatever can't be read is named."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from praxiscope.data import loader as loader_module
from praxiscope.data.build import build_manifest
from praxiscope.data.images import read_image
from praxiscope.data.loader import (
    BatchReader,
    Loader,
    SampleFailed,
    SampleSet,
    build_loader,
    build_sample_set,
)
from praxiscope.data.manifest import Manifest
from praxiscope.data.plan import plan_evaluation, plan_training_epoch
from praxiscope.data.transforms import EvalTransform, InputSpec, TrainTransform
from praxiscope.errors import DataError
from praxiscope.recipe.schema import AugmentSection, DataSection, LoaderSection

SPEC = InputSpec(img_size=32)
AUGMENT = AugmentSection(policy="randaugment", color_jitter=0.3, random_erasing=0.5)
needs_fifo = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")


@pytest.fixture(scope="module")
def manifest(noise_folder: Path) -> Manifest:
    return build_manifest(noise_folder, DataSection(), seed=0)


@pytest.fixture(scope="module")
def samples(manifest: Manifest) -> SampleSet:
    return build_sample_set(manifest, "train")


@pytest.fixture
def own_samples(noise_folder: Path, tmp_path: Path) -> SampleSet:
    """Samples whose files a test may change."""
    root = Path(shutil.copytree(noise_folder, tmp_path / "data"))
    return build_sample_set(build_manifest(root, DataSection(), seed=0), "train")


def reader_of(samples: SampleSet, *, seed: int = 5) -> BatchReader:
    transform = TrainTransform(spec=SPEC, augment=AUGMENT)
    return BatchReader(samples=samples, transform=transform, seed=seed, max_pixels=10**6)


def read_epochs(samples: SampleSet, workers: int, *, process: bool = False, seed: int = 5) -> torch.Tensor:
    """Return two epochs' images and targets in one tensor."""
    parts = []
    with Loader(reader_of(samples, seed=seed), LoaderSection(), workers=workers, process=process) as loader:
        for epoch in range(2):
            for batch in loader.batches(plan_training_epoch(len(samples), 8, seed=seed, epoch=epoch)):
                parts += [batch.images.flatten(1).long(), batch.targets[:, None]]
    return torch.cat([part.flatten() for part in parts])


@pytest.fixture(scope="module")
def inline(samples: SampleSet) -> torch.Tensor:
    return read_epochs(samples, 0)


# ------------------------------------------------------------------------------ what a batch holds


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_threads_change_nothing(workers, samples, inline):
    assert torch.equal(read_epochs(samples, workers), inline)


def test_another_seed_changes_the_batches(samples, inline):
    assert not torch.equal(read_epochs(samples, 0, seed=6), inline)


def test_a_batch_is_uint8_in_channels_last_memory(samples):
    plan = plan_training_epoch(len(samples), 8, seed=5, epoch=0)[0]
    batch = reader_of(samples)(plan, [-1], 0)
    assert batch.images.shape == (8, 3, 32, 32)
    assert batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.targets.dtype == torch.int64
    assert batch.rows == plan.rows
    assert batch.targets.tolist() == [samples.targets[row] for row in plan.rows]


def test_evaluation_batches_are_the_transform_of_each_file(samples):
    transform = EvalTransform(spec=SPEC)
    reader = BatchReader(samples=samples, transform=transform, seed=0, max_pixels=10**6)
    batch = reader(plan_evaluation(len(samples), 5)[1], [-1], 0)
    assert batch.rows == (5, 6, 7, 8, 9)
    from PIL import Image

    for place, row in enumerate(batch.rows):
        picture = Image.fromarray(read_image(samples.root / samples.paths[row]))
        assert (batch.images[place].permute(1, 2, 0).numpy() == transform(picture)).all()


def test_augmentation_draws_are_a_function_of_seed_epoch_and_sample(samples):
    """C8: no two epochs or samples share a draw, and the same one can always be made again."""
    seen = {}
    for seed in (5, 6):
        for epoch in (0, 1):
            for row in range(4):
                generator = reader_of(samples, seed=seed)
                first, again = generator._read(row, epoch), generator._read(row, epoch)
                assert (first == again).all()
                seen[seed, epoch, row] = first.tobytes()
    assert len(set(seen.values())) == len(seen) == 16


def test_one_picture_under_two_names_is_augmented_in_two_ways(own_samples):
    first, second = (own_samples.root / path for path in own_samples.paths[:2])
    shutil.copyfile(first, second)
    reader = reader_of(own_samples)
    assert (reader._read(0, 0) != reader._read(1, 0)).any()


# ------------------------------------------------------------------------------ plans


@pytest.mark.parametrize(
    ("count", "size"), [(36, 8), (37, 8), (33, 8), (8, 8), (9, 8), (1, 8), (5, 1), (97, 16)]
)
def test_an_epoch_is_a_permutation_in_which_no_batch_but_the_last_is_short(count, size):
    plans = plan_training_epoch(count, size, seed=1, epoch=0)
    rows = [row for plan in plans for row in plan.rows]
    assert sorted(rows) == list(range(count))
    assert all(len(plan.rows) == size for plan in plans[:-1])
    # What is left over is kept; a single sample joins the batch before it.
    left = count % size
    expected = size + 1 if left == 1 and count > size > 1 else left or min(size, count)
    assert len(plans[-1].rows) == expected


def test_order_differs_between_epochs_and_seeds():
    orders = [
        tuple(row for plan in plan_training_epoch(40, 8, seed=seed, epoch=epoch) for row in plan.rows)
        for seed in range(3)
        for epoch in range(5)
    ]
    assert len(set(orders)) == 15
    assert orders[0] != tuple(range(40))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 97, 101])
@pytest.mark.parametrize("size", [1, 4, 16])
def test_evaluation_covers_each_sample_once_in_order(count, size):
    plans = plan_evaluation(count, size)
    assert [row for plan in plans for row in plan.rows] == list(range(count))
    assert max(len(plan.rows) for plan in plans) <= size


# ------------------------------------------------------------------------------ sample sets


def test_labels_are_indices_by_name(manifest):
    for split in ("train", "val", "test"):
        samples = build_sample_set(manifest, split)
        assert samples.names == ("clap", "run", "wave")
        for sample_id, target in zip(samples.sample_ids, samples.targets, strict=True):
            assert sample_id.split("/")[:2] == [split, samples.names[target]]


def test_a_split_without_a_class_keeps_the_indices_of_the_others(own_samples):
    """C3: timm and torchvision number what they find; here a name decides."""
    shutil.rmtree(own_samples.root / "val" / "clap")
    manifest = build_manifest(own_samples.root, DataSection(), seed=0)
    assert set(build_sample_set(manifest, "val").targets.tolist()) == {1, 2}


def test_quarantined_samples_are_left_out(own_samples):
    broken = own_samples.root / "train" / "run" / "003.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    manifest = build_manifest(own_samples.root, DataSection(), seed=0)
    samples = build_sample_set(manifest, "train", without=["train/wave/001.jpg"])
    assert len(samples) == 34
    assert not {"train/run/003.jpg", "train/wave/001.jpg"} & set(samples.sample_ids)


def test_an_empty_split_names_those_that_there_are(own_samples):
    shutil.rmtree(own_samples.root / "test")
    manifest = build_manifest(own_samples.root, DataSection(), seed=0)
    with pytest.raises(DataError, match=r"'test' of .* no usable sample; splits here: train, val"):
        build_sample_set(manifest, "test")


# ------------------------------------------------------------------------------ workers


@pytest.mark.parametrize(
    ("device", "cores", "given", "kind", "count"),
    [
        ("cpu", 2, {}, "_Threads", 2),
        ("cpu", 64, {}, "_Threads", 4),
        ("cpu", 2, {"workers": 0}, "_Inline", 0),
        ("cuda", 64, {"backend": "thread"}, "_Threads", 16),
        ("cpu", 8, {"workers": 3}, "_Threads", 3),
    ],
)
def test_the_loader_suits_the_device(device, cores, given, kind, count, samples):
    with build_loader(reader_of(samples), LoaderSection(**given), device_type=device, cores=cores) as loader:
        assert type(loader._makers).__name__ == kind
        assert len(getattr(loader._makers, "_threads", [])) == count


def test_leaving_the_loader_ends_its_threads_even_with_work_left(samples):
    before = set(threading.enumerate())
    with Loader(reader_of(samples), LoaderSection(prefetch=30), workers=3, process=False) as loader:
        plans = [plan_training_epoch(36, 2, seed=0, epoch=e)[0] for e in range(30)]
        assert len(next(loader.batches(plans)).rows) == 2
        assert len(set(threading.enumerate()) - before) == 3
    deadline = time.monotonic() + 10
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before


def test_a_stalled_batch_names_the_file_that_is_being_read(samples, monkeypatch):
    """B6: only the file of the batch that doesn't come, not what other threads read at that moment."""
    release = threading.Event()
    read = loader_module.decode_sample
    hanging, slow = samples.paths[7], samples.paths[20]

    def decode(root: Path, path: str, **options: object) -> object:
        if path in {hanging, slow}:
            release.wait(30)
        return read(root, path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(loader_module, "decode_sample", decode)
    try:
        with Loader(reader_of(samples), LoaderSection(timeout_s=2), workers=2, process=False) as loader:
            with pytest.raises(SampleFailed, match=r"No batch within 2 s") as caught:
                list(loader.batches(plan_evaluation(36, 8)))
            release.set()
    finally:
        release.set()
    assert caught.value.sample_ids == (samples.sample_ids[7],)
    assert samples.sample_ids[7] in str(caught.value)
    assert "loader.timeout_s" in str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("fate", ["deleted", "truncated", "replaced"])
def test_a_file_that_broke_after_the_check_is_named(fate, workers, own_samples):
    path = own_samples.root / own_samples.paths[11]
    if fate == "deleted":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:300] if fate == "truncated" else b"<html>not found</html>")
    with (
        Loader(reader_of(own_samples), LoaderSection(), workers=workers, process=False) as loader,
        pytest.raises(SampleFailed, match="was sound when the data was checked") as caught,
    ):
        list(loader.batches(plan_evaluation(36, 8)))
    assert caught.value.sample_ids == (own_samples.sample_ids[11],)
    assert path.name in str(caught.value)


@pytest.fixture
def fifo(own_samples: SampleSet) -> Iterator[Path]:
    """In place of a training image: whoever opens it waits for somebody to write."""
    path = own_samples.root / own_samples.paths[9]
    path.unlink()
    os.mkfifo(path)
    return path


@needs_fifo
def test_worker_processes(samples, inline, own_samples, fifo):
    """One start of processes for all of it: the same batches, deaf to requests to stop, named when killed."""
    assert torch.equal(read_epochs(samples, 2, process=True), inline)

    section = LoaderSection(timeout_s=4)
    plans = plan_evaluation(36, 6)  # row 9 hangs, in the second batch
    with Loader(reader_of(own_samples), section, workers=2, process=True) as loader:
        batches = loader.batches(plans)
        assert next(batches).rows == plans[0].rows
        workers = loader._makers._workers  # type: ignore[union-attr]
        for worker in workers:  # B4: a Ctrl-C or a time limit reaches every process of a job
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                os.kill(worker.pid, number)
        hung = next(worker for worker, row in zip(workers, _wait_for(loader, 9), strict=True) if row == 9)
        assert all(worker.is_alive() for worker in workers)
        os.kill(hung.pid, signal.SIGKILL)
        with pytest.raises(SampleFailed, match="a loader worker died") as caught:
            next(batches)
        assert caught.value.sample_ids == (own_samples.sample_ids[9],)
    _assert_gone(workers)


def _wait_for(loader: Loader, row: int) -> list[int]:
    deadline = time.monotonic() + 60
    while row not in loader._makers._report and time.monotonic() < deadline:  # type: ignore[union-attr]
        time.sleep(0.02)
    time.sleep(0.2)  # the other one gets to its own hang or to the end of its work
    return list(loader._makers._report)  # type: ignore[union-attr]


def _assert_gone(workers: list[object]) -> None:
    deadline = time.monotonic() + 10
    while any(worker.is_alive() for worker in workers) and time.monotonic() < deadline:  # type: ignore[attr-defined]
        time.sleep(0.05)
    assert not [worker for worker in workers if worker.is_alive()]  # type: ignore[attr-defined]


@needs_fifo
@pytest.mark.soak
def test_a_hung_or_failing_worker_process_is_named_and_ended(own_samples, fifo):
    with Loader(reader_of(own_samples), LoaderSection(timeout_s=12), workers=2, process=True) as loader:
        with pytest.raises(SampleFailed, match="No batch within 12 s") as caught:
            list(loader.batches(plan_evaluation(36, 6)))
        assert caught.value.sample_ids == (own_samples.sample_ids[9],)
        workers = loader._makers._workers  # type: ignore[union-attr]
    _assert_gone(workers)

    fifo.unlink()  # gone altogether: the message is the reader's, and it comes at once
    with (
        Loader(reader_of(own_samples), LoaderSection(), workers=2, process=True) as loader,
        pytest.raises(SampleFailed, match="was sound when the data was checked") as caught,
    ):
        list(loader.batches(plan_evaluation(36, 6)))
    assert caught.value.sample_ids == (own_samples.sample_ids[9],)


def test_a_failure_travels_between_processes():
    import pickle

    again = pickle.loads(pickle.dumps(SampleFailed("why", ["a/b.jpg"])))
    assert isinstance(again, SampleFailed)
    assert (str(again), again.sample_ids) == ("why", ("a/b.jpg",))


def test_rows_are_plain_numbers(samples):
    """A plan travels to worker processes and into messages: no numpy scalars in it."""
    plan = plan_training_epoch(5, 2, seed=0, epoch=0)[0]
    assert all(type(row) is int for row in plan.rows)
    assert not any(isinstance(row, np.integer) for row in plan.rows)
