"""``praxiscope profile`` from end to end, on tiny networks and little time."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from praxiscope.cli.main import main
from praxiscope.errors import DataError, EnvironmentProblem, UsageError
from praxiscope.profiling import measure
from praxiscope.profiling.memory import read_peak_resident_mib
from praxiscope.profiling.plan import Plan
from praxiscope.profiling.result import Constraints
from praxiscope.profiling.runtimes.catalog import RUNTIMES, find_runtimes
from praxiscope.profiling.runtimes.onnxruntime import OnnxRuntime
from praxiscope.workflows import profile_subjects
from praxiscope.workflows.profile import profile

SHORT = Plan(runtimes=("onnxruntime",), batch_sizes=(1, 4), budget_s=1.0)


@pytest.fixture(scope="module")
def profiled(small_run, tmp_path_factory):
    """The folder that the command leaves of the run in every runtime there is, with accuracies.

    In a process of its own, as a user has it: OpenVINO, nncf and ONNX Runtime beside what other tests have loaded
    into this one (trackers, open_clip, transformers) have crashed the interpreter.
    """
    folder = tmp_path_factory.mktemp("profile")
    names = ",".join(each.name for each in RUNTIMES if each.name != "compiled")
    arguments = ["profile", str(small_run.path), "--runtimes", names, "--batch-sizes", "1,4", "--budget", "4",
                 "--accuracy", "--max-latency-ms", "10000", "--threads", "1", "-o", str(folder)]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "praxiscope", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def entry(profiled):
    (found,) = json.loads((profiled / "profile.json").read_text(encoding="utf-8"))["entries"]
    return found


def test_profile_json_holds_what_was_agreed(profiled, entry, small_run):
    content = json.loads((profiled / "profile.json").read_text(encoding="utf-8"))
    assert set(content) == {
        "schema", "created", "machine", "entries", "constraints", "choice", "recommendation"
    }  # fmt: skip
    assert content["machine"]["threads"] == 1
    assert entry["run"] == str(small_run.path)
    assert entry["gflops"] == 2 * entry["gmacs"]
    assert entry["accuracy"]["n"] == 12
    assert set(entry["stages_ms"]) == {"decode", "preprocess", "model", "postprocess"}
    for runtime in entry["runtimes"]:
        assert runtime["status"] in {"ok", "refused", "absent"}
        assert (runtime["reason"] is None) == (runtime["status"] == "ok")
        assert (runtime["latency_ms"] is None) == (runtime["status"] != "ok")
    assert content["choice"]["model"] == "tiny"
    assert content["recommendation"]


def test_every_runtime_was_checked_before_it_was_timed(entry):
    ok = [each for each in entry["runtimes"] if each["status"] == "ok"]
    assert {"eager-fp32", "channels-last", "onnxruntime", "openvino"} <= {each["runtime"] for each in ok}
    for each in ok:
        assert each["checked_on"] >= 8
        # On a busy machine the second size may be left out.
        assert [row["batch_size"] for row in each["throughput"]] in ([1], [1, 4])
        if "int8" not in each["runtime"] and "bf16" not in each["runtime"]:
            assert each["relative_diff"] < 1e-3
            assert each["accuracy_difference"] is None or each["accuracy_difference"]["value"] == 0


def test_int8_accuracy_is_paired_with_eager(entry):
    int8 = [each for each in entry["runtimes"] if "int8" in each["runtime"] and each["status"] == "ok"]
    assert int8
    for each in int8:
        assert each["accuracy"] is not None
        assert each["accuracy_difference"]["n"] == 12


def test_a_table_and_a_page_lie_beside_it(profiled, entry):
    with (profiled / "profile.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["runtime"] for row in rows] == [each["runtime"] for each in entry["runtimes"]]
    assert float(rows[0]["latency_ms_p50"]) > 0
    assert (profiled / "profile.html").is_file()


def test_a_model_by_name_is_profiled_on_generated_images(tmp_path, capsys):
    arguments = ["profile", "test_resnet", "--img-size", "32", "--runtimes", "onnxruntime", "--budget", "1",
                 "--threads", "1", "--batch-sizes", "2", "-o", str(tmp_path)]  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    said = capsys.readouterr()
    assert "32 generated JPEGs of 640 x 480 px" in said.out + said.err
    assert "random weights" in said.out
    assert "onnxruntime" in said.out
    assert "eager-fp32" in said.out
    assert (tmp_path / "profile.json").is_file()


def test_a_runtime_that_computes_something_else_is_refused_without_a_time(tmp_path, monkeypatch):
    original = OnnxRuntime.open

    def open_wrong(self, material):
        session = original(self, material)
        return lambda images: session(images) + np.float32(1)

    monkeypatch.setattr(OnnxRuntime, "open", open_wrong)
    monkeypatch.setattr(measure, "measure_peak_memory", lambda *_arguments: 1.0)
    outcome = profile(["test_resnet"], plan=SHORT, img_size=32, output=tmp_path)
    refused = next(each for each in outcome.result.entries[0].runtimes if each.runtime == "onnxruntime")
    assert refused.status == "refused"
    assert "differ from eager fp32" in str(refused.reason)
    assert refused.latency_ms is None
    assert refused.throughput == ()


def test_an_absent_package_is_told_with_what_to_install(tmp_path, monkeypatch):
    missing = "the package onnxruntime is not installed: pip install 'praxiscope[runtimes]'"
    monkeypatch.setattr(OnnxRuntime, "explain_absence", lambda _self: missing)
    monkeypatch.setattr(measure, "measure_peak_memory", lambda *_arguments: None)
    outcome = profile(["test_resnet"], plan=SHORT, img_size=32, output=tmp_path)
    (entry,) = outcome.result.entries
    absent = next(each for each in entry.runtimes if each.runtime == "onnxruntime")
    assert (absent.status, absent.reason) == ("absent", missing)
    assert "Memory of eager-fp32: the fresh process gave no figure." in entry.notes


def test_memory_is_that_of_a_fresh_process():
    # On Linux a child's ru_maxrss is at least its parent's resident memory: this figure isn't.
    ballast = np.ones(300 * 2**17)
    code = "from praxiscope.profiling.memory import read_peak_resident_mib as f; print(f())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    own = read_peak_resident_mib()
    assert own is not None
    assert float(done.stdout) < 200 < ballast.nbytes / 2**20 < own


def test_slips_are_named_before_anything_slow(tmp_path, small_run):
    for sources, more, message in [
        ([], {}, "needs a model's name or a run"),
        (["no-such-model"], {}, "neither a model nor a run"),
        (["resnet18", "resnet18"], {}, "given twice"),
        (["resnet18"], {"plan": Plan(split="dev")}, "choose one of train, val, test"),
        (["resnet18"], {"plan": Plan(batch_sizes=(0,))}, "numbers of at least 1"),
        (["resnet18"], {"plan": Plan(threads=0)}, "at least 1"),
        (["resnet18"], {"plan": Plan(budget_s=0)}, "seconds above 0"),
        (["resnet18"], {"plan": Plan(accuracy=True)}, "has random weights"),
        (["resnet18"], {"constraints": Constraints(runtime="openvin")}, "Did you mean 'openvino'"),
        (["resnet18"], {"plan": Plan(budget_s=float("nan"))}, "seconds above 0"),
        (["resnet18"], {"constraints": Constraints(max_latency_ms=0)}, "milliseconds above 0"),
        (["resnet18"], {"constraints": Constraints(max_memory_mib=-1)}, "MiB above 0"),
        (
            ["resnet18"],
            {"plan": SHORT, "constraints": Constraints(runtime="openvino")},
            "not among --runtimes",
        ),
        (["test_resnet"], {"data": tmp_path / "none"}, "is no folder"),
        ([small_run.path], {"img_size": 64}, "is for models by name"),
        ([small_run.path], {"data": tmp_path / "moved"}, "pass --data with where it is now"),
    ]:
        with pytest.raises(UsageError, match=message):
            profile(sources, runs=tmp_path, **more)
    with pytest.raises(DataError, match="holds no images"):
        profile(["test_resnet"], data=tmp_path)


def test_an_output_that_is_a_file_is_refused_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "praxiscope.workflows.profile.measure_model", lambda *_arguments: pytest.fail("measured")
    )
    (tmp_path / "taken").write_text("mine", encoding="utf-8")
    with pytest.raises(EnvironmentProblem, match="Can't make the folder"):
        profile(["test_resnet"], plan=SHORT, img_size=32, output=tmp_path / "taken")


def test_batches_that_would_break_the_budget_are_left_out_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "measure_peak_memory", lambda *_arguments: 1.0)
    plan = Plan(runtimes=(), batch_sizes=(1, 4096), budget_s=1.0)
    (entry,) = profile(["test_resnet"], plan=plan, img_size=32, output=tmp_path).result.entries
    assert [row.batch_size for row in entry.runtimes[0].throughput] == [1]
    assert any(note.startswith("Batches of 4096 were left out: ") for note in entry.notes)


def test_a_run_without_training_images_is_profiled_but_for_calibrated_int8(small_run, tmp_path, monkeypatch):
    monkeypatch.setattr(profile_subjects, "_find_training", lambda *_arguments: ())
    monkeypatch.setattr(measure, "measure_peak_memory", lambda *_arguments: 1.0)
    plan = Plan(runtimes=("onnxruntime-int8-static",), batch_sizes=(1,), budget_s=1.0)
    (entry,) = profile([small_run.path], plan=plan, output=tmp_path).result.entries
    eager, int8 = entry.runtimes
    assert eager.status == "ok"
    assert int8.status == "refused"
    assert "this run has none" in str(int8.reason)


def test_a_runtime_by_name_brings_eager_along():
    assert [each.name for each in find_runtimes(("openvino",))] == ["eager-fp32", "openvino"]
    with pytest.raises(UsageError, match=r"No runtime is called 'onnx'\. Did you mean"):
        find_runtimes(("onnx",))


def test_nothing_is_sent_and_nothing_written_to_the_users_home(tmp_path):
    code = (
        "import os, socket, sys\n"
        "def refuse(*_): raise AssertionError('the network was touched')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "before = dict(os.environ)\n"
        "from praxiscope.profiling.runtimes import no_telemetry\n"
        "nncf = no_telemetry.import_nncf()\n"
        "from openvino_telemetry import Telemetry\n"
        "sys.exit(Telemetry().consent or before != dict(os.environ))\n"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    environment.pop("CI", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*openvino*")) == []
