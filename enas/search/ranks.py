"""One run on several processes, begun by torchrun (torch.distributed): NCCL between GPUs, Gloo between CPUs.

Every process holds the same parameters, random states and place in the data, and takes every decision of the run
itself. Only work is divided: the architectures of a step, of an update of the controller and of a derivation, or the
minibatch of one architecture. So any number of processes gives the same result, to rounding, and can go on with a run.
The exceptions are statistics and masks of a minibatch that is divided, and running statistics.
"""

import atexit
import importlib
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

from enas.errors import RankLostError, UserError, in_one_line

T = TypeVar("T")
Piece = TypeVar("Piece", bound=Tensor | None)

ENDED = "ended: rank"  # begins the key of the word that a process leaves at its end
ARCHITECTURES, BATCH = -3, -2  # dimensions of a state [M, B, H]


@dataclass(frozen=True)
class Ranks:
    """The processes of a run; by default there is one, and nothing is divided or sent."""

    rank: int = 0  # the number of this process
    size: int = 1  # the number of processes

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def part(self, whole: Tensor, dim: int) -> Tensor:
        """Return this process's part, a view, of a tensor that is divided equally along `dim`, which is negative."""
        length = whole.shape[dim] // self.size
        return whole.narrow(dim, self.rank * length, length)

    def share(self, items: Sequence[Any]) -> Sequence[Any]:
        """Return this process's items: a slice; the lengths of the processes differ by one at most."""
        start, end = (len(items) * rank // self.size for rank in (self.rank, self.rank + 1))
        return items[start:end]

    def divided(self, score: Callable[[Sequence[Any]], Any], items: Sequence[Any]) -> Tensor:
        """Return `score(items)`, one number an item, each computed by one process: [len(items)].

        Every process calls `score`, even with fewer items than processes, because it may move on in the data.
        """
        if self.size == 1:
            return torch.as_tensor(score(items))
        mine = self.share(items)
        scores = torch.as_tensor(score(mine or items[:1]))[: len(mine)]
        everything = scores.new_zeros(len(items), dtype=torch.float64)
        everything[list(self.share(range(len(items))))] = scores.double()
        _ask(dist.all_reduce, everything)  # the sum, in place
        return everything.to(scores)

    def joined(self, piece: Piece, dim: int) -> Piece:
        """Join the processes' pieces, of equal size, along `dim`; None if they hold none."""
        if self.size == 1 or piece is None:
            return piece
        everything = [torch.empty_like(piece) for _ in range(self.size)]
        _ask(dist.all_gather, everything, piece.contiguous())
        return cast(Piece, torch.cat(everything, dim))

    def average(self, model: nn.Module, *values: Tensor) -> tuple[Tensor, ...]:
        """Average the gradients and running statistics of `model` over the processes, in two all-reduces.

        A parameter without a gradient in any process gets none. Returns the averages of `values`, scalars.
        """
        if self.size == 1:
            return values
        parameters = list(model.parameters())
        holders = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.int32)
        _ask(dist.all_reduce, holders)
        parts: list[Tensor] = []
        for parameter, num_holders in zip(parameters, holders.tolist(), strict=True):
            if num_holders:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parts.append(parameter.grad)
        parts += [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        flat = torch.cat([part.flatten() for part in (*parts, *(value.detach() for value in values))])
        _ask(dist.all_reduce, flat)
        means = flat.div_(self.size).split([part.numel() for part in (*parts, *values)])
        for part, mean in zip(parts, means, strict=False):
            part.copy_(mean.view_as(part))
        return tuple(mean.view_as(value) for mean, value in zip(means[len(parts) :], values, strict=True))

    def largest(self, number: int) -> int:
        return int(self.joined(torch.tensor([number]), 0).max())

    def from_first(self, make: Callable[[], T]) -> T:
        """Call `make` in the first process; every process returns its value, data and CPU tensors, or its UserError."""
        if self.size == 1:
            return make()
        message = [_tried(make) if self.is_first else (None, None)]
        _ask(dist.broadcast_object_list, message, 0)
        ((value, error),) = message
        if error is not None:
            raise error
        return cast(T, value)

    def together(self, make: Callable[[], T]) -> T:
        """Call `make` in every process, and return its value here; a UserError in one, with its rank, comes in all."""
        if self.size == 1:
            return make()
        value, error = _tried(make)
        reasons = self._gathered(error and str(error))
        if error is not None and len({*reasons}) == 1:
            raise error
        if failed := [f"rank {rank} of {self.size}: {why}" for rank, why in enumerate(reasons) if why is not None]:
            raise UserError("; ".join(failed))
        return cast(T, value)

    def check_alike(self, parts: Mapping[str, str], what: str, remedy: str) -> None:
        """Raise UserError in every process, with the `remedy`, unless all have the same digests of `what`, by part."""
        first, *others = self._gathered(parts)
        if ranks := [str(rank) for rank, other in enumerate(others, start=1) if other != first]:
            names = ", ".join(name for name in first if any(other.get(name) != first[name] for other in others))
            who = f"rank{'s' if len(ranks) > 1 else ''} {', '.join(ranks)} of {self.size}"
            raise UserError(f"{who} and rank 0 differ in {what} ({names}); {remedy}")

    def _gathered(self, value: T) -> list[T]:
        if self.size == 1:
            return [value]
        everything: list[Any] = [None] * self.size
        _ask(dist.all_gather_object, everything, value)
        return everything

    def draws(self, num: int, device: torch.device) -> list[AbstractContextManager[Any]]:
        """Return a context manager for each of this process's `num` pieces of a step; each draws other random numbers.

        The random states that the processes share move on alike. A step of one piece draws as it would without this.
        """
        if num * self.size == 1:
            return [nullcontext()]
        seeds = torch.randint(2**62, (self.size, num))[self.rank].tolist()
        return [seeded(seed, device) for seed in seeds]


def _tried(make: Callable[[], T]) -> tuple[T | None, UserError | None]:
    try:
        return make(), None
    except Exception as error:
        if not isinstance(said := in_one_line(error), UserError):
            raise
        return None, said


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from `seed` inside this block, on the CPU and on `device`; draws after the block are as without it."""
    is_cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if is_cuda else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU, and one alone is restored
        if is_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def apart() -> AbstractContextManager[None]:
    """Draw on the CPU, inside this block, without moving the training's random numbers: every block draws the same."""
    return seeded((torch.initial_seed() + 1) % 2**63, torch.device("cpu"))


ALONE = Ranks()


def join(num_gpu: int, timeout: float) -> Ranks:
    """Return the processes that torchrun began together, or `ALONE`; one silent for `timeout` seconds is given up."""
    ranks = launched()
    if ranks.size == 1:
        return ALONE
    if not dist.is_initialized():
        # CPU tensors always go by Gloo: no kernel waits for them.
        backend = "cpu:gloo,cuda:nccl" if num_gpu != 0 and torch.cuda.is_available() else "gloo"
        patience = timedelta(seconds=timeout)
        # Optimisers import this module. If it is imported after the group, the group's threads outlive the interpreter.
        importlib.import_module("torch._dynamo")
        try:
            store, *_ = _ask(lambda: next(rendezvous("env://", timeout=patience)))
        except ValueError as error:
            raise UserError(f"{error}; torchrun sets it, and without torchrun WORLD_SIZE must be unset") from None
        # torchrun may keep one store over its restarts, with addresses of processes that are gone.
        restart = f"restart {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        store = dist.distributed_c10d.PrefixStore(restart, store)
        _ask(dist.init_process_group, backend, store=store, rank=ranks.rank, world_size=ranks.size, timeout=patience)
        # Threads of a group that outlives the interpreter abort the process now and then.
        atexit.register(dist.destroy_process_group)
    leave_word("")  # an earlier run's word does not explain this run's end
    return ranks


def launched() -> Ranks:
    """Return the processes that torchrun began together, joined or not; one without torchrun."""
    try:
        return Ranks(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    except ValueError:
        raise UserError("RANK and WORLD_SIZE are integers, set by torchrun; unset them") from None


_store = dist.distributed_c10d._get_default_store
_OF_A_CONNECTION = re.compile("gloo/transport|connect|socket|time ?out|timed out", re.IGNORECASE)


def _ask(others: Callable[..., T], *args: Any, **settings: Any) -> T:
    """Call a function that needs the other processes; RankLostError if one of them is gone."""
    try:
        return others(*args, **settings)
    except RuntimeError as error:  # each backend has its own text
        if not isinstance(error, dist.DistError) and not _OF_A_CONNECTION.search(str(error)):
            raise  # a mistake of ours, such as tensors of other shapes
        reason = _words_of_others() or "another process of the run is gone, or does not answer"
        who = f"rank {os.environ.get('RANK')} of {os.environ.get('WORLD_SIZE')}"
        raise RankLostError(f"{who}: {reason}; --load_path goes on from the newest checkpoint") from None


def leave_word(reason: str) -> None:
    """Tell the run's other processes, if there are any, why this one ends."""
    if dist.is_initialized():
        with suppress(RuntimeError):  # the store may be gone with the process that kept it
            _store().set(f"{ENDED} {dist.get_rank()}", reason)


def _words_of_others() -> str:
    words = []
    with suppress(RuntimeError, ValueError):  # without a group, torch raises ValueError
        for rank in {*range(dist.get_world_size())} - {dist.get_rank()}:
            key = f"{ENDED} {rank}"
            word = _store().get(key).decode() if _store().check([key]) else ""
            words += [f"rank {rank} ended: {word}"] if word else []
    return "; ".join(words)
