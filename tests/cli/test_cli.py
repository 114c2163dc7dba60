"""The command line as a user meets it: exit codes, messages, files; never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from class_folders import write_class_folders
from praxiscope.cli.main import main

TINY = ["--model", "test_resnet", "--img-size", "32", "--epochs", "1", "--batch-size", "8", "-j", "0"]


def run(*words: str | object) -> int:
    """Run a command in this process; return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    code = ended.value.code
    return 0 if code is None else int(code)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with photos and a finished run, for tests that leave both as they were."""
    root = tmp_path_factory.mktemp("cli")
    photos = write_class_folders(
        root / "photos", splits={"train": 12, "test": 6}, names=("jump", "run", "walk")
    )
    assert run("train", *TINY, "--data", photos, "-o", root / "runs") == 0
    return root


@pytest.fixture
def trained(workplace):
    """The finished run's folder."""
    return next((workplace / "runs" / "test_resnet").iterdir())


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from praxiscope.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'timm', 'torchvision', 'numpy', 'scipy', 'pyarrow'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    for command in ("train", "evaluate", "report", "verify", "doctor", "demo", "data", "recipes"):
        assert command in ended.stdout


def test_the_program_alone_shows_its_help(capsys):
    assert run() == 2, "nothing was done"
    said = capsys.readouterr()
    assert said.err.startswith("Usage: praxiscope [OPTIONS] COMMAND [ARGS]...")
    assert "Train a model on labelled images or clips." in said.err
    assert said.out == ""


def test_train_evaluate_report_verify(trained, tmp_path, capsys):
    out = tmp_path / "metrics.json"
    assert run("evaluate", trained, "--split", "test", "--out", out) == 0
    printed = capsys.readouterr().out
    assert "top-1 accuracy" in printed
    assert "clean samples" in printed
    metrics = json.loads(out.read_text(encoding="utf-8"))
    assert metrics["num_samples"] == 18
    assert metrics["all"]["top1"]["low"] <= metrics["all"]["top1"]["value"] <= metrics["all"]["top1"]["high"]
    assert run("report", trained) == 0
    assert (trained / "report.html").stat().st_size < 4_000_000
    assert run("verify", trained) == 0
    assert "checks passed" in capsys.readouterr().out


def test_evaluate_compares_groups_of_classes(trained, tmp_path, capsys):
    names = json.loads((trained / "run.json").read_text(encoding="utf-8"))["data"]["heads"]["action"]
    table = tmp_path / "groups.csv"
    rows = [f"{name},{'a' if index else 'b'}" for index, name in enumerate(names)]
    table.write_text("\n".join(["class,kind", *rows]), encoding="utf-8")
    assert run("evaluate", trained, "--groups", table, "--out", tmp_path / "metrics.json") == 0
    assert "Groups of classes (groups.csv)" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in metrics["groups"]["columns"][0]["groups"]] == ["a", "b"]
    assert run("verify", trained) == 0
    table.write_text(f"class,kind\n{names[0]}x,a\n", encoding="utf-8")
    assert run("evaluate", trained, "--groups", table) == 4
    assert f"Did you mean '{names[0]}'?" in " ".join(capsys.readouterr().err.split())
    assert run("evaluate", trained, "--groups", tmp_path / "none.csv") == 2


def test_names_stand_for_runs(workplace, capsys):
    assert run("val", "test_resnet@latest", "-o", workplace / "runs", "--split", "val") == 0
    assert run("evaluate", "test_resnt@latest", "-o", workplace / "runs") == 2
    assert "test_resnet" in capsys.readouterr().err


def test_verify_finds_a_changed_photograph(trained, workplace, capsys):
    victim = min((workplace / "photos").rglob("*.jpg"))
    sound = victim.read_bytes()
    victim.write_bytes(sound[:-9] + bytes([sound[-9] ^ 1]) + sound[-8:])
    try:
        assert run("verify", trained) == 4
    finally:
        victim.write_bytes(sound)
    printed = capsys.readouterr().out
    assert "FAIL" in printed
    assert victim.name in printed


def test_data_check_tells_a_person_and_a_program(photos, tmp_path, capsys):
    (photos / "train" / "run" / "broken.jpg").write_bytes(b"\xff\xd8\xff not really")
    (photos / "notes.txt").write_text("hello", encoding="utf-8")
    path = tmp_path / "check.json"
    assert run("data", "check", photos, "--json", path) == 0
    printed = capsys.readouterr().out
    assert "broken.jpg" in printed
    assert json.loads(path.read_text(encoding="utf-8"))["usable"] is True


def test_data_that_cannot_be_used_ends_with_4(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert run("data", "check", tmp_path / "empty") == 4
    capsys.readouterr()
    assert run("train", *TINY, "--data", tmp_path / "empty", "-o", tmp_path / "runs") == 4
    assert "praxiscope:" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["train"], 2, "Which recipe?"),
        (["train", "demo-cnn"], 2, "Which data?"),
        (["train", "demo-cn", "--data", "x"], 2, "Did you mean 'demo-cnn'"),
        (["train", "demo-cnn", "--data", "no-such-folder"], 2, "does not exist"),
        (["train", "demo-cnn", "--data", ".", "--set", "train.lrr=1"], 2, "Did you mean 'train.lr'"),
        (["train", "demo-cnn", "--data", ".", "--lr", "0.1", "--set", "train.lr=0.2"], 2, "given twice"),
        (["train", "demo-cnn", "--data", ".", "--amp", "fp8"], 2, "'auto', 'fp32', 'bf16' or 'fp16'"),
        (["train", "demo-cnn", "--data", ".", "--device", "tpu"], 2, "use auto, cpu"),
        (["train", "demo-cnn", "--data", ".", "--resume"], 4, ""),
        (["train", "--resume", "no-such-run"], 2, "no-such-run"),
        (["evaluate", "no-such-run"], 2, "no-such-run"),
        (["recipes", "show", "har-vit"], 2, "har-vit-b16"),
        (["data", "stage", "there", "--kind", "films"], 2, "images or clips"),
        (
            ["data", "check", ".", "--set", "train.lr=3"],
            2,
            "only data.*, clip.*, model.num_frames keys count",
        ),
        (
            ["data", "prepare", ".", "--set", "evaluate.img_size=64"],
            2,
            "only data.*, clip.*, model.num_frames keys count",
        ),
        (["cache", "clear", "packs", "--older-than", "-1"], 2, "--older-than"),
        (["report", "no-such-run", "--max-failures", "-3"], 2, "--max-failures"),
        (["demo", "--images", "-3"], 2, "--images"),
        (["nonsense"], 2, "nonsense"),
        (["train", "--no-such-flag"], 2, "no-such-flag"),
    ],
)
def test_a_slip_ends_with_a_message_and_no_traceback(words, code, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*words) == code
    error = capsys.readouterr().err
    assert expected in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_does_not_exist_leaves_no_run_behind(photos, tmp_path, capsys):
    assert run("train", "--model", "resnet81", "--data", photos, "-o", tmp_path / "runs") == 2
    assert "Did you mean" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_missing_weights_end_with_3_and_the_file_to_place(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PRAXISCOPE_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert run("train", "har-resnet18", "--data", photos, "-o", tmp_path / "runs") == 3
    error = capsys.readouterr().err
    assert "--weights" in error
    assert not (tmp_path / "runs").exists()


def test_underscores_and_dashes_are_the_same(photos, tmp_path):
    words = [word.replace("-size", "_size") for word in TINY]
    assert run("train", *words, "--weight_decay", "0", "--data", photos, "-o", tmp_path / "runs") == 0


def test_debug_shows_the_traceback():
    from praxiscope.errors import UsageError

    with pytest.raises(UsageError):
        main(["train", "--debug"])


def test_a_fault_of_ours_says_so_and_hides_the_traceback(monkeypatch, capsys):
    import praxiscope.recipe.load

    def fail() -> None:
        raise ZeroDivisionError("by design")

    monkeypatch.setattr(praxiscope.recipe.load, "list_recipes", fail)
    assert run("recipes") == 1
    error = capsys.readouterr().err
    assert "ZeroDivisionError: by design" in error
    assert "--debug" in error


def test_a_path_that_cannot_be_written_is_the_machines_not_our_fault(photos, capsys):
    assert run("data", "check", photos, "--json", photos) == 3
    error = capsys.readouterr().err
    assert photos.name in error
    assert "fault in praxiscope" not in error


def test_recipes_are_listed_shown_and_keyed(capsys):
    assert run("recipes") == 0
    assert "har-vit-b16" in capsys.readouterr().out
    assert run("recipes", "show", "har-vit-b16") == 0
    assert "# Published" in capsys.readouterr().out
    assert run("recipes", "keys") == 0
    assert "train.lr = 0.001" in capsys.readouterr().out


def test_doctor_names_what_is_there(capsys):
    assert run("doctor") == 0
    printed = capsys.readouterr().out
    for word in ("Python", "torch", "cores", "bfloat16", "free disk", "allocator"):
        assert word in printed


def test_version(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("praxiscope 0.")


def test_stage_is_rendered_and_trained_on(tmp_path, capsys):
    folder = tmp_path / "stage"
    assert run("data", "stage", folder, "--train", 2, "--val", 1, "--test", 1, "--size", 32) == 0
    assert run("data", "check", folder) == 0
    assert "stage" in capsys.readouterr().out
    assert run("train", *TINY, "--data", folder, "-o", tmp_path / "runs") == 0
