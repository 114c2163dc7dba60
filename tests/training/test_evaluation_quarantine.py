"""A sample that training had to leave out is left out of evaluation too, and counted."""

from __future__ import annotations

from pathlib import Path

import praxiscope as px
from praxiscope.data.manifest import read_manifest
from praxiscope.training.watch import Silent


class _Listener(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_quarantined_sample_is_left_out_and_named_by_count(photos: Path, tmp_path: Path) -> None:
    recipe = px.load_recipe(
        {"name": "small", "model": {"name": "test_resnet", "img_size": 32}},
        {"train.epochs": 1, "train.batch_size": 8, "loader.workers": 0},
    )
    run = px.train(recipe, data=photos, output=tmp_path / "runs")
    lost = read_manifest(run.manifest).usable("test").column("sample_id").to_pylist()[0]
    (photos / lost).unlink()
    run.update_run_json({"quarantined": [lost]})
    listener = _Listener()
    result = px.evaluate(run, watch=listener)
    assert result.metrics["num_samples"] == 17
    assert lost not in result.predictions.sample_ids
    assert any(note.startswith("1 sample of test left out") for note in listener.notes)
