"""Optimisers, and learning rates as stateless functions of epoch and step."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from enas.errors import UserError
from enas.search.controllers import TRAINED
from enas.search.task import LengthConfig
from enas.settings import Settings, setting


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
        UserError: for another name.
    """
    if name == "adam":
        return torch.optim.Adam(parameters, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)
    if name == "momentum":  # not fused: torch's fused kernel wants momentum of all weights in use or of none
        return torch.optim.SGD(parameters, lr=0.0, momentum=0.9, nesterov=True, weight_decay=weight_decay, foreach=True)
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=0.0, weight_decay=weight_decay, fused=True)
    raise UserError(f"optimiser {name!r} is unknown; known: adam, momentum, sgd")


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Use `lr` from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def clip_gradient(parameters: Iterable[nn.Parameter], max_norm: float) -> torch.Tensor:
    """Scale the gradient down to `max_norm` (0: leave it); returns the norm it had."""
    return nn.utils.clip_grad_norm_(parameters, max_norm if max_norm > 0 else math.inf)


class SharedOptimisation(Protocol):
    """The interface of the settings that say how ω is trained."""

    @property
    def max_norm(self) -> float:
        """The largest norm of ω's gradient; 0 does not clip."""

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser of ω."""

    def rate(self, epoch: int, step: int, steps_per_epoch: int) -> float:
        """The learning rate in `epoch` (first 1) at `step` of the whole run (first 0)."""


DECAY = {"shared_lr_cosine": False}
COSINE = {"shared_lr_cosine": True}
ADAM = {"shared_optim": "adam"}


@dataclass(frozen=True, kw_only=True)
class SharedOptimConfig(LengthConfig):
    """SGD or Adam, as for language models (paper section 3.1).

    The learning rate has a linear warm-up, then either `shared_decay` per epoch after `shared_decay_after` epochs, or
    a cosine from `shared_lr` to `shared_lr_min` over all `max_epoch` epochs (Loshchilov & Hutter 2017).
    """

    shared_optim: str = setting("sgd", "optimiser of the shared parameters", choices=("sgd", "adam"))
    shared_lr: float = setting(20.0, "learning rate of the shared parameters", at_least=0)
    shared_decay: float = setting(0.96, "factor on it an epoch", above=0, only=DECAY)
    shared_decay_after: int = setting(15, "epochs before that decay begins", at_least=0, only=DECAY)
    shared_lr_warmup: int = setting(0, "steps over which it rises from 0", at_least=0)
    shared_lr_cosine: bool = setting(False, "cosine schedule over max_epoch, in place of the decay")
    shared_lr_min: float = setting(0.0, "where the cosine schedule ends", at_least=0, only=COSINE)
    shared_adam_beta2: float = setting(
        0.999, "Adam's decay of the squared gradient average", at_least=0, below=1, only=ADAM
    )
    shared_l2_reg: float = setting(1e-7, "weight decay", at_least=0)
    shared_grad_clip: float = setting(0.25, "largest gradient norm; 0 does not clip", at_least=0)

    @property
    def max_norm(self) -> float:
        return self.shared_grad_clip

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        betas = (0.9, self.shared_adam_beta2)
        return make_optimizer(self.shared_optim, parameters, betas=betas, weight_decay=self.shared_l2_reg)

    def rate(self, epoch: int, step: int, steps_per_epoch: int) -> float:
        warmup = min(1.0, (step + 1) / self.shared_lr_warmup) if self.shared_lr_warmup else 1.0
        if self.shared_lr_cosine:
            return warmup * cosine(step / (self.max_epoch * steps_per_epoch), self.shared_lr, self.shared_lr_min)
        return warmup * self.shared_lr * self.shared_decay ** max(0, epoch - self.shared_decay_after)


@dataclass(frozen=True, kw_only=True)
class ImageOptimConfig(Settings):
    """SGD with Nesterov momentum and SGDR, as for convolutional networks (paper section 3.2)."""

    cnn_lr_max: float = setting(0.05, "cnn: where each cosine period of the learning rate starts", above=0)
    cnn_lr_min: float = setting(0.001, "cnn: where it ends", at_least=0)
    cnn_lr_period: int = setting(10, "cnn: epochs of the first period; each further one is twice as long", at_least=1)
    cnn_l2_reg: float = setting(1e-4, "cnn: weight decay", at_least=0)
    cnn_grad_clip: float = setting(5.0, "cnn: largest gradient norm; 0 does not clip", at_least=0)

    @property
    def max_norm(self) -> float:
        return self.cnn_grad_clip

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return make_optimizer("momentum", parameters, weight_decay=self.cnn_l2_reg)

    def rate(self, epoch: int, step: int, steps_per_epoch: int) -> float:
        return sgdr(step / steps_per_epoch, self.cnn_lr_period, self.cnn_lr_max, self.cnn_lr_min)


CONTROLLER_ADAM = TRAINED | {"controller_optim": "adam"}
CONTROLLER_COSINE = TRAINED | {"controller_lr_cosine": True}
CONTROLLER_LR_PERIOD = 10  # epochs of the first cosine period; each further one is twice as long


@dataclass(frozen=True, kw_only=True)
class ControllerOptimConfig(Settings):
    """How θ is trained; with `controller_lr_cosine` by SGDR, epoch by epoch."""

    controller_optim: str = setting(
        "adam", "optimiser of the controller", choices=("adam", "momentum", "sgd"), only=TRAINED
    )
    controller_lr: float = setting(
        3.5e-4, "learning rate of the controller", at_least=0, only=TRAINED | {"controller_lr_cosine": False}
    )
    controller_adam_beta1: float = setting(
        0.9, "Adam's decay of the gradient average, for the controller", at_least=0, below=1, only=CONTROLLER_ADAM
    )
    controller_adam_eps: float = setting(
        1e-8, "what Adam adds to the root of that average, for the controller", above=0, only=CONTROLLER_ADAM
    )
    controller_lr_cosine: bool = setting(
        False, "cosine schedule with restarts, by epoch, in place of controller_lr", only=TRAINED
    )
    controller_lr_max: float = setting(0.05, "where each cosine period starts", above=0, only=CONTROLLER_COSINE)
    controller_lr_min: float = setting(0.001, "where each cosine period ends", at_least=0, only=CONTROLLER_COSINE)
    controller_grad_clip: float = setting(0.0, "largest gradient norm; 0 does not clip", at_least=0, only=TRAINED)

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser of θ."""
        betas, eps = (self.controller_adam_beta1, 0.999), self.controller_adam_eps
        return make_optimizer(self.controller_optim, parameters, betas=betas, eps=eps)

    def rate(self, epoch: int) -> float:
        """The learning rate in `epoch` (first 1)."""
        if not self.controller_lr_cosine:
            return self.controller_lr
        return sgdr(epoch - 1, CONTROLLER_LR_PERIOD, self.controller_lr_max, self.controller_lr_min)


def cosine(progress: float, highest: float, lowest: float) -> float:
    """Half a cosine, from `highest` at progress 0 to `lowest` at 1 and beyond."""
    return lowest + (highest - lowest) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def sgdr(epochs: float, period: float, highest: float, lowest: float) -> float:
    """The rate after so many epochs: a cosine whose period doubles at each restart (Loshchilov & Hutter 2017)."""
    while epochs >= period:
        epochs, period = epochs - period, 2 * period
    return cosine(epochs / period, highest, lowest)
