"""The matrix products and convolutions of a step, replayed alone: no step of the same arithmetic can be faster."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

from enas.rnn import shared as shared_rnn

PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward", "mkldnn_convolution"}


class _Recorder(TorchDispatchMode):
    """Notes each product, with the shapes and strides of what it multiplies."""

    def __init__(self):
        super().__init__()
        self.calls: list[tuple] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function.overloadpacket.__name__.split(".")[-1] in PRODUCTS:
            self.calls.append((function, tree_map(_layout, args), tree_map(_layout, kwargs)))
        return function(*args, **kwargs)


class _Layout(tuple):
    """Shape, stride, dtype and device of a tensor."""

    __slots__ = ()


def _layout(value):
    if not isinstance(value, torch.Tensor):
        return value
    return _Layout((tuple(value.shape), value.stride(), value.dtype, value.device))


def _is_layout(value) -> bool:
    return isinstance(value, _Layout)


def counted() -> AbstractContextManager:
    """While it is open, recurrent cells run kernel by kernel: what a captured graph does, nothing here sees."""
    return mock.patch.object(shared_rnn, "is_graphable", return_value=False)


def products(action: Callable[[], object]) -> Callable[[], None]:
    """Return a function that repeats the products of `action`, in their order, on tensors of the same layout and types.

    Operands of one layout share their memory, so that they are in the cache more often than those of `action`.
    """
    with _Recorder() as recorder:
        action()
    tensors: dict[_Layout, torch.Tensor] = {}

    def made(value):
        if not _is_layout(value):
            return value
        if value not in tensors:
            shape, stride, dtype, device = value
            tensors[value] = torch.empty_strided(shape, stride, dtype=dtype, device=device).fill_(0.01)
        return tensors[value]

    calls = [
        (function, tree_map(made, args, is_leaf=_is_layout), tree_map(made, kwargs, is_leaf=_is_layout))
        for function, args, kwargs in recorder.calls
    ]

    @torch.no_grad()
    def replay() -> None:
        for function, args, kwargs in calls:
            function(*args, **kwargs)

    return replay


def flops(action: Callable[[], object]) -> int:
    """Return the floating-point operations of `action`'s products and convolutions, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops()
