import numpy as np
import pytest

from praxiscope.evaluation.predictions import HeadOutputs, PredictionsInfo, build_predictions


def make_predictions(
    *,
    size=60,
    num_classes=6,
    seed=0,
    targets=None,
    logits=None,
    groups=None,
    clean=None,
    splits="test",
    names=None,
):
    """Build predictions of one head that are right about two times in three; any part can be given."""
    rng = np.random.default_rng(seed)
    size = size if logits is None else len(logits)
    num_classes = num_classes if logits is None else np.asarray(logits).shape[1]
    targets = rng.integers(num_classes, size=size) if targets is None else np.asarray(targets)
    if logits is None:
        logits = rng.normal(size=(size, num_classes)) + 2 * np.eye(num_classes)[targets]
    names = names or tuple(f"class {index}" for index in range(num_classes))
    info = PredictionsInfo(
        heads={"action": tuple(names)},
        weights_sha256="w" * 64,
        manifest_fingerprint="m" * 64,
        recipe_name="har-resnet18",
        created="2026-01-02T03:04:05Z",
    )
    return build_predictions(
        info,
        sample_ids=[f"test/{index:04}.jpg" for index in range(size)],
        splits=splits,
        outputs={"action": HeadOutputs(targets=targets, logits=np.asarray(logits))},
        groups=groups,
        clean=clean,
    )


@pytest.fixture(name="make_predictions")
def make_predictions_fixture():
    return make_predictions
