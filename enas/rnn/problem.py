"""The recurrent search space on text: data, models, controllers (paper section 2.1)."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from enas.pictures.drawing import write_graph
from enas.rnn.baseline import LSTMBaseline
from enas.rnn.cell import FlexibleRNNSpace, HardcodedRNNSpace, RNNCell, RNNSpace
from enas.rnn.controller import RNNController
from enas.rnn.cost import cell_cost, lstm_cost, nearest_hidden
from enas.rnn.drawing import cell_graph
from enas.rnn.export import exported
from enas.rnn.language_model import LanguageModel
from enas.rnn.lstm import LSTMModel
from enas.rnn.settings import LanguageModelConfig, LanguageTaskConfig, RNNControllerConfig, SharedRNNConfig
from enas.rnn.shared import SharedRNN
from enas.rnn.task import LanguageTask
from enas.rnn.text import Corpus, load_corpus
from enas.search.cost import Cost
from enas.search.problem import Problem, trained, uniform
from enas.settings import ConfigLike

LSTM = (RNNController, RNNControllerConfig)
Alone = RNNCell | LSTMBaseline  # what is trained from scratch


def load_data(config: ConfigLike) -> Corpus:
    """The text."""
    reading = {"vocab_min_count": config.vocab_min_count, "text_unit": config.text_unit}
    return load_corpus(config.dataset, data_dir=config.data_dir, **reading)


def _task(config: ConfigLike, corpus: Corpus, device: torch.device, alone: Alone | None = None) -> LanguageTask:
    """The task with the shared model, or with that of one architecture alone, from scratch."""
    model = _model(config, len(corpus.vocabulary), alone)
    if not config.shared_plain_start:
        model.start_from_frequencies(corpus.train)
    return LanguageTask(corpus, model.to(device), config[LanguageTaskConfig], from_scratch=alone is not None)


def _model(config: ConfigLike, vocab_size: int, architecture: Alone | None) -> LanguageModel:
    if architecture is None:
        return SharedRNN(vocab_size, config[SharedRNNConfig])
    if isinstance(architecture, LSTMBaseline):
        embed = architecture.hidden if config.tie_weights else config.shared_embed
        sizes = replace(config[LanguageModelConfig], shared_embed=embed, shared_hid=architecture.hidden)
        return LSTMModel(vocab_size, sizes)
    sizes = replace(config[SharedRNNConfig], num_blocks=architecture.nodes[-1] + 1, shared_batch_norm=False)
    return SharedRNN(vocab_size, sizes, architecture.edges)


def _cells(config: ConfigLike, kind: type[RNNSpace] = RNNSpace, **more: Any) -> RNNSpace:
    return kind(config.num_blocks, config.shared_rnn_activations, config.cell_output, **more)


def nearest_lstm(config: ConfigLike) -> LSTMBaseline:
    """The plain LSTM whose language model has about as many parameters as one of a cell of `num_blocks` nodes."""
    vocab_size = len(load_data(config).vocabulary)
    wanted = cell_cost(config, vocab_size, config.num_blocks)
    return LSTMBaseline(nearest_hidden(config, vocab_size, wanted.parameters))


def _cost(config: ConfigLike, vocab_size: int, architecture: Alone) -> Cost:
    if isinstance(architecture, LSTMBaseline):
        return lstm_cost(config, vocab_size, architecture.hidden)
    return cell_cost(config, vocab_size, architecture.num_blocks)


PROBLEM = Problem(
    controllers={
        "orig": trained(_cells, *LSTM),
        "flexible": trained(lambda config: _cells(config, FlexibleRNNSpace), *LSTM),
        "hardcoded": trained(lambda config: _cells(config, HardcodedRNNSpace, shape=config.architecture), *LSTM),
        "random": uniform(_cells),
    },
    load_data=load_data,
    search_task=_task,
    scratch_task=lambda config, corpus, architecture, device: _task(config, corpus, device, architecture),
    draw=lambda cell, path, title: write_graph(cell_graph(cell, title=f"{title}, {cell.num_blocks} nodes"), path),
    cost=lambda config, corpus: partial(_cost, config, len(corpus.vocabulary)),
    export=exported,
    baselines={"lstm": nearest_lstm},
)
