"""From settings to the parts of a recurrent search: text, shared RNN, controllers of cells."""

import torch

from enas.config import Config
from enas.controllers import (
    Controller,
    FlexibleRNNController,
    HardcodedRNNController,
    RandomRNNController,
    RNNController,
)
from enas.data.text import Corpus, load_corpus
from enas.models.language_model import LanguageModel, LanguageModelConfig
from enas.models.lstm import LSTMModel, nearest_hidden
from enas.models.shared_rnn import SharedRNN, SharedRNNConfig
from enas.optim import SharedSchedule, make_optimizer
from enas.pick import controller_config, pick
from enas.probe import choose_precision
from enas.scratch import ScratchConfig
from enas.search_space import LSTMBaseline, RNNCell
from enas.tasks.language import LanguageTask, LanguageTaskConfig

LSTM = "lstm"  # the dag_path that names no file
STEPS_PER_EPOCH = 400  # about a pass over Penn Treebank, see configs/config_ours.py


def load_data(config: Config) -> tuple[Corpus, list[str]]:
    """The text, and notes on it for people."""
    corpus = load_corpus(config.dataset, data_dir=config.data_dir, vocab_min_count=config.vocab_min_count)
    report = corpus.unknown_report()
    return corpus, [report] if report else []


def settle(config: Config, data: Corpus, device: torch.device) -> tuple[Config, list[str]]:
    """The settings with the precision chosen where it is auto, and a line on why."""
    if config.precision != "auto":
        return config, []
    num_words = config.shared_rnn_max_length * config.batch_size * config.shared_num_sample
    precision, reason = choose_precision(num_words, len(data.vocabulary), config.shared_hid, device)
    return config.replace(precision=precision), [f"precision {precision}: {reason}"]


def search_task(config: Config, data: Corpus, device: torch.device) -> LanguageTask:
    """The problem with the shared model."""
    model = SharedRNN(len(data.vocabulary), pick(SharedRNNConfig, config, hidden=config.shared_hid))
    return _language_task(config, data, model, device)


def scratch_task(
    config: Config, data: Corpus, architecture: RNNCell | LSTMBaseline, device: torch.device
) -> LanguageTask:
    """The problem with a new model of one architecture: no batch normalisation, and no weights for anything else."""
    vocab_size = len(data.vocabulary)
    if isinstance(architecture, LSTMBaseline):
        embed = architecture.hidden if config.tie_weights else config.shared_embed
        model = LSTMModel(vocab_size, pick(LanguageModelConfig, config, embed=embed, hidden=architecture.hidden))
    else:
        size = architecture.nodes[-1] + 1
        shape = pick(SharedRNNConfig, config, hidden=config.shared_hid, num_blocks=size, batch_norm=False)
        model = SharedRNN(vocab_size, shape, architecture.edges)
    return _language_task(config, data, model, device, random_length=config.scratch_random_length, test_batch_size=1)


def _language_task(
    config: Config, corpus: Corpus, model: LanguageModel, device: torch.device, **changes
) -> LanguageTask:
    if config.shared_unigram_bias:
        model.start_from_frequencies(corpus.train)
    settings = {"length": config.shared_rnn_max_length, "random_length": False, "test_batch_size": 0, **changes}
    return LanguageTask(corpus, model.to(device), pick(LanguageTaskConfig, config, **settings))


def controller(config: Config) -> Controller:
    """The controller of the run's train type."""
    space = (config.num_blocks, config.shared_rnn_activations, config.cell_output)
    if config.train_type == "random":
        return RandomRNNController(*space)
    if config.train_type == "hardcoded":
        return HardcodedRNNController(config.architecture, *space, controller_config(config))
    made = FlexibleRNNController if config.train_type == "flexible" else RNNController
    return made(*space, controller_config(config))


def shared_optimizer(config: Config, model: torch.nn.Module) -> torch.optim.Optimizer:
    """The optimiser of ω, or of one architecture's weights."""
    betas = (config.shared_adam_beta1, config.shared_adam_beta2)
    return make_optimizer(config.shared_optim, model.parameters(), betas=betas, weight_decay=config.shared_l2_reg)


def steps_per_epoch(config: Config, task: LanguageTask) -> int:
    """Shared-parameter steps of an epoch."""
    return config.shared_max_step or STEPS_PER_EPOCH


def shared_schedule(config: Config, task: LanguageTask) -> SharedSchedule:
    """Its learning rate."""
    return SharedSchedule(
        lr=config.shared_lr,
        decay=config.shared_decay,
        decay_after=config.shared_decay_after,
        warmup=config.shared_lr_warmup,
        cosine=config.shared_lr_cosine,
        lr_min=config.shared_lr_min,
        total_steps=config.max_epoch * steps_per_epoch(config, task),
    )


def trainer_settings(config: Config) -> dict:
    """What the loop takes from settings of this half alone."""
    return {"shared_grad_clip": config.shared_grad_clip, "penalty_weight": 0.0}


def scratch_config(config: Config) -> ScratchConfig:
    """When averaging begins, and when training ends early."""
    return pick(ScratchConfig, config)


def read_dag_path(config: Config) -> RNNCell | LSTMBaseline:
    """The architecture that `dag_path` names: that of a JSON file, or the LSTM nearest in the number of parameters.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or no architecture in it.
    """
    if config.dag_path != LSTM:
        return RNNCell.load(config.dag_path)
    corpus, _ = load_data(config)
    return nearest_lstm(config, corpus)


def nearest_lstm(config: Config, corpus: Corpus) -> LSTMBaseline:
    """The plain LSTM whose language model has as many parameters as one of a cell of `num_blocks` nodes, nearly."""
    vocab_size, embed, hidden = len(corpus.vocabulary), config.shared_embed, config.shared_hid
    embeddings = vocab_size * embed + (0 if config.tie_weights else vocab_size * hidden) + vocab_size
    cell = 2 * hidden * (embed + config.num_blocks * hidden)  # input, state, and an edge for each node but the first
    return LSTMBaseline(nearest_hidden(embeddings + cell, vocab_size, embed, config.tie_weights))


read_architecture = LanguageTask.read_architecture
