"""Searches on data without meaning, of the sizes that matter for speed: nothing needs to be downloaded."""

from pathlib import Path

import torch

from enas.cnn.batches import MemoryImages
from enas.cnn.images import ImageDataset
from enas.config import Config
from enas.rnn.text import EOS, UNKNOWN, Corpus
from enas.runs.opening import make_problem, make_trainer
from enas.search.architecture import Architecture
from enas.search.checkpoint import seed_everything
from enas.search.probe import choose_precision
from enas.search.ranks import ALONE, Ranks
from enas.search.trainer import Trainer

NUM_WORDS = 10_000  # Penn Treebank's vocabulary
NUM_TOKENS = 300_000
NUM_IMAGES = 2_000
IMAGE_SIZE = 32  # CIFAR-10's


def trainer(
    config: Config,
    device: torch.device,
    vocabulary: int = NUM_WORDS,
    ranks: Ranks = ALONE,
    architecture: Architecture | None = None,
) -> Trainer:
    """Return a search by `config` that writes nothing, or the training of one architecture from scratch."""
    seed_everything(config.random_seed)
    data = _images(config) if config.network_type == "cnn" else _text(vocabulary)
    task, source = make_problem(config, data, architecture, device, ranks)
    if config.precision == "auto":
        num = config.shared_num_sample
        task.precision, _ = choose_precision(
            task, lambda: [source] * num if architecture else source.sample(num).architectures
        )
    return make_trainer(config, data, task, source, Path("nowhere"), ranks)


def _text(vocabulary: int) -> Corpus:
    words = (EOS, UNKNOWN, *(f"word{number}" for number in range(vocabulary - 2)))
    splits = {split: torch.randint(vocabulary, (NUM_TOKENS,)) for split in ("train", "valid", "test")}
    return Corpus("random", words, **splits)


def _images(config: Config) -> ImageDataset:
    size = config.image_size or IMAGE_SIZE
    num = max(NUM_IMAGES, config.batch_size, config.reward_batch_size)

    def split() -> MemoryImages:
        images = torch.randint(256, (num, 3, size, size), dtype=torch.uint8)
        return MemoryImages(images, torch.randint(10, (num,)))

    return ImageDataset(
        name="random",
        classes=tuple(map(str, range(10))),
        train=split(),
        valid=split(),
        test=split(),
        mean=torch.full((3,), 127.0),
        std=torch.full((3,), 64.0),
        is_rotation=False,
        notes=(),
    )
