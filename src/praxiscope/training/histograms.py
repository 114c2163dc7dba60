"""While a run trains: what its layers do, measured on fixed validation images every n epochs.

Measuring draws no random number and leaves no trace in the network (``models.layer_statistics``), so a run
ends with the same bits with and without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from torch import Tensor, nn

from praxiscope.data.clips.reader import SampleReader
from praxiscope.data.plan import BatchPlan
from praxiscope.models.layer_statistics import LayerReport, measure_layers
from praxiscope.models.runtime import Runtime
from praxiscope.models.state import unwrap_module
from praxiscope.tensors import NDIM_WITH_VIEWS
from praxiscope.training.job import Row

NUM_IMAGES = 32
"""Validation images that layers are measured on, at even distances in the split."""
_BATCH_SIZE = 8


def log_with_layers(
    log: Callable[[Row], None],
    write: Callable[[LayerReport, int], None],
    module: nn.Module,
    reader: SampleReader,
    *,
    normalize: Callable[[Tensor], Tensor],
    runtime: Runtime,
    every: int,
) -> Callable[[Row], None]:
    """Return ``log``, which then measures the layers too at the end of every ``every``-th epoch.

    Args:
        log: Writes an epoch's row.
        write: Writes what was measured, with the step.
        module: The network that trains, not its average.
        reader: Reads evaluation images of the validation split.
        normalize: uint8 batch -> the network's input.
        runtime: Where the network is.
        every: Epochs between two measurements; the n-th, 2n-th ... epoch is measured.
    """

    def log_both(row: Row) -> None:
        log(row)
        if int(row["epoch"]) % every == 0:
            batches = _read(reader, normalize, runtime)
            report = measure_layers(unwrap_module(module), batches, heads=reader.samples.heads)
            write(report, int(row["step"]))

    return log_both


def _read(
    reader: SampleReader, normalize: Callable[[Tensor], Tensor], runtime: Runtime
) -> Iterator[tuple[Tensor, Tensor]]:
    count = len(reader.samples)
    rows = np.linspace(0, count - 1, min(NUM_IMAGES, count)).round().astype(int).tolist()
    for start in range(0, len(rows), _BATCH_SIZE):
        batch = reader(BatchPlan(epoch=0, rows=tuple(rows[start : start + _BATCH_SIZE])), [-1], 0)
        images = batch.images[:, 0] if batch.images.ndim == NDIM_WITH_VIEWS else batch.images
        yield normalize(images), batch.targets.to(runtime.device)
