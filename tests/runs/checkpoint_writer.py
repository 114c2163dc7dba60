"""A process that writes checkpoints until it is killed; run by test_runs_kill.py."""

import torch

from praxiscope.runs.checkpoint import latest_checkpoint, write_checkpoint


def write_until_killed(folder, size, durable):
    """Continue from the latest checkpoint; `durable` (shared memory) tells the last step that returned."""
    torch.set_num_threads(1)
    latest, _ = latest_checkpoint(folder)
    step = latest.step if latest else 0
    while True:
        step += 1
        groups = {
            "model": {"w": torch.full((size,), float(step))},
            "optimizer": {"m": torch.full((size,), -step)},
        }
        tags = ["best"] if step % 3 == 0 else []
        write_checkpoint(folder, groups=groups, state={"step": step}, step=step, epoch=step, tags=tags)
        durable.value = step
