"""Optimisers, and learning rates as stateless functions of epoch and step."""

from collections.abc import Iterable

import torch
from torch import nn


def make_optimizer(
    name: str,
    parameters: Iterable[nn.Parameter],
    *,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> torch.optim.Optimizer:
    """Make SGD ("sgd"), SGD with Nesterov momentum 0.9 ("momentum"), or "adam", which alone reads `betas` and `eps`."""
    if name == "adam":
        return torch.optim.Adam(parameters, weight_decay=weight_decay, betas=betas, eps=eps, fused=True)
    if name == "momentum":  # not fused: torch's fused kernel wants momentum of all weights in use or of none
        return torch.optim.SGD(parameters, lr=0.0, momentum=0.9, nesterov=True, weight_decay=weight_decay, foreach=True)
    return torch.optim.SGD(parameters, lr=0.0, weight_decay=weight_decay, fused=True)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Use `lr` from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = lr
