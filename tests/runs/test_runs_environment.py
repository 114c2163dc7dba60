import json
import os
import platform
import shutil
import subprocess
import sys

import pytest

from praxiscope.runs import environment
from praxiscope.runs.environment import count_cores, describe_environment, find_git_commit, mask_command

SECRET = "s3cr3t-V4lue"


def test_the_description_is_json_and_true(tmp_path):
    described = json.loads(json.dumps(describe_environment(tmp_path, command=["praxiscope", "train"])))
    assert described["python"] == platform.python_version()
    assert described["command"] == ["praxiscope", "train"]
    assert 1 <= described["cores"] <= described["cores_total"] == os.cpu_count()
    assert described["disk_free_mib"] == pytest.approx(shutil.disk_usage(tmp_path).free / 2**20, rel=0.05)
    assert described["cpu"]
    assert described["torch"].startswith("2.")
    if sys.platform == "linux":
        assert described["memory_mib"] > 100
        assert described["malloc"] in {"glibc", "musl", "jemalloc", "tcmalloc", "mimalloc"}


def test_torch_is_described_where_it_is_loaded_and_not_loaded_to_be_described(tmp_path):
    code = (
        "import sys, pathlib; from praxiscope.runs.environment import describe_environment as d;"
        f"e = d(pathlib.Path({str(tmp_path)!r}));"
        "sys.exit('torch' in sys.modules or e['threads'] is not None)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    import torch

    assert describe_environment(tmp_path)["threads"] == torch.get_num_threads()


def test_no_environment_variable_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PRAXISCOPE_TEST_TOKEN", SECRET)
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    assert SECRET not in json.dumps(describe_environment(tmp_path, command=["train"]))


@pytest.mark.parametrize(
    "words",
    [
        ["--token", SECRET],
        [f"--token={SECRET}"],
        ["--hub-token", SECRET],
        ["--api_key", SECRET],
        ["--apiKey", SECRET],
        ["--APIKEY", SECRET],
        ["--db-password", SECRET],
        ["--client.secret", SECRET],
        ["--set", f"tracker.api_key={SECRET}"],
        ["--set", f"tracker.password={SECRET}"],
        [f"AWS_SECRET_ACCESS_KEY={SECRET}"],
        ["--url", f"https://user:{SECRET}@host/x"],
        ["--url", f"https://host/x?user=a&access_token={SECRET}&b=1"],
        ["--note", "hf_" + "abcDEF0123456789xyz" + SECRET.replace("-", "")],
        ["ghp_" + "A1" * 18 + "s3cr3tV4lue"],
    ],
)
def test_secrets_on_the_command_line_are_masked(tmp_path, words):
    command = ["praxiscope", "train", "har-resnet18", *words, "--epochs", "3"]
    text = json.dumps(describe_environment(tmp_path, command=command))
    assert SECRET not in text
    assert SECRET.replace("-", "") not in text
    masked = mask_command(command)
    assert masked[:3] == command[:3]
    assert masked[-2:] == ["--epochs", "3"]
    assert environment.MASK in " ".join(masked)


@pytest.mark.parametrize(
    "words",
    [
        ["--keep", "3"],
        ["--keypoints", "17"],
        ["--set", "train.lr=3e-5"],
        ["--set", "data.path=/a/b=c"],
        ["--monkey", "x"],
        ["--token", "--epochs", "3"],
        ["--lr", "-1"],
        ["https://host/path"],
        ["--patience", "3"],
    ],
)
def test_other_words_stay_as_they_are(words):
    assert mask_command(words) == words


def test_a_negative_number_can_be_a_secret():
    assert mask_command(["--pwd", "-12"]) == ["--pwd", environment.MASK]


# ------------------------------------------------------------------------------ cores


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "200000 100000\n"}, 2.0),
        ({"cpu.max": "50000 100000\n"}, 0.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_a_containers_quota_is_read(tmp_path, files, expected):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert environment._read_cpu_quota(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [(0.5, 1), (1.9, 1), (2.0, 2), (64.0, 4), (None, 4)])
def test_the_smaller_of_affinity_and_quota_counts(monkeypatch, quota, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(environment, "_read_cpu_quota", lambda: quota)
    assert count_cores() == expected


# ------------------------------------------------------------------------------ git


@pytest.fixture
def checkout(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")

    def git(*arguments):
        options = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *options, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    source = tmp_path / "code.py"
    source.write_text("x = 1\n", encoding="utf-8")
    git("add", "code.py")
    git("commit", "-q", "-m", "first")
    git("tag", "v1")
    return source, git("rev-parse", "HEAD")


def test_the_commit_is_told_and_changes_are_marked(checkout):
    source, commit = checkout
    assert find_git_commit(source) == commit
    source.write_text("x = 2\n", encoding="utf-8")
    assert find_git_commit(source) == f"{commit}-dirty"


def test_an_installed_package_is_not_of_the_repository_around_it(checkout):
    installed = checkout[0].parent / "venv" / "package.py"
    installed.parent.mkdir()
    installed.write_text("", encoding="utf-8")
    assert find_git_commit(installed) is None


def test_without_repository_or_git_there_is_no_commit(tmp_path, monkeypatch, checkout):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert find_git_commit(checkout[0]) is None
