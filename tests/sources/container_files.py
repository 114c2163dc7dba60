"""Writers of the published container formats, byte by byte, for tests of the readers."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from praxiscope.data.build import build_manifest
from praxiscope.data.manifest import Finding, Manifest
from praxiscope.recipe.schema import DataSection


def build(root: Path, *, seed: int = 0, **options: object) -> Manifest:
    return build_manifest(root, DataSection(**options), seed=seed, use_cache=False)


def codes(manifest: Manifest) -> dict[str, Finding]:
    return {finding.code: finding for finding in manifest.findings}


def labels_of(manifest: Manifest) -> dict[str, str]:
    table = manifest.usable(None)
    return dict(zip(table["sample_id"].to_pylist(), table["action"].to_pylist(), strict=True))


def counts(manifest: Manifest) -> dict[str, int]:
    return {split: manifest.usable(split).num_rows for split in ("train", "val", "test")}


def draw(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Return `count` different uint8 pictures of a shape, smooth enough for JPEG, unlike each other."""
    return np.random.default_rng([seed, count]).integers(0, 256, (count, *shape), dtype=np.uint8)


def encode(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


# idx -----------------------------------------------------------------------------------------------------


def idx_bytes(array: np.ndarray, *, kind: int = 8) -> bytes:
    header = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def write_idx(
    folder: Path, images: np.ndarray, labels: Sequence[int], part: str = "train", *, packed: bool = True
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (
        (f"{part}-images-idx3-ubyte", images),
        (f"{part}-labels-idx1-ubyte", np.array(labels, np.uint8)),
    ):
        content = idx_bytes(array)
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
        else:
            (folder / name).write_bytes(content)


# CIFAR ---------------------------------------------------------------------------------------------------


def py2_string(value: bytes) -> bytes:
    """SHORT_BINSTRING or BINSTRING: what Python 2 wrote for str."""
    return (
        b"U" + bytes([len(value)]) + value
        if len(value) < 256
        else b"T" + struct.pack("<i", len(value)) + value
    )


def py2_list(values: Sequence[int | bytes]) -> bytes:
    items = [py2_string(v) if isinstance(v, bytes) else b"J" + struct.pack("<i", v) for v in values]
    return b"](" + b"".join(items) + b"e"


def py2_array(array: np.ndarray) -> bytes:
    """An array as numpy 1.6 pickled it by protocol 2."""
    shape = b"(" + b"".join(b"J" + struct.pack("<i", length) for length in array.shape) + b"t"
    dtype = (
        b"cnumpy\ndtype\n(" + py2_string(b"u1") + b"K\x00K\x01tR(K\x03" + py2_string(b"|")
        + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb"
    )  # fmt: skip
    start = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + py2_string(b"b") + b"tR"
    return start + b"(K\x01" + shape + dtype + b"\x89" + py2_string(array.tobytes()) + b"tb"


def py2_pickle(entries: Mapping[bytes, bytes]) -> bytes:
    """A mapping of which each value is pickled already."""
    return b"\x80\x02}(" + b"".join(py2_string(k) + v for k, v in entries.items()) + b"u."


def flatten(pixels: np.ndarray) -> np.ndarray:
    """(N, 32, 32, 3) -> (N, 3072), planes after each other."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).reshape(len(pixels), -1)


def cifar10_batch(pixels: np.ndarray, labels: Sequence[int]) -> bytes:
    return py2_pickle(
        {
            b"batch_label": py2_string(b"training batch 1 of 5"),
            b"labels": py2_list(labels),
            b"data": py2_array(flatten(pixels)),
            b"filenames": py2_list([b"picture_%d.png" % row for row in range(len(labels))]),
        }
    )


def write_cifar10(folder: Path, pixels: np.ndarray, labels: Sequence[int], names: Sequence[str]) -> Path:
    """Five training batches and a test batch of equal size."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for name, rows in zip(parts, np.array_split(np.arange(len(labels)), 6), strict=True):
        (folder / name).write_bytes(cifar10_batch(pixels[rows], [labels[row] for row in rows]))
    meta = py2_pickle({b"label_names": py2_list([name.encode() for name in names])})
    (folder / "batches.meta").write_bytes(meta)
    return folder


def write_cifar100(folder: Path, pixels: np.ndarray, fine: Sequence[int], coarse: Sequence[int]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    half = len(fine) // 2
    for name, rows in (("train", slice(0, half)), ("test", slice(half, None))):
        content = {
            b"fine_labels": py2_list(fine[rows]),
            b"coarse_labels": py2_list(coarse[rows]),
            b"data": py2_array(flatten(pixels[rows])),
        }
        (folder / name).write_bytes(py2_pickle(content))
    names = {
        b"fine_label_names": py2_list([b"fine %02d" % n for n in range(100)]),
        b"coarse_label_names": py2_list([b"coarse %02d" % n for n in range(20)]),
    }
    (folder / "meta").write_bytes(py2_pickle(names))
    return folder


# Parquet -------------------------------------------------------------------------------------------------


def write_parquet(
    path: Path, columns: Mapping[str, pa.Array], note: object = None, **options: object
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(dict(columns))
    if note is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps(note)})
    pq.write_table(table, path, **options)


def image_column(pixels: np.ndarray) -> pa.Array:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": encode(p), "path": f"{n}.png"} for n, p in enumerate(pixels)], kind)


def hub_note(names: Sequence[str] | None, *, label: str = "label", image: str = "image") -> dict[str, object]:
    kind = (
        {"names": names, "_type": "ClassLabel"} if names is not None else {"dtype": "int64", "_type": "Value"}
    )
    return {"info": {"features": {image: {"_type": "Image"}, label: kind}}}


# tar -----------------------------------------------------------------------------------------------------


def write_tar(path: Path, members: Sequence[tuple[str | tarfile.TarInfo, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name) if isinstance(name, str) else name
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def flip_byte(path: Path, content: bytes) -> None:
    """Flip one byte in the middle of `content`, which lies in the file; size and time stay."""
    import os

    status, whole = path.stat(), bytearray(path.read_bytes())
    place = whole.index(content) + len(content) // 2
    whole[place] ^= 1
    path.write_bytes(whole)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
