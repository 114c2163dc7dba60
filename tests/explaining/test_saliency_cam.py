"""Class activation maps: known answers, batches, layers, what is left untouched, and what is refused."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch
from saliency_subjects import NAMES, Pooled, build_runtime, draw_images, open_network, open_timm_vit, wrap
from torch import nn

from praxiscope.errors import Diverged, UsageError
from praxiscope.explaining.saliency import catalog
from praxiscope.explaining.saliency.cam import compute_eigencam, compute_gradcam_plus_plus
from praxiscope.explaining.saliency.catalog import METHODS, find_methods
from praxiscope.explaining.saliency.compute import compute_maps, scale_maps
from praxiscope.explaining.saliency.target import choose_target_layer, choose_target_use, describe_coarse
from praxiscope.explaining.subject import build_subject
from praxiscope.models.build import build_model
from praxiscope.models.layer_uses import list_layers
from praxiscope.recipe.schema import ModelSection

LAYERED = ("gradcam", "gradcam++", "eigencam")
TARGETS = np.array([0, 1, 2, 3, 1])


def test_gradcam_behind_a_mean_is_the_weighted_sum_of_channels():
    subject = wrap(Pooled())
    images = draw_images(5, 8)
    maps = []
    handle = subject.module.act.register_forward_hook(lambda _m, _i, output: maps.append(output.clone()))
    subject.compute_logits(images)
    handle.remove()
    weights = subject.module.fc.weight[torch.from_numpy(TARGETS)].detach()
    expected = torch.einsum("nc,nchw->nhw", weights, maps[1]).relu() / 64  # the mean over 8 x 8 positions
    found = compute_maps(subject, "gradcam", images, TARGETS)
    assert found.layer == "act#2"
    np.testing.assert_allclose(found.coarse, expected, atol=1e-7)
    np.testing.assert_array_equal(found.maps, found.coarse)  # already at the images' resolution


def test_every_use_of_a_layer_has_a_map_of_its_own():
    subject = wrap(Pooled())
    images = draw_images(5, 8)
    first = compute_maps(subject, "gradcam", images, TARGETS, layer="act")
    second = compute_maps(subject, "gradcam", images, TARGETS, layer="act#2")
    assert (first.layer, second.layer) == ("act", "act#2")
    assert not np.allclose(first.coarse, second.coarse)
    with pytest.raises(UsageError, match="that layer is used 2 times; choose of act, act#2"):
        compute_maps(subject, "gradcam", images, TARGETS, layer="act#3")


@pytest.mark.parametrize("layer", ["conv1", "act", "conv2"])
def test_an_activation_that_works_in_place_changes_no_map(layer):
    images = draw_images(5, 8)
    for method in LAYERED:
        inplace = compute_maps(wrap(Pooled()), method, images, TARGETS, layer=layer)
        apart = compute_maps(wrap(Pooled(inplace=False)), method, images, TARGETS, layer=layer)
        np.testing.assert_array_equal(inplace.coarse, apart.coarse)


@pytest.mark.parametrize("method", [method.name for method in METHODS if "cnn" in method.families])
def test_neither_batch_size_nor_neighbours_change_a_map(method):
    subject = wrap(Pooled())
    images = draw_images(5, 8)
    done = []
    whole = compute_maps(subject, method, images, TARGETS)
    parts = compute_maps(subject, method, images, TARGETS, batch_size=2, watch=lambda *now: done.append(now))
    alone = compute_maps(subject, method, images[4:], TARGETS[4:])
    np.testing.assert_allclose(whole.maps, parts.maps, atol=1e-6)
    np.testing.assert_allclose(whole.maps[4:], alone.maps, atol=1e-6)
    assert whole.maps.dtype == whole.coarse.dtype == np.float32
    fine = method in {"integrated-gradients", "occlusion"}  # a pass is full of variants of one image
    assert done == ([(n, 5) for n in range(1, 6)] if fine else [(2, 5), (4, 5), (5, 5)])


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_only_signed_methods_go_below_zero(method):
    subject = open_timm_vit() if "cnn" not in method.families else wrap(Pooled())
    images = draw_images(3, subject.img_size)
    found = compute_maps(subject, method.name, images, np.array([0, 1, 2]))
    assert (found.maps.min() < 0) == method.signed
    assert found.maps.max() > 0
    assert found.method == method.name
    assert (found.layer is not None) == method.needs_layer


@pytest.mark.parametrize(
    ("method", "family"),
    [
        pytest.param(method, family, id=f"{method.name}-{family}")
        for method in METHODS
        for family in ("cnn", "vit")
        if family in method.families
    ],
)
def test_class_blind_methods_are_those_whose_map_no_class_changes(method, family):
    subject = open_timm_vit(img_size=48) if family == "vit" else wrap(Pooled())
    images = np.repeat(draw_images(1, subject.img_size), 3, axis=0)
    maps = compute_maps(subject, method.name, images, np.array([0, 1, 2])).maps
    assert all(np.allclose(each, maps[0], rtol=1e-3, atol=0) for each in maps[1:]) == method.class_blind


def test_a_coarse_map_is_warned_of_with_a_finer_layer():
    subject = open_network("resnet18", img_size=96)
    uses = list_layers(subject.module, subject.make_example())
    usual = choose_target_use(subject, uses)
    assert describe_coarse(uses, usual) == (
        "A map at layer4 has only 3 x 3 cells, too few to point at anything; look at an earlier layer too: "
        "--layer layer3 has 6 x 6."
    )
    assert describe_coarse(uses, next(use for use in uses if use.name == "layer3")) is None
    tiny = open_network("test_resnet", img_size=16)
    uses = list_layers(tiny.module, tiny.make_example())
    grids = [use for use in uses if use.grid and max(use.grid) < 5]
    assert describe_coarse(tuple(grids), grids[0]).endswith("give the network larger images.")


def test_the_example_has_the_size_of_evaluation():
    """Trained at 64 px and evaluated at 96, a network has other maps."""
    built = build_model(ModelSection(name="resnet18", img_size=64), num_classes=len(NAMES), seed=0)
    subject = build_subject(built, build_runtime(), NAMES, "larger", img_size=96)
    assert tuple(subject.make_example().shape) == (1, 3, 96, 96)
    assert choose_target_use(subject, list_layers(subject.module, subject.make_example())).grid == (3, 3)


def test_the_usual_layer_is_the_last_map_before_pooling():
    assert choose_target_layer(open_network("resnet18", img_size=64)) == "layer4"
    assert choose_target_layer(open_network("resnet18", img_size=64, head="conv")) == "fc.act2"
    assert choose_target_layer(open_network("tf_efficientnet_lite0", img_size=64)) == "bn2.act"
    lite = open_network("tf_efficientnet_lite0", img_size=64, head="conv")
    assert choose_target_layer(lite) == "classifier.act2"
    assert choose_target_layer(open_network("test_convnext", img_size=64)).startswith("stages.3")
    assert choose_target_layer(open_timm_vit()) == "blocks.5.norm1"
    # At 32 px its last stage is one pixel, no map.
    assert choose_target_layer(open_network("test_resnet", img_size=32)) == "layer3"


def test_maps_with_channels_last_of_a_hierarchical_transformer():
    subject = open_network("swin_tiny_patch4_window7_224", kwargs={"depths": (1, 1, 1, 1), "embed_dim": 24})
    found = compute_maps(subject, "gradcam", draw_images(1, 224), np.array([1]))
    assert found.layer == "norm"
    assert found.coarse.shape == (1, 7, 7)
    assert found.coarse.max() > 0


def test_a_map_lies_where_its_object_lies():
    """The class of redness is decided at the upper right corner, in the image's own axes."""
    module = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module[0].weight.data = torch.zeros(4, 3, 1, 1)
    module[0].weight.data[1, 0] = 1.0
    images = np.zeros((1, 8, 8, 3), np.uint8)
    images[0, :2, 6:, 0] = 255
    for method in ("gradcam", "gradcam++", "eigencam", "integrated-gradients"):
        found = compute_maps(wrap(module), method, images, np.array([1])).maps[0]
        assert found[:2, 6:].min() > 0
        assert np.abs(found[2:]).max() == np.abs(found[:, :6]).max() == 0


def test_the_graph_begins_at_the_layer():
    subject = open_network("resnet18", img_size=64)
    for parameter in subject.module.parameters():
        parameter.requires_grad_(True)
    saved = []

    def pack(tensor):
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        compute_maps(subject, "gradcam", draw_images(4, 64), TARGETS[:4])
    assert sum(saved) <= 4 * 512 * 2 * 2 + 512 * len(NAMES) + 100  # the last map and what pools it
    assert all(parameter.grad is None for parameter in subject.module.parameters())


@pytest.mark.parametrize("method", [method.name for method in METHODS if method.name != "random"])
def test_the_network_is_left_as_it_was_even_after_an_exception(method):
    vit = next(each for each in METHODS if each.name == method).families == ("vit",)
    subject = open_timm_vit() if vit else wrap(Pooled())
    module, images = subject.module, draw_images(2, subject.img_size)
    parameters = list(module.parameters())
    for place, parameter in enumerate(parameters):
        parameter.requires_grad_(place % 2 == 0)
    module.train()
    next(iter(module.children())).eval()
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    modes = [part.training for part in module.modules()]

    def check():
        assert [p.requires_grad for p in parameters] == [i % 2 == 0 for i in range(len(parameters))]
        assert [part.training for part in module.modules()] == modes
        assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
        assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
        assert torch.is_grad_enabled()

    compute_maps(subject, method, images, TARGETS[:2])
    check()
    broken = images.copy()

    def fail(done, _total):
        raise KeyboardInterrupt(done)

    with pytest.raises(KeyboardInterrupt):
        compute_maps(subject, method, broken, TARGETS[:2], batch_size=1, watch=fail)
    check()


def test_a_frozen_network_is_explained_like_another():
    images = draw_images(5, 8)
    free, frozen = wrap(Pooled()), wrap(Pooled())
    for parameter in frozen.module.parameters():
        parameter.requires_grad_(False)
    for method in ("gradcam", "gradcam++", "integrated-gradients"):
        one, other = (compute_maps(each, method, images, TARGETS).maps for each in (free, frozen))
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_gives_nearly_the_same_maps(precision):
    images = draw_images(5, 32)
    for method in LAYERED:
        exact = compute_maps(wrap(Pooled()), method, images, TARGETS)
        rough = compute_maps(wrap(Pooled(), precision=precision), method, images, TARGETS)
        assert rough.maps.dtype == np.float32
        np.testing.assert_allclose(rough.maps, exact.maps, atol=0.05 * exact.maps.max())


def test_a_constant_map_is_scaled_to_zero():
    maps = np.stack([np.zeros((2, 2)), np.full((2, 2), 7.0), [[1, 2], [3, 5]]]).astype(np.float32)
    scaled = scale_maps(maps)
    assert not scaled[:2].any()
    np.testing.assert_allclose(scaled[2], [[0, 0.25], [0.5, 1]])


def test_black_images_and_dead_channels_give_empty_maps():
    subject = wrap(Pooled())
    nn.init.zeros_(subject.module.conv2.weight)
    nn.init.constant_(subject.module.conv2.bias, -1.0)
    for method in LAYERED:
        found = compute_maps(subject, method, np.zeros((2, 8, 8, 3), np.uint8), TARGETS[:2])
        assert not found.maps.any()


def test_eigencam_is_large_where_activations_are():
    generator = torch.Generator().manual_seed(0)
    activations = 0.01 * torch.rand(2, 6, 5, 5, generator=generator)
    activations[:, :3, 1, 3] += 4.0
    for maps in (compute_eigencam(activations), compute_eigencam(activations[:, :, :2])):
        assert maps.flatten(1).argmax(dim=1).tolist() == [1 * 5 + 3] * 2


def test_gradcam_plus_plus_weighs_positive_gradients_only():
    activations = torch.ones(1, 2, 2, 2)
    gradients = torch.stack([torch.full((2, 2), -3.0), torch.tensor([[2.0, 0.0], [0.0, 0.0]])])[None]
    # alpha = g^2 / (2 g^2 + sum(A) g^3) = 4 / (8 + 4 * 8); weight = alpha * g
    expected = torch.full((1, 2, 2), 4 / 40 * 2)
    torch.testing.assert_close(compute_gradcam_plus_plus(activations, gradients), expected)


def test_a_random_map_belongs_to_the_image_and_the_seed():
    subject, images = wrap(Pooled()), draw_images(5, 8)
    maps = compute_maps(subject, "random", images, TARGETS).maps
    shuffled = compute_maps(subject, "random", images[::-1], TARGETS).maps
    np.testing.assert_array_equal(maps, shuffled[::-1])
    assert not np.allclose(maps, compute_maps(subject, "random", images, TARGETS, seed=1).maps)
    assert not np.allclose(maps[0], maps[1])


@pytest.mark.parametrize("method", ["gradcam", "eigencam", "integrated-gradients", "occlusion"])
def test_weights_that_are_not_finite_are_reported(method):
    subject = wrap(Pooled())
    subject.module.conv1.weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(Diverged, match=rf"{method}.* of a network gives NaN or infinity for 2 of 2 images"):
        compute_maps(subject, method, draw_images(2, 8), TARGETS[:2])
    with pytest.raises(Diverged, match="logits that aren't finite for 2 of 2 images"):
        subject.compute_logits(draw_images(2, 8))


def test_targets_are_needed_and_checked():
    subject, images = wrap(Pooled()), draw_images(2, 8)
    with pytest.raises(UsageError, match=r"targets=subject.compute_logits\(images\).argmax\(axis=1\)"):
        compute_maps(subject, "gradcam", images, None)
    with pytest.raises(UsageError, match=r"each of the 2 images; got int64 \(3,\)"):
        compute_maps(subject, "gradcam", images, TARGETS[:3])
    with pytest.raises(UsageError, match=r"got float64 \(2,\)"):
        compute_maps(subject, "gradcam", images, np.array([0.0, 1.0]))
    with pytest.raises(UsageError, match="has the classes 0 to 3; targets hold 4"):
        compute_maps(subject, "gradcam", images, np.array([0, 4]))
    with pytest.raises(UsageError, match="targets hold -1"):
        compute_maps(subject, "gradcam", images, np.array([-1, 0]))


def test_images_layers_and_batches_are_checked():
    subject, images = wrap(Pooled()), draw_images(2, 8)
    with pytest.raises(UsageError, match=r"uint8 \(N, H, W, 3\) with N > 0; got float32"):
        compute_maps(subject, "gradcam", images.astype(np.float32), TARGETS[:2])
    for method in ("gradcam", "random", "occlusion"):
        with pytest.raises(UsageError, match=r"got uint8 \(0, 8, 8, 3\)"):
            compute_maps(subject, method, images[:0], TARGETS[:0])
    with pytest.raises(UsageError, match=r"got uint8 \(2, 3, 8, 8\)"):
        subject.compute_logits(images.transpose(0, 3, 1, 2))
    with pytest.raises(UsageError, match=r"no layer 'konv1'\. Did you mean 'conv1'"):
        compute_maps(subject, "gradcam", images, TARGETS[:2], layer="konv1")
    with pytest.raises(UsageError, match=r"'fc' puts out \(4,\) for an image, which is no map; .*'act#2'"):
        compute_maps(subject, "gradcam", images, TARGETS[:2], layer="fc")
    with pytest.raises(UsageError, match="'occlusion' looks at no single layer; leave out 'conv1'"):
        compute_maps(subject, "occlusion", images, TARGETS[:2], layer="conv1")
    with pytest.raises(UsageError, match="batch_size is 0"):
        compute_maps(subject, "gradcam", images, TARGETS[:2], batch_size=0)


class _Detour(nn.Module):
    """Computes a map that no class depends on."""

    def __init__(self):
        super().__init__()
        self.aside = nn.Conv2d(3, 2, 1)
        self.conv = nn.Conv2d(3, len(NAMES), 1)

    def forward(self, images):
        self.aside(images)
        return self.conv(images).mean(dim=(2, 3))


def test_a_layer_that_no_class_depends_on_is_refused():
    with pytest.raises(UsageError, match="doesn't depend on 'aside'; choose another layer"):
        compute_maps(wrap(_Detour()), "gradcam", draw_images(1, 8), np.array([0]), layer="aside")


def test_a_network_without_maps_points_to_other_methods():
    subject = wrap(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, len(NAMES))))
    with pytest.raises(UsageError, match="no layer of Sequential puts out a map or patch tokens"):
        compute_maps(subject, "gradcam", draw_images(1, 8), np.array([0]))


def test_methods_are_found_by_name_and_family():
    assert doctest.testmod(catalog).failed == 0
    assert [each.name for each in find_methods(None, "cnn")] == ["gradcam", "gradcam++", "eigencam"]
    assert [each.name for each in find_methods(["random", "gradcam"], "other")] == ["random", "gradcam"]
    with pytest.raises(UsageError, match=r"No method is called 'grad-cam'\. Did you mean 'gradcam'"):
        find_methods(["grad-cam"], "cnn")
    with pytest.raises(
        UsageError, match=r"'rollout' reads the attention .* family 'cnn'. Use one of: gradcam"
    ):
        find_methods(["rollout"], "cnn")
    with pytest.raises(UsageError, match="'gradcam' is given twice"):
        find_methods(["gradcam", "gradcam"], "cnn")


def test_a_subject_takes_images_as_evaluation_does():
    built = build_model(ModelSection(name="test_resnet", img_size=32), num_classes=len(NAMES), seed=0)
    subject = build_subject(built, build_runtime(channels_last=True), NAMES, "tiny")
    images = draw_images(3, 32)
    prepared = subject.prepare(images)
    mean, std = np.array(built.mean), np.array(built.std)
    expected = ((images / 255 - mean) / std).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(prepared.numpy(), expected, atol=1e-5)
    assert prepared.is_contiguous(memory_format=torch.channels_last)
    assert not subject.module.training
    with torch.no_grad():
        expected = built.module(prepared).numpy()
    np.testing.assert_allclose(subject.compute_logits(images, batch_size=2), expected, atol=1e-5)
    assert subject.make_example().shape == (1, 3, 32, 32)
