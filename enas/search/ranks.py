"""One run on several processes, begun by torchrun (torch.distributed): NCCL between GPUs, Gloo between CPUs.

Every process holds the same parameters, the same random states and the same place in the data, and takes every
decision of the run itself. Only the work is divided: the architectures of a step, of an update of the controller and of
a derivation, or the minibatch where there is one architecture. So a run does the same on any number of processes, to
rounding, and any of them can be resumed from what the first one saves.
"""

import atexit
import importlib
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from enas.errors import RankLostError, UserError

T = TypeVar("T")
Piece = TypeVar("Piece", bound=Tensor | None)

ENDED = "ended: rank"  # key of the word that a process leaves at its end
ARCHITECTURES, BATCH = -3, -2  # dimensions of a state [M, B, H]


@dataclass(frozen=True)
class Part:
    """One of `count` equal parts of a tensor along `dim`, which is negative: one process of several holds it."""

    dim: int = -1
    index: int = 0
    count: int = 1

    def of(self, whole: Tensor) -> Tensor:
        """This part of `whole`: a view."""
        length = whole.shape[self.dim] // self.count
        return whole.narrow(self.dim, self.index * length, length)


WHOLE = Part()


@dataclass(frozen=True)
class Ranks:
    """The processes of a run; by default there is one, and nothing is divided or sent.

    Attributes:
        rank: which of them this is.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def part(self, dim: int) -> Part:
        """The part that this process holds of a tensor that is divided along `dim`."""
        return Part(dim, self.rank, self.size)

    def share(self, items: Sequence[Any]) -> Sequence[Any]:
        """The items that this process takes: a slice, of a length that differs by one at most."""
        start, end = (len(items) * rank // self.size for rank in (self.rank, self.rank + 1))
        return items[start:end]

    def divided(self, score: Callable[[Sequence[Any]], Any], items: Sequence[Any]) -> Tensor:
        """`score(items)`, one number an item, each computed by one process: [len(items)].

        Every process calls `score`, even with fewer items than processes, because it may move on in the data.
        """
        if self.size == 1:
            return torch.as_tensor(score(items))
        mine = self.share(items)
        scores = torch.as_tensor(score(mine or items[:1]))[: len(mine)]
        everything = scores.new_zeros(len(items), dtype=torch.float64)
        everything[list(self.share(range(len(items))))] = scores.double()
        return _added_up(everything).to(scores)

    def joined(self, piece: Piece, dim: int) -> Piece:
        """The tensor whose parts along `dim`, of equal length, the processes hold; None where they hold none."""
        if self.size == 1 or piece is None:
            return piece
        everything = [torch.empty_like(piece) for _ in range(self.size)]
        _ask(dist.all_gather, everything, piece.contiguous())
        return cast(Piece, torch.cat(everything, dim))

    def average(self, model: nn.Module, *values: Tensor) -> tuple[Tensor, ...]:
        """Average the gradients of `model`, and its running statistics, over the processes, in one all-reduce.

        A parameter that has no gradient in any process gets none. Returns the averages of `values`, scalars.
        """
        if self.size == 1:
            return values
        parameters = list(model.parameters())
        holders = _added_up(torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.int32))
        parts: list[Tensor] = []
        for parameter, num_holders in zip(parameters, holders.tolist(), strict=True):
            if num_holders:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parts.append(parameter.grad)
        parts += [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        flat = torch.cat([part.flatten() for part in (*parts, *(value.detach() for value in values))])
        means = _added_up(flat).div_(self.size).split([part.numel() for part in (*parts, *values)])
        for part, mean in zip(parts, means, strict=False):
            part.copy_(mean.view_as(part))
        return tuple(mean.view_as(value) for mean, value in zip(means[len(parts) :], values, strict=True))

    def largest(self, number: int) -> int:
        """The largest of the processes' numbers."""
        return int(self.joined(torch.tensor([number]), 0).max())

    def from_first(self, make: Callable[[], Any], device: torch.device | str = "cpu") -> Any:
        """What `make` returns in the first process, the only one that calls it: tensors, on `device`, and plain data.

        Raises:
            UserError: in every process, when it does in the first.
        """
        if self.size == 1:
            return make()
        value, error = _tried(make) if self.is_first else (None, None)
        buffer = io.BytesIO()
        torch.save(value, buffer)
        message = [(buffer.getvalue(), error and str(error))]
        _ask(dist.broadcast_object_list, message, 0)
        ((content, reason),) = message
        if reason is not None:
            raise error or UserError(reason)
        return value if self.is_first else torch.load(io.BytesIO(content), device)

    def together(self, make: Callable[[], T]) -> T:
        """Wait until `make` has returned in every process, and return its value here.

        Raises:
            UserError: in every process, when it does in any; names the ranks unless it is the same error in all.
        """
        if self.size == 1:
            return make()
        value, error = _tried(make)
        reasons = self._gathered(error and str(error))
        if error is not None and len({*reasons}) == 1:
            raise error
        failed = [f"rank {rank} of {self.size}: {reason}" for rank, reason in enumerate(reasons) if reason is not None]
        if failed:
            raise UserError("; ".join(failed))
        return cast(T, value)

    def check_alike(self, parts: Mapping[str, str], what: str, remedy: str) -> None:
        """Check that all processes hold the same digests, by name, of `what` must be the same.

        Raises:
            UserError: in every process, naming the ranks that differ from the first, and the parts; ends in `remedy`.
        """
        first, *others = self._gathered(parts)
        ranks = [str(rank) for rank, other in enumerate(others, start=1) if other != first]
        if ranks:
            names = ", ".join(name for name in first if any(other.get(name) != first[name] for other in others))
            who = f"rank{'s' if len(ranks) > 1 else ''} {', '.join(ranks)} of {self.size}"
            raise UserError(f"{who} and rank 0 differ in {what} ({names}); {remedy}")

    def _gathered(self, value: T) -> list[T]:
        """The value, plain data, that each process gives, in order of rank."""
        if self.size == 1:
            return [value]
        everything: list[Any] = [None] * self.size
        _ask(dist.all_gather_object, everything, value)
        return everything

    def share_device_draws(self, device: torch.device) -> None:
        """Give the GPU of each process the random state of the first one's."""
        if self.size > 1 and device.type == "cuda":
            state = self.from_first(lambda: torch.cuda.get_rng_state(device))
            torch.cuda.set_rng_state(state.cpu(), device)

    def draws(self, num: int, device: torch.device) -> list[AbstractContextManager[Any]]:
        """For each of this process's `num` pieces of a step, a block of random draws that no other piece shares.

        The states that the processes share move on by the same in each. A step of one piece draws as ever.
        """
        if num * self.size == 1:
            return [nullcontext()]
        seeds = torch.randint(2**62, (self.size, num))[self.rank].tolist()
        return [seeded(seed, device) for seed in seeds]


def _added_up(tensor: Tensor) -> Tensor:
    """The sum of the processes' tensors, in place."""
    _ask(dist.all_reduce, tensor)
    return tensor


def _tried(make: Callable[[], T]) -> tuple[T | None, UserError | None]:
    try:
        return make(), None
    except UserError as error:
        return None, error


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw inside this block from `seed`, on the CPU and on `device`; what is drawn after it is as without it."""
    is_cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if is_cuda else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU, and one alone is restored
        if is_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def apart() -> AbstractContextManager[None]:
    """Inside this block draw on the CPU from numbers of their own, the same in every block of a run.

    Draws for an evaluation then move no draw of the training.
    """
    return seeded((torch.initial_seed() + 1) % 2**63, torch.device("cpu"))


ALONE = Ranks()


def join(num_gpu: int, timeout: float) -> Ranks:
    """The processes that torchrun began together; `ALONE` where it did not, or began one.

    Args:
        num_gpu: 0 for CPUs; see `enas.runs.opening.pick_device`.
        timeout: seconds after which a process that does not answer is given up.
    """
    size = num_processes()
    if size == 1:
        return ALONE
    if not dist.is_initialized():
        # CPU tensors, which carry what no kernel has to wait for, always go by Gloo.
        backend = "cpu:gloo,cuda:nccl" if num_gpu != 0 and torch.cuda.is_available() else "gloo"
        patience = timedelta(seconds=timeout)
        # Optimisers import it; imported after the group, it keeps the group's threads beyond the interpreter's end.
        importlib.import_module("torch._dynamo")
        store, rank, _ = _ask(lambda: next(rendezvous("env://", timeout=patience)))
        # torchrun may keep one store over its restarts, with the addresses of processes that are gone.
        restart = f"restart {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        store = dist.distributed_c10d.PrefixStore(restart, store)
        _ask(dist.init_process_group, backend, store=store, rank=rank, world_size=size, timeout=patience)
        # A group that outlives the interpreter keeps threads, which now and then abort the process.
        atexit.register(dist.destroy_process_group)
    leave_word("")  # that of an earlier run is no reason for the end of this one
    return Ranks(dist.get_rank(), dist.get_world_size())


def num_processes() -> int:
    """How many processes torchrun began together; 1 where it did not."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this is the only process, or the first that torchrun began."""
    return int(os.environ.get("RANK", "0")) == 0


_OF_A_CONNECTION = re.compile("gloo/transport|connect|socket|time ?out|timed out", re.IGNORECASE)


def _ask(others: Callable[..., T], *args: Any, **settings: Any) -> T:
    """Call a function that needs the other processes; RankLostError when one of them is gone."""
    try:
        return others(*args, **settings)
    except RuntimeError as error:  # its text differs from backend to backend
        if not isinstance(error, dist.DistError) and not _OF_A_CONNECTION.search(str(error)):
            raise  # a mistake of ours, such as tensors of other shapes
        reason = _words_of_others() or "another process of the run is gone, or does not answer"
        raise RankLostError(
            f"rank {os.environ.get('RANK')} of {os.environ.get('WORLD_SIZE')}: {reason}; --load_path goes on from the "
            "newest checkpoint"
        ) from None


def leave_word(reason: str) -> None:
    """Tell the other processes of the run, if there are some, why this one ends."""
    if dist.is_initialized():
        with suppress(RuntimeError):  # the store may be gone with the process that kept it
            _store().set(f"{ENDED} {dist.get_rank()}", reason)


def _words_of_others() -> str:
    """Why other processes ended, as far as they left word."""
    words = []
    with suppress(RuntimeError, ValueError):  # a ValueError before there is a group
        for rank in {*range(dist.get_world_size())} - {dist.get_rank()}:
            key = f"{ENDED} {rank}"
            word = _store().get(key).decode() if _store().check([key]) else ""
            words += [f"rank {rank} ended: {word}"] if word else []
    return "; ".join(words)


def _store() -> Any:
    return dist.distributed_c10d._get_default_store()
