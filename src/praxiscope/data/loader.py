"""Batches in a fixed order, made ahead by threads or processes.

A batch is a function of its plan alone: (seed, epoch, rows). So the number of workers, their kind and a
resume in mid-epoch change nothing about what the model sees.

Threads are the default beside a CPU model: decoding and resizing release the interpreter lock, a batch is
collated once as uint8, and nothing is copied between processes.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import queue
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from praxiscope.data.clips.pack_reader import ClipPack, PackedClips
from praxiscope.data.clips.spans import Span
from praxiscope.data.images import ImageUnreadable
from praxiscope.data.manifest import Manifest
from praxiscope.data.media import decode_sample
from praxiscope.data.pack_reader import Pack, PackedRows
from praxiscope.data.plan import AUGMENT_STREAM, BatchPlan
from praxiscope.data.transforms import EvalTransform, TrainTransform
from praxiscope.errors import DataError, UsageError
from praxiscope.recipe.schema import LoaderSection
from praxiscope.tensors import Batch, Heads

_IDLE, _STARTING = -1, -2  # what a worker reports besides the row that it reads
_START_S = 600.0  # importing torch from a cold network disk takes minutes


class SampleFailed(DataError):
    """A sample that was sound when the data was checked could not be read, or its reader hung or died.

    Attributes:
        sample_ids: the samples that were being read.
    """

    def __init__(self, message: str, sample_ids: Sequence[str]) -> None:
        super().__init__(message)
        self.sample_ids = tuple(sample_ids)

    def __reduce__(self) -> tuple[type[Self], tuple[str, tuple[str, ...]]]:
        return type(self), (str(self), self.sample_ids)


@dataclass(frozen=True, kw_only=True)
class SampleSet:
    """One split, ready to read.

    Attributes:
        root: folder that ``paths`` are relative to.
        sample_ids: sorted; a row number means a place in this order.
        paths: relative to ``root``.
        targets: int64, indices into the heads' label names: (N,) of one head, (N, M) of several.
        heads: what there is to answer.
        packed: the same samples in a packed copy, which is read instead of the files.
        spans: (N,) where each clip lies in its video; empty for images.
    """

    root: Path
    sample_ids: tuple[str, ...]
    paths: tuple[str, ...]
    targets: npt.NDArray[np.int64]
    heads: Heads
    packed: PackedRows | PackedClips | None = None
    spans: tuple[Span, ...] = ()

    def __len__(self) -> int:
        return len(self.sample_ids)

    @property
    def names(self) -> tuple[str, ...]:
        """Label names of the only head.

        Raises:
            UsageError: There are several.
        """
        if len(self.heads.names) > 1:
            raise UsageError(
                f"This needs data with one label a sample; here are {' and '.join(self.heads.names)}."
            )
        return next(iter(self.heads.names.values()))


def build_sample_set(
    manifest: Manifest,
    split: str,
    *,
    without: Iterable[str] = (),
    pack: Pack | ClipPack | None = None,
) -> SampleSet:
    """Take one split's usable samples from a manifest; labels become indices **by name**.

    Args:
        manifest: as built or read.
        split: ``train``, ``val`` or ``test``.
        without: sample ids to leave out (a run's quarantine).
        pack: a packed copy of the manifest's images to read instead of them; held by the caller.

    Raises:
        DataError: the split has no usable sample.
    """
    skipped = set(without)
    rows = [row for row in manifest.usable(split).to_pylist() if row["sample_id"] not in skipped]
    if not rows:
        held = sorted(set(manifest.table.column("split").to_pylist()))
        raise DataError(
            f"The split '{split}' of {manifest.root} holds no usable sample; splits here: {', '.join(held)}."
        )
    return SampleSet(
        root=manifest.root,
        sample_ids=tuple(row["sample_id"] for row in rows),
        paths=tuple(row["path"] for row in rows),
        targets=_index_labels(rows, manifest.heads),
        heads=Heads(names=manifest.heads),
        packed=None if pack is None else pack.select([row["sha256"] for row in rows]),
        spans=tuple(Span(first=row["first_frame"], count=row["num_frames"]) for row in rows)
        if manifest.holds_clips
        else (),
    )


def _index_labels(
    rows: Sequence[Mapping[str, Any]], heads: Mapping[str, Sequence[str]]
) -> npt.NDArray[np.int64]:
    """Return int64 targets, (N,) of one head, (N, M) of several."""
    columns = []
    for head, names in heads.items():
        index = {name: place for place, name in enumerate(names)}
        columns.append(np.array([index[row[head]] for row in rows], dtype=np.int64))
    return columns[0] if len(columns) == 1 else np.stack(columns, axis=1)


@dataclass(frozen=True, kw_only=True)
class BatchReader:
    """Makes the batch of a plan; picklable, without state."""

    samples: SampleSet
    transform: TrainTransform | EvalTransform
    seed: int
    max_pixels: int

    def __call__(self, plan: BatchPlan, report: list[int] | Any, slot: int) -> Batch:
        """Read, transform and collate.

        Args:
            plan: which rows.
            report: indexable; ``report[slot]`` holds the row being read, below 0 when idle.
            slot: this worker's place in ``report``.

        Raises:
            SampleFailed: a file can't be read.
        """
        side = self.transform.spec.img_size
        images = np.empty((len(plan.rows), side, side, 3), np.uint8)
        for place, (row, draw) in enumerate(plan.places):
            report[slot] = row
            images[place] = self._read(row, plan.epoch, draw)
        report[slot] = _IDLE
        return Batch(
            images=torch.from_numpy(images).permute(0, 3, 1, 2),
            targets=torch.from_numpy(self.samples.targets[list(plan.rows)]),
            rows=plan.rows,
        )

    def _read(self, row: int, epoch: int, draw: int = 0) -> npt.NDArray[np.uint8]:
        packed = self.samples.packed
        image = packed.read(row) if isinstance(packed, PackedRows) else self._decode(row)
        if isinstance(self.transform, EvalTransform):
            return self.transform(image)
        # A row's first draw of an epoch has the seed that it had before rows could come twice.
        seed = [self.seed, epoch, AUGMENT_STREAM, row, *([draw] if draw else [])]
        return self.transform(image, np.random.default_rng(seed))

    def _decode(self, row: int) -> Image.Image:
        root, path = self.samples.root, self.samples.paths[row]
        try:
            return decode_sample(
                root, path, target_size=self.transform.decode_size, max_pixels=self.max_pixels
            )
        except ImageUnreadable as error:
            sample_id = self.samples.sample_ids[row]
            raise SampleFailed(
                f"'{sample_id}' in {root} was sound when the data was checked and can't be read now: {error}",
                [sample_id],
            ) from error


class Reader(Protocol):
    """Makes the batch of a plan, in any thread or process."""

    @property
    def samples(self) -> SampleSet:
        """The split, to name what was being read."""

    def __call__(self, plan: BatchPlan, report: list[int] | Any, slot: int) -> Batch:
        """Return the batch, as :class:`BatchReader` does."""


class Loader:
    """Turns plans into batches, in order, made ahead by ``workers`` threads or processes.

    Use as a context manager; leaving it ends the workers.
    """

    def __init__(self, reader: Reader, section: LoaderSection, *, workers: int, process: bool) -> None:
        self._reader = reader
        self._section = section
        self._makers: _Inline | _Threads | _Processes
        if workers == 0:
            self._makers = _Inline(reader)
        elif process:
            self._makers = _Processes(reader, section, workers)
        else:
            self._makers = _Threads(reader, section, workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._makers.close()

    def batches(self, plans: Sequence[BatchPlan]) -> Iterator[Batch]:
        """Yield the batch of each plan, in order.

        Raises:
            SampleFailed: a file could not be read, or took longer than ``loader.timeout_s``, or its
                worker died; the message names it.
        """
        return self._makers.batches(plans)


def build_loader(reader: Reader, section: LoaderSection, *, device_type: str, cores: int) -> Loader:
    """Build the loader that suits the device.

    Args:
        reader: makes one batch.
        section: the recipe's ``loader``.
        device_type: ``cpu``, ``cuda`` or ``mps``.
        cores: CPU cores that this process may use.
    """
    backend: Literal["thread", "process"]
    if section.backend == "auto":
        backend = "process" if device_type == "cuda" else "thread"
    else:
        backend = section.backend
    automatic = min(cores, 16) if device_type == "cuda" else min(cores, 4)
    workers = automatic if section.workers == "auto" else section.workers
    return Loader(reader, section, workers=workers, process=backend == "process")


class _Inline:
    """No worker at all: batches are made when they are asked for."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def batches(self, plans: Sequence[BatchPlan]) -> Iterator[Batch]:
        report = [_IDLE]
        for plan in plans:
            yield self._reader(plan, report, 0)

    def close(self) -> None:
        """Nothing to end."""


class _Threads:
    """Daemon threads, each making whole batches: one that hangs can't keep the program from ending."""

    def __init__(self, reader: Reader, section: LoaderSection, workers: int) -> None:
        self._reader = reader
        self._section = section
        self._report = [_IDLE] * workers
        self._tasks: queue.SimpleQueue[tuple[BatchPlan, Future[Batch]] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, args=(slot,), name=f"loader-{slot}", daemon=True)
            for slot in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self, slot: int) -> None:
        while (task := self._tasks.get()) is not None:
            plan, future = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self._reader(plan, self._report, slot))
            except BaseException as error:  # noqa: BLE001 - handed to whoever waits for the batch
                self._report[slot] = _IDLE
                future.set_exception(error)

    def batches(self, plans: Sequence[BatchPlan]) -> Iterator[Batch]:
        ahead: deque[tuple[BatchPlan, Future[Batch]]] = deque()
        rest = iter(plans)
        try:
            while True:
                while len(ahead) < self._section.prefetch + len(self._threads):
                    plan = next(rest, None)
                    if plan is None:
                        break
                    future: Future[Batch] = Future()
                    self._tasks.put((plan, future))
                    ahead.append((plan, future))
                if not ahead:
                    return
                yield self._take(*ahead.popleft())
        finally:
            for _, future in ahead:
                future.cancel()

    def _take(self, plan: BatchPlan, future: Future[Batch]) -> Batch:
        try:
            return future.result(timeout=self._section.timeout_s)
        except FutureTimeoutError:
            # Other threads may be reading sound files of later batches just now.
            rows = [row for row in self._report if row in plan.rows] or self._report
            raise _stalled(self._reader.samples, rows, self._section) from None

    def close(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:  # what nobody waits for any more
                self._tasks.get_nowait()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join(timeout=1.0)


class _PlanSampler:
    """Hands this epoch's plans to workers that live through all epochs."""

    def __init__(self) -> None:
        self.plans: Sequence[BatchPlan] = ()

    def __iter__(self) -> Iterator[BatchPlan]:
        return iter(self.plans)

    def __len__(self) -> int:
        return len(self.plans)


class _PlanDataset(torch.utils.data.Dataset["Batch | SampleFailed"]):
    """Makes the batch of a plan inside a worker process."""

    def __init__(self, reader: Reader, report: Any) -> None:
        self._reader = reader
        self._report = report

    def __getitem__(self, plan: BatchPlan) -> Batch | SampleFailed:
        worker = torch.utils.data.get_worker_info()
        assert worker is not None
        try:
            return self._reader(plan, self._report, worker.id)
        except SampleFailed as failure:  # as a value: torch would raise something that has its text only
            self._report[worker.id] = _IDLE
            return failure


_FOR_THE_PARENT = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
]


def _start_worker(worker_id: int) -> None:
    """Leave requests to stop to the training process, also those sent to all processes of a job (B4)."""
    for number in _FOR_THE_PARENT:
        signal.signal(number, signal.SIG_IGN)
    worker = torch.utils.data.get_worker_info()
    assert worker is not None
    worker.dataset._report[worker_id] = _IDLE  # type: ignore[attr-defined]  # noqa: SLF001 - in this file


@contextlib.contextmanager
def _holding_signals() -> Iterator[None]:
    """Hold signals back while processes start: they inherit this, until they ignore them by themselves."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_PARENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Processes:
    """Worker processes through torch's DataLoader, started fresh (no fork of a threaded process)."""

    def __init__(self, reader: Reader, section: LoaderSection, workers: int) -> None:
        method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        context = multiprocessing.get_context(method)
        if (
            method == "forkserver"
        ):  # torch is imported once, not by each worker; a second call changes nothing
            context.set_forkserver_preload([__name__])
        self._samples = reader.samples
        self._section = section
        self._report = context.Array("q", [_STARTING] * workers, lock=False)
        self._sampler = _PlanSampler()
        self._loader: torch.utils.data.DataLoader[Batch | SampleFailed] = torch.utils.data.DataLoader(
            _PlanDataset(reader, self._report),
            batch_size=None,
            sampler=self._sampler,
            num_workers=workers,
            prefetch_factor=section.prefetch,
            persistent_workers=True,
            timeout=section.timeout_s,
            worker_init_fn=_start_worker,
            multiprocessing_context=context,
            collate_fn=_keep,
        )

    def batches(self, plans: Sequence[BatchPlan]) -> Iterator[Batch]:
        if not plans:
            return
        self._sampler.plans = plans
        with self._naming_files(plans[0]), _holding_signals():
            iterator = iter(self._loader)
        for plan in plans:
            with self._naming_files(plan):
                batch = self._take(iterator)
            if isinstance(batch, SampleFailed):
                raise batch
            yield batch

    def _take(self, iterator: Iterator[Batch | SampleFailed]) -> Batch | SampleFailed:
        """Return the next batch; the time that workers take to start doesn't count as a stall."""
        patience = math.ceil(_START_S / self._section.timeout_s)
        while True:
            starting = _STARTING in self._report
            try:
                return next(iterator)
            except RuntimeError as error:
                patience -= 1
                if not starting or patience <= 0 or not str(error).startswith("DataLoader timed out"):
                    raise

    @contextlib.contextmanager
    def _naming_files(self, plan: BatchPlan) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if not str(error).startswith(("DataLoader timed out", "DataLoader worker")):
                raise
            raise _stalled(self._samples, self._find_culprits(plan), self._section) from error

    def _find_culprits(self, plan: BatchPlan) -> list[int]:
        """Return the row that a dead worker was reading, or else a row of the batch that doesn't come."""
        slots = list(zip(self._workers, self._report, strict=True))
        dead = [row for worker, row in slots if not worker.is_alive() and row >= 0]
        return dead or [row for row in self._report if row in plan.rows] or list(self._report)

    @property
    def _workers(self) -> list[Any]:
        return getattr(getattr(self._loader, "_iterator", None), "_workers", [])

    def close(self) -> None:
        iterator, workers = getattr(self._loader, "_iterator", None), self._workers
        if iterator is not None:
            with contextlib.suppress(AttributeError):
                iterator._shutdown_workers()  # noqa: SLF001 - the only way to end persistent workers at once
        for worker in workers:
            if worker.is_alive():  # hangs in a read, and ignores the polite request
                worker.kill()
                worker.join()


def _keep(batch: Any) -> Any:
    return batch


def _stalled(samples: SampleSet, report: Iterable[int], section: LoaderSection) -> SampleFailed:
    busy = [samples.sample_ids[row] for row in report if row >= 0]
    named = ", ".join(f"'{sample_id}'" for sample_id in busy) or "no file (the worker was idle)"
    return SampleFailed(
        f"No batch within {section.timeout_s:g} s, or a loader worker died, while reading {named} in "
        f"{samples.root}. Look at the file with `praxiscope data check`; on a slow disk raise "
        "loader.timeout_s.",
        busy,
    )
