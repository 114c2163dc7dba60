import multiprocessing
import random
import sys
import time

import pytest
import torch
from checkpoint_writer import write_until_killed

from praxiscope.runs.checkpoint import best_checkpoint, latest_checkpoint

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")


def kill_repeatedly(folder, times, seed):
    """Kill a writer `times` times at random moments; returns how many died in mid-write."""
    context = multiprocessing.get_context("forkserver")  # imports torch once for all
    context.set_forkserver_preload(["praxiscope.runs.checkpoint"])
    durable = context.Value("q", 0, lock=False)
    rng = random.Random(seed)
    in_mid_write = 0
    for _ in range(times):
        start = durable.value
        writer = context.Process(target=write_until_killed, args=(folder, 200_000, durable), daemon=True)
        writer.start()
        patience = time.monotonic() + 30
        while durable.value == start:
            assert writer.is_alive()
            assert time.monotonic() < patience
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))
        writer.kill()
        writer.join()
        writer.close()
        in_mid_write += bool(list(folder.glob(".*.tmp")))

        latest, rejected = latest_checkpoint(folder)
        assert rejected == ()
        assert latest.step >= durable.value
        assert torch.equal(latest.groups["model"]["w"], torch.full((200_000,), float(latest.step)))
        assert torch.equal(latest.groups["optimizer"]["m"], torch.full((200_000,), -latest.step))
        assert latest.state == {"step": latest.step}
        best, rejected = best_checkpoint(folder)
        assert latest.step < 3 or (best.step == latest.step // 3 * 3 and rejected == ())
    return in_mid_write


def test_killed_at_any_moment_the_latest_loads(tmp_path):
    # Nearly all of the writer's time is writing, so ten kills that all miss it would mean the test is idle.
    assert kill_repeatedly(tmp_path, 10, seed=1) > 0


@pytest.mark.soak
def test_killed_fifty_times(tmp_path):
    assert kill_repeatedly(tmp_path, 50, seed=2) > 5
    assert len(list(tmp_path.iterdir())) < 10  # swept and pruned
