"""Data sets that ``praxiscope data fetch`` knows: where they are published, and what they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from praxiscope.errors import UsageError, did_you_mean

Client = Literal["kagglehub", "huggingface_hub", "torchvision"]


@dataclass(frozen=True, kw_only=True)
class DataCard:
    """A published data set.

    Attributes:
        name: on the command line.
        title: what its publisher calls it.
        what: its classes, samples and splits.
        size: of the download, about.
        terms: its licence or terms, as far as they are known; the publisher's page has the last word.
        platform: where it is published, for a person.
        client: the package that downloads it, or that knows its address and checksum.
        handle: what the client calls it.
        files: what to download by hand: names as the publisher gives them.
        packed: whether they are archives to be unpacked.
        subfolder: where the samples lie below the fetched folder, where a publisher has packed one.
    """

    name: str
    title: str
    what: str
    size: str
    terms: str
    platform: str
    client: Client
    handle: str
    files: tuple[str, ...]
    packed: bool
    subfolder: str = ""


CARDS: tuple[DataCard, ...] = (
    DataCard(
        name="har",
        title="Human Action Recognition (HAR) Dataset",
        what="15 actions, 12,600 labelled photographs (840 each) in one folder with Training_set.csv",
        size="300 MB",
        terms="stated on its Kaggle page; the photographs are from the web and belong to their makers",
        platform="Kaggle, data set meetnagadia/human-action-recognition-har-dataset",
        client="kagglehub",
        handle="meetnagadia/human-action-recognition-har-dataset",
        files=("archive.zip",),
        packed=True,
        subfolder="Human Action Recognition",
    ),
    DataCard(
        name="sports100",
        title="100 Sports Image Classification",
        what="100 sports, 224 px, train / valid / test (5 images a class in valid and in test), sports.csv",
        size="450 MB",
        terms="stated on its Kaggle page; the photographs are from the web and belong to their makers",
        platform="Kaggle, data set gpiosenka/sports-classification",
        client="kagglehub",
        handle="gpiosenka/sports-classification",
        files=("archive.zip",),
        packed=True,
    ),
    DataCard(
        name="cifar10",
        title="CIFAR-10 python version",
        what="10 classes, 50,000 training and 10,000 test images of 32 px",
        size="170 MB",
        terms="none stated; its authors ask to cite A. Krizhevsky, Learning Multiple Layers of Features from "
        "Tiny Images, 2009",
        platform="A. Krizhevsky's page at the University of Toronto, 'The CIFAR-10 dataset'",
        client="torchvision",
        handle="CIFAR10",
        files=("cifar-10-python.tar.gz",),
        packed=True,
        subfolder="cifar-10-batches-py",
    ),
    DataCard(
        name="cifar100",
        title="CIFAR-100 python version",
        what="100 classes, 50,000 training and 10,000 test images of 32 px",
        size="169 MB",
        terms="none stated; its authors ask to cite A. Krizhevsky, Learning Multiple Layers of Features from "
        "Tiny Images, 2009",
        platform="A. Krizhevsky's page at the University of Toronto, 'The CIFAR-100 dataset'",
        client="torchvision",
        handle="CIFAR100",
        files=("cifar-100-python.tar.gz",),
        packed=True,
        subfolder="cifar-100-python",
    ),
    DataCard(
        name="fashion-mnist",
        title="Fashion-MNIST",
        what="10 kinds of clothing, 60,000 training and 10,000 test images of 28 px, grey",
        size="31 MB",
        terms="MIT licence, Zalando SE",
        platform="GitHub, zalandoresearch/fashion-mnist (Debian has it as the package dataset-fashion-mnist)",
        client="torchvision",
        handle="FashionMNIST",
        files=(
            "train-images-idx3-ubyte.gz",
            "train-labels-idx1-ubyte.gz",
            "t10k-images-idx3-ubyte.gz",
            "t10k-labels-idx1-ubyte.gz",
        ),
        packed=False,
    ),
    DataCard(
        name="tiny-imagenet",
        title="Tiny ImageNet",
        what="200 classes, 100,000 training and 10,000 validation images of 64 px, as Parquet tables",
        size="160 MB",
        terms="those of ImageNet: research and teaching, not commerce",
        platform="Hugging Face hub, data set zh-plus/tiny-imagenet",
        client="huggingface_hub",
        handle="zh-plus/tiny-imagenet",
        files=("data/*.parquet",),
        packed=False,
    ),
)


def find_card(name: str) -> DataCard:
    """Return the data set of this name.

    Raises:
        UsageError: there is none; lists those that there are.
    """
    names = [card.name for card in CARDS]
    for card in CARDS:
        if card.name == name.lower():
            return card
    raise UsageError(
        f"There is no data set '{name}' to fetch.{did_you_mean(name.lower(), names)} There are "
        f"{', '.join(names)}; 'praxiscope data fetch list' describes them."
    )
