"""Small configurations of parts, filled from the settings of a run."""

import dataclasses

from enas.config import Config
from enas.controllers import ControllerConfig

PREFIXES = ("", "shared_", "scratch_")


def pick(config_class, config: Config, **given):
    """An instance of a small config class, from the settings of the same name, with or without a part's prefix."""
    settings = config.to_dict()
    for spec in dataclasses.fields(config_class):
        if spec.name not in given:
            names = [prefix + spec.name for prefix in PREFIXES]
            given[spec.name] = settings[next(name for name in names if name in settings)]
    return config_class(**given)


def controller_config(config: Config) -> ControllerConfig:
    """The shape of a trained controller."""
    return ControllerConfig(
        hidden=config.controller_hid,
        temperature=config.softmax_temperature,
        tanh_c=config.tanh_c,
        init_range=config.controller_init_range,
        near_prior=config.controller_near_prior,
        separable_start=config.cnn_separable_start,
        separable_prior=config.cnn_separable_prior,
        operation_tanh_c=config.cnn_operation_tanh_c,
    )
