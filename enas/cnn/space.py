"""The convolutional search spaces on images: whole networks (paper section 2.3) and cells (section 2.4)."""

from collections.abc import Mapping
from functools import partial
from pkgutil import resolve_name
from typing import Any

from enas.cnn import settings as cnn
from enas.cnn.formats import MACRO_FORMATS, MICRO_FORMATS
from enas.cnn.macro import MacroNetwork
from enas.cnn.micro import MicroNetwork
from enas.search.architecture import Architecture
from enas.search.formats import Format
from enas.search.metric import ACCURACY
from enas.search.registry import SearchSpace
from enas.search.settings import check_not_alone
from enas.settings import Settings


def _convolutional(
    architecture: type[Architecture], formats: Mapping[str, Format], sizes: Any, *parts: type[Settings]
) -> SearchSpace:
    """Return one of the two search spaces; `sizes` and `parts` are settings that the other one lacks."""
    name = architecture.type_name.removeprefix("cnn_")
    return SearchSpace(
        name=name,
        selected_by={"network_type": "cnn", "cnn_space": name},
        settings=(cnn.ImageConfig, cnn.VisionTaskConfig, cnn.ImageOptimConfig, sizes, *parts),
        architecture=architecture,
        formats=formats,
        train_types=("orig", "random"),
        problem=partial(resolve_name, f"enas.cnn.problem:{name.upper()}"),  # loads torch
        optim=cnn.ImageOptimConfig,
        metric=ACCURACY,
        parts=lambda config: config[sizes].operations,
        check=lambda config: check_not_alone(
            config.values, "it must be at least 2 for network_type cnn, which normalises by its statistics"
        ),
    )


MACRO = _convolutional(MacroNetwork, MACRO_FORMATS, cnn.MacroConfig, cnn.ScratchCNNConfig, cnn.MacroControllerConfig)
MICRO = _convolutional(MicroNetwork, MICRO_FORMATS, cnn.MicroConfig, cnn.MicroCNNConfig)
