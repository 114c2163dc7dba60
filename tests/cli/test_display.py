"""What a person sees while a run trains."""

from __future__ import annotations

import io
import sys

import pytest

from praxiscope.cli.display import Display, Live, format_duration, format_figures, open_display
from praxiscope.training.watch import Progress

PROGRESS = Progress(
    epoch=2, epochs=10, batch=3, batches=30, step=33, loss=1.25, lr=1e-3, images_per_s=41.6, eta_s=754.0, best=0.5
)  # fmt: skip


def test_figures_hold_step_loss_speed_time_to_go_and_best():
    assert format_figures(PROGRESS) == "step 33  loss 1.2500  42 images/s  ETA 12 min 34 s  best 0.5000"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 00 s"),
        (754, "12 min 34 s"),
        (3600, "1 h 00 min"),
        (7505, "2 h 05 min"),
    ],
)
def test_durations_are_for_people(seconds, text):
    assert format_duration(seconds) == text


def test_without_a_terminal_there_are_plain_lines(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    display = open_display()
    assert type(display) is Display
    with display:
        display.step(PROGRESS)  # too soon to be worth a line
        display.note("weights loaded")
        display._spoke -= 31
        display.step(PROGRESS)
    assert sys.stderr.getvalue().splitlines() == [
        "weights loaded",
        "epoch 2/10  batch 3/30  step 33  loss 1.2500  42 images/s  ETA 12 min 34 s  best 0.5000",
    ]


def test_on_a_terminal_there_is_a_bar_and_markup_in_names_stays_text():
    from rich.console import Console

    out = io.StringIO()
    with Live(Console(file=out, force_terminal=True, width=100, highlight=False)) as live:
        live.phase("checking files", 1, 2)
        live.step(PROGRESS)
        live._bars.refresh()
        live.note("class [red]x[/red] is absent")
    assert "[red]x[/red]" in out.getvalue()
    assert "epoch 2/10" in out.getvalue()
