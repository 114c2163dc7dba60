"""``praxiscope data prepare``."""

from __future__ import annotations

import hashlib
import re

import pytest
from packed_data import read_folder

from praxiscope.cli.main import main
from praxiscope.data.cache_folders import list_entries
from praxiscope.data.pack import PackLog, open_pack
from praxiscope.workflows.prepare import summarise_likeness


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["data", "prepare", *map(str, arguments)])
    return ended.value.code


def digest(root):
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*") if p.is_file()}


def test_it_packs_and_says_what_that_changes(mixed, cache, capsys):
    before = digest(mixed)
    assert run(mixed, "--pack", 64) == 0
    text = capsys.readouterr().out
    assert "10 of 10 samples usable" in text
    assert re.search(r"packed: 9 images, [\d.]+ KiB, in [\d.]+ s", text)
    assert "7 samples reduced to 64 px" in text
    # Whether the last bit is Pillow's depends on the processor that torch resamples with.
    figures = re.search(r"mean ([\d.]+) dB, 5th percentile ([\d.]+) dB, worst ([\d.]+) dB", text)
    if figures is None:
        assert "evaluation crops equal those of the images themselves (10 compared)" in text
    else:
        mean, fifth, worst = map(float, figures.groups())
        assert mean >= fifth >= worst > 42
    assert "Use it: --set data.pack=64" in text
    assert digest(mixed) == before
    assert run(mixed, "--set", "data.pack=64") == 0
    assert "packed before: 9 images" in capsys.readouterr().out


def test_256_is_the_default(mixed, cache):
    assert run(mixed) == 0
    assert [entry.header["short_side"] for entry in list_entries("packs")] == [256]


def test_another_folder_is_one_that_training_can_be_pointed_to(mixed, cache, tmp_path, capsys, monkeypatch):
    assert run(mixed, "--pack", 64, "--out", tmp_path / "fast") == 0
    text = capsys.readouterr().out
    assert list_entries("packs") == ()
    assert f"Training finds it with PRAXISCOPE_CACHE={tmp_path / 'fast'}" in text
    monkeypatch.setenv("PRAXISCOPE_CACHE", str(tmp_path / "fast"))
    log = PackLog()
    with open_pack(read_folder(mixed), 64, log=log):
        assert not log.made


def test_it_never_writes_into_the_data(mixed, cache, capsys):
    before = digest(mixed)
    assert run(mixed, "--out", mixed / "packed") == 2
    assert "(or --out) name a folder outside" in capsys.readouterr().err
    assert digest(mixed) == before
    assert run(mixed, "--pack", 4) == 2


def test_psnrs_are_summarised_without_the_infinite_ones():
    figures = summarise_likeness([40.0, float("inf"), 50.0])
    assert (figures.num_images, figures.num_equal) == (3, 1)
    assert (figures.mean, figures.worst) == (45.0, 40.0)
    assert figures.fifth_percentile == pytest.approx(40.5)
    equal = summarise_likeness([float("inf")] * 4)
    assert equal.describe() == "evaluation crops equal those of the images themselves (4 compared)"


@pytest.mark.shared
def test_real_photographs_are_packed_to_a_high_psnr(shared_data, cache, capsys):
    assert run(shared_data / "har-originals", "--pack", 160) == 0
    figures = re.search(
        r"mean ([\d.]+) dB, 5th percentile ([\d.]+) dB, worst ([\d.]+)", capsys.readouterr().out
    )
    mean, fifth, worst = map(float, figures.groups())
    assert mean > 50
    assert fifth > 45
    assert worst > 40
