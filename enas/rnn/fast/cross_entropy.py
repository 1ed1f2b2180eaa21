"""Decoder and cross-entropy together, without ever holding the logits of a whole minibatch.

A language model spends most of its time on the [n, V] logits. Here a chunk of rows fits the cache, and its gradient is
computed while it is there. On a GPU, whose cache is smaller than any chunk that keeps it busy, chunks bound the memory.

Shapes: n predictions, H hidden, V vocabulary. All losses are in nats.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_ELEMENTS = 1 << 22  # logits at a time: 16 MB in float32
GPU_CHUNK_ELEMENTS = 1 << 25
Dtype = torch.dtype | None  # of the operands of matrix products; None is their own


def _chunks(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield the rows of a chunk, r of them, with their targets [r, 1] and their log softmax [r, V]."""
    elements = GPU_CHUNK_ELEMENTS if hidden.device.type == "cuda" else CHUNK_ELEMENTS
    num_rows = max(1, elements // weight.shape[0])
    for start in range(0, hidden.shape[0], num_rows):
        rows = slice(start, start + num_rows)
        yield rows, targets[rows].unsqueeze(1), torch.log_softmax(_logits(hidden[rows], weight, bias), 1)


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if hidden.dtype == bias.dtype:
        return torch.addmm(bias, hidden, weight.t())
    products = torch.mm(hidden, weight.t())
    if products.device.type == "cuda":
        return products + bias  # one pass; on a CPU two passes are faster
    return products.to(bias.dtype).add_(bias)


@torch.no_grad()
def token_nll(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, precision: Dtype = None) -> Tensor:
    """Return −log softmax(hidden·weightᵀ + bias)[target] of each prediction, [n], without a gradient.

    Shapes are [n, H], [V, H], [V] and, integers, [n]. The softmax keeps the type of `bias`.
    """
    hidden, weight = hidden.to(precision or hidden.dtype), weight.to(precision or weight.dtype)
    nll = bias.new_empty(hidden.shape[0])
    for rows, chosen, log_probs in _chunks(hidden, weight, bias, targets):
        nll[rows] = -log_probs.gather(1, chosen).squeeze(1)
    return nll


class _MeanNLL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, precision: Dtype) -> Tensor:
        n, dtype = hidden.shape[0], precision or hidden.dtype
        low_hidden, low_weight = hidden.to(dtype), weight.to(dtype)
        grad_hidden, grad_weight, grad_bias = torch.empty_like(hidden), torch.zeros_like(weight), torch.zeros_like(bias)
        total = hidden.new_zeros(())
        for rows, chosen, log_probs in _chunks(low_hidden, low_weight, bias, targets):
            total -= log_probs.gather(1, chosen).sum()
            # The gradient of the mean is (softmax − one-hot) / n; dividing the small factors by n is cheaper.
            grad_logits = log_probs.exp_()
            grad_logits.scatter_add_(1, chosen, grad_logits.new_full(chosen.shape, -1.0))
            grad_bias += grad_logits.sum(0)
            grad_logits = grad_logits.to(dtype)
            grad_hidden[rows] = torch.mm(grad_logits, low_weight)
            if dtype == weight.dtype:
                torch.addmm(grad_weight, grad_logits.t(), low_hidden[rows], out=grad_weight)
            else:
                grad_weight += torch.mm(grad_logits.t(), low_hidden[rows])
        ctx.save_for_backward(grad_hidden.div_(n), grad_weight.div_(n), grad_bias.div_(n))
        return total / n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # In place: at the paper's size, memory peaks where there is a second copy of the decoder's gradient.
        return (*(part.mul_(grad) for part in ctx.saved_tensors), None, None)


def mean_nll(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, precision: Dtype = None) -> Tensor:
    """Return the mean of `token_nll`, a scalar with gradients for hidden, weight and bias, which can be taken once."""
    return _MeanNLL.apply(hidden, weight, bias, targets, precision)
