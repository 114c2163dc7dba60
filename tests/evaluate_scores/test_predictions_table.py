import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from praxiscope.errors import DataError, IntegrityError, UsageError
from praxiscope.evaluation.predictions import (
    HeadOutputs,
    Predictions,
    PredictionsInfo,
    build_predictions,
    read_predictions,
    write_predictions,
)

INFO = PredictionsInfo(
    heads={"verb": ("cut", "wash"), "noun": ("cup", "knife", "pan")},
    weights_sha256="ab" * 32,
    manifest_fingerprint="cd" * 32,
    recipe_name="epic",
    created="2026-01-02T03:04:05Z",
)


def build(**changes):
    """Three samples of two heads, given out of order."""
    arguments = {
        "sample_ids": ["b", "c", "ä\n<script>"],
        "splits": "val",
        "outputs": {
            "verb": HeadOutputs(
                targets=np.array([0, 1, 0]), logits=np.array([[1, 0], [2, 3], [0.5, 0]], np.float16)
            ),
            "noun": HeadOutputs(targets=np.array([2, 0, 1], np.uint8), logits=np.arange(9.0).reshape(3, 3)),
        },
        "groups": ["p1", None, "p1"],
        "clean": [True, False, True],
    }
    return build_predictions(changes.pop("info", INFO), **{**arguments, **changes})


def outputs(**changes):
    return {"verb": HeadOutputs(targets=np.array([0, 1, 0]), logits=np.zeros((3, 2)))} | {
        "noun": HeadOutputs(**({"targets": np.array([2, 0, 1]), "logits": np.zeros((3, 3))} | changes))
    }


def test_what_is_written_is_read(tmp_path):
    predictions = build()
    write_predictions(predictions, tmp_path / "val.parquet")
    again = read_predictions(tmp_path / "val.parquet")
    assert again.table.equals(predictions.table)
    assert again.info == predictions.info
    assert again.fingerprint == predictions.fingerprint


def test_columns_are_as_documented():
    table = build().table
    assert table.schema.names == [
        "sample_id", "split", "group", "clean", "target_verb", "logits_verb", "target_noun", "logits_noun",
    ]  # fmt: skip
    assert table.schema.field("logits_noun").type.list_size == 3
    assert table.schema.field("logits_noun").type.value_type == pa.float32()


def test_rows_follow_their_sample_ids():
    predictions = build()
    assert predictions.sample_ids == ["b", "c", "ä\n<script>"]
    shuffled = build(
        sample_ids=["c", "ä\n<script>", "b"],
        outputs={
            "verb": HeadOutputs(targets=np.array([1, 0, 0]), logits=np.array([[2, 3], [0.5, 0], [1, 0]])),
            "noun": HeadOutputs(targets=np.array([0, 1, 2]), logits=np.arange(9.0).reshape(3, 3)[[1, 2, 0]]),
        },
        groups=[None, "p1", "p1"],
        clean=[False, True, True],
    )
    assert shuffled.table.equals(predictions.table)
    assert shuffled.fingerprint == predictions.fingerprint


def test_accessors():
    predictions = build()
    assert len(predictions) == 3
    assert predictions.split == "val"
    assert predictions.groups == ["p1", None, "p1"]
    assert predictions.clean.tolist() == [True, False, True]
    assert predictions.targets("noun").tolist() == [2, 0, 1]
    assert predictions.logits("verb").tolist() == [[1, 0], [2, 3], [0.5, 0]]
    assert predictions.preds("noun").tolist() == [2, 2, 2]
    assert predictions.names("verb") == ("cut", "wash")


def test_selected_rows_keep_their_logits():
    clean = build().select(np.array([False, True, True]))
    assert clean.sample_ids == ["c", "ä\n<script>"]
    assert clean.logits("noun").tolist() == [[3, 4, 5], [6, 7, 8]]
    assert len(clean.select(np.array([False, False])).logits("noun")) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"sample_ids": ["b", "c", "d"]},
        {"outputs": outputs()},
        {"outputs": outputs(targets=np.array([2, 0, 0]))},
        {"outputs": outputs(logits=np.full((3, 3), 1e-6))},
    ],
)
def test_the_fingerprint_tells_other_ids_targets_and_logits(change):
    assert build(**change).fingerprint != build().fingerprint


def test_splits_can_be_taken_apart():
    mixed = build(splits=["val", "test", "val"])
    assert mixed.for_split("test").sample_ids == ["c"]
    assert len(mixed.for_split("val")) == 2
    with pytest.raises(DataError, match=r"3 samples of 2 splits \(test, val\)"):
        _ = mixed.split
    with pytest.raises(UsageError, match="No predictions of split 'train'; there are test, val"):
        mixed.for_split("train")


def test_heads_are_chosen_by_name():
    with pytest.raises(UsageError, match="No head was named; the predictions have verb, noun"):
        build().logits()
    with pytest.raises(UsageError, match=r"There is no head 'nuon'.*Did you mean 'noun'"):
        build().targets("nuon")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample_ids": ["a", "b"]}, "group has 3 entries for 2|split has|clean has 3 entries for 2"),
        ({"groups": ["a"]}, "group has 1 entries for 3 sample ids"),
        ({"clean": [True]}, "clean has 1 entries for 3"),
        ({"splits": ["val"]}, "split has 1 entries for 3"),
        ({"sample_ids": ["a", "b", "a"]}, "1 samples were predicted more than once, for example 'a'"),
        ({"sample_ids": ["a", None, "b"]}, "1 of 3 predictions have no sample_id"),
        ({"sample_ids": ["a", "b", "\ud800"]}, "Column sample_id can't be stored"),
        ({"outputs": {"verb": outputs()["verb"]}}, r"heads \['verb'\] were given where the heads are"),
        (
            {"outputs": outputs(targets=np.array([0, 3, 0]))},
            r"target_noun of sample 'c' is 3, outside .* 0\.\.2",
        ),
        (
            {"outputs": outputs(targets=np.array([0, 1, -1]))},
            r"is -1, outside the allowed range 0\.\.2 \(1 samples",
        ),
        (
            {"outputs": outputs(targets=np.array([0, 2**40, 0]))},
            "Column target_noun can't be stored as int32",
        ),
        ({"outputs": outputs(targets=np.array([0.0, 1, 2]))}, "target_noun must be whole numbers.*float64"),
        ({"outputs": outputs(logits=np.zeros((3, 2)))}, r"logits_noun has shape \(3, 2\), where the 3 names"),
        ({"outputs": outputs(logits=np.zeros((2, 3)))}, "logits_noun has 2 entries for 3"),
        ({"outputs": outputs(logits=np.zeros(9))}, "logits_noun has 9 entries|has shape"),
        (
            {"outputs": outputs(logits=np.full((3, 3), np.nan))},
            "logits_noun of 3 of 3 samples hold NaN or infinity",
        ),
        (
            {"outputs": outputs(logits=np.array([[0, 0, 0], [0, np.inf, 0], [0, 0, 0]]))},
            "1 of 3 .* first of 'c'",
        ),
    ],
)
def test_malformed_predictions_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        build(**change)


def test_logits_too_large_for_float32_are_named_not_stored_as_infinity():
    with pytest.raises(DataError, match="NaN or infinity"):
        build(outputs=outputs(logits=np.full((3, 3), 1e300)))


def test_no_samples_are_a_table_too(tmp_path):
    empty = build(
        sample_ids=[],
        outputs={
            "verb": HeadOutputs(targets=np.array([], int), logits=np.empty((0, 2))),
            "noun": HeadOutputs(targets=np.array([], int), logits=np.empty((0, 3))),
        },
        groups=None,
        clean=None,
    )
    write_predictions(empty, tmp_path / "empty.parquet")
    assert len(read_predictions(tmp_path / "empty.parquet")) == 0


def test_a_head_without_names_is_refused():
    bare = dataclasses.replace(INFO, heads={"verb": ()})
    with pytest.raises(DataError, match="'verb' has no label names"):
        build(info=bare, outputs={"verb": HeadOutputs(targets=np.zeros(3, int), logits=np.empty((3, 0)))})


def test_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"no predictions at .*gone\.parquet\. Evaluate the run"):
        read_predictions(tmp_path / "gone.parquet")


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_a_file_that_is_no_parquet_is_named(tmp_path, content):
    path = tmp_path / "test.parquet"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"test\.parquet is damaged or no Parquet file"):
        read_predictions(path)


def test_some_other_parquet_table_is_named(tmp_path):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match="is no predictions table: it lacks the metadata"):
        read_predictions(tmp_path / "other.parquet")


def rewrite(path, *, metadata=None, table=None):
    stored = pq.read_table(path)
    told = dict(stored.schema.metadata)
    if metadata is not None:
        told[b"praxiscope"] = metadata(told[b"praxiscope"])
    changed = stored if table is None else table(stored)
    pq.write_table(changed.replace_schema_metadata(told), path)


@pytest.mark.parametrize(
    ("metadata", "table", "error", "message"),
    [
        (lambda text: text.replace(b"knife", b"spoon"), None, IntegrityError, "isn't what its checksum says"),
        (lambda text: text.replace(b'"cup", "knife"', b'"knife", "cup"'), None, IntegrityError, "checksum"),
        (lambda text: text[:20], None, IntegrityError, "its metadata can't be read"),
        (lambda text: b"{}", None, IntegrityError, "has no checksum"),
        (
            lambda text: text.replace(b'"created"', b'"made"'),
            None,
            IntegrityError,
            "lacks or garbles 'created'",
        ),
        (
            lambda text: text.replace(b'"schema": 1', b'"schema": 2'),
            None,
            DataError,
            "has layout 2, this version",
        ),
        (None, lambda table: table.slice(1), IntegrityError, "isn't what its checksum says"),
        (None, lambda table: table.drop_columns(["group"]), DataError, "its columns are"),
        (
            None,
            lambda table: table.set_column(2, table.schema.field("group"), pa.array(["p1", "p1", "p1"])),
            IntegrityError,
            "isn't what its checksum says",
        ),
    ],
)
def test_a_changed_file_is_refused(tmp_path, metadata, table, error, message):
    path = tmp_path / "val.parquet"
    write_predictions(build(), path)
    rewrite(path, metadata=metadata, table=table)
    with pytest.raises(error, match=message):
        read_predictions(path)


def read_or_refuse(path, good):
    """Return what reading a damaged file came to."""
    try:
        again = read_predictions(path)
    except (IntegrityError, DataError) as problem:
        return "refused" if str(path) in str(problem) else f"refused without its name: {problem}"
    return "same" if again.table.equals(good.table) and again.info == good.info else "something else"


def damage(path, good, count):
    rng = np.random.default_rng(0)
    whole = path.read_bytes()
    for _ in range(count):
        flipped = bytearray(whole)
        flipped[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        yield "flip", read_or_refuse(path, good)
        path.write_bytes(whole[: rng.integers(len(whole))])
        yield "cut", read_or_refuse(path, good)


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.soak)])
def test_flipped_bits_and_cut_files_are_never_read_as_something_else(tmp_path, make_predictions, count):
    good = make_predictions(size=40)
    path = tmp_path / "test.parquet"
    write_predictions(good, path)
    outcomes = list(damage(path, good, count))
    assert {outcome for kind, outcome in outcomes if kind == "cut"} == {"refused"}
    # Some bytes of a Parquet file carry nothing that is read: statistics, offsets, the writer's name.
    flips = [outcome for kind, outcome in outcomes if kind == "flip"]
    assert set(flips) <= {"refused", "same"}
    assert flips.count("refused") > count / 2


def test_an_interrupted_write_leaves_the_old_file_and_nothing_beside_it(
    tmp_path, monkeypatch, make_predictions
):
    path = tmp_path / "test.parquet"
    write_predictions(make_predictions(seed=1), path)
    before = path.read_bytes()

    def stop(table, aside, **options):
        aside.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pq, "write_table", stop)
    with pytest.raises(KeyboardInterrupt):
        write_predictions(make_predictions(seed=2), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_same_predictions_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_predictions(build(), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_names_with_markup_and_quotes_survive(tmp_path, make_predictions):
    names = ("<script>alert(1)</script>", 'say "hi"', "=1+1", "line\nbreak", "الجري", "走る")
    predictions = make_predictions(names=names)
    write_predictions(predictions, tmp_path / "test.parquet")
    assert read_predictions(tmp_path / "test.parquet").names() == names


def test_the_class_is_public():
    import praxiscope

    assert praxiscope.Predictions is Predictions
