"""``praxiscope data fetch``, against a server on this machine and clients that are replaced."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import sys
import tarfile
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import FileServer
from hostile_archives import HOSTILE, write_zip

from class_folders import write_class_folders
from praxiscope.cli.main import main
from praxiscope.data.fetch import clients
from praxiscope.data.fetch.catalog import CARDS, find_card
from praxiscope.data.fetch.http import RemoteFile, download_file
from praxiscope.errors import DataError, EnvironmentProblem, IntegrityError, UsageError
from praxiscope.workflows import fetch as workflow
from praxiscope.workflows.fetch import fetch_data

MARKER = ".praxiscope-fetch.json"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer() as server:
        yield server


@pytest.fixture(autouse=True)
def online(monkeypatch):
    for name in ("PRAXISCOPE_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def tar_bytes(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def publish(
    server: FileServer, monkeypatch, contents: dict[str, bytes], *, sums: dict[str, str] | None = None
):
    """Put files on the server as those that torchvision knows."""
    server.files = dict(contents)
    known = tuple(
        RemoteFile(url=server.url + name, name=name, md5=(sums or {}).get(name, md5(content)))
        for name, content in contents.items()
    )
    monkeypatch.setattr(clients, "find_remote_files", lambda _card: known)
    monkeypatch.setattr(workflow, "find_remote_files", lambda _card: known)


CIFAR = {
    "cifar-100-python/train": b"t" * 4000,
    "cifar-100-python/test": b"e" * 500,
    "cifar-100-python/meta": b"m",
}


def list_all(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


# ------------------------------------------------------------------------------------ one file


def test_an_interrupted_download_goes_on_and_has_no_final_name_before(server, tmp_path):
    content = bytes(range(256)) * 40
    server.files["a.bin"] = content
    remote = RemoteFile(url=server.url + "a.bin", name="a.bin", md5=md5(content))
    server.break_after = 6000
    with pytest.raises(OSError, match=r"connection ended after 6,000 of 10,240 bytes of a\.bin"):
        download_file(remote, tmp_path)
    assert list_all(tmp_path) == {"a.bin.part"}
    server.break_after = None
    seen = []
    path = download_file(remote, tmp_path, progress=lambda *news: seen.append(news))
    assert path.read_bytes() == content
    assert server.asked[-1] == ("a.bin", "bytes=6000-")
    assert seen[-1] == ("downloading a.bin", 10240, 10240)
    assert list_all(tmp_path) == {"a.bin"}
    download_file(remote, tmp_path)
    assert len(server.asked) == 2, "a whole file is not downloaded again"


def test_a_server_without_ranges_starts_anew(server, tmp_path):
    content = b"0123456789" * 50
    server.files["a.bin"], server.ranges = content, False
    (tmp_path / "a.bin.part").write_bytes(b"0123")
    remote = RemoteFile(url=server.url + "a.bin", name="a.bin", md5=md5(content))
    assert download_file(remote, tmp_path).read_bytes() == content


def test_a_part_that_is_all_of_it_is_only_checked(server, tmp_path):
    server.files["a.bin"] = b"whole"
    (tmp_path / "a.bin.part").write_bytes(b"whole")
    remote = RemoteFile(url=server.url + "a.bin", name="a.bin", md5=md5(b"whole"))
    assert download_file(remote, tmp_path).read_bytes() == b"whole"


def test_a_wrong_checksum_is_removed_and_named(server, tmp_path):
    server.files["a.bin"] = b"<html>log in first</html>"
    remote = RemoteFile(url=server.url + "a.bin", name="a.bin", md5=md5(b"data"))
    with pytest.raises(IntegrityError, match=f"its md5 is {md5(server.files['a.bin'])}, not {md5(b'data')}"):
        download_file(remote, tmp_path)
    assert list_all(tmp_path) == set()


def test_only_http_is_asked(tmp_path):
    (tmp_path / "secret").write_text("x")
    remote = RemoteFile(url=(tmp_path / "secret").as_uri(), name="a", md5="")
    with pytest.raises(ValueError, match="no http address"):
        download_file(remote, tmp_path)


# ------------------------------------------------------------------------------------ a whole data set


def test_fetch_brings_checks_unpacks_and_says_what_next(server, tmp_path, monkeypatch, capsys):
    publish(server, monkeypatch, {"cifar-100-python.tar.gz": tar_bytes(CIFAR)})
    main_ends(["data", "fetch", "cifar100", "--to", str(tmp_path / "cifar")], 0)
    out, err = capsys.readouterr()
    own = tmp_path / "cifar" / "cifar-100-python"
    assert f"Data: {own} (3 files, 4.4 KiB)" in out
    assert f'praxiscope data check "{own}"' in out
    assert "Terms: none stated" in err
    assert {p.name: p.read_bytes() for p in own.iterdir()} == {Path(k).name: v for k, v in CIFAR.items()}
    assert {path.name for path in (tmp_path / "cifar").iterdir()} == {"cifar-100-python", MARKER}
    assert {path.name for path in tmp_path.iterdir()} == {"cifar"}
    main_ends(["data", "fetch", "cifar100", "--to", str(tmp_path / "cifar")], 0)
    assert "holds all of 'cifar100' already; nothing was fetched" in capsys.readouterr().err
    assert len(server.asked) == 1


def main_ends(arguments: list[str], code: int) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert (end.value.code or 0) == code


def test_files_that_are_no_archive_stay_as_they_are(server, tmp_path, monkeypatch):
    files = {name: name.encode() * 9 for name in find_card("fashion-mnist").files}
    publish(server, monkeypatch, files)
    result = fetch_data("fashion-mnist", tmp_path / "fm")
    assert result.folder == tmp_path / "fm"
    assert {p.name: p.read_bytes() for p in (tmp_path / "fm").iterdir() if p.name != MARKER} == files
    assert (result.files, result.size) == (4, sum(map(len, files.values())))


def test_a_broken_connection_is_continued_by_the_same_command(server, tmp_path, monkeypatch):
    archive = tar_bytes(CIFAR)
    publish(server, monkeypatch, {"cifar-100-python.tar.gz": archive})
    server.break_after = 100
    notes: list[str] = []
    with pytest.raises(EnvironmentProblem, match=r"connection ended after 100 of (.|\n)*By hand"):
        fetch_data("cifar100", tmp_path / "c", note=notes.append)
    server.break_after = None
    fetch_data("cifar100", tmp_path / "c", note=notes.append)
    assert server.asked[-1][1] == "bytes=100-"
    assert any("Going on with what an earlier fetch left" in note for note in notes)
    assert (tmp_path / "c" / "cifar-100-python" / "meta").read_bytes() == b"m"


def test_ctrl_c_leaves_no_data_and_is_continued(server, tmp_path, monkeypatch):
    publish(server, monkeypatch, {"cifar-100-python.tar.gz": tar_bytes(CIFAR)})

    def interrupt(text: str, _done: int, _total: int) -> None:
        if text.startswith("unpacking"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_data("cifar100", tmp_path / "c", progress=interrupt)
    assert not (tmp_path / "c" / "cifar-100-python").exists()
    fetch_data("cifar100", tmp_path / "c")
    assert len(server.asked) == 1, "what was downloaded is used"
    assert {path.name for path in (tmp_path / "c").iterdir()} == {"cifar-100-python", MARKER}


@pytest.mark.parametrize("kind", ["parent-tar", "symlink-tar", "bomb-gz", "case-zip"])
def test_a_hostile_archive_from_the_server_leaves_nothing(kind, server, tmp_path, monkeypatch):
    make, message = HOSTILE[kind]
    make(tmp_path / "hostile")
    content = (tmp_path / "hostile").read_bytes()
    (tmp_path / "hostile").unlink()
    publish(server, monkeypatch, {"cifar-100-python.tar.gz": content})
    with pytest.raises(DataError, match=message):
        fetch_data("cifar100", tmp_path / "c")
    assert list_all(tmp_path) == set()


def test_a_wrong_checksum_leaves_nothing_and_ends_with_4(server, tmp_path, monkeypatch, capsys):
    name = "cifar-100-python.tar.gz"
    publish(server, monkeypatch, {name: tar_bytes(CIFAR)}, sums={name: "0" * 32})
    main_ends(["data", "fetch", "cifar100", "--to", str(tmp_path / "c")], 4)
    assert "is not the file that was published" in capsys.readouterr().err
    assert list_all(tmp_path) == set()


def test_an_archive_can_not_bring_our_own_marker(server, tmp_path, monkeypatch):
    publish(server, monkeypatch, {"cifar-100-python.tar.gz": tar_bytes({MARKER: b"{}", "a": b"1"})})
    with pytest.raises(DataError, match="a name that praxiscope keeps for itself"):
        fetch_data("cifar100", tmp_path / "c")


# ------------------------------------------------------------------------------------ folders


def test_folders_that_hold_something_else_are_refused(server, tmp_path, monkeypatch):
    publish(server, monkeypatch, {"cifar-100-python.tar.gz": tar_bytes(CIFAR)})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match="it holds other files"):
        fetch_data("cifar100", tmp_path / "mine")
    with pytest.raises(UsageError, match="that is a file"):
        fetch_data("cifar100", tmp_path / "mine" / "thesis.txt")
    fetch_data("cifar100", tmp_path / "c")
    with pytest.raises(UsageError, match=r"it holds 'cifar100'\. Name another folder for 'cifar10'"):
        fetch_data("cifar10", tmp_path / "c")
    assert list_all(tmp_path / "mine") == {"thesis.txt"}


def test_names(capsys):
    with pytest.raises(UsageError, match=r"no data set 'cifar-100' to fetch\. Did you mean 'cifar100'"):
        find_card("cifar-100")
    main_ends(["data", "fetch", "har"], 2)
    assert "Name a new or empty folder with --to DIR" in capsys.readouterr().err
    main_ends(["data", "fetch", "list"], 0)
    listed = capsys.readouterr().out
    assert all(card.name in listed and card.terms in listed and card.size in listed for card in CARDS)


# ------------------------------------------------------------------------------------ without a network


@pytest.mark.parametrize("name", [card.name for card in CARDS])
def test_offline_says_what_to_do_by_hand_and_leaves_no_trace(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PRAXISCOPE_OFFLINE", "1")
    main_ends(["data", "fetch", name, "--to", str(tmp_path / "d")], 3)
    said, card = capsys.readouterr().err, find_card(name)
    assert "PRAXISCOPE_OFFLINE forbids the network" in said
    assert card.platform in said
    assert all(file in said for file in card.files)
    assert f'praxiscope data check "{tmp_path / "d"}' in said
    assert ("--archive FILE" in said) == card.packed
    assert "http" not in said.replace("huggingface", "")
    assert list_all(tmp_path) == set()


@pytest.mark.parametrize(("name", "package"), [("har", "kagglehub"), ("tiny-imagenet", "huggingface_hub")])
def test_an_absent_client_is_named(name, package, tmp_path, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == package else real(n, *a))
    with pytest.raises(
        EnvironmentProblem, match=rf"{package} is not installed \(pip install 'praxiscope\[fetch\]'"
    ):
        fetch_data(name, tmp_path / "d")
    assert list_all(tmp_path) == set()


def test_no_network_is_an_environment_problem(tmp_path, monkeypatch):
    dead = RemoteFile(url="http://127.0.0.1:9/a", name="a", md5="")
    monkeypatch.setattr(clients, "find_remote_files", lambda _card: (dead,))
    with pytest.raises(EnvironmentProblem, match=r"could not be fetched: URLError(.|\n)*By hand"):
        fetch_data("cifar10", tmp_path / "d")


def test_by_hand_archive_is_checked_and_unpacked(tmp_path, monkeypatch, server):
    monkeypatch.setenv("PRAXISCOPE_OFFLINE", "1")
    files = {
        "Human Action Recognition/Training_set.csv": b"filename,label\n",
        "Human Action Recognition/a": b"1",
    }
    write_zip(tmp_path / "archive.zip", *files.items())
    result = fetch_data("har", tmp_path / "har", archive=tmp_path / "archive.zip")
    assert result.folder == tmp_path / "har" / "Human Action Recognition"
    assert result.files == 2
    publish(server, monkeypatch, {"cifar-100-python.tar.gz": tar_bytes(CIFAR)})
    (tmp_path / "wrong.tar.gz").write_bytes(tar_bytes({"a": b"1"}))
    with pytest.raises(IntegrityError, match=r"is not cifar-100-python\.tar\.gz as it was published"):
        fetch_data("cifar100", tmp_path / "c", archive=tmp_path / "wrong.tar.gz")
    with pytest.raises(UsageError, match="there is no file"):
        fetch_data("cifar100", tmp_path / "c", archive=tmp_path / "none.tar.gz")
    with pytest.raises(UsageError, match="'fashion-mnist' is not published as an archive"):
        fetch_data("fashion-mnist", tmp_path / "f", archive=tmp_path / "archive.zip")
    assert {path.name for path in tmp_path.iterdir()} == {"archive.zip", "har", "wrong.tar.gz"}


# ------------------------------------------------------------------------------------ the clients


def test_torchvision_knows_addresses_and_checksums():
    (cifar,) = clients.find_remote_files(find_card("cifar100"))
    assert cifar.name == find_card("cifar100").files[0]
    assert cifar.md5 == "eb9058c3a382ffc7106e4002c42a8d85"  # A. Krizhevsky's page
    assert [f.name for f in clients.find_remote_files(find_card("cifar10"))] == list(
        find_card("cifar10").files
    )
    fashion = clients.find_remote_files(find_card("fashion-mnist"))
    assert {f.name for f in fashion} == set(find_card("fashion-mnist").files)
    assert all(len(f.md5) == 32 and f.url.endswith(f.name) for f in fashion)


@pytest.fixture
def fake_kagglehub(monkeypatch):
    """A module in kagglehub's place that unpacks into the cache folder that its environment names."""
    import os

    module, errors = types.ModuleType("kagglehub"), types.ModuleType("kagglehub.exceptions")
    module.__spec__ = importlib.util.spec_from_loader("kagglehub", None)
    errors.CredentialError = type("CredentialError", (Exception,), {})
    module.calls = []

    def dataset_download(handle: str) -> str:
        module.calls.append(handle)
        folder = Path(os.environ["KAGGLEHUB_CACHE"]) / "datasets" / handle / "versions" / "1"
        folder.mkdir(parents=True, exist_ok=True)
        module.write(folder)
        return str(folder)

    module.dataset_download = dataset_download
    monkeypatch.setitem(sys.modules, "kagglehub", module)
    monkeypatch.setitem(sys.modules, "kagglehub.exceptions", errors)
    monkeypatch.delenv("KAGGLEHUB_CACHE", raising=False)
    return module


def test_kagglehub_keeps_everything_in_the_named_folder(fake_kagglehub, tmp_path):
    import os

    def write(folder: Path) -> None:
        (folder / "train").mkdir()
        (folder / "train" / "a.jpg").write_bytes(b"1")
        (folder / "sports.csv").write_text("filepaths,labels,data set\n")

    fake_kagglehub.write = write
    result = fetch_data("sports100", tmp_path / "s")
    assert fake_kagglehub.calls == ["gpiosenka/sports-classification"]
    assert result.folder == tmp_path / "s"
    assert list_all(tmp_path / "s") == {"train", "train/a.jpg", "sports.csv", MARKER}
    assert "KAGGLEHUB_CACHE" not in os.environ


def test_missing_credentials_end_with_3_and_the_way_by_hand(fake_kagglehub, tmp_path, capsys):
    def refuse(_folder: Path) -> None:
        raise sys.modules["kagglehub.exceptions"].CredentialError("no credentials were found")

    fake_kagglehub.write = refuse
    main_ends(["data", "fetch", "har", "--to", str(tmp_path / "h")], 3)
    said = capsys.readouterr().err
    assert "CredentialError: no credentials were found" in said
    assert "KAGGLE_API_TOKEN" in said
    assert "download archive.zip" in said


def test_a_link_among_downloaded_files_is_refused(fake_kagglehub, tmp_path):
    fake_kagglehub.write = lambda folder: (folder / "link").symlink_to("/etc")
    with pytest.raises(DataError, match="is a link or a device"):
        fetch_data("har", tmp_path / "h")
    assert list_all(tmp_path) == set()


def test_a_notebooks_read_only_folder_is_copied(fake_kagglehub, tmp_path, monkeypatch):
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "a.csv").write_text("x")
    monkeypatch.setattr(fake_kagglehub, "dataset_download", lambda _handle: str(tmp_path / "input"))
    fetch_data("sports100", tmp_path / "s")
    assert (tmp_path / "s" / "a.csv").exists()
    assert (tmp_path / "input" / "a.csv").exists()


def test_huggingface_hub_downloads_the_tables_only(tmp_path, monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    asked = {}

    def snapshot_download(repo_id, *, repo_type, local_dir, allow_patterns):
        asked.update(repo_id=repo_id, repo_type=repo_type, allow_patterns=allow_patterns)
        for name in ("data/train.parquet", ".cache/huggingface/download/x.metadata"):
            path = Path(local_dir) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"PAR1")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    result = fetch_data("tiny-imagenet", tmp_path / "t")
    assert asked == {
        "repo_id": "zh-plus/tiny-imagenet",
        "repo_type": "dataset",
        "allow_patterns": ["data/*.parquet"],
    }
    assert list_all(tmp_path / "t") == {"data", "data/train.parquet", MARKER}
    assert result.files == 1


def test_huggingface_hub_without_a_network(tmp_path, monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub")

    def fail(*_args, **_more):
        raise huggingface_hub.errors.LocalEntryNotFoundError(
            "An error happened while trying to locate the files"
        )

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(EnvironmentProblem, match=r"LocalEntryNotFoundError(.|\n)*zh-plus/tiny-imagenet"):
        fetch_data("tiny-imagenet", tmp_path / "t")
    assert list_all(tmp_path) == set()


def test_the_real_clients_take_what_they_are_given():
    """Signatures only: no network here."""
    import inspect

    huggingface_hub = pytest.importorskip("huggingface_hub")
    inspect.signature(huggingface_hub.snapshot_download).bind(
        "a/b", repo_type="dataset", local_dir="x", allow_patterns=["y"]
    )
    kagglehub = pytest.importorskip("kagglehub", reason="the extra 'fetch' is not installed")
    inspect.signature(kagglehub.dataset_download).bind("a/b")


def test_a_fetched_set_is_one_that_data_check_reads(tmp_path, capsys):
    folder = write_class_folders(
        tmp_path / "made", splits={"train": 4, "valid": 2, "test": 2}, names=("judo", "polo")
    )
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.jpg")}
    archive = tmp_path / "archive.zip"
    write_zip(archive, *files.items())
    main_ends(["data", "fetch", "sports100", "--to", str(tmp_path / "s"), "--archive", str(archive)], 0)
    capsys.readouterr()
    main_ends(["data", "check", str(tmp_path / "s")], 0)
    assert "16 of 16 samples usable" in capsys.readouterr().out
