"""Recurrent cells: a shared step, and scoring one cell and ten, beside the plain implementation.

python -m benchmarks.rnn --config ptb_small --precision float32 --grow shared_hid,num_blocks
"""

import functools
import sys
from collections.abc import Callable

import torch

from benchmarks.command import Benchmark, main
from benchmarks.measure import Action
from benchmarks.problems import NUM_WORDS, trainer
from benchmarks.reference import ReferenceRNN
from enas.config import Config
from enas.rnn.settings import LanguageTaskConfig, SharedRNNConfig
from enas.rnn.task import LanguageTask
from enas.search.optim import make_optimizer
from enas.search.trainer import Trainer

SAMPLES = (1, 10)  # M cells scored at once
GROWTHS = {
    "shared_hid": (100, 200, 400, 800),
    "num_blocks": (3, 6, 12),
    "samples": (1, 2, 5, 10, 20),
    "vocabulary": (2_500, 5_000, 10_000, 20_000),
}


def actions(config: Config, device: torch.device) -> list[Action]:
    """Return a step and scoring, as they are and written plainly."""
    fast = trainer(config, device)
    cells = fast.controller.sample(max(SAMPLES)).architectures
    # Made when it is first needed: until then the memory in use is that of the fast one alone.
    plain = functools.cache(lambda: _plain(config, fast, device))
    return [
        _step("shared step", config, lambda: fast, cells[:1]),
        *(_scoring(f"{num} scored", config, lambda: fast, cells[:num]) for num in SAMPLES),
        _step("shared step, written plainly", config, plain, cells[:1]),
        _scoring("1 scored, written plainly", config, plain, cells[:1]),
    ]


def grown(config: Config, name: str, value: int, device: torch.device) -> list[Action]:
    """Return a step and scoring with another size."""
    vocabulary = value if name == "vocabulary" else NUM_WORDS
    changes = {"shared_hid": value, "shared_embed": value} if name == "shared_hid" else {}
    if name == "num_blocks":
        changes = {"num_blocks": value}
    fast = trainer(config.replace(**changes), device, vocabulary)
    cells = fast.controller.sample(max(GROWTHS["samples"])).architectures
    num = value if name == "samples" else 1
    return [
        _step("shared step", config, lambda: fast, cells[:num]),
        _scoring("scored", config, lambda: fast, cells[:num]),
    ]


def _plain(config: Config, fast: Trainer, device: torch.device) -> Trainer:
    """Return the same search with the plain model, its weights those of the fast one."""
    corpus = fast.task.corpus
    model = ReferenceRNN(len(corpus.vocabulary), config[SharedRNNConfig]).to(device)
    model.load_state_dict(fast.task.model.state_dict())
    plain = trainer(config, device)
    plain.task = LanguageTask(corpus, model, config[LanguageTaskConfig])
    plain.task.precision = fast.task.precision
    plain.shared_parameters = list(model.parameters())
    plain.shared_optimizer = make_optimizer(parameters=plain.shared_parameters, **plain.shared_optim.optimizer)
    return plain


def _step(name: str, config: Config, search: Callable[[], Trainer], cells: list) -> Action:
    tokens = len(cells) * config.batch_size * config.shared_rnn_max_length
    return Action(name, lambda: search().shared_step(cells), tokens, "tokens")


def _scoring(name: str, config: Config, search: Callable[[], Trainer], cells: list) -> Action:
    tokens = len(cells) * (config.reward_batch_size or config.batch_size) * config.shared_rnn_max_length
    return Action(name, lambda: search().task.rewards(cells), tokens, "tokens")


BENCHMARK = Benchmark(__doc__.splitlines()[0], {}, actions, GROWTHS, grown)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
