"""The processes that train or evaluate together, as torchrun starts them: ranks of one world.

One process is a world of its own (:data:`ALONE`), in which every exchange gives back what came in. So what
trains and evaluates is written once.

All exchanges here carry small CPU tensors through gloo, beside the gradients, which travel through NCCL where
there are GPUs: a flag never waits for a GPU.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from praxiscope.errors import EnvironmentProblem, PraxiscopeError, RankLost, UsageError
from praxiscope.models.place import Place, read_place

if TYPE_CHECKING:  # a torch that was built without distributed parts trains in one process all the same
    from torch._C._distributed_c10d import Store

    from praxiscope.models.pulse import Pulse

Result = TypeVar("Result")

_GRACE_S = 3.0  # after which an error is taken for this rank's alone
_LAST_WORDS_S = 20.0  # what rank 0 takes to write how a run stopped, and to draw its curves
_LAUNCHER = "TORCHELASTIC_RUN_ID"  # set by torchrun


class World:
    """This process among its ranks.

    Every method that exchanges something must be called by all ranks, in the same order.

    Args:
        place: Which of them this process is.
        pulse: Of this rank; None in a world of one.
        store: Of the job, likewise.
    """

    def __init__(self, place: Place, *, pulse: Pulse | None = None, store: Store | None = None) -> None:
        self.rank, self.size = place.rank, place.size
        self.local_rank, self.local_size = place.local_rank, place.local_size
        self._pulse = pulse
        self._store = store
        self._turn = 0

    @property
    def is_first(self) -> bool:
        """Whether this rank writes files and speaks."""
        return self.rank == 0

    @property
    def orphaned(self) -> bool:
        """Whether torchrun ended and left this process behind."""
        return self._pulse is not None and self._pulse.orphaned

    # ------------------------------------------------------------------------------ work of one for all

    def from_first(self, work: Callable[[], Result]) -> Result:
        """Have rank 0 do something, however long it takes, and hand its result to all.

        Args:
            work: Called by rank 0 alone; what it returns can be pickled.

        Raises:
            PraxiscopeError: What ``work`` raised, on all ranks.
            RankLost: Rank 0 died meanwhile.
        """
        if self._pulse is None or self._store is None:
            return work()
        key = f"turn/{self._turn}"
        self._turn += 1
        carried: list[Any] = [None, None]
        if self.is_first:
            try:
                carried[0] = work()
            except PraxiscopeError as problem:
                carried[1] = problem
            self._store.set(key, "done")
        else:
            self._pulse.wait_for(key, rank=0, doing="while it prepared what all ranks need")
        with self.naming_lost_ranks():
            dist.broadcast_object_list(carried, src=0)
        if carried[1] is not None:
            raise carried[1]
        result: Result = carried[0]
        return result

    def first_before_others(self, work: Callable[[], Result]) -> Result:
        """Do something on every rank, on rank 0 first: what it downloads or packs, the others find.

        Raises:
            PraxiscopeError: What ``work`` raised on rank 0, on all ranks; or on this rank.
        """
        if self._pulse is None:
            return work()
        results: list[Result] = []
        self.from_first(lambda: results.append(work()))
        return results[0] if results else work()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Leave the block on all ranks or on none: what one of them raises, all raise.

        Without this, the others would wait for a rank that has left.

        Raises:
            PraxiscopeError: What a rank raised; of several, the lowest rank's.
        """
        if self._pulse is None:
            yield
            return
        problem: PraxiscopeError | None = None
        try:
            yield
        except RankLost:
            raise
        except PraxiscopeError as raised:
            problem = raised
        if not self.highest(int(problem is not None))[0]:
            return
        problems: list[PraxiscopeError | None] = [None] * self.size
        with self.naming_lost_ranks():
            dist.all_gather_object(problems, problem)
        raise next(each for each in problems if each is not None) from problem

    # ------------------------------------------------------------------------------ exchanges

    def highest(self, *values: int) -> tuple[int, ...]:
        """Return the highest of all ranks' values, place by place."""
        if self._pulse is None:
            return values
        tensor = torch.tensor(values, dtype=torch.int64)
        with self.naming_lost_ranks():
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return tuple(tensor.tolist())

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums of all ranks' values, place by place, added in the order of ranks in float64."""
        if self._pulse is None:
            return list(values)
        rows = self.gather_rows(torch.tensor([list(values)], dtype=torch.float64), counts=[1] * self.size)
        total = rows[0].clone()  # one after the other: all ranks get the same bits
        for row in rows[1:]:
            total += row
        return total.tolist()

    def gather_rows(self, rows: Tensor, *, counts: Sequence[int] | None = None) -> Tensor:
        """Return all ranks' rows below each other, in the order of ranks.

        Args:
            rows: (n, ...) of this rank, on the CPU; n differs between ranks, the other axes don't.
            counts: n of each rank, where all ranks know them; exchanged where None.

        Returns:
            (sum of n, ...). Ranks without a row may give any shape (0, ...).
        """
        if self._pulse is None:
            return rows
        if counts is None:
            shapes: list[Any] = [None] * self.size
            with self.naming_lost_ranks():
                dist.all_gather_object(shapes, tuple(rows.shape))
            counts = [shape[0] for shape in shapes]
            rest = next((shape[1:] for shape in shapes if shape[0]), tuple(rows.shape[1:]))
            rows = rows if len(rows) else rows.new_zeros((0, *rest))
        # gloo gathers equal shapes only: the rows that fill up are cut off again.
        padded = rows.new_zeros((max(counts), *rows.shape[1:]))
        padded[: len(rows)] = rows
        gathered = [torch.empty_like(padded) for _ in range(self.size)]
        with self.naming_lost_ranks():
            dist.all_gather(gathered, padded)
        return torch.cat([each[:count] for each, count in zip(gathered, counts, strict=True)])

    def share_buffers(self, module: nn.Module) -> None:
        """Give all ranks rank 0's buffers: BatchNorm statistics of a rank's own samples are not the run's."""
        if self._pulse is None:
            return
        with self.naming_lost_ranks(), torch.no_grad():
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)

    @contextlib.contextmanager
    def naming_lost_ranks(self) -> Iterator[None]:
        """Name the rank at which an exchange in this block failed.

        Raises:
            RankLost: Another rank died, ended, or didn't come along in time.
        """
        if self._pulse is None:
            yield
            return
        self._pulse.steps += 1
        try:
            yield
        except RuntimeError as problem:
            if not _is_of_exchange(problem):
                raise
            explained = self._pulse.explain(problem)
            if explained is None:
                raise
            raise explained from problem

    # ------------------------------------------------------------------------------ devices

    def share_cores(self, cores: int) -> int:
        """Return this rank's share of its machine's cores, at least 1."""
        return max(1, cores // self.local_size)

    def choose_own(self, device: torch.device, asked: str | None) -> torch.device:
        """Return this rank's device, where a whole job was given one.

        Args:
            device: What a single process would use.
            asked: As the user wrote it.

        Raises:
            UsageError: One GPU, or mps, was asked for by several ranks.
            EnvironmentProblem: This machine has fewer GPUs than ranks.
        """
        if self.size == 1:
            return device
        if asked is not None and (":" in asked or asked.isdigit() or asked == "mps"):
            raise UsageError(
                f"--device '{asked}' is one device, and {self.size} ranks need one each; use --device cuda "
                "or cpu, and CUDA_VISIBLE_DEVICES to choose among GPUs."
            )
        if device.type != "cuda":
            return torch.device("cpu")
        count = torch.cuda.device_count()
        if self.local_size > count:
            raise EnvironmentProblem(
                f"{self.local_size} ranks on this machine, but torch sees {count} GPUs: use "
                f"--nproc-per-node {count}, or --device cpu."
            )
        own = torch.device("cuda", self.local_rank)
        torch.cuda.set_device(own)
        return own


ALONE = World(Place())
"""A single process."""


@contextlib.contextmanager
def open_world(
    timeout_s: float, *, place: Place | None = None, store: Store | None = None
) -> Iterator[World]:
    """Join the ranks that torchrun started; :data:`ALONE` where there is one process.

    Leaving it, other ranks wait for rank 0's last words, so that torchrun doesn't end it in mid-sentence.

    Args:
        timeout_s: How long an exchange waits for the slowest rank.
        place: Which rank this is; read from the environment where None.
        store: Where ranks meet; the one that the environment names where None.

    Raises:
        EnvironmentProblem: The environment is incomplete, or the ranks don't find each other.
    """
    place = place or read_place()
    if place.size == 1:
        yield ALONE
        return
    if not dist.is_available():
        raise EnvironmentProblem(
            f"WORLD_SIZE is {place.size}, but this torch ({torch.__version__}) was built for one process: it "
            "lacks torch.distributed. Start the command without torchrun."
        )
    from torch._C._distributed_c10d import PrefixStore, TCPStore

    from praxiscope.models.pulse import Pulse

    store = _join(place, store, timeout_s)
    own = PrefixStore("praxiscope", store)
    beats = PrefixStore("praxiscope", store.clone() if isinstance(store, TCPStore) else store)
    with Pulse(beats, rank=place.rank, size=place.size, launched=_LAUNCHER in os.environ) as pulse:
        try:
            yield World(place, pulse=pulse, store=own)
        except BaseException as problem:
            _part(pulse, place, problem)
            raise
        _part(pulse, place, None)
        dist.destroy_process_group()


def _join(place: Place, store: Store | None, timeout_s: float) -> Store:
    from torch._C._distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    timeout = timedelta(seconds=timeout_s)
    # Flags and rows are CPU tensors everywhere; only gradients are where the network is.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        if store is None:
            store, _, _ = next(iter(rendezvous("env://", timeout=timeout)))
        dist.init_process_group(
            backend,
            store=PrefixStore("torch", store),
            rank=place.rank,
            world_size=place.size,
            timeout=timeout,
        )
    except (dist.DistError, RuntimeError, ValueError) as problem:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise EnvironmentProblem(
            f"Rank {place.rank} of {place.size} did not find the others at {where} within {timeout_s:g} s: "
            f"{' '.join(str(problem).split())[:200]}"
        ) from problem
    return store


def _part(pulse: Pulse, place: Place, problem: BaseException | None) -> None:
    """Leave the last word; mark an error that rank 0 says as well."""
    pulse.post("" if problem is None else str(problem) or type(problem).__name__)
    if problem is not None and (isinstance(problem, RankLost) or not isinstance(problem, PraxiscopeError)):
        return  # nobody can be waited for
    if place.rank == 0:
        pulse.await_leaving()
        return
    with contextlib.suppress(RankLost):
        grace_s = math.inf if problem is None else _GRACE_S
        pulse.wait_for("end/0", rank=0, doing="at the end", at_most_s=grace_s)
        if pulse.read_end(0) is None and not torch.cuda.is_available():
            # An error of this rank alone: rank 0, which still waits for it, now sees a closed connection.
            # NCCL would wait for what is under way.
            dist.destroy_process_group()
            pulse.wait_for("end/0", rank=0, doing="at the end", at_most_s=_LAST_WORDS_S)
    if problem is not None:
        problem.is_told = pulse.read_end(0) == str(problem)
    pulse.leave()


def _is_of_exchange(problem: RuntimeError) -> bool:
    text = str(problem).lower()
    return isinstance(problem, dist.DistError) or "gloo" in text or "nccl" in text
