"""The settings of what every search space shares: the loop, the controller, deriving, training from scratch."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from enas.errors import UserError
from enas.search.architecture import CELL_OUTPUTS
from enas.settings import ABOVE_ZERO, ANY_OF, FROM_SCRATCH, SEARCHES, SPACE, TRAINING, Settings, setting, unmet

# For settings of what only a search does, and of what a random controller does not.
SEARCHING = {"mode": "train"}
TRAINED = {"train_type": ("orig", "flexible", "hardcoded"), **SEARCHING}
LSTM = TRAINED | {"controller_type": "lstm"}


@dataclass(frozen=True, kw_only=True)
class ControllerConfig(Settings):
    """Shape of a trained controller."""

    controller_type: str = setting(
        "lstm",
        "an LSTM whose decisions depend on earlier ones, or a vector of logits for each decision",
        choices=("lstm", "independent"),
        only=TRAINED,
    )
    controller_hid: int = setting(100, "LSTM units of the controller", at_least=1, only=LSTM)
    softmax_temperature: float = setting(5.0, "logits are divided by this", above=0, only=LSTM)
    tanh_c: float = setting(2.5, "logits are then squashed to ±this; 0 does not squash", at_least=0, only=LSTM)


@dataclass(frozen=True, kw_only=True)
class CellOutputConfig(Settings):
    """What the output of a cell is made of."""

    cell_output: str = setting("loose_ends", "nodes that make the output of a cell", choices=CELL_OUTPUTS, kind=SPACE)


@dataclass(frozen=True, kw_only=True)
class LengthConfig(Settings):
    """How long training is."""

    max_epoch: int = setting(150, "epochs", at_least=1, again=TRAINING)
    shared_max_step: int = setting(
        0, "shared-parameter steps an epoch; 0 is 400 (text) or a whole pass (images)", at_least=0
    )


@dataclass(frozen=True, kw_only=True)
class BatchConfig(LengthConfig):
    """How much a step reads."""

    batch_size: int = setting(64, "sequences or images side by side, in training and in evaluation", at_least=1)
    reward_batch_size: int = setting(
        0,
        "sequences or images that rewards are measured on (images: or all there are); 0 is batch_size",
        at_least=0,
        only=TRAINED,
    )


def check_not_alone(values: Mapping[str, Any], reason: str) -> None:
    """Raise UserError, giving the reason, where minibatches of training or of rewards hold one sequence or image."""
    for spec in fields(BatchConfig):
        if spec.name.endswith("batch_size") and values[spec.name] == 1 and unmet(spec, values) is None:
            raise UserError(f"{spec.name} is 1; {reason}")


@dataclass(frozen=True, kw_only=True)
class TrainerConfig(LengthConfig):
    """Lengths and coefficients of the loop."""

    save_epoch: int = setting(
        4, "derive, evaluate, draw and save every this many epochs", at_least=1, only=SEARCHING, again=SEARCHES
    )
    log_step: int = setting(50, "steps between two entries in log and TensorBoard", at_least=1, again=TRAINING)
    shared_num_sample: int = setting(1, "architectures a shared step, their gradients averaged", at_least=1)
    shared_balanced: bool = setting(
        False,
        "uniform architectures of a shared step make each choice of a decision equally often",
        only={**SEARCHING, ANY_OF: {"train_type": "random", "controller_start": ABOVE_ZERO}},
    )
    controller_start: float = setting(
        0.0,
        "share of the epochs in which ω trains on uniform architectures, before the controller trains",
        at_least=0,
        below=1,
        only=TRAINED,
    )
    controller_max_step: int = setting(
        2000, "architectures sampled for the controller an epoch", at_least=0, only=TRAINED
    )

    @property
    def warm_up_epochs(self) -> int:
        """Epochs before the controller trains: `controller_start` of them all, rounded."""
        return round(self.controller_start * self.max_epoch)


DERIVING = {"mode": ("train", "derive", "train_scratch")}
FINALISTS = {"mode": ("derive", "train_scratch")}


@dataclass(frozen=True, kw_only=True)
class DeriveConfig(Settings):
    """How many candidates there are, and in which stages the best one is found."""

    derive_num_sample: int = setting(
        100, "architectures to choose from when deriving", at_least=1, only=DERIVING, again=("train", "derive")
    )
    derive_max_batches: int = setting(
        4, "validation minibatches that choose among them", at_least=1, only=DERIVING, again=("train", "derive")
    )
    derive_shortlist: int = setting(
        1,
        "top candidates that are scored again, as rewards are but on all of validation, to derive the best one",
        at_least=1,
        only=DERIVING,
        again=("train", "derive"),
    )
    derive_finalists: int = setting(
        0,
        "top candidates of the shortlist that are trained from scratch, to derive the best one; 0 trains none",
        at_least=0,
        only=FINALISTS,
        again=("derive",),
    )
    derive_finalist_epoch: int = setting(
        1,
        "epochs of a finalist's training",
        at_least=1,
        only=FINALISTS | {"derive_finalists": ABOVE_ZERO},
        again=("derive",),
    )

    def check(self) -> None:
        if self.derive_finalists > self.derive_shortlist:
            raise UserError(
                f"derive_finalists is {self.derive_finalists}; they come from the derive_shortlist, which is "
                f"{self.derive_shortlist}"
            )


WITH_ENTROPY = TRAINED | {"entropy_coeff": ABOVE_ZERO}


@dataclass(frozen=True, kw_only=True)
class ReinforceConfig(Settings):
    """How rewards become advantages, and entropy is kept up.

    With `entropy_mode` "regularizer" each decision's entropy enters the loss, given the decisions drawn before it. That
    leaves out how those decisions change it, so for the LSTM the gradient is not that of the entropy: over ten
    controllers of 8 units that prefer some cells, it has 0.85 to 1.17 of the length, and a cosine of 0.96 or more.
    For independent decisions it is that of the entropy.
    """

    controller_num_aggregate: int = setting(
        1, "architectures scored together and averaged in one update", at_least=1, only=TRAINED
    )
    baseline: str = setting(
        "ema",
        "what advantages are measured from: a moving average of returns, or the others of the same update",
        choices=("ema", "leave_one_out"),
        only=TRAINED,
    )
    ema_baseline_decay: float = setting(
        0.95, "share of the baseline that an update keeps", at_least=0, below=1, only=TRAINED | {"baseline": "ema"}
    )
    advantage_spread_decay: float = setting(
        0.0,
        "advantages are divided by their running root mean square, of which this share stays; 0 leaves them",
        at_least=0,
        below=1,
        only=TRAINED,
    )
    entropy_coeff: float = setting(1e-4, "weight of the controller's entropy", at_least=0, only=TRAINED)
    entropy_mode: str = setting(
        "reward",
        "entropy joins the reward, or as a regularizer the loss; only the first has the entropy's own gradient",
        choices=("reward", "regularizer"),
        only=WITH_ENTROPY,
    )
    discount: float = setting(
        1.0, "discount of the reward from decision to decision", at_least=0, at_most=1, only=TRAINED
    )

    def updates(self, num: int) -> list[int]:
        """How many of `num` architectures each update scores: `controller_num_aggregate`, and the last one the rest.

        With leave_one_out one left over joins the update before it, because alone it has nothing to compare with.
        """
        whole, rest = divmod(num, self.controller_num_aggregate)
        sizes = [self.controller_num_aggregate] * whole
        if rest == 1 and whole and self.baseline == "leave_one_out":
            return [*sizes[:-1], sizes[-1] + 1]
        return [*sizes, rest] if rest else sizes


BETA = -0.1  # of Bender et al. 2020


@dataclass(frozen=True, kw_only=True)
class SizeConfig(Settings):
    """How large an architecture may be, as a run from scratch trains it.

    The soft target is the absolute reward of Bender et al. 2020, section 4: R + β · |cost / target − 1|.
    """

    max_parameters: int = setting(
        0,
        "parameters that a derived architecture may have, and the target of rewards; 0 is no limit",
        at_least=0,
        only={"mode": ("train", "derive", "train_scratch")},
        again=("derive",),
    )
    max_flops: int = setting(
        0,
        "the same for its floating-point operations a token or an image, two for each multiply-add; 0 is no limit",
        at_least=0,
        only={"mode": ("train", "derive", "train_scratch")},
        again=("derive",),
    )
    size_beta: float = setting(
        BETA,
        "weight in rewards of the distance from max_parameters and max_flops; 0 leaves it out",
        at_most=0,
        only={**TRAINED, ANY_OF: {"max_parameters": ABOVE_ZERO, "max_flops": ABOVE_ZERO}},
    )


@dataclass(frozen=True, kw_only=True)
class SharedOptimisation(Settings, ABC):
    """The interface of the settings that say how ω is trained."""

    @property
    @abstractmethod
    def max_norm(self) -> float:
        """The largest norm of ω's gradient; 0 does not clip."""

    @property
    @abstractmethod
    def optimizer(self) -> dict[str, Any]:
        """The optimiser of ω: arguments of `enas.search.optim.make_optimizer`."""

    @abstractmethod
    def rate(self, epoch: int, step: int, steps_per_epoch: int) -> float:
        """The learning rate in `epoch` (first 1) at `step` of the whole run (first 0)."""


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

    @property
    def optimizer(self) -> dict[str, Any]:
        """The optimiser of θ: arguments of `enas.search.optim.make_optimizer`."""
        betas = (self.controller_adam_beta1, 0.999)
        return {"name": self.controller_optim, "betas": betas, "eps": self.controller_adam_eps}

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


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig(Settings):
    """How many checkpoints are kept."""

    max_save_num: int = setting(4, "newest checkpoints to keep, in addition to the best", at_least=1, again=TRAINING)


PRECISIONS = ("auto", "float32", "tf32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class PrecisionConfig(Settings):
    """How products are computed."""

    precision: str = setting(
        "auto",
        "of the decoder's products and of convolutions, on a GPU of every product; auto is what a trial finds fastest "
        "of what the machine has",
        choices=PRECISIONS,
    )


@dataclass(frozen=True, kw_only=True)
class ScratchConfig(Settings):
    """When averaging begins, and when training ends early.

    Averaging is NT-ASGD (Merity et al. 2017, algorithm 1): the weights of all further steps are averaged once an epoch
    validates worse than the best of those more than `scratch_asgd_patience` epochs before it.
    """

    scratch_asgd_patience: int = setting(
        5,
        "from scratch: average weights once worse than this many epochs ago; 0 never",
        at_least=0,
        only=FROM_SCRATCH,
    )
    scratch_early_stop: int = setting(
        30,
        "from scratch: stop after this many epochs without a better validation; 0 never",
        at_least=0,
        only=FROM_SCRATCH,
    )


# For images: each cosine period is worst at its start and best at its end, and running averages of batch statistics
# would not fit averaged weights.
TO_THE_END = ScratchConfig(scratch_asgd_patience=0, scratch_early_stop=0)
