"""Heads over time: what they can tell apart before a backbone has learned anything."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from praxiscope.models.temporal import TemporalHead

WIDTH, FRAMES = 64, 8


def draw_drifts(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Features that drift along one direction over time, forwards (1) or backwards (0), from anywhere."""
    classes = torch.randint(0, 2, (count,), generator=generator)
    direction = torch.randn(WIDTH, generator=torch.Generator().manual_seed(9))
    drift = torch.linspace(-1, 1, FRAMES)[:, None] * (2 * classes - 1)[:, None, None]
    start = torch.randn(count, 1, WIDTH, generator=generator)
    noise = torch.randn(count, FRAMES, WIDTH, generator=generator)
    return start + 0.8 * drift * direction + 0.6 * noise, classes


@pytest.mark.parametrize(("kind", "learns"), [("transformer", True), ("gru", True), ("mean", False)])
def test_order_is_learned_within_one_epoch(kind, learns):
    """A transformer whose places are lost beside its features needs several, and stays at chance on clips."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    head = TemporalHead(WIDTH, 2, kind=kind, num_frames=FRAMES)
    optimizer = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=0.05)
    features, classes = draw_drifts(600, generator)
    for batch in torch.arange(600).split(16):
        optimizer.zero_grad()
        cross_entropy(head(features[batch]), classes[batch]).backward()
        optimizer.step()
    head.eval()
    features, classes = draw_drifts(400, generator)
    with torch.no_grad():
        accuracy = (head(features).argmax(dim=1) == classes).float().mean().item()
    assert accuracy > 0.95 if learns else 0.35 < accuracy < 0.65
