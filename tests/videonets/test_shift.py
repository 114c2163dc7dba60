"""Temporal shift: exactly the channels of the paper, timm's names, and a network that sees the order of frames."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import save_file

from praxiscope.errors import UsageError
from praxiscope.models.build import build_model, rebuild_model
from praxiscope.models.cost import count_compute
from praxiscope.models.shift import shift_frames
from praxiscope.recipe.schema import ModelSection

T = 4


def section(**changes):
    return ModelSection(**{"name": "resnet18-small-half", "img_size": 16, "num_frames": T, **changes})


def build_awake(asked):
    """A network whose residual branches say something: timm starts their last normalisation at zero."""
    module = build_model(asked, num_classes=3, seed=0).module.eval()
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(part.weight)
    return module


def make_clips(count=2, side=16):
    return torch.rand(count, T, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_the_shift_moves_the_channels_of_the_paper():
    """One pixel, three frames, eight channels of value 10 t + c: worked out by hand."""
    frames = torch.tensor([[10.0 * t + c for c in range(8)] for t in (1, 2, 3)]).view(3, 8, 1, 1)
    shifted = shift_frames(frames, num_frames=3, shift_div=8).view(3, 8)
    assert shifted.tolist() == [
        [20, 0, 12, 13, 14, 15, 16, 17],
        [30, 11, 22, 23, 24, 25, 26, 27],
        [0, 21, 32, 33, 34, 35, 36, 37],
    ]


def test_clips_of_a_batch_stay_apart():
    frames = torch.rand(6, 8, 2, 2, generator=torch.Generator().manual_seed(0))
    both = shift_frames(frames, num_frames=3, shift_div=4)
    alone = [shift_frames(part, num_frames=3, shift_div=4) for part in frames.split(3)]
    assert torch.equal(both, torch.cat(alone))


def test_the_memory_format_is_kept():
    frames = torch.rand(6, 8, 4, 4).to(memory_format=torch.channels_last)
    shifted = shift_frames(frames, num_frames=3, shift_div=8)
    assert shifted.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(shifted, shift_frames(frames.contiguous(), num_frames=3, shift_div=8))


def test_gradients_go_back_to_the_frame_that_a_channel_came_from():
    frames = torch.zeros(3, 8, 1, 1, requires_grad=True)
    shift_frames(frames, num_frames=3, shift_div=8)[1].sum().backward()
    assert frames.grad.view(3, 8).tolist() == [
        [0, 1, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 1, 1, 1, 1],
        [1, 0, 0, 0, 0, 0, 0, 0],
    ]


def test_names_weights_and_arithmetic_are_those_without_shift():
    plain = build_model(section(), num_classes=3, seed=0).module
    shifted = build_model(section(shift_div=8), num_classes=3, seed=0).module
    assert list(plain.state_dict()) == list(shifted.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), shifted.parameters(), strict=True))
    assert count_compute(plain, img_size=16) == count_compute(shifted, img_size=16)


@pytest.mark.parametrize(("shift_div", "blind"), [(0, True), (8, False)])
def test_only_with_shift_the_mean_sees_the_order(shift_div, blind):
    module = build_awake(section(shift_div=shift_div))
    clips = make_clips()
    order = [2, 0, 3, 1]
    with torch.no_grad():
        change = (module(clips) - module(clips[:, order])).abs().max()
    assert (change < 1e-5) == blind
    assert blind or change > 1e-4


def test_a_clip_of_one_frame_repeated_differs_at_its_ends_only_by_the_zeros():
    """A still: inside of the clip a shifted channel is the same channel, at its ends it is zero."""
    still = torch.rand(1, 8, 2, 2).expand(3, -1, -1, -1)
    shifted = shift_frames(still, num_frames=3, shift_div=8)
    assert torch.equal(shifted[1], still[1])
    assert torch.equal(shifted[0, 1], torch.zeros(2, 2))
    assert torch.equal(shifted[2, 0], torch.zeros(2, 2))


@pytest.mark.parametrize(
    ("name", "count"),
    [("resnet18", 8), ("tf_efficientnet_lite0", 9), ("regnety_002", 13), ("convnext_atto", 12)],
)
def test_residual_blocks_are_shifted(name, count):
    module = build_model(section(name=name, img_size=32, shift_div=8), num_classes=3, seed=0).module
    hooked = [part for part in module.modules() if part._forward_pre_hooks]
    assert len(hooked) == count + 1  # and the network itself, which puts the frames into one batch
    with torch.no_grad():
        assert module.eval()(make_clips(side=32)).shape == (2, 3)


def test_copies_checkpoints_and_freezing_keep_the_shift(tmp_path):
    asked = section(shift_div=8, freeze=("backbone",), temporal="gru")
    module = build_model(asked, num_classes=3, seed=1).module.eval()
    save_file(module.state_dict(), tmp_path / "run.safetensors")
    again = rebuild_model(asked, num_classes=3, weights=tmp_path / "run.safetensors").module.eval()
    clips = make_clips()
    with torch.no_grad():
        expected = module(clips)
        assert torch.equal(again(clips), expected)
        assert torch.equal(copy.deepcopy(module)(clips), expected)
    assert [n for n, p in module.named_parameters() if p.requires_grad and not n.startswith("fc")] == []


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "densenet121"])
def test_networks_without_residual_convolutions_are_refused(name):
    with pytest.raises(UsageError, match=r"shift_div is 8, but .* has no residual blocks of convolutions"):
        build_model(section(name=name, img_size=32, shift_div=8), num_classes=3, seed=0)


def test_a_shift_of_all_channels_is_refused():
    with pytest.raises(UsageError, match="shift_div is 1: every channel would come from another frame"):
        build_model(section(shift_div=1), num_classes=3, seed=0)


def test_a_shift_of_images_is_refused():
    with pytest.raises(UsageError, match="shift_div is 8, which moves channels between the frames of a clip"):
        build_model(ModelSection(name="demo-cnn", shift_div=8), num_classes=3, seed=0)


@pytest.mark.soak
def test_it_compiles_to_the_same_numbers():
    module = build_awake(section(shift_div=8))
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    clips = make_clips()
    with torch.no_grad():
        torch.testing.assert_close(compiled(clips), module(clips))
