"""The settings of convolutional search: images, spaces, models, optimiser, controllers."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from enas.cnn.operation_names import MACRO_OPERATIONS, MICRO_OPERATIONS
from enas.errors import UserError
from enas.search import settings as search
from enas.search.architecture import MOST_NODES
from enas.search.settings import WITH_SHARED
from enas.settings import FROM_SCRATCH, SPACE, Settings, setting

_depth = partial(setting, at_most=MOST_NODES)


@dataclass(frozen=True, kw_only=True)
class ImageOptimConfig(search.SharedOptimisation):
    """Images: the optimiser, SGD with Nesterov momentum and SGDR (paper section 3.2)."""

    max_norm: ClassVar = "cnn_grad_clip"
    cnn_lr_max: float = setting(0.05, "cnn: learning rate at the start of each cosine period", above=0)
    cnn_lr_min: float = setting(0.001, "cnn: learning rate at the end of each cosine period", at_least=0)
    cnn_lr_period: int = setting(10, "cnn: epochs of the first cosine period; each later one doubles", at_least=1)
    cnn_l2_reg: float = setting(1e-4, "cnn: weight decay", at_least=0)
    cnn_grad_clip: float = setting(5.0, "cnn: largest gradient norm; 0 does not clip", at_least=0)

    @property
    def optimizer(self) -> dict[str, Any]:
        return {"name": "momentum", "weight_decay": self.cnn_l2_reg}

    def rate(self, epoch: int, step: int, steps_per_epoch: int) -> float:
        return search.sgdr(step / steps_per_epoch, self.cnn_lr_period, self.cnn_lr_max, self.cnn_lr_min)


@dataclass(frozen=True, kw_only=True)
class ImageConfig(Settings):
    """Reading images."""

    image_size: int = setting(0, "cnn: side in pixels to resize images to; 0 keeps their own", at_least=0, at_most=8192)
    valid_size: int = setting(
        5000, "cnn: training images of CIFAR held out for validation; from scratch, 0 tests the last epoch", at_least=0
    )


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(Settings):
    """Augmentation of images (paper section 3.2; cutout: DeVries & Taylor 2017, 16 for CIFAR-10)."""

    cnn_crop_padding: int = setting(4, "cnn: shift training images by up to this many pixels", at_least=0)
    cnn_flip: bool = setting(True, "cnn: mirror half of the training images left to right")
    cnn_cutout: int = setting(0, "cnn: side in pixels of a square blanked in training images; 0 is none", at_least=0)


@dataclass(frozen=True, kw_only=True)
class VisionTaskConfig(search.BatchConfig, AugmentConfig, search.PrecisionConfig):
    """Images: batches, reward, precision and augmentation."""

    cnn_reward: str = setting(
        "accuracy",
        "cnn: measure that rewards networks and ranks candidates; log_likelihood is the mean over the labels",
        choices=("accuracy", "log_likelihood"),
        only=search.DERIVING,
    )


# The paper's sizes in each space, for settings left at 0 (a dropout at -1).
LAYERS = {"macro": 12, "micro": 6}
OPERATIONS = {"macro": MACRO_OPERATIONS, "micro": MICRO_OPERATIONS}
FILTERS = {"macro": 36, "micro": 20}
FINAL_FILTERS = {"macro": 96, "micro": 36}
FINAL_DROP = {"macro": 0.5, "micro": 0.2}


def _both(sizes: dict[str, Any]) -> str:
    return f"{sizes['macro']} (macro) or {sizes['micro']} (micro)"


@dataclass(frozen=True, kw_only=True)
class _SizeConfig(Settings):
    """Sizes of models: filters in fields that end in cnn_hid, layers in fields that end in cnn_num_layers."""

    space: ClassVar = "macro"

    def check(self) -> None:
        for name, value in vars(self).items():
            if name.endswith("cnn_hid") and value == 1:  # which a factorised reduction cannot halve
                raise UserError(f"{name} is 1; it must be at least 2, or 0 for the default")
            if self.space == "micro" and name.endswith("cnn_num_layers") and value % 3:
                raise UserError(f"{name} is {value}; it must be a multiple of 3: reduction cells stand between thirds")


@dataclass(frozen=True, kw_only=True)
class MacroConfig(_SizeConfig):
    """Images: the shared model."""

    cnn_num_layers: int = _depth(
        0, f"cnn, searching: layers (macro) or normal cells (micro); 0 is {_both(LAYERS)}", at_least=0, kind=SPACE
    )
    cnn_hid: int = setting(0, f"cnn, searching: initial filters; 0 is {_both(FILTERS)}", at_least=0, only=WITH_SHARED)
    cnn_dropout: float = setting(0.1, "cnn, searching: the classifier's dropout", at_least=0, below=1, only=WITH_SHARED)
    cnn_operations: tuple[str, ...] = setting((), "cnn: operations, separated by commas; none is all", kind=SPACE)

    @property
    def operations(self) -> tuple[str, ...]:
        return self.cnn_operations or tuple(OPERATIONS[self.space])

    def check(self) -> None:
        super().check()
        names, known = self.cnn_operations, OPERATIONS[self.space]
        if not set(names) <= set(known) or len(set(names)) < len(names):
            rule = f"it must be different names out of {', '.join(known)}; --use loads operations of your own"
            raise UserError(f"cnn_operations is {', '.join(names)}; {rule}")

    @property
    def num_layers(self) -> int:
        """Layers of a macro network, or normal cells; reduction cells stand between the thirds of these."""
        return self.cnn_num_layers or LAYERS[self.space]

    @property
    def channels(self) -> int:
        """Channels of every layer, or of the first cells; they double in each reduction cell."""
        return self.cnn_hid or FILTERS[self.space]


@dataclass(frozen=True, kw_only=True)
class MicroConfig(MacroConfig, search.CellOutputConfig):
    """Micro cells: nodes and sizes (paper section 2.4)."""

    space: ClassVar = "micro"

    cnn_num_blocks: int = _depth(5, "cnn, micro: nodes of a cell", at_least=1, kind=SPACE)


@dataclass(frozen=True, kw_only=True)
class ScratchCNNConfig(_SizeConfig):
    """Images: one network from scratch."""

    scratch_cnn_hid: int = setting(
        0, f"cnn, from scratch: filters of the first layers; 0 is {_both(FINAL_FILTERS)}", at_least=0, only=FROM_SCRATCH
    )
    scratch_cnn_dropout: float = setting(
        -1.0, f"cnn, from scratch: dropout before the classifier; -1 is {_both(FINAL_DROP)}", below=1, only=FROM_SCRATCH
    )

    @property
    def channels(self) -> int:
        """Channels of the first layers or cells; they double in each reduction."""
        return self.scratch_cnn_hid or FINAL_FILTERS[self.space]

    @property
    def widths(self) -> list[int]:
        """The channels of a macro network before the first reduction, between the two, and after the second."""
        return [self.channels * 2**stage for stage in range(3)]

    @property
    def dropout(self) -> float:
        return FINAL_DROP[self.space] if self.scratch_cnn_dropout == -1 else self.scratch_cnn_dropout

    def check(self) -> None:
        super().check()
        if self.scratch_cnn_dropout != -1 and self.scratch_cnn_dropout < 0:
            raise UserError(f"scratch_cnn_dropout is {self.scratch_cnn_dropout}; it must lie in [0, 1), or be -1")


@dataclass(frozen=True, kw_only=True)
class MicroCNNConfig(ScratchCNNConfig):
    """Micro cells: one network from scratch."""

    space: ClassVar = "micro"

    scratch_cnn_num_layers: int = _depth(15, "cnn, micro, from scratch: normal cells", at_least=1, only=FROM_SCRATCH)
    scratch_cnn_drop_path: float = setting(
        0.4, "cnn, micro, from scratch: largest probability to drop a path", at_least=0, below=1, only=FROM_SCRATCH
    )
    scratch_cnn_auxiliary_weight: float = setting(
        0.4, "cnn, micro, from scratch: weight of the auxiliary head's loss", at_least=0, only=FROM_SCRATCH
    )


@dataclass(frozen=True, kw_only=True)
class MacroControllerConfig(search.ControllerConfig):
    """Macro networks: the controller, and the pull on its skip rate."""

    cnn_skip_target: float = setting(
        0.4, "cnn, macro: skip rate towards which the controller's loss pulls", above=0, below=1, only=search.REINFORCE
    )
    cnn_skip_weight: float = setting(
        0.8, "cnn, macro: weight of the skip rate in the controller's loss", at_least=0, only=search.REINFORCE
    )
