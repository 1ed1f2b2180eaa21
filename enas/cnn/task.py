"""Image classification as a `Task`. Shapes: M architectures, B batch, C classes."""

import math
from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from enas.cnn.augment import augment, normalise, rotate
from enas.cnn.batches import TrainingImages, evaluation_batches
from enas.cnn.images import ImageDataset
from enas.cnn.layout import remembering
from enas.cnn.macro import MacroNetwork
from enas.cnn.micro import MicroNetwork
from enas.cnn.settings import VisionTaskConfig
from enas.data.builtin import SPLITS
from enas.errors import UserError
from enas.search.metric import ACCURACY, LOG_LIKELIHOOD, Metric
from enas.search.precision import at_least_float32, product_dtype, use
from enas.search.ranks import BATCH
from enas.search.settings import PRECISIONS
from enas.search.task import Task
from enas.terminal import progress_bar

Network = MacroNetwork | MicroNetwork


class VisionTask(Task):
    """Shared convolutional networks on images. The reward of a network is its accuracy on a validation minibatch, or
    the mean log-likelihood of the labels, which ranks networks with far less noise.

    Images without labels are classified by their rotation (Liu et al. 2020): one at random in training, all four in
    evaluation, in the same minibatch. The `seed` fixes the order in which images are read.

    The model holds the shared parameters ω: model(images [B, 3, H, W], network) gives logits [B, C]; `model.common` are
    the parts that several networks on the same images need only once.
    """

    metric = ACCURACY
    precisions = PRECISIONS
    smallest_part = 2  # networks normalise by its statistics

    def __init__(self, dataset: ImageDataset, model: nn.Module, config: VisionTaskConfig, seed: int):
        self.dataset, self.model, self.config = dataset, model.to(memory_format=torch.channels_last), config
        self.precision, self.divisible_batch = config.precision, config.batch_size
        self._mean, self._std = dataset.mean.to(self.device), dataset.std.to(self.device)
        self._splits = {split: getattr(dataset, split).to(self.device) for split in SPLITS}
        turns = 4 if dataset.is_rotation else 1  # of each image; with all of them a minibatch has about its usual size
        self._images_at_once = max(1, config.batch_size // turns)
        rewarded = (config.reward_batch_size or config.batch_size) // turns
        self._reward_images = max(1, min(rewarded, len(dataset.valid)))
        self.has_validation = len(dataset.valid) > 0
        sizes = {"train": config.batch_size} | ({"valid": self._reward_images} if self.has_validation else {})
        self._endless = {
            split: TrainingImages(self._splits[split], size, seed=seed, name=f"{dataset.name}, {split}")
            for split, size in sizes.items()
        }
        self.steps_per_epoch = config.shared_max_step or self._endless["train"].batches_per_pass

    def _rounding(self) -> torch.autocast:
        """Let convolutions and products inside the block round their operands as `precision` says."""
        use(self.precision, self.device)
        dtype = product_dtype(self.precision)
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None)

    def shared_loss(self, networks: Sequence[Network]) -> tuple[Tensor, Tensor]:
        """Return the mean cross-entropy (nats) and the mean accuracy of M networks on the next training minibatch."""
        if not self.model.training:  # train() walks all modules, of which a shared model has thousands
            self.model.train()
        images, labels = next(self._endless["train"])
        images = augment(images, self._mean, self._std, self.config)
        if self.dataset.is_rotation:
            labels = torch.randint(4, (len(images),), device=images.device)
            images = rotate(images, labels)
        if self.divided == BATCH:
            images, labels = self.ranks.part(images, -4), self.ranks.part(labels, -1)
        images = images.contiguous(memory_format=torch.channels_last)
        losses, accuracies = [], []
        for network, draws in zip(networks, self.ranks.draws(len(networks), self.device), strict=True):
            with draws, self._rounding():
                loss, logits = self.loss_and_logits(images, labels, network)
            losses.append(loss)
            accuracies.append(_correct(logits, labels) / len(labels))
        return torch.stack(losses).mean(), torch.stack(accuracies).mean()

    def loss_and_logits(self, images: Tensor, labels: Tensor, network: Network) -> tuple[Tensor, Tensor]:
        """Return the mean cross-entropy in nats of `labels` [B], and the logits [B, C], of images [B, 3, H, W]."""
        logits = at_least_float32(self.logits(images, network))
        return nn.functional.cross_entropy(logits, labels), logits

    def logits(self, images: Tensor, network: Network) -> Tensor:
        """Return the logits [B, C] of images [B, 3, H, W]; UserError if the shared model lacks a part of `network`."""
        try:
            return self.model(images, network)
        except KeyError as error:
            raise UserError(f"the network has a part, {error}, that the shared model lacks") from None

    @property
    def rank_metric(self) -> Metric:
        return LOG_LIKELIHOOD if self.config.cnn_reward == "log_likelihood" else ACCURACY

    @torch.no_grad()
    def rewards(self, networks: Sequence[Network]) -> Tensor:
        """Measure `rank_metric` of each of M networks on the next validation minibatch, ω in evaluation mode: [M]."""
        total, count = self._totals(networks, next(self._endless["valid"]), self.rank_metric)
        return total / count

    def rank(self, networks: Sequence[Network], max_batches: int | None = None) -> list[float]:
        """As `Task.rank`, on minibatches of the size that rewards are measured on."""
        return self._means(networks, "valid", self.rank_metric, self._reward_images, max_batches)

    def evaluate(self, network: Network, split: str, max_batches: int | None = None) -> float:
        """As `Task.evaluate`: accuracy, every image counted once."""
        return self._means([network], split, ACCURACY, self._images_at_once, max_batches)[0]

    @torch.no_grad()
    def _means(
        self, networks: Sequence[Network], split: str, metric: Metric, num_images: int, max_batches: int | None
    ) -> list[float]:
        """Return the metric of each network, over minibatches of about `num_images`."""
        if not len(self._splits[split]):
            raise UserError(f"{split} has no images; valid_size holds some out")
        total, count = torch.zeros(len(networks), device=self.device), 0
        batches = islice(evaluation_batches(self._splits[split], num_images), max_batches)
        for batch in progress_bar(batches, "evaluation"):
            totals, examples = self._totals(networks, batch, metric)
            total += totals
            count += examples
        return (total.double() / count).tolist()

    def _totals(self, networks: Sequence[Network], batch: tuple[Tensor, Tensor], metric: Metric) -> tuple[Tensor, int]:
        """Sum the metric of each of M networks over a minibatch: [M], and its number of examples, all rotations."""
        if self.model.training:
            self.model.eval()
        images, labels = normalise(batch[0], self._mean, self._std), batch[1]
        if self.dataset.is_rotation:
            labels = torch.arange(4, device=images.device).repeat(len(images))
            images = rotate(images.repeat_interleave(4, dim=0), labels)
        images = images.contiguous(memory_format=torch.channels_last)
        with self._rounding(), remembering(*self.model.common):
            logits = [at_least_float32(self.logits(images, network)) for network in networks]
        if metric is LOG_LIKELIHOOD:  # in nats
            totals = [-nn.functional.cross_entropy(each, labels, reduction="sum") for each in logits]
        else:
            totals = [_correct(each, labels) for each in logits]
        return torch.stack(totals), len(labels)

    def state_dict(self) -> dict[str, Any]:
        cursors = {split: {"cursor": images.cursor} for split, images in self._endless.items()}
        return {"model": self.model.state_dict(), **cursors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        for split, images in self._endless.items():
            images.go_to(int(state[split]["cursor"]))


class ScratchVisionTask(VisionTask):
    """One network from scratch: model(images) gives logits, and model.loss(images, labels, progress) gives the loss,
    an auxiliary head's included, and the logits; `progress` is the share of training done.
    """

    def loss_and_logits(self, images: Tensor, labels: Tensor, network: Network) -> tuple[Tensor, Tensor]:
        progress = self._endless["train"].cursor / (self.config.max_epoch * self.steps_per_epoch)
        return self.model.loss(images, labels, min(1.0, progress))

    def logits(self, images: Tensor, network: Network) -> Tensor:
        return self.model(images)


def _correct(logits: Tensor, labels: Tensor) -> Tensor:
    """Count how many of [B, C] logits are highest at their label: a float32 scalar, NaN if a logit is."""
    return (logits.argmax(1) == labels).sum().float().where(~logits.isnan().any(), math.nan)
