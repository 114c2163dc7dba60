"""Layers can be watched while a run trains, and the run is the same run."""

from __future__ import annotations

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_parts import build_recipe, digest, stopping_at

import praxiscope as px
from praxiscope.errors import Preempted


def read_events(run):
    events = EventAccumulator(str(run.tensorboard), size_guidance={"histograms": 0, "scalars": 0})
    return events.Reload()


@pytest.mark.parametrize(
    "overrides",
    [
        {"model.drop_rate": 0.4, "train.ema_decay": 0.9},
        {"model.freeze": ["backbone"], "features.views": 1, "augment": "none"},
    ],
)
def test_histograms_leave_the_result_bit_for_bit(overrides, noise_folder, tmp_path):
    plain = px.train(build_recipe(overrides), data=noise_folder, output=tmp_path / "plain")
    watched = px.train(
        build_recipe({**overrides, "train.histogram_every_epochs": 1}),
        data=noise_folder,
        output=tmp_path / "watched",
    )
    assert digest(watched) == digest(plain)
    assert not read_events(plain).Tags()["histograms"]
    events = read_events(watched)
    assert "activations/conv1.2" in events.Tags()["histograms"]
    assert "gradients/conv1.2" in events.Tags()["histograms"]
    assert [each.step for each in events.Histograms("gradients/conv1.2")] == [3, 6]
    shares = [each.value for each in events.Scalars("layers_dead_share/conv1.2")]
    assert all(0 <= share <= 1 for share in shares)
    histogram = events.Histograms("activations/conv1.2")[0].histogram_value
    assert sum(histogram.bucket) == pytest.approx(histogram.num, rel=0.01)


def test_a_stopped_run_measures_the_same_epochs_and_ends_the_same(noise_folder, tmp_path):
    recipe = build_recipe({"train.epochs": 4, "train.histogram_every_epochs": 2})
    whole = px.train(recipe, data=noise_folder, output=tmp_path / "whole")
    with pytest.raises(Preempted):
        px.train(recipe, data=noise_folder, output=tmp_path / "runs", watch=stopping_at(8, 15))
    resumed = px.train(recipe, data=noise_folder, output=tmp_path / "runs", resume=True)
    assert digest(resumed) == digest(whole)
    tag = "layers_gradient_norm/conv1.2"
    first, second = (read_events(run).Scalars(tag) for run in (whole, resumed))
    assert [(each.step, each.value) for each in first] == [(each.step, each.value) for each in second]
    assert [each.step for each in first] == [6, 12]


def test_how_often_may_change_on_resume(noise_folder, tmp_path):
    with pytest.raises(Preempted):
        px.train(build_recipe(), data=noise_folder, output=tmp_path, watch=stopping_at(4, 15))
    recipe = build_recipe({"train.histogram_every_epochs": 1})
    run = px.train(recipe, data=noise_folder, output=tmp_path, resume=True)
    assert run.read_status()["state"] == "done"
