"""The settings of convolutional search: images, spaces, models, optimiser, controllers."""

from dataclasses import dataclass
from typing import Any, ClassVar

from enas.errors import UserError
from enas.search.settings import (
    LSTM,
    TRAINED,
    BatchConfig,
    CellOutputConfig,
    ControllerConfig,
    PrecisionConfig,
    SharedOptimisation,
    sgdr,
)
from enas.settings import FROM_SCRATCH, SPACE, Settings, setting


@dataclass(frozen=True, kw_only=True)
class ImageOptimConfig(SharedOptimisation):
    """SGD with Nesterov momentum and SGDR, as for convolutional networks (paper section 3.2)."""

    cnn_lr_max: float = setting(0.05, "cnn: where each cosine period of the learning rate starts", above=0)
    cnn_lr_min: float = setting(0.001, "cnn: where it ends", at_least=0)
    cnn_lr_period: int = setting(10, "cnn: epochs of the first period; each further one is twice as long", at_least=1)
    cnn_l2_reg: float = setting(1e-4, "cnn: weight decay", at_least=0)
    cnn_grad_clip: float = setting(5.0, "cnn: largest gradient norm; 0 does not clip", at_least=0)

    @property
    def max_norm(self) -> float:
        return self.cnn_grad_clip

    @property
    def optimizer(self) -> dict[str, Any]:
        return {"name": "momentum", "weight_decay": self.cnn_l2_reg}

    def rate(self, epoch: int, step: int, steps_per_epoch: int) -> float:
        return sgdr(step / steps_per_epoch, self.cnn_lr_period, self.cnn_lr_max, self.cnn_lr_min)


@dataclass(frozen=True, kw_only=True)
class MicroSpaceConfig(CellOutputConfig):
    """The micro search space (paper section 2.4)."""

    cnn_num_blocks: int = setting(5, "cnn, micro: nodes of a cell", at_least=1, kind=SPACE)


@dataclass(frozen=True, kw_only=True)
class ImageConfig(Settings):
    """How images are read."""

    image_size: int = setting(
        0, "cnn: side in pixels that images are brought to; 0 leaves them as they are", at_least=0
    )
    valid_size: int = setting(
        5000,
        "cnn: training images of CIFAR held out for validation; from scratch, 0 trains on all and tests the last epoch",
        at_least=0,
    )


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(Settings):
    """How training images are varied (paper section 3.2; cutout: DeVries & Taylor 2017, 16 for CIFAR-10)."""

    cnn_crop_padding: int = setting(4, "cnn: training images are shifted by up to this many pixels", at_least=0)
    cnn_flip: bool = setting(True, "cnn: half of the training images are mirrored left to right")
    cnn_cutout: int = setting(
        0, "cnn: side in pixels of a square blanked out of training images; 0 blanks none", at_least=0
    )


@dataclass(frozen=True, kw_only=True)
class VisionTaskConfig(BatchConfig, AugmentConfig, PrecisionConfig):
    """Minibatches of a `VisionTask`, its reward and precision, and how training images are varied."""

    cnn_reward: str = setting(
        "accuracy",
        "cnn: what rewards networks and ranks candidates: accuracy, or the mean log-likelihood of the labels",
        choices=("accuracy", "log_likelihood"),
        only={"mode": ("train", "derive", "train_scratch")},
    )


@dataclass(frozen=True, kw_only=True)
class SharedCNNConfig(Settings):
    """Sizes of a shared convolutional model."""

    cnn_num_layers: int = setting(
        0, "cnn: layers, or normal cells, while searching; 0 is 12 (macro) or 6 (micro)", at_least=0, kind=SPACE
    )
    cnn_hid: int = setting(
        0, "cnn: filters while searching; 0 is 36 (macro), or 20 in the first cells (micro)", at_least=0, kind=SPACE
    )
    cnn_dropout: float = setting(
        0.1, "cnn: dropout before the classifier while searching", at_least=0, below=1, kind=SPACE
    )

    def check(self) -> None:
        check_filters("cnn_hid", self.cnn_hid)


@dataclass(frozen=True, kw_only=True)
class MacroConfig(SharedCNNConfig):
    """Sizes of a `SharedMacroCNN`."""

    @property
    def num_layers(self) -> int:
        """L."""
        return self.cnn_num_layers or 12

    @property
    def filters(self) -> int:
        """The channels of every layer."""
        return self.cnn_hid or 36


@dataclass(frozen=True, kw_only=True)
class MicroConfig(SharedCNNConfig, MicroSpaceConfig):
    """Sizes of a `SharedMicroCNN`."""

    @property
    def num_layers(self) -> int:
        """The number of normal cells; two reduction cells stand between its thirds."""
        return self.cnn_num_layers or 6

    @property
    def channels(self) -> int:
        """Channels of the first cells; they double in each reduction cell."""
        return self.cnn_hid or 20


def check_filters(name: str, filters: int) -> None:
    """Raise UserError unless there are two filters or more, which a factorised reduction needs; 0 is a default."""
    if filters == 1:
        raise UserError(f"{name} is 1; it must be at least 2, or 0 for the default")


def check_thirds(name: str, num_layers: int) -> None:
    """Raise UserError unless `num_layers` normal cells can be divided in three."""
    if num_layers < 3 or num_layers % 3:
        raise UserError(f"{name} is {num_layers}; it must be a multiple of 3: reduction cells stand between thirds")


@dataclass(frozen=True, kw_only=True)
class ScratchCNNConfig(Settings):
    """Sizes and regularisers of one network."""

    default_dropout: ClassVar[float] = 0.5

    scratch_cnn_hid: int = setting(
        0,
        "cnn, from scratch: filters of the first layers; 0 is 96 (macro) or 36 (micro)",
        at_least=0,
        only=FROM_SCRATCH,
    )
    scratch_cnn_dropout: float = setting(
        -1.0,
        "cnn, from scratch: dropout before the classifier; -1 is 0.5 (macro) or 0.2 (micro)",
        below=1,
        only=FROM_SCRATCH,
    )

    def check(self) -> None:
        check_filters("scratch_cnn_hid", self.scratch_cnn_hid)
        if self.scratch_cnn_dropout != -1 and self.scratch_cnn_dropout < 0:
            raise UserError(f"scratch_cnn_dropout is {self.scratch_cnn_dropout}; it must lie in [0, 1), or be -1")

    def widths(self, growth: int = 2) -> list[int]:
        """The channels of a macro network before the first reduction, between the two, and after the second."""
        return [(self.scratch_cnn_hid or 96) * growth**stage for stage in range(3)]

    @property
    def dropout(self) -> float:
        """Dropout before the classifier."""
        return self.default_dropout if self.scratch_cnn_dropout == -1 else self.scratch_cnn_dropout


@dataclass(frozen=True, kw_only=True)
class MicroCNNConfig(ScratchCNNConfig):
    """Sizes and regularisers of a `MicroCNN`."""

    default_dropout: ClassVar[float] = 0.2

    scratch_cnn_num_layers: int = setting(15, "cnn, micro, from scratch: normal cells", at_least=1, only=FROM_SCRATCH)
    scratch_cnn_drop_path: float = setting(
        0.4,
        "cnn, micro, from scratch: probability of dropping a path of the last cell at the end of training",
        at_least=0,
        below=1,
        only=FROM_SCRATCH,
    )
    scratch_cnn_auxiliary_weight: float = setting(
        0.4, "cnn, micro, from scratch: weight of the auxiliary head's loss", at_least=0, only=FROM_SCRATCH
    )

    @property
    def channels(self) -> int:
        """Channels of the first cells; they double in each reduction cell."""
        return self.scratch_cnn_hid or 36

    def check(self) -> None:
        super().check()
        check_thirds("scratch_cnn_num_layers", self.scratch_cnn_num_layers)


@dataclass(frozen=True, kw_only=True)
class MacroControllerConfig(ControllerConfig):
    """Shape of a `MacroController`, and the pull on its skip rate."""

    cnn_skip_target: float = setting(
        0.4, "cnn, macro: the skip rate that the controller is drawn to", above=0, below=1, only=TRAINED
    )
    cnn_skip_weight: float = setting(
        0.8, "cnn, macro: weight of that pull in the controller's loss", at_least=0, only=TRAINED
    )


@dataclass(frozen=True, kw_only=True)
class MicroControllerConfig(ControllerConfig):
    """Shape of a `MicroController`, and the authors' preference for separable convolutions."""

    cnn_authors_prior: bool = setting(
        False,
        "cnn, micro: prefer separable convolutions as the authors do: biases start at 10, normal cells add 0.25 and "
        "take it off other operations, and tanh_c of operations is 0.44",
        only=LSTM,
    )
