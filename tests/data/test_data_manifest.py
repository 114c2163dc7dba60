from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from praxiscope.data.manifest import Finding, Manifest, build_table, read_manifest, write_manifest
from praxiscope.errors import DataError, IntegrityError


def make_manifest(**changes: object) -> Manifest:
    rows = [
        {"sample_id": f"{split}/é\n{n}.jpg", "path": f"{split}/é\n{n}.jpg", "split": split,
         "action": "ab"[n % 2], "sha256": f"{n:064x}", "phash": "0" * 64, "width": 4, "height": 3,
         "quarantine": "bad" if n == 3 else None}
        for split in ("train", "test")
        for n in range(5)
    ]  # fmt: skip
    rows[-1] |= changes
    finding = Finding(code="D2.unreadable", severity="warning", message="m", count=2, examples=("x", "y"))
    return Manifest(
        table=build_table(rows, ("action",)),
        root=Path("/data"),
        heads={"action": ("a", "b")},
        source="folder",
        findings=(finding,),
    )


def test_round_trip(tmp_path: Path) -> None:
    manifest = make_manifest()
    write_manifest(manifest, tmp_path / "manifest.parquet")
    again = read_manifest(tmp_path / "manifest.parquet")
    assert again == manifest
    assert again.fingerprint == manifest.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.parquet"]


def test_the_file_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_manifest(make_manifest(), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_usable_rows_are_sorted_and_without_quarantine() -> None:
    table = make_manifest().usable("train")
    assert table["sample_id"].to_pylist() == [f"train/é\n{n}.jpg" for n in (0, 1, 2, 4)]
    assert make_manifest().usable(None).num_rows == 8
    assert make_manifest().usable("val").num_rows == 0


@pytest.mark.parametrize(
    "change", [{"split": "val"}, {"action": "b"}, {"sha256": "f" * 64}, {"twin_of": "train/x"},
               {"quarantine": "bad"}, {"sample_id": "test/z.jpg"}]
)  # fmt: skip
def test_the_fingerprint_follows_what_matters(change: dict[str, str]) -> None:
    assert make_manifest(**change).fingerprint != make_manifest().fingerprint


def test_the_fingerprint_leaves_the_rest_out() -> None:
    manifest = make_manifest()
    assert make_manifest(width=999, phash="1" * 64, cluster="c").fingerprint == manifest.fingerprint
    assert replace(manifest, root=Path("/elsewhere"), findings=()).fingerprint == manifest.fingerprint
    assert replace(manifest, heads={"action": ("a", "b", "c")}).fingerprint != manifest.fingerprint


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    write_manifest(make_manifest(), path)
    whole = path.read_bytes()
    for data in (b"", b"PAR1", whole[:-20], whole[: len(whole) // 2], b"PAR1" + bytes(len(whole))):
        path.write_bytes(data)
        with pytest.raises(IntegrityError, match="no intact manifest"):
            read_manifest(path)


def test_rows_that_were_edited_are_refused(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "manifest.parquet"
    write_manifest(make_manifest(), path)
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    with pytest.raises(IntegrityError, match="don't have the fingerprint"):
        read_manifest(path)


def test_another_table_is_no_manifest(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(IntegrityError, match="no intact manifest"):
        read_manifest(tmp_path / "other.parquet")
    with pytest.raises(FileNotFoundError):
        read_manifest(tmp_path / "gone.parquet")


def test_errors_are_raised_all_at_once() -> None:
    manifest = make_manifest()
    manifest.require_usable()
    bad = tuple(Finding(code=c, severity="error", message=f"about {c}", count=1) for c in ("C3.x", "D2.y"))
    with pytest.raises(DataError, match=r"about C3\.x\n- about D2\.y"):
        replace(manifest, findings=(*manifest.findings, *bad)).require_usable()


def test_a_finding_counts_all_and_keeps_twenty() -> None:
    finding = Finding.of("D8.stray", "note", "m", [str(n) for n in range(50)])
    assert (finding.count, len(finding.examples)) == (50, 20)


def test_damage_outside_the_fingerprint_is_found_too(tmp_path, photos):
    """A cell that the fingerprint doesn't cover, such as a path or a hash, changed behind the checksum."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from praxiscope.data.build import build_manifest
    from praxiscope.recipe.schema import DataSection

    path = tmp_path / "manifest.parquet"
    write_manifest(build_manifest(photos, DataSection(), seed=0), path)
    table = pq.read_table(path)
    for column, value in (("phash", "0" * 64), ("path", "elsewhere.jpg"), ("width", 1), ("group", "someone")):
        place = table.schema.get_field_index(column)
        cells = [value, *table.column(column).to_pylist()[1:]]
        changed = table.set_column(
            place, table.schema.field(place), pa.array(cells, type=table.schema.field(place).type)
        )
        pq.write_table(changed, path)
        with pytest.raises(IntegrityError, match="damaged"):
            read_manifest(path)
