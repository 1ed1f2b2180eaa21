"""The recurrent search space on text: data, models, controllers (paper section 2.1)."""

from bisect import bisect_left
from dataclasses import asdict, replace
from functools import partial

import torch

from enas.pictures.drawing import write_graph
from enas.rnn.cell import FlexibleRNNSpace, HardcodedRNNSpace, LSTMBaseline, RNNCell, RNNSpace
from enas.rnn.drawing import cell_graph
from enas.rnn.export import exported
from enas.rnn.lstm import LSTMModel
from enas.rnn.settings import LanguageModelConfig, LanguageTaskConfig, SharedRNNConfig, TextConfig
from enas.rnn.shared import SharedRNN
from enas.rnn.task import LanguageTask
from enas.rnn.text import Corpus, load_corpus
from enas.search.cost import Cost
from enas.search.problem import Problem
from enas.settings import ConfigLike


def load_data(config: ConfigLike) -> Corpus:
    """Read the text."""
    return load_corpus(config.dataset, data_dir=config.data_dir, **asdict(config[TextConfig]))


def _task(
    config: ConfigLike, corpus: Corpus, device: torch.device, alone: RNNCell | LSTMBaseline | None
) -> LanguageTask:
    vocab_size, shared = len(corpus.vocabulary), config[SharedRNNConfig]
    if alone is None:
        model = SharedRNN(vocab_size, shared)
    elif isinstance(alone, LSTMBaseline):
        sizes = {"shared_embed": alone.embed(config), "shared_hid": alone.hidden}
        model = LSTMModel(vocab_size, replace(config[LanguageModelConfig], **sizes))
    else:
        sizes = {"num_blocks": alone.nodes[-1] + 1, "shared_batch_norm": False}
        model = SharedRNN(vocab_size, replace(shared, **sizes), alone.edges)
    if not config.shared_plain_start:
        model.start_from_frequencies(corpus.train)
    return LanguageTask(corpus, model.to(device), config[LanguageTaskConfig], from_scratch=alone is not None)


def _space(config: ConfigLike) -> RNNSpace:
    sizes = (config.num_blocks, config.shared_rnn_activations, config.cell_output)
    if config.train_type == "hardcoded":
        return HardcodedRNNSpace(*sizes, shape=config.architecture)
    return FlexibleRNNSpace(*sizes) if config.train_type == "flexible" else RNNSpace(*sizes)


def cost(config: ConfigLike, vocab_size: int, architecture: RNNCell | LSTMBaseline) -> Cost:
    """Return the cost per token of the language model that a run from scratch trains of an architecture."""
    embed, hidden = config.shared_embed, config.shared_hid
    if isinstance(architecture, LSTMBaseline):
        embed, hidden = architecture.embed(config), architecture.hidden
        products, biases = 4 * hidden * (embed + hidden), 8 * hidden
    else:  # gates and values, of the input, the state and the edges
        products, biases = 2 * hidden * (embed + architecture.num_blocks * hidden), 0
    embedding, decoder = vocab_size * embed, vocab_size * hidden
    tied = embedding if config.tie_weights else embedding + decoder
    return Cost(products + biases + tied + vocab_size, products + decoder)


def nearest_lstm(config: ConfigLike) -> LSTMBaseline:
    """Return the plain LSTM whose language model is about as large as that of a cell of `num_blocks` nodes."""
    vocab_size, num = len(load_data(config).vocabulary), config.num_blocks
    wanted = cost(config, vocab_size, RNNCell(("tanh",) * num, (0,) * (num - 1))).parameters

    def count(hidden: int) -> int:
        return cost(config, vocab_size, LSTMBaseline(hidden)).parameters

    above = bisect_left(range(wanted), wanted, lo=1, key=count)
    return LSTMBaseline(min(max(1, above - 1), above, key=lambda hidden: abs(count(hidden) - wanted)))


PROBLEM = Problem(
    space=_space,
    load_data=load_data,
    task=_task,
    draw=lambda cell, path, title: write_graph(cell_graph(cell, title=f"{title}, {cell.num_blocks} nodes"), path),
    cost=lambda config, corpus: partial(cost, config, len(corpus.vocabulary)),
    export=exported,
    baselines={"lstm": nearest_lstm},
)
