"""A Slurm cluster of one node that lives in a folder, for as long as a test needs it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "srun")
CPUS = 8  # more than there are: several jobs of a test may run at once

_GPU = "Name=gpu File={}\n"
_DEVICES = ("/dev/null", "/dev/zero")  # GPUs by name only, so that a job can ask for them and starts torchrun

_CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=1,sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=20
MinJobAge=600
InactiveLimit=0
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=4000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Return why no cluster can be started here; None where one can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "starting Slurm's daemons needs root"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"Slurm is not installed: no {', '.join(missing)}" if missing else None


class SlurmCluster:
    """Starts munged, slurmctld and slurmd; as a context manager it ends exactly these again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._config = folder / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """What Slurm's commands need to find this cluster and no other."""
        return {"SLURM_CONF": str(self._config)}

    def __enter__(self) -> Self:
        # munged refuses a socket below a folder that others may write to, such as /tmp; --force lets it.
        key = self._folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for name in ("state", "spool"):
            (self._folder / name).mkdir()
        controller, node = _find_free_ports(2)
        text = _CONFIG.format(
            host=socket.gethostname().split(".")[0], controller=controller, node=node, folder=self._folder,
            cpus=CPUS, gpus=len(_DEVICES),
        )  # fmt: skip
        self._config.write_text(text, encoding="utf-8")
        # Slurm wants a device behind each GPU, and none is opened.
        (self._folder / "gres.conf").write_text("".join(map(_GPU.format, _DEVICES)), encoding="utf-8")
        try:
            self._start(
                "munged", "--foreground", "--force", f"--key-file={key}",
                f"--socket={self._folder}/munge.socket", f"--pid-file={self._folder}/munged.pid",
                f"--log-file={self._folder}/munged.log", f"--seed-file={self._folder}/munged.seed",
            )  # fmt: skip
            wait_until((self._folder / "munge.socket").exists, what="munged's socket")
            self._start("slurmctld", "-D", "-f", str(self._config))
            self._start("slurmd", "-D", "-f", str(self._config))
            wait_until(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%t"), what="the node to be idle")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if len(self._daemons) == 3:
            self._cancel_all()
        for daemon in reversed(self._daemons):
            if daemon.poll() is None:
                daemon.send_signal(signal.SIGTERM)
                try:
                    daemon.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait(timeout=20)
        self._daemons.clear()

    def ask(self, *words: str) -> str:
        """Run one of Slurm's commands; return what it prints, which is nothing where it fails."""
        return subprocess.run(
            words, capture_output=True, text=True, check=False, env={**os.environ, **self.environment}
        ).stdout

    def state(self, job: str | int) -> str:
        return self.ask("squeue", "-h", "--states=all", "--array", f"--jobs={job}", "-o", "%T").strip()

    def start_now(self, job: str | int) -> None:
        """Take away the two minutes that a job waits for when it was queued again.

        Not in the same second: slurmd tells the credential of a new session from the revoked one by its second.
        """
        time.sleep(2)
        self.ask("scontrol", "update", f"JobId={job}", "StartTime=now")

    def read_logs(self) -> str:
        """Return the ends of the daemons' logs, for the message of a test that failed."""
        logs = sorted(self._folder.glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs)

    def _start(self, *words: str) -> None:
        environment = {**os.environ, **self.environment}
        with (self._folder / f"{words[0]}.out").open("wb") as out:
            daemon = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env=environment,
            )
        self._daemons.append(daemon)

    def _cancel_all(self) -> None:
        """End what jobs left running, so that no process outlives the cluster."""
        ids = self.ask("squeue", "-h", "-o", "%A").split()
        if ids:
            self.ask("scancel", "--signal=KILL", "--full", *ids)
            self.ask("scancel", *ids)
            wait_until(lambda: not self.ask("squeue", "-h", "-o", "%A").split(), what="jobs to end")


def wait_until(condition: Callable[[], Any], *, what: str, timeout_s: float = 300) -> Any:
    """Wait for something true and return it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {timeout_s} s for {what}")


def _find_free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
