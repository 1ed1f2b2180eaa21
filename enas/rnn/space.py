"""The recurrent search space on text (paper section 2.1)."""

from functools import partial
from pkgutil import resolve_name

from enas.rnn.cell import FlexibleRNNSpace, RNNCell
from enas.rnn.formats import RNN_FORMATS
from enas.rnn.settings import LanguageTaskConfig, SharedOptimConfig, SharedRNNConfig, TextConfig
from enas.search.metric import PERPLEXITY
from enas.search.registry import SearchSpace
from enas.search.settings import ScratchConfig, check_not_alone
from enas.settings import SCRATCH, ConfigLike


def check(config: ConfigLike) -> None:
    """Refuse settings of several parts that do not go together."""
    if config.train_type == "flexible":
        FlexibleRNNSpace(config.num_blocks)
    if config.shared_batch_norm and config.mode not in SCRATCH:
        rule = "shared_batch_norm takes the statistics of at least 2; use as many, or set shared_batch_norm to false"
        check_not_alone(config.values, rule)


RNN = SearchSpace(
    name="rnn",
    settings=(TextConfig, SharedRNNConfig, LanguageTaskConfig, SharedOptimConfig, ScratchConfig),
    architecture=RNNCell,
    train_types=("orig", "flexible", "hardcoded", "random"),
    problem=partial(resolve_name, "enas.rnn.problem:PROBLEM"),  # loads torch
    optim=SharedOptimConfig,
    metric=PERPLEXITY,
    formats=RNN_FORMATS,
    parts=lambda config: config.shared_rnn_activations,
    check=check,
)
