import errno
import json
import os
import random
import shutil
import subprocess
from typing import NamedTuple

import pytest
import safetensors.torch
import torch

from praxiscope.errors import EnvironmentProblem, IntegrityError
from praxiscope.runs import checkpoint_files
from praxiscope.runs.checkpoint import best_checkpoint, latest_checkpoint, read_checkpoint, write_checkpoint


def write(folder, step, *, size=16, **options):
    groups = {
        "model": {"weight": torch.full((size,), float(step)), "bias": torch.arange(3)},
        "optimizer": {"weight/exp_avg": torch.full((size,), step + 0.5)},
    }
    options = {"epoch": step // 10, "state": {"step_seen": step, "best": None}, "groups": groups} | options
    return write_checkpoint(folder, step=step, **options)


def step_names(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


# ------------------------------------------------------------------------------ what goes in comes out


def test_everything_comes_back_exactly(tmp_path):
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "float32": torch.randn(3, 4, generator=generator),
        "bfloat16": torch.randn(5, generator=generator).bfloat16(),
        "float16": torch.randn(5, generator=generator).half(),
        "float64": torch.randn(2, generator=generator).double(),
        "int64": torch.tensor([-(2**62), 7]),
        "uint8": torch.arange(256, dtype=torch.uint8),
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 4),
        "special": torch.tensor([float("nan"), float("inf"), -0.0]),
        "transposed": torch.randn(3, 4, generator=generator).t(),
        "grad": torch.ones(2, requires_grad=True),
    }
    state = {"epoch_position": 3, "text": "é", "list": [1, 2.5, None, True], "nested": {"a": {}}}
    path = write_checkpoint(tmp_path, groups={"model": tensors}, state=state, step=7, epoch=1)
    found = read_checkpoint(path)
    assert (found.step, found.epoch, found.state, found.path) == (7, 1, state, path)
    assert found.groups["model"].keys() == tensors.keys()
    for name, tensor in tensors.items():
        loaded = found.groups["model"][name]
        assert (loaded.dtype, loaded.shape) == (tensor.dtype, tensor.shape), name
        assert torch.equal(loaded.nan_to_num(9.0), tensor.detach().nan_to_num(9.0)), name
    assert torch.signbit(found.groups["model"]["special"][2])


def test_memory_format_comes_back(tmp_path):
    image = torch.randn(2, 3, 4, 5)
    clip = torch.randn(2, 3, 2, 4, 5)
    tensors = {
        "last": image.to(memory_format=torch.channels_last),
        "last_3d": clip.to(memory_format=torch.channels_last_3d),
        "first": image,
        "one_by_one": torch.randn(4, 3, 1, 1),
    }
    found = read_checkpoint(write_checkpoint(tmp_path, groups={"model": tensors}, state={}, step=1, epoch=0))
    for name, tensor in tensors.items():
        assert found.groups["model"][name].stride() == tensor.stride(), name
        assert torch.equal(found.groups["model"][name], tensor), name


def test_tied_and_overlapping_tensors_are_stored_each_on_its_own(tmp_path):
    base = torch.arange(10.0)
    tensors = {"embedding": base, "head": base, "slice": base[2:5]}
    found = read_checkpoint(write_checkpoint(tmp_path, groups={"model": tensors}, state={}, step=1, epoch=0))
    assert all(torch.equal(found.groups["model"][name], tensor) for name, tensor in tensors.items())


def test_equal_tensors_give_equal_digests_and_other_ones_do_not(tmp_path):
    one = read_checkpoint(write(tmp_path / "a", 5))
    two = read_checkpoint(write(tmp_path / "b", 5))
    three = read_checkpoint(write(tmp_path / "c", 6))
    assert one.sha256 == two.sha256
    assert set(one.sha256) == {"model", "optimizer"}
    assert one.sha256["model"] != three.sha256["model"]


def test_other_tools_can_read_the_weights(tmp_path):
    path = write(tmp_path, 5)
    assert torch.equal(
        safetensors.torch.load_file(path / "model.safetensors")["weight"], torch.full((16,), 5.0)
    )
    assert json.loads((path / "state.json").read_text(encoding="utf-8"))["step_seen"] == 5


def test_nothing_is_pickled(tmp_path):
    path = write(tmp_path, 5)
    assert sorted(file.suffix for file in path.iterdir()) == [
        ".json",
        ".json",
        ".safetensors",
        ".safetensors",
    ]
    for file in path.iterdir():
        # Every pickle of protocol 2 or later starts with 0x80, every torch file (a zip) with "PK".
        assert file.read_bytes()[:1] != b"\x80"
        assert file.read_bytes()[:2] != b"PK"


def test_a_part_is_loaded_and_all_is_verified(tmp_path):
    path = write(tmp_path, 5)
    assert set(read_checkpoint(path, only=["model"]).groups) == {"model"}
    with pytest.raises(IntegrityError, match=r"no tensors named \['ema'\].*'model', 'optimizer'"):
        read_checkpoint(path, only=["ema"])
    flip_bit(path / "optimizer.safetensors", -1)
    with pytest.raises(IntegrityError, match=r"optimizer\.safetensors is damaged"):
        read_checkpoint(path, only=["model"])


@pytest.mark.parametrize("name", ["../model", "Model", "", "a b", "état"])
def test_a_group_name_that_is_no_file_name_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="can't be a file name"):
        write_checkpoint(tmp_path, groups={name: {}}, state={}, step=1, epoch=0)


def test_arguments_that_would_lose_something_are_refused(tmp_path):
    with pytest.raises(ValueError, match="keep_last is 0"):
        write(tmp_path, 1, keep_last=0)
    with pytest.raises(ValueError, match=r"'best'\] is -inf"):
        write(tmp_path, 1, state={"best": float("-inf")})


# ------------------------------------------------------------------------------ which are kept


def test_last_rotates_best_and_permanent_stay(tmp_path):
    tags = {10: ["permanent"], 20: ["best"], 40: ["best"], 70: ["permanent", "best"]}
    expected = {
        10: [10],
        20: [10, 20],
        30: [10, 20, 30],
        40: [10, 30, 40],
        50: [10, 40, 50],
        60: [10, 40, 50, 60],
        70: [10, 60, 70],
        80: [10, 70, 80],
        90: [10, 70, 80, 90],
    }
    for step, kept in expected.items():
        write(tmp_path, step, tags=tags.get(step, ()))
        assert step_names(tmp_path) == [f"step-{each:08d}" for each in kept]
    assert latest_checkpoint(tmp_path)[0].step == 90
    best, rejected = best_checkpoint(tmp_path)
    assert (best.step, best.tags, rejected) == (70, {"best", "permanent"}, ())
    pointers = {
        name: json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8")) for name in ("last", "best")
    }
    assert (pointers["last"]["name"], pointers["best"]["name"]) == ("step-00000090", "step-00000070")


def test_keep_last_is_the_number_kept(tmp_path):
    for step in range(1, 7):
        write(tmp_path, step, keep_last=4)
    assert step_names(tmp_path) == [f"step-{step:08d}" for step in (3, 4, 5, 6)]


def test_the_old_one_is_there_until_the_new_one_is_whole(tmp_path, monkeypatch):
    write(tmp_path, 1, keep_last=1)
    seen = []
    synced = checkpoint_files.atomic.sync_folder

    def look(folder):
        seen.append([name for name in step_names(tmp_path) if not name.startswith(".")])
        synced(folder)

    monkeypatch.setattr(checkpoint_files.atomic, "sync_folder", look)
    write(tmp_path, 2, keep_last=1)
    assert seen[:2] == [["step-00000001"], ["step-00000001", "step-00000002"]]
    assert step_names(tmp_path) == ["step-00000002"]


def test_stale_temporaries_are_swept_and_foreign_files_left_alone(tmp_path):
    (tmp_path / ".step-00000001.0123456789ab.tmp").mkdir()
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "step-by-step").mkdir()
    for step in (1, 2, 3):
        write(tmp_path, step)
    assert step_names(tmp_path) == ["step-00000002", "step-00000003", "step-by-step"]
    assert (tmp_path / "notes.txt").exists()


def test_nothing_written_yet_is_no_error(tmp_path):
    assert latest_checkpoint(tmp_path / "absent") == (None, ())
    assert best_checkpoint(tmp_path) == (None, ())


# ------------------------------------------------------------------------------ A2: damage


def flip_bit(path, position, bit=0):
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["flip", "truncation"])
def test_a_hundred_damages_are_all_named_and_all_fall_back(tmp_path, kind):
    write(tmp_path, 10)
    newest = write(tmp_path, 20)
    files = sorted(newest.iterdir())
    rng = random.Random(kind)
    for number in range(100):
        file = files[number % len(files)]
        whole = file.read_bytes()
        if kind == "flip":
            flip_bit(file, rng.randrange(len(whole)), rng.randrange(8))
        else:
            file.write_bytes(whole[: rng.randrange(len(whole))])
        found, rejected = latest_checkpoint(tmp_path)
        assert found.step == 10
        assert [each.name for each in rejected] == [newest.name]
        assert str(file) in rejected[0].reason
        assert "damaged" in rejected[0].reason
        file.write_bytes(whole)
    assert latest_checkpoint(tmp_path)[0].step == 20


def test_every_bit_of_the_manifest_counts(tmp_path):
    write(tmp_path, 10)
    newest = write(tmp_path, 20)
    manifest = newest / "manifest.json"
    whole = manifest.read_bytes()
    for position in range(0, len(whole), 3):
        flip_bit(manifest, position, position % 8)
        with pytest.raises(IntegrityError, match=r"manifest\.json is damaged"):
            checkpoint_files.read_manifest(newest)
        manifest.write_bytes(whole)


def test_an_absent_file_is_named(tmp_path):
    for number, name in enumerate(["model.safetensors", "state.json", "manifest.json"]):
        folder = tmp_path / str(number)
        write(folder, 10)
        newest = write(folder, 20)
        (newest / name).unlink()
        found, rejected = latest_checkpoint(folder)
        assert found.step == 10
        assert name in rejected[0].reason


def test_with_all_damaged_each_is_named(tmp_path):
    for step in (10, 20):
        flip_bit(write(tmp_path, step) / "model.safetensors", -1)
    with pytest.raises(
        IntegrityError, match=r"(?s)No checkpoint.*step-00000020.*model.*step-00000010.*model"
    ):
        latest_checkpoint(tmp_path)


def test_a_step_is_written_again_after_its_checkpoint_was_damaged(tmp_path):
    write(tmp_path, 10)
    for file in ("model.safetensors", "manifest.json"):
        flip_bit(write(tmp_path, 20) / file, -2)
        assert latest_checkpoint(tmp_path)[0].step == 10
        again = write(tmp_path, 20)
        found, rejected = latest_checkpoint(tmp_path)
        assert (found.path, found.step, rejected) == (again, 20, ())
        assert len(step_names(tmp_path)) == 2
        shutil.rmtree(again)


def test_a_damaged_later_one_does_not_cost_a_good_one_its_place(tmp_path):
    for step in (10, 20, 30):
        path = write(tmp_path, step)
    flip_bit(path / "model.safetensors", -1)
    write(tmp_path, 25)
    assert step_names(tmp_path) == ["step-00000020", "step-00000025", "step-00000030"]


def test_a_newer_format_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_files, "_SCHEMA", 2)
    path = tmp_path / ".other"
    path.mkdir()
    manifest = checkpoint_files.CheckpointManifest(
        path=path, step=1, epoch=0, serial=0, tags=frozenset(), files={}, sha256=""
    )
    checkpoint_files.write_manifest(manifest, created="2026-01-01T00:00:00+00:00")
    monkeypatch.undo()
    with pytest.raises(IntegrityError, match=r"checkpoint format 2, but .* reads 1"):
        read_checkpoint(path)


# ------------------------------------------------------------------------------ best, loudly


def test_a_damaged_best_falls_back_and_says_so(tmp_path):
    best = write(tmp_path, 10, tags=["best"])
    for step in (20, 30):
        write(tmp_path, step)
    flip_bit(best / "model.safetensors", -1)
    found, rejected = best_checkpoint(tmp_path)
    assert found.step == 30
    assert [each.name for each in rejected] == [best.name]


def test_a_removed_best_falls_back_and_says_so(tmp_path):
    shutil.rmtree(write(tmp_path, 10, tags=["best"]))
    write(tmp_path, 20)
    found, rejected = best_checkpoint(tmp_path)
    assert found.step == 20
    assert rejected[0].name == "best.json"
    assert "names step-00000010" in rejected[0].reason


def test_without_a_best_the_latest_is_used_and_said(tmp_path):
    write(tmp_path, 20)
    found, rejected = best_checkpoint(tmp_path)
    assert found.step == 20
    assert "no checkpoint is tagged" in rejected[0].reason


def test_a_damaged_pointer_is_named_and_the_best_still_found(tmp_path):
    write(tmp_path, 10, tags=["best"])
    write(tmp_path, 20)
    (tmp_path / "best.json").write_text("{", encoding="utf-8")
    found, rejected = best_checkpoint(tmp_path)
    assert found.step == 10
    assert "best.json is damaged" in rejected[0].reason


def test_killed_between_best_and_its_pointer(tmp_path):
    write(tmp_path, 10, tags=["best"])
    pointer = (tmp_path / "best.json").read_bytes()
    write(tmp_path, 20, tags=["best"])
    (tmp_path / "best.json").write_bytes(pointer)
    found, rejected = best_checkpoint(tmp_path)
    assert (found.step, rejected) == (20, ())


# ------------------------------------------------------------------------------ A5: file times


def test_file_times_and_folder_names_never_choose(tmp_path):
    for step in range(1, 6):
        write(tmp_path, step, keep_last=9, tags=["best"] if step == 4 else [])
    (tmp_path / "step-00000002").rename(tmp_path / "step-99999999")
    rng = random.Random(5)
    for _ in range(20):
        for path in tmp_path.rglob("*"):
            moment = rng.uniform(1e9, 2e9)
            os.utime(path, (moment, moment))
        assert latest_checkpoint(tmp_path)[0].step == 5
        assert best_checkpoint(tmp_path)[0].step == 4


# ------------------------------------------------------------------------------ A3: a full disk


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def assert_refused_and_intact(folder, step, **options):
    with pytest.raises(EnvironmentProblem, match=r"needed: .*free: ") as caught:
        write(folder, step, **options)
    assert caught.value.exit_code == 3
    assert str(folder) in str(caught.value)
    assert not list(folder.glob(".*"))
    found, rejected = latest_checkpoint(folder)
    assert rejected == ()
    return found.step


def test_too_little_space_is_found_before_the_first_byte(tmp_path, monkeypatch):
    write(tmp_path, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1000, 900, 100))
    monkeypatch.setattr(checkpoint_files, "write_synced", lambda *_: pytest.fail("wrote something"))
    assert assert_refused_and_intact(tmp_path, 2) == 1


def test_ten_percent_are_left(tmp_path, monkeypatch):
    size = sum(file.stat().st_size for file in write(tmp_path / "a", 1, size=10_000).iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 0, int(size * 1.05)))
    with pytest.raises(EnvironmentProblem):
        write(tmp_path / "b", 1, size=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 0, int(size * 1.15)))
    write(tmp_path / "b", 1, size=10_000)


@pytest.mark.parametrize("call", range(5))
def test_a_disk_that_fills_in_mid_write_costs_nothing_saved(tmp_path, monkeypatch, call):
    write(tmp_path, 1)
    count = iter(range(100))
    fsync = os.fsync

    def full_at_the_nth(handle):
        if next(count) == call:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full_at_the_nth)
    assert assert_refused_and_intact(tmp_path, 2) == 1


def test_ctrl_c_in_mid_write_leaves_nothing(tmp_path, monkeypatch):
    write(tmp_path, 1)

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 2)
    assert step_names(tmp_path) == ["step-00000001"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    command = [mount, "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if not mount or not umount or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root on Linux")
    yield folder
    subprocess.run([umount, str(folder)], check=True)


def test_twenty_saves_on_a_really_full_disk(small_disk, monkeypatch):
    folder = small_disk / "checkpoints"
    write(folder, 1, size=400_000)  # 3.2 MB in two groups
    intact = 0
    rng = random.Random(3)
    believed = shutil.disk_usage
    for number in range(20):
        filler = small_disk / "filler"
        filler.write_bytes(bytes(rng.randrange(2_000_000, 4_500_000)))
        with monkeypatch.context() as patch:
            if number % 2:  # another program fills the disk after the check, so the write itself fails
                answers = iter([Usage(10**9, 0, 10**9)])
                patch.setattr(
                    shutil, "disk_usage", lambda path, answers=answers: next(answers, believed(path))
                )
            intact += assert_refused_and_intact(folder, 2 + number, size=400_000) == 1
        filler.unlink()
    assert intact == 20
    write(folder, 50, size=400_000)
    assert latest_checkpoint(folder)[0].step == 50
