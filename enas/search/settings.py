"""The settings that every search space shares: of the loop, the controller, deriving, training from scratch."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from enas.errors import UserError
from enas.search.architecture import CELL_OUTPUTS
from enas.settings import ABOVE_ZERO, ANY_OF, FROM_SCRATCH, SEARCHES, SPACE, TRAINING, USE, Settings, setting, unmet


class _Except(tuple[str, ...]):  # for `only`: every train type, a user's own too, that this text does not name
    __slots__ = ()

    def __contains__(self, train_type: object) -> bool:
        return train_type not in self[0].replace(",", "").split()


# For `only`: settings of the parts that run in a search, with a controller that learns, that has parameters, and so on.
SEARCHING = {"mode": "train"}
TRAINED = {"train_type": _Except(["other than random"]), **SEARCHING}
THETA = {"train_type": _Except(["other than random, evolution, local_search"]), **SEARCHING}
REINFORCE = {"train_type": _Except(["other than random, evolution, local_search, ppo"]), **SEARCHING}
LSTM = THETA | {ANY_OF: {"controller_type": "lstm", "train_type": "ppo"}}
ADAM = THETA | {"controller_optim": "adam"}
CONSTANT = THETA | {"controller_lr_cosine": False}
COSINE = THETA | {"controller_lr_cosine": True}
RANKING = {"mode": ("train", "derive")}
WITH_SHARED = {"mode": ("train", "derive", "test")}
DERIVING = {"mode": ("train", "derive", "train_scratch")}
FINALISTS = {"mode": ("derive", "train_scratch")}
WITH_FINALISTS = FINALISTS | {"derive_finalists": ABOVE_ZERO}
# Arguments of `setting` in deriving: a resumed search and `derive` may change the sampling, only `derive` the limits.
SAMPLING: dict[str, Any] = {"only": DERIVING, "again": ("train", "derive")}
LIMITING: dict[str, Any] = {"only": DERIVING, "again": ("derive",)}
WITH_LIMIT = TRAINED | {ANY_OF: {"max_parameters": ABOVE_ZERO, "max_flops": ABOVE_ZERO}}

CONTROLLER_LR_PERIOD = 10  # epochs of the first cosine period; each further one is twice as long
PRECISIONS = ("auto", "float32", "tf32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class ControllerConfig(Settings):
    """The controller."""

    controller_type: str = setting(
        "lstm",
        "controller: an LSTM, or logits for each decision alone",
        choices=("lstm", "independent"),
        only=REINFORCE,
    )
    controller_hid: int = setting(100, "LSTM units of the controller", at_least=1, only=LSTM)
    softmax_temperature: float = setting(5.0, "divisor of the controller's logits", above=0, only=LSTM)
    tanh_c: float = setting(2.5, "bound of the controller's logits, by tanh; 0 is none", at_least=0, only=LSTM)


@dataclass(frozen=True, kw_only=True)
class CellOutputConfig(Settings):
    """Cells: the nodes that make their output."""

    cell_output: str = setting("loose_ends", "nodes that make the output of a cell", choices=CELL_OUTPUTS, kind=SPACE)


@dataclass(frozen=True, kw_only=True)
class LengthConfig(Settings):
    """Length of the run."""

    max_epoch: int = setting(150, "epochs of training", at_least=1, again=TRAINING)
    shared_max_step: int = setting(0, "training steps an epoch; 0 is 400 (text) or a whole pass (images)", at_least=0)


@dataclass(frozen=True, kw_only=True)
class BatchConfig(LengthConfig):
    """Batches."""

    batch_size: int = setting(64, "sequences or images in a minibatch, in training and in evaluation", at_least=1)
    reward_batch_size: int = setting(
        0,
        "size of a minibatch that measures rewards, for images also in deriving; 0 is batch_size",
        at_least=0,
        only=SEARCHING | {ANY_OF: {"train_type": TRAINED["train_type"], "network_type": "cnn"}},
    )


def check_not_alone(values: Mapping[str, Any], reason: str) -> None:
    """Raise UserError, with the reason, if a minibatch of training or of rewards holds one sequence or image."""
    for spec in fields(BatchConfig):
        if spec.name.endswith("batch_size") and values[spec.name] == 1 and unmet(spec, values) is None:
            raise UserError(f"{spec.name} is 1; {reason}")


@dataclass(frozen=True, kw_only=True)
class TrainerConfig(LengthConfig):
    """The search loop."""

    stop_epoch: int = setting(
        0, "pause after this epoch; schedules run to max_epoch; 0 does not pause", at_least=0, kind=USE, again=TRAINING
    )
    save_epoch: int = setting(
        4, "derive, evaluate, draw and save every this many epochs", at_least=1, only=SEARCHING, again=SEARCHES
    )
    max_save_num: int = setting(4, "newest checkpoints to keep, in addition to the best", at_least=1, again=TRAINING)
    log_step: int = setting(50, "steps or architectures between two points of a curve", at_least=1, again=TRAINING)
    shared_num_sample: int = setting(1, "architectures in a step of the shared parameters", at_least=1)
    uniform_over: str = setting(
        "functions",
        "draw uniform samples, in deriving and comparisons, so that each function or each labelling is equally likely",
        choices=("functions", "labels"),
        only=RANKING,
    )
    shared_uniform: float = setting(
        0.0,
        "share of uniform architectures in the training of the shared parameters, once the controller trains",
        at_least=0,
        at_most=1,
        only=TRAINED,
    )
    controller_start: float = setting(
        0.0, "share of epochs on uniform architectures, before the controller trains", at_least=0, below=1, only=TRAINED
    )
    controller_max_step: int = setting(2000, "architectures an epoch to train the controller", at_least=0, only=TRAINED)
    reward: str = setting("", "registered function from scores to rewards, which also ranks candidates", only=RANKING)

    @property
    def warm_up_epochs(self) -> int:
        """Number of epochs before the controller trains: `controller_start` of all epochs, rounded."""
        return round(self.controller_start * self.max_epoch)


@dataclass(frozen=True, kw_only=True)
class DeriveConfig(Settings):
    """Deriving."""

    derive_num_sample: int = setting(100, "architectures to sample when deriving", at_least=1, **SAMPLING)
    derive_max_batches: int = setting(4, "validation minibatches that score each sample", at_least=1, **SAMPLING)
    derive_labellings: int = setting(2, "labellings whose mean scores a function", at_least=1, **SAMPLING)
    derive_uniform: bool = setting(
        False, "derive among as many uniform samples, too", only=TRAINED | DERIVING, again=("train", "derive")
    )
    derive_shortlist: int = setting(1, "best functions to score again on all of validation", at_least=1, **SAMPLING)
    derive_finalists: int = setting(
        0, "best candidates to train from scratch, before one is derived", at_least=0, only=FINALISTS, again=("derive",)
    )
    derive_rung_epoch: int = setting(
        9, "epoch of the finalists' last rung; a rung keeps a third", at_least=1, only=WITH_FINALISTS, again=("derive",)
    )

    def check(self) -> None:
        if self.derive_finalists > self.derive_shortlist:
            most = f"derive_shortlist, which is {self.derive_shortlist}"
            raise UserError(f"derive_finalists is {self.derive_finalists}; it must be at most {most}")


@dataclass(frozen=True, kw_only=True)
class ReinforceConfig(Settings):
    """REINFORCE: baseline and entropy.

    With `entropy_mode` "regularizer" the loss has the entropy of each decision, given the decisions before it. The
    LSTM's gradient then leaves out how those decisions change it; independent decisions have the entropy's gradient.
    """

    controller_num_aggregate: int = setting(1, "architectures in an update of the controller", at_least=1, only=TRAINED)
    baseline: str = setting(
        "ema",
        "subtracted from each return: a moving average (ema), or the mean of the update's others (leave_one_out)",
        choices=("ema", "leave_one_out"),
        only=THETA,
    )
    ema_baseline_decay: float = setting(
        0.95, "decay of the moving-average baseline", at_least=0, below=1, only=THETA | {"baseline": "ema"}
    )
    advantage_spread_decay: float = setting(
        0.0, "decay of the running RMS that divides advantages; 0 does not divide", at_least=0, below=1, only=THETA
    )
    entropy_coeff: float = setting(1e-4, "weight of the controller's entropy", at_least=0, only=THETA)
    entropy_mode: str = setting(
        "reward",
        "add entropy to the reward, or, as a regularizer, to the loss; only reward gives its exact gradient",
        choices=("reward", "regularizer"),
        only=THETA | {"entropy_coeff": ABOVE_ZERO},
    )
    discount: float = setting(1.0, "discount of rewards from decision to decision", at_least=0, at_most=1, only=THETA)

    def updates(self, num: int) -> list[int]:
        """Return the sizes of the updates by `num` architectures: `controller_num_aggregate` each, the rest last."""
        whole, rest = divmod(num, self.controller_num_aggregate)
        sizes = [self.controller_num_aggregate] * whole
        if rest == 1 and whole:
            return [*sizes[:-1], sizes[-1] + 1]  # alone, one has nothing to compare with
        return [*sizes, rest] if rest else sizes


@dataclass(frozen=True, kw_only=True)
class SizeConfig(Settings):
    """Limits on the size of an architecture, as a run from scratch trains it.

    A limit is also a target of the absolute reward R + β · |cost / limit − 1| (Bender et al. 2020, section 4). An input
    is a token or an image. A multiply-add is two FLOPs.
    """

    max_parameters: int = setting(0, "most parameters of a derived architecture; 0 is no limit", at_least=0, **LIMITING)
    max_flops: int = setting(0, "most FLOPs per input of a derived architecture; 0 is no limit", at_least=0, **LIMITING)
    size_beta: float = setting(-0.1, "weight in rewards of the distance from the limits", at_most=0, only=WITH_LIMIT)


@dataclass(frozen=True, kw_only=True)
class SharedOptimisation(Settings, ABC):
    """The interface of the settings that say how ω is trained."""

    max_norm: ClassVar[str]  # the setting that is the largest norm of ω's gradient; 0 does not clip

    @property
    @abstractmethod
    def optimizer(self) -> dict[str, Any]:
        """The optimiser of ω: arguments of `enas.search.optim.make_optimizer`."""

    @abstractmethod
    def rate(self, epoch: int, step: int, steps_per_epoch: int) -> float:
        """Return the learning rate in `epoch` (first 1) at `step` of the whole run (first 0)."""


@dataclass(frozen=True, kw_only=True)
class ControllerOptimConfig(Settings):
    """The controller's optimiser; `controller_lr_cosine` follows SGDR, epoch by epoch."""

    controller_optim: str = setting("adam", "controller's optimiser", choices=("adam", "momentum", "sgd"), only=THETA)
    controller_lr: float = setting(3.5e-4, "controller's learning rate", at_least=0, only=CONSTANT)
    controller_adam_beta1: float = setting(0.9, "beta1 of the controller's Adam", at_least=0, below=1, only=ADAM)
    controller_adam_eps: float = setting(1e-8, "epsilon of the controller's Adam", above=0, only=ADAM)
    controller_lr_cosine: bool = setting(False, "cosine schedule with restarts, instead of controller_lr", only=THETA)
    controller_lr_max: float = setting(0.05, "controller's learning rate where a cosine starts", above=0, only=COSINE)
    controller_lr_min: float = setting(0.001, "controller's learning rate where a cosine ends", at_least=0, only=COSINE)
    controller_grad_clip: float = setting(0.0, "controller's largest gradient norm; 0 for none", at_least=0, only=THETA)

    @property
    def optimizer(self) -> dict[str, Any]:
        """The optimiser of θ: arguments of `enas.search.optim.make_optimizer`."""
        betas = (self.controller_adam_beta1, 0.999)
        return {"name": self.controller_optim, "betas": betas, "eps": self.controller_adam_eps}

    def rate(self, epoch: int) -> float:
        """Return the learning rate in `epoch` (first 1)."""
        if not self.controller_lr_cosine:
            return self.controller_lr
        return sgdr(epoch - 1, CONTROLLER_LR_PERIOD, self.controller_lr_max, self.controller_lr_min)


def cosine(progress: float, highest: float, lowest: float) -> float:
    """Return half a cosine, from `highest` at progress 0 to `lowest` at 1 and beyond."""
    return lowest + (highest - lowest) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def sgdr(epochs: float, period: float, highest: float, lowest: float) -> float:
    """Return the rate after `epochs`: a cosine whose period doubles at each restart (Loshchilov & Hutter 2017)."""
    while epochs >= period:
        epochs, period = epochs - period, 2 * period
    return cosine(epochs / period, highest, lowest)


@dataclass(frozen=True, kw_only=True)
class PrecisionConfig(Settings):
    """Precision."""

    precision: str = setting(
        "auto", "precision of convolutions and decoder, on a GPU of all products; auto tries them", choices=PRECISIONS
    )


@dataclass(frozen=True, kw_only=True)
class ScratchConfig(Settings):
    """Text: averaging and early stop from scratch.

    Averaging is NT-ASGD (Merity et al. 2017, algorithm 1): the weights of all further steps are averaged once an epoch
    validates worse than the best epoch that lies more than `scratch_asgd_patience` epochs before it.
    """

    scratch_asgd_patience: int = setting(
        5, "from scratch: patience of NT-ASGD's averaging, in epochs; 0 never averages", at_least=0, only=FROM_SCRATCH
    )
    scratch_early_stop: int = setting(
        30, "from scratch: stop if so many epochs bring no gain; 0 never", at_least=0, only=FROM_SCRATCH, again=TRAINING
    )


# For images: a cosine period is best at its end, and running batch statistics would not fit averaged weights.
TO_THE_END = ScratchConfig(scratch_asgd_patience=0, scratch_early_stop=0)
