"""From settings to objects: the one place that knows which setting makes which part."""

import dataclasses
from pathlib import Path

import torch

from enas.checkpoint import Checkpoints
from enas.config import Config
from enas.controllers import (
    Controller,
    ControllerConfig,
    FlexibleRNNController,
    HardcodedRNNController,
    RandomRNNController,
    RNNController,
)
from enas.data.text import Corpus, load_corpus
from enas.logbook import Logbook
from enas.models.language_model import LanguageModel, LanguageModelConfig
from enas.models.lstm import LSTMModel, nearest_hidden
from enas.models.shared_rnn import SharedRNN, SharedRNNConfig
from enas.optim import ControllerSchedule, SharedSchedule, make_optimizer
from enas.scratch import ScratchConfig, ScratchTrainer
from enas.search_space import LSTMBaseline, RNNCell
from enas.tasks.language import LanguageTask, LanguageTaskConfig
from enas.trainer import Trainer, TrainerConfig


def pick_device(num_gpu: int) -> torch.device:
    """The CPU for 0, a GPU for 1, and for −1 a GPU when there is one; ValueError when there are fewer."""
    available = torch.cuda.device_count()
    if num_gpu > available:
        raise ValueError(f"num_gpu is {num_gpu}, but this machine has {available}; --num_gpu 0 uses the CPU")
    if num_gpu > 1:
        raise ValueError(f"num_gpu is {num_gpu}; a run uses one GPU at most")
    return torch.device("cuda" if available and num_gpu != 0 else "cpu")


def load_data(config: Config) -> tuple[Corpus, list[str]]:
    """The dataset, and notes on it for people."""
    corpus = load_corpus(config.dataset, data_dir=config.data_dir, vocab_min_count=config.vocab_min_count)
    report = corpus.unknown_report()
    return corpus, [report] if report else []


def build_search_task(config: Config, corpus: Corpus, device: torch.device) -> LanguageTask:
    """The problem with the shared model."""
    model = SharedRNN(len(corpus.vocabulary), _pick(SharedRNNConfig, config, hidden=config.shared_hid))
    return _language_task(config, corpus, model, device)


def build_scratch_task(
    config: Config, corpus: Corpus, architecture: RNNCell | LSTMBaseline, device: torch.device
) -> LanguageTask:
    """The problem with a new model of one architecture: no batch normalisation, and no weights for anything else."""
    vocab_size = len(corpus.vocabulary)
    if isinstance(architecture, LSTMBaseline):
        embed = architecture.hidden if config.tie_weights else config.shared_embed
        model = LSTMModel(vocab_size, _pick(LanguageModelConfig, config, embed=embed, hidden=architecture.hidden))
    else:
        size = architecture.nodes[-1] + 1
        shape = _pick(SharedRNNConfig, config, hidden=config.shared_hid, num_blocks=size, batch_norm=False)
        model = SharedRNN(vocab_size, shape, architecture.edges)
    return _language_task(config, corpus, model, device, random_length=config.scratch_random_length, test_batch_size=1)


def nearest_lstm(config: Config, corpus: Corpus) -> LSTMBaseline:
    """The plain LSTM whose language model has as many parameters as one of a cell of `num_blocks` nodes, nearly."""
    vocab_size, embed, hidden = len(corpus.vocabulary), config.shared_embed, config.shared_hid
    embeddings = vocab_size * embed + (0 if config.tie_weights else vocab_size * hidden) + vocab_size
    cell = 2 * hidden * (embed + config.num_blocks * hidden)  # input, state, and an edge for each node but the first
    return LSTMBaseline(nearest_hidden(embeddings + cell, vocab_size, embed, config.tie_weights))


def _language_task(
    config: Config, corpus: Corpus, model: LanguageModel, device: torch.device, **changes
) -> LanguageTask:
    if config.shared_unigram_bias:
        model.start_from_frequencies(corpus.train)
    settings = {"length": config.shared_rnn_max_length, "random_length": False, "test_batch_size": 0, **changes}
    return LanguageTask(corpus, model.to(device), _pick(LanguageTaskConfig, config, **settings))


def _pick(config_class, config: Config, **given):
    """An instance of a small config class, from the settings of the same name, with or without a part's prefix."""
    settings = config.to_dict()
    for spec in dataclasses.fields(config_class):
        if spec.name in given:
            continue
        names = (spec.name, f"shared_{spec.name}", f"scratch_{spec.name}")
        given[spec.name] = settings[next(name for name in names if name in settings)]
    return config_class(**given)


def build_controller(config: Config) -> Controller:
    """The controller of the run's train type."""
    space = (config.num_blocks, config.shared_rnn_activations, config.cell_output)
    if config.train_type == "random":
        return RandomRNNController(*space)
    shape = ControllerConfig(
        hidden=config.controller_hid,
        temperature=config.softmax_temperature,
        tanh_c=config.tanh_c,
        init_range=config.controller_init_range,
    )
    if config.train_type == "hardcoded":
        return HardcodedRNNController(config.architecture, *space, shape)
    return (FlexibleRNNController if config.train_type == "flexible" else RNNController)(*space, shape)


def build_trainer(
    config: Config, task: LanguageTask, controller: Controller, logbook: Logbook | None, folder: Path
) -> Trainer:
    """The alternating loop, with its optimisers and schedules."""
    return Trainer(
        task,
        controller,
        controller_optimizer=(
            make_optimizer(config.controller_optim, controller.parameters()) if controller.is_trained else None
        ),
        controller_schedule=ControllerSchedule(
            lr=config.controller_lr,
            cosine=config.controller_lr_cosine,
            lr_max=config.controller_lr_max,
            lr_min=config.controller_lr_min,
            period=config.controller_lr_period,
        ),
        **_loop_parts(config, task, logbook, folder),
    )


def build_scratch_trainer(
    config: Config, task: LanguageTask, architecture: RNNCell | LSTMBaseline, logbook: Logbook | None, folder: Path
) -> ScratchTrainer:
    """The loop that trains one architecture alone."""
    scratch = _pick(ScratchConfig, config)
    return ScratchTrainer(task, architecture, scratch=scratch, **_loop_parts(config, task, logbook, folder))


def _loop_parts(config: Config, task: LanguageTask, logbook: Logbook | None, folder: Path) -> dict:
    return {
        "shared_optimizer": make_optimizer(
            config.shared_optim,
            task.model.parameters(),
            betas=(config.shared_adam_beta1, config.shared_adam_beta2),
            weight_decay=config.shared_l2_reg,
        ),
        "shared_schedule": SharedSchedule(
            lr=config.shared_lr,
            decay=config.shared_decay,
            decay_after=config.shared_decay_after,
            warmup=config.shared_lr_warmup,
            cosine=config.shared_lr_cosine,
            lr_min=config.shared_lr_min,
            total_steps=config.max_epoch * config.shared_max_step,
        ),
        "config": _pick(TrainerConfig, config),
        "header": {name: getattr(config, name) for name in ("network_type", "dataset", "train_type", "mode")},
        "logbook": logbook,
        "checkpoints": Checkpoints(folder / "checkpoints", config.max_save_num),
        "folder": folder,
    }
