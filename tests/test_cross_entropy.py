"""Chunked cross-entropy against PyTorch's own."""

import pytest
import torch
from torch.nn import functional as F

from enas.rnn.fast import cross_entropy
from enas.rnn.fast.cross_entropy import mean_nll, token_nll

NUM, HIDDEN, VOCAB = 13, 5, 7


def make_arguments(scale: float = 1.0, dtype: torch.dtype = torch.float64) -> tuple:
    torch.manual_seed(0)
    shapes = ((NUM, HIDDEN), (VOCAB, HIDDEN), (VOCAB,))
    parts = [(scale * torch.randn(shape, dtype=dtype)).requires_grad_() for shape in shapes]
    return *parts, torch.randint(VOCAB, (NUM,))


def plain(hidden, weight, bias, targets, reduction="mean"):
    return F.cross_entropy(hidden @ weight.t() + bias, targets, reduction=reduction)


@pytest.mark.parametrize("elements", [1, VOCAB, 2 * VOCAB, 4 * VOCAB + 3, 13 * VOCAB, 1 << 22])
def test_values_and_gradients_are_those_of_pytorch_whatever_the_chunks(elements, monkeypatch):
    monkeypatch.setattr(cross_entropy, "CHUNK_ELEMENTS", elements)
    *parts, targets = make_arguments()
    expected = plain(*parts, targets, reduction="none")
    each, mean = token_nll(*parts, targets), mean_nll(*parts, targets)
    assert not each.requires_grad
    torch.testing.assert_close((each, mean), (expected.detach(), expected.mean()), rtol=1e-12, atol=1e-12)
    factor = 3.0  # of the gradient that arrives from above
    found, wanted = (torch.autograd.grad(factor * loss, parts) for loss in (mean, expected.mean()))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("logit", [1e4, -1e4])
def test_extreme_logits_stay_finite(logit):
    hidden, weight = torch.ones(2, 1, requires_grad=True), torch.zeros(3, 1, requires_grad=True)
    bias = torch.tensor([logit, 0.0, 0.0], requires_grad=True)
    targets = torch.tensor([0, 1])
    loss = mean_nll(hidden, weight, bias, targets)
    torch.testing.assert_close(loss, plain(hidden, weight, bias, targets))
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(loss, (hidden, weight, bias)))
    assert token_nll(hidden, weight, bias, targets).isfinite().all()


def test_bfloat16_products_stay_close_and_gradients_stay_float32():
    *parts, targets = make_arguments(dtype=torch.float32)
    loss = mean_nll(*parts, targets, torch.bfloat16)
    expected = plain(*parts, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=0.02, atol=0.02)
    assert token_nll(*parts, targets, torch.bfloat16).mean() == pytest.approx(loss.item(), rel=1e-5)
    for found, wanted in zip(torch.autograd.grad(loss, parts), torch.autograd.grad(expected, parts), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.01)
