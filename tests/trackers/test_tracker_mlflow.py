"""MLflow: a store in the run folder for real, and a server on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fake_mlflow_server import FakeMlflowServer
from tracked_runs import Following, build_recipe, read_all, read_expected, read_mlflow

from praxiscope.errors import EnvironmentProblem
from praxiscope.training.trackers import mlflow as adapter
from praxiscope.training.trackers.base import TrackedRun
from praxiscope.workflows.train import train

pytest.importorskip("mlflow", reason="the extra 'mlflow' is not installed")


@pytest.fixture
def server(monkeypatch) -> Iterator[FakeMlflowServer]:
    with FakeMlflowServer() as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://anna:canary9@{server.address}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        yield server


def test_own_store_holds_every_epoch_under_its_step(tracked):
    run, notes = tracked
    stored, history = read_mlflow(run)
    assert history == read_expected(run)
    assert stored.info.status == "FINISHED"
    assert stored.info.run_name == "my run"
    assert stored.data.params["train.lr"] == "0.003"
    known = run.read_run_json()
    assert stored.data.params["fingerprint.data"] == known["data"]["manifest_fingerprint"]
    assert stored.data.params["environment.cpu"] == known["environment"]["cpu"]
    assert stored.data.tags["praxiscope.run"] == run.run_id
    assert any("MLflow" in note and stored.info.run_id in note for note in notes)


def test_a_server_gets_all_and_its_password_is_nowhere(server, few_images, tmp_path):
    watch = Following()
    recipe = build_recipe("mlflow", track__offline=False)
    run = train(recipe, data=few_images, output=tmp_path, device="cpu", watch=watch)
    (stored,) = server.runs.values()
    assert stored["status"] == "FINISHED"
    for step, figures in read_expected(run):
        assert {m["key"]: m["value"] for m in stored["metrics"] if m["step"] == step} == figures
    assert any(f"http://***@{server.address}" in note for note in watch.notes)
    found = {path for path, content in read_all(tmp_path).items() if b"canary9" in content}
    assert found == set()
    train(recipe, resume=run.path, output=tmp_path, device="cpu", epochs=3)
    assert len(server.runs) == 1
    assert stored["tags"] == {
        "resumed.train.epochs": "3",
        "resumed.fingerprint.recipe": run.read_run_json()["recipe_fingerprint"],
    }
    assert sorted(m["step"] for m in stored["metrics"] if m["key"] == "epoch") == [2, 4, 6]


def test_a_server_that_breaks_is_noted_once_and_gets_the_rest_later(server, few_images, tmp_path):
    def break_server(row) -> None:
        server.broken = row["epoch"] == 1 or server.broken

    watch = Following(on_epoch=break_server)
    recipe = build_recipe("mlflow", track__offline=False, train__epochs=3)
    run = train(recipe, data=few_images, output=tmp_path, device="cpu", watch=watch)
    assert len(run.read_metrics()) == 3
    (warning,) = [note for note in watch.notes if "WARNING" in note]
    assert "MLflow has failed (" in warning
    assert "epoch 2 and those after it are not there" in warning
    assert "canary9" not in run.train_log.read_text(encoding="utf-8")
    server.broken = False
    train(None, resume=run.path, output=tmp_path, device="cpu")
    (stored,) = server.runs.values()
    assert [m["value"] for m in stored["metrics"] if m["key"] == "epoch"] == [1, 2, 3]
    assert stored["status"] == "FINISHED"


def test_a_server_that_does_not_answer_is_an_error_before_training(server, few_images, tmp_path):
    server.broken = True
    with pytest.raises(EnvironmentProblem, match=r"MLflow at http://\*\*\*@127(.|\n)*training has not begun"):
        train(build_recipe("mlflow", track__offline=False), data=few_images, output=tmp_path, device="cpu")
    assert not list(tmp_path.rglob("metrics.jsonl"))


@pytest.mark.parametrize("how", ["recipe", "environment"])
def test_offline_refuses_a_server_before_a_folder_is_made(how, server, few_images, tmp_path, monkeypatch):
    if how == "environment":
        monkeypatch.setenv("PRAXISCOPE_OFFLINE", "1")
    recipe = build_recipe("mlflow", track__offline=how == "recipe")
    with pytest.raises(
        EnvironmentProblem, match=r"MLFLOW_TRACKING_URI is http://\*\*\*@127.* not on this machine"
    ):
        train(recipe, data=few_images, output=tmp_path / "runs", device="cpu")
    assert not (tmp_path / "runs").exists()
    assert server.headers == []


def test_the_own_store_stays_what_it_was(tmp_path, monkeypatch):
    run = TrackedRun(folder=tmp_path, project="p", name="n", run_id="r", offline=True, config={})
    monkeypatch.setattr(adapter, "_has_database", lambda: True)
    assert adapter._choose_own_store(run) == f"sqlite:///{(tmp_path / 'mlflow.db').as_posix()}"
    (tmp_path / "mlruns").mkdir()
    assert adapter._choose_own_store(run) == (tmp_path / "mlruns").as_uri()
    monkeypatch.setattr(adapter, "_has_database", lambda: False)
    (tmp_path / "mlflow.db").touch()
    assert adapter._choose_own_store(run).startswith("sqlite:")
