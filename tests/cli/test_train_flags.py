"""Every flag of ``train`` becomes its recipe key; the commands of the CIFAR study work as they stand."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import praxiscope.cli.tracking_flags as tracking_flags
import praxiscope.workflows.train as train_workflow
from class_folders import write_class_folders
from praxiscope.cli.main import main
from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import Recipe

CIFAR_4 = {
    "vgg": "--gpu 0 --model vgg16 --lr 0.01 --batch_size 128 --epochs 200 --augmentation cutmix --optimizer sgd "
    "--weight_decay 0.0002 --loss CE --datapath DIR --wandb_run_name vgg16",
    "resnet": "--gpu 0 --model resnet50 --lr 0.01 --batch_size 128 --epochs 200 --augmentation cutmix --optimizer sgd "
    "--weight_decay 0.0002 --loss CE --datapath DIR --wandb_run_name rn50_sgd_CE",
    "tuned": "--gpu 0 --model resnet50 --lr 0.01 --batch_size 128 --epochs 200 --augmentation cutmix --optimizer adamw "
    "--weight_decay 0.02 --loss BCE --warmup_epochs 5 --datapath DIR --wandb_run_name rn50_adamw_BCE",
    "vit": "--gpu 0 --model vit_b_16 --lr 0.01 --datapath DIR --batch_size 128 --epochs 50 --augmentation cutmix "
    "--wandb_run_name vit_b_16",
    "scratch": "--gpu 0 --model vit_scratch --lr 0.01 --batch_size 64 --epochs 100 --optimizer sgd "
    "--weight_decay 0.0002 --datapath DIR --wandb_run_name vit_from_scratch",
}  # fmt: skip


def run(*words: str | object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["train", *(str(word) for word in words)])
    code = ended.value.code
    return 0 if code is None else int(code)


@pytest.fixture
def asked(monkeypatch) -> dict[str, Any]:
    """What the workflow is asked to do; nothing is trained."""
    calls: dict[str, Any] = {}

    def train(recipe: Recipe | None, **more: Any) -> SimpleNamespace:
        calls.update(more, recipe=recipe)
        return SimpleNamespace(path=Path("runs/x"))

    monkeypatch.setattr(train_workflow, "train", train)
    return calls


@pytest.fixture
def wandb_here(monkeypatch) -> None:
    monkeypatch.setattr(tracking_flags.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)


@pytest.fixture
def nobody_logged_in(monkeypatch, tmp_path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr(tracking_flags.importlib.util, "find_spec", lambda name: object())


# ------------------------------------------------------------------------------ the CIFAR study's commands


@pytest.mark.parametrize("dashes", [False, True])
@pytest.mark.parametrize("name", CIFAR_4)
def test_the_commands_of_the_cifar_study_mean_what_they_say(name, dashes, asked, wandb_here):
    words = shlex.split(CIFAR_4[name])
    if dashes:
        words = [w.replace("_", "-") if w.startswith("--") else w for w in words]
    assert run(*words) == 0
    given = {words[i].lstrip("-").replace("-", "_"): words[i + 1] for i in range(0, len(words), 2)}
    recipe = asked["recipe"]
    assert asked["device"] == "0"
    assert asked["data"] == Path("DIR")
    assert recipe.model.name == given["model"]
    assert not recipe.model.pretrained
    train = recipe.train
    assert (train.lr, train.batch_size, train.epochs) == (
        float(given["lr"]), int(given["batch_size"]), int(given["epochs"]),
    )  # fmt: skip
    assert train.opt == given.get("optimizer", "adamw")
    assert train.loss == given.get("loss", "CE").lower()
    assert train.weight_decay == float(given.get("weight_decay", 0.05))
    assert train.warmup_epochs == float(given.get("warmup_epochs", 0))
    assert recipe.augment.preset == given.get("augmentation", "standard")
    assert recipe.augment.cutmix == ("augmentation" in given)
    assert recipe.track.trackers == ("wandb",)
    assert recipe.track.run_name == given["wandb_run_name"]
    assert not recipe.track.offline


@pytest.mark.shared
def test_the_commands_are_those_of_the_study(shared_data):
    text = next((shared_data.parent / "seeds").glob("004*.txt")).read_text(encoding="utf-8")
    published = [line.split("main.py ")[1].strip() for line in text.splitlines() if "main.py --" in line]
    ours = [words.replace("DIR", "<path-to-dataset>") for words in CIFAR_4.values()]
    assert [" ".join(words.split()) for words in published] == ours


def test_one_of_them_trains_for_real(tmp_path, monkeypatch, nobody_logged_in, capsys):
    """On 32-px images, without wandb: the smallest of their networks, for one epoch, on this machine's CPU."""
    monkeypatch.setattr(tracking_flags.importlib.util, "find_spec", lambda name: None)
    names = ("cat", "dog", "fox")
    photos = write_class_folders(tmp_path / "photos", splits={"train": 8, "test": 2}, names=names, size=32)
    words = CIFAR_4["scratch"].replace("DIR", photos.as_posix()).replace("--gpu 0", "--gpu cpu")
    words = words.replace("--epochs 100", "--epochs 1").replace("--batch_size 64", "--batch_size 8")
    assert run(*shlex.split(words), "--loss", "BCE", "--repeats", 2, "-o", tmp_path / "runs") == 0
    error = capsys.readouterr().err
    assert "NOTE: Weights & Biases is not installed, so 'vit_from_scratch' is not sent there" in error
    (saved,) = (tmp_path / "runs" / "vit_scratch").glob("*/recipe.yaml")
    recipe = load_recipe(saved)
    assert (recipe.track.run_name, recipe.track.trackers) == ("vit_from_scratch", ())
    assert (recipe.train.loss, recipe.augment.repeats) == ("bce", 2)


def test_a_gpu_that_is_not_there_is_named(photos, tmp_path, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert run("--gpu", 0, "--model", "vgg16", "--datapath", photos, "-o", tmp_path / "runs") == 3
    assert "--device cpu" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


# ------------------------------------------------------------------------------ flags


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        ("--loss FOCAL", "train.loss", "focal"),
        ("--augmentation rsb", "augment.repeats", 3),
        ("--augmentation rsb --repeats 2", "augment.repeats", 2),
        ("--augmentation cutmix --cutmix 0.3", "augment.cutmix", 0.3),
        ("--augmentation CIFAR_CutMix", "augment.preset", "cifar-cutmix"),
        ("--sampling balanced", "train.sampling", "balanced"),
        ("--class_weights balanced", "train.class_weights", "balanced"),
        ("--head conv", "model.head", "conv"),
        ("--freeze backbone", "model.freeze", ("backbone",)),
        ("--freeze conv1,layer1 --freeze bn1", "model.freeze", ("conv1", "layer1", "bn1")),
        ("--freeze-depth 3", "model.freeze_depth", 3),
        ("--layer_decay 0.8", "train.layer_decay", 0.8),
        ("--momentum 0.95", "train.momentum", 0.95),
        ("--clip-grad 1", "train.clip_grad", 1.0),
        ("--schedule plateau", "train.schedule", "plateau"),
        ("--min_lr 1e-6", "train.min_lr", 1e-6),
        ("--drop-path 0.1", "model.drop_path_rate", 0.1),
        ("--ema 0.999", "train.ema_decay", 0.999),
        ("--pack 256", "data.pack", 256),
        ("--cache-features", "features.views", 1),
        ("--cache_features --epochs 3", "features.views", 1),
        ("--cache-features 5", "features.views", 5),
        ("--extend hold", "train.extend", "hold"),
        ("--track mlflow,trackio", "track.trackers", ("mlflow", "trackio")),
        ("--track mlflow --track trackio", "track.trackers", ("mlflow", "trackio")),
        ("--project mine", "track.project", "mine"),
        ("--run-name first", "track.run_name", "first"),
    ],
)
def test_each_flag_sets_its_key(words, key, value, asked):
    assert run("demo-cnn", *shlex.split(words)) == 0
    found: Any = asked["recipe"]
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--augmentatoin cutmix", "--augmentation"),
        ("--augmentation cutmx", "Did you mean 'cutmix'?"),
        ("--loss cee", "Did you mean 'ce'?"),
        ("--head conf", "Did you mean 'conv'?"),
        ("--track wandbb", "Did you mean 'wandb'?"),
        ("--schedule cosin", "Did you mean 'cosine'?"),
        ("--sampling balance", "Did you mean 'balanced'?"),
        ("--extend strech", "Did you mean 'stretch'?"),
        ("--epochs many", "Invalid value for '--epochs'"),
        ("--cutmix 1 --set augment.cutmix=0.5", "given twice"),
        ("--augmentation cutmix --set augment=mixup", "augment.preset is given twice"),
        ("--run-name a --wandb-run-name b", "name the same run; keep one"),
    ],
)
def test_a_slip_in_a_flag_says_what_to_type(words, expected, asked, capsys):
    assert run("demo-cnn", *shlex.split(words)) == 2
    assert expected in capsys.readouterr().err
    assert not asked


def test_help_lists_every_flag_in_groups_without_torch(capsys):
    assert run("--help") == 0
    printed = capsys.readouterr().out
    heads = ["Arguments:", "Data:", "Model:", "Augmentation:", "Training:", "Run:", "Experiment trackers:"]
    places = [printed.index(f"\n{head}\n") for head in heads]
    assert places == sorted(places)
    assert printed.index("--loss") > printed.index("\nTraining:\n")
    code = (
        "import sys; from praxiscope.cli.main import main\n"
        "try:\n    main(['train', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'timm', 'numpy', 'pyarrow', 'wandb', 'rich.markdown'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    import subprocess

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


# ------------------------------------------------------------------------------ --wandb-run-name


def test_without_wandb_its_run_name_is_a_name_and_a_note(asked, monkeypatch, capsys):
    monkeypatch.setattr(tracking_flags.importlib.util, "find_spec", lambda name: None)
    assert run("demo-cnn", "--wandb_run_name", "mine", "--track", "mlflow") == 0
    assert asked["recipe"].track.run_name == "mine"
    assert asked["recipe"].track.trackers == ("mlflow",)
    assert "pip install 'praxiscope[wandb]'" in capsys.readouterr().err


def test_without_a_login_it_stays_on_this_machine(asked, nobody_logged_in, capsys):
    assert run("demo-cnn", "--wandb-run-name", "mine", "--track", "wandb") == 0
    assert asked["recipe"].track.trackers == ("wandb",)
    assert asked["recipe"].track.offline
    assert "stays on this machine" in capsys.readouterr().err
    assert run("demo-cnn", "--wandb-run-name", "mine", "--set", "track.offline=false") == 0
    assert not asked["recipe"].track.offline


@pytest.mark.parametrize(
    ("host", "offline"), [("api.wandb.ai", False), ("example.org", True), ("wandb.mine.org", False)]
)
def test_a_login_is_looked_for_where_wandb_keeps_it(host, offline, asked, nobody_logged_in, tmp_path):
    (tmp_path / "netrc").write_text(f"machine {host}\n  login user\n  password x\n", encoding="utf-8")
    (tmp_path / "netrc").chmod(0o600)
    assert run("demo-cnn", "--wandb-run-name", "mine") == 0
    assert asked["recipe"].track.offline == offline


def test_a_tracker_that_was_asked_for_by_its_own_flag_is_meant(asked, nobody_logged_in):
    """--track wandb without a login is an error before training, not a quiet change."""
    assert run("demo-cnn", "--track", "wandb") == 0
    assert not asked["recipe"].track.offline
