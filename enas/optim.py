"""Optimisers, and learning rates as functions of how far training is: nothing to save, nothing to lose."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn


def make_optimizer(
    name: str,
    parameters: Iterable[nn.Parameter],
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """SGD, Nesterov momentum 0.9 or Adam; `set_lr` gives the learning rate before each step.

    Raises:
        ValueError: for another name.
    """
    if name == "adam":
        return torch.optim.Adam(parameters, betas=betas, eps=eps, weight_decay=weight_decay)
    if name == "momentum":
        return torch.optim.SGD(parameters, lr=0.0, momentum=0.9, nesterov=True, weight_decay=weight_decay)
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=0.0, weight_decay=weight_decay)
    raise ValueError(f"optimiser {name!r} is unknown; known: adam, momentum, sgd")


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Use `lr` from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def clip_gradient(parameters: Iterable[nn.Parameter], max_norm: float) -> torch.Tensor:
    """Scale the gradient down to `max_norm` (0: leave it); returns the norm it had."""
    return nn.utils.clip_grad_norm_(parameters, max_norm if max_norm > 0 else math.inf)


@dataclass(frozen=True, kw_only=True)
class SharedSchedule:
    """Learning rate of the shared parameters.

    A linear warm-up, then either `decay` per epoch after `decay_after` epochs (paper section 3.1: 0.96 after 15), or a
    cosine from `lr` to `lr_min` over `total_steps` (Loshchilov & Hutter 2017).
    """

    lr: float
    decay: float
    decay_after: int
    warmup: int
    cosine: bool
    lr_min: float
    total_steps: int

    def __call__(self, epoch: int, step: int) -> float:
        """The rate in `epoch` (first 1) at `step` of the whole run (first 0)."""
        warmup = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.cosine:
            return warmup * cosine(step / self.total_steps, self.lr, self.lr_min)
        return warmup * self.lr * self.decay ** max(0, epoch - self.decay_after)


def cosine(progress: float, highest: float, lowest: float) -> float:
    """Half a cosine, from `highest` at progress 0 to `lowest` at 1 and beyond."""
    return lowest + (highest - lowest) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


@dataclass(frozen=True, kw_only=True)
class ControllerSchedule:
    """Learning rate of the controller: constant, or SGDR, a cosine whose period doubles at each restart."""

    lr: float
    cosine: bool
    lr_max: float
    lr_min: float
    period: int

    def __call__(self, epoch: int) -> float:
        """The rate in `epoch` (first 1)."""
        return sgdr(epoch - 1, self.period, self.lr_max, self.lr_min) if self.cosine else self.lr


@dataclass(frozen=True, kw_only=True)
class RestartSchedule:
    """SGDR for shared parameters (paper section 3.2), going down from step to step within an epoch too."""

    lr_max: float
    lr_min: float
    period: int
    steps_per_epoch: int

    def __call__(self, epoch: int, step: int) -> float:
        """The rate at `step` of the whole run (first 0)."""
        return sgdr(step / self.steps_per_epoch, self.period, self.lr_max, self.lr_min)


def sgdr(epochs: float, period: float, highest: float, lowest: float) -> float:
    """The rate after so many epochs: a cosine whose period doubles at each restart (Loshchilov & Hutter 2017)."""
    while epochs >= period:
        epochs, period = epochs - period, 2 * period
    return cosine(epochs / period, highest, lowest)
