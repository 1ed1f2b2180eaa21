"""The vision task: what it counts, what it draws on, and what it leaves alone."""

import math

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from enas.cnn.augment import normalise
from enas.cnn.batches import MemoryImages, channel_statistics
from enas.cnn.images import ROTATIONS, ImageDataset
from enas.cnn.macro import MacroNetwork
from enas.cnn.settings import VisionTaskConfig
from enas.cnn.task import ScratchVisionTask, VisionTask

BATCH, SIZE = 6, 4
PLAIN = {"cnn_crop_padding": 0, "cnn_flip": False}
NETWORKS = [MacroNetwork((name,), ((),)) for name in ("conv3x3", "sep3x3", "conv5x5", "avg3x3")]


class TinyModel(nn.Module):
    """A linear classifier for each operation; it writes down what it is shown, and in which mode."""

    common = ()

    def __init__(self, num_classes: int):
        super().__init__()
        self.layers = nn.ModuleDict({n.operations[0]: nn.Linear(3 * SIZE * SIZE, num_classes) for n in NETWORKS})
        self.seen: list[torch.Tensor] = []
        self.modes: list[bool] = []

    def forward(self, images, network):
        self.seen.append(images)
        self.modes.append(self.training)
        return self.layers[network.operations[0]](images.flatten(1))


def random_split(num: int, classes: int, seed: int) -> MemoryImages:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (num, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8)
    return MemoryImages(images, torch.randint(classes, (num,), generator=generator))


def make_dataset(*, is_rotation: bool = False, sizes: tuple[int, int, int] = (20, 15, 13)) -> ImageDataset:
    classes = ROTATIONS if is_rotation else ("a", "b", "c")
    splits = [random_split(size, 1 if is_rotation else 3, seed) for seed, size in enumerate(sizes)]
    return ImageDataset("tiny", classes, *splits, *channel_statistics(splits[0]), is_rotation, ())


def make_task(dataset: ImageDataset | None = None, **settings) -> VisionTask:
    dataset = dataset or make_dataset()
    torch.manual_seed(0)
    model = TinyModel(len(dataset.classes))
    return VisionTask(dataset, model, VisionTaskConfig(**{"batch_size": BATCH, **PLAIN, **settings}), seed=5)


def score_by_hand(task: VisionTask, network: MacroNetwork, split: MemoryImages, metric: str = "accuracy") -> float:
    """Image by image; where there are no labels, each in its four rotations."""
    scores = []
    for image, label in zip(split.images, split.labels.tolist(), strict=True):
        image = normalise(image.unsqueeze(0), task.dataset.mean, task.dataset.std)
        for turn in range(4) if task.dataset.is_rotation else (0,):
            log_probs = task.model(image.rot90(turn, (2, 3)), network)[0].log_softmax(0)
            is_hit = float(log_probs.argmax() == label + turn)
            scores.append(is_hit if metric == "accuracy" else log_probs[label + turn].item())
    return sum(scores) / len(scores)


@pytest.mark.parametrize(("given", "expected"), [(0, 3), (7, 7)])
def test_an_epoch_is_a_pass_unless_its_steps_are_given(given, expected):
    assert make_task(shared_max_step=given).steps_per_epoch == expected  # 20 images, 6 at a time


def test_a_network_from_scratch_is_told_how_far_training_is():
    seen = []

    class Model(TinyModel):
        def loss(self, images, labels, progress):
            seen.append(progress)
            logits = self(images, NETWORKS[0])
            return nn.functional.cross_entropy(logits, labels), logits

    config = VisionTaskConfig(batch_size=BATCH, **PLAIN, shared_max_step=2, max_epoch=2)
    task = ScratchVisionTask(make_dataset(), Model(3), config, seed=5)
    for _ in range(5):
        task.shared_loss([NETWORKS[0]])
    assert seen == [0.25, 0.5, 0.75, 1.0, 1.0]
    task.load_state_dict({**task.state_dict(), "train": {**task.state_dict()["train"], "cursor": 1}})
    task.shared_loss([NETWORKS[0]])
    assert seen[-1] == 0.5


def test_a_network_that_diverged_has_no_accuracy():
    task = make_task()
    nn.init.constant_(task.model.layers["sep3x3"].bias, float("nan"))
    scores = [task.evaluate(network, "valid") for network in NETWORKS]
    assert [math.isnan(score) for score in scores] == [False, True, False, False]


@pytest.mark.parametrize("is_rotation", [False, True])
@pytest.mark.parametrize("batch_size", [1, 5, 13])
@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_evaluation_counts_every_image_of_the_split(is_rotation, batch_size, split):
    task = make_task(make_dataset(is_rotation=is_rotation), batch_size=batch_size)
    for network in NETWORKS:
        expected = score_by_hand(task, network, getattr(task.dataset, split))
        assert task.evaluate(network, split) == pytest.approx(expected, abs=1e-12)


def test_evaluation_shows_images_as_they_are_in_evaluation_mode():
    task = make_task(cnn_cutout=2)
    task.model.train()
    task.evaluate(NETWORKS[0], "test")
    shown = torch.cat(task.model.seen)
    plain = normalise(task.dataset.test.images, task.dataset.mean, task.dataset.std)
    assert {image.numpy().tobytes() for image in shown} == {image.numpy().tobytes() for image in plain}
    assert not any(task.model.modes)
    assert max(len(images) for images in task.model.seen) <= BATCH


@given(st.integers(4, 40))
def test_rotations_of_an_image_share_a_minibatch_of_the_usual_size(batch_size):
    task = make_task(make_dataset(is_rotation=True, sizes=(40, 15, 13)), batch_size=batch_size)
    task.evaluate(NETWORKS[0], "valid")
    assert all(len(images) <= batch_size and len(images) % 4 == 0 for images in task.model.seen)
    assert sum(len(images) for images in task.model.seen) == 60


@pytest.mark.parametrize("is_rotation", [False, True])
def test_rank_scores_all_networks_on_the_same_batches(is_rotation):
    task = make_task(make_dataset(is_rotation=is_rotation))
    for max_batches in (1, 2, 100):
        together = task.rank(NETWORKS, max_batches)
        task.model.seen.clear()
        assert together == [task.rank([network], max_batches)[0] for network in NETWORKS]
        assert max_batches == 100 or len(task.model.seen) == max_batches * len(NETWORKS)
    assert together == [task.evaluate(network, "valid") for network in NETWORKS]


@pytest.mark.parametrize("is_rotation", [False, True])
@pytest.mark.parametrize(("metric", "size"), [("accuracy", 0), ("accuracy", 8), ("log_likelihood", 8)])
def test_rewards_and_ranks_score_minibatches_of_validation(is_rotation, metric, size):
    task = make_task(make_dataset(is_rotation=is_rotation), cnn_cutout=2, cnn_reward=metric, reward_batch_size=size)
    known = {image.numpy().tobytes(): i for i, image in enumerate(_as_shown(task, task.dataset.valid))}
    visited = []
    for score in (task.rewards, lambda networks: torch.tensor(task.rank(networks, 1)), task.rewards):
        task.model.seen.clear()
        scores = score(NETWORKS)
        assert scores.shape == (len(NETWORKS),) and not scores.requires_grad
        assert all(torch.equal(images, task.model.seen[0]) for images in task.model.seen)
        upright = task.model.seen[0][::4] if is_rotation else task.model.seen[0]
        numbers = [known[image.numpy().tobytes()] for image in upright]
        visited += numbers if score == task.rewards else []
        shown = MemoryImages(task.dataset.valid.images[numbers], task.dataset.valid.labels[numbers])
        expected = [score_by_hand(task, network, shown, metric) for network in NETWORKS]
        assert scores.tolist() == pytest.approx(expected, rel=1e-5)
        if score == task.rewards or size:
            assert len(numbers) == max(1, (size or BATCH) // (4 if is_rotation else 1))
    if size == 0:  # two minibatches of 8 are of two passes
        assert len(set(visited)) == len(visited)
    assert (task.rank_metric.name, task.metric.name) == (metric, "accuracy")
    assert task.evaluate(NETWORKS[0], "valid") == pytest.approx(score_by_hand(task, NETWORKS[0], task.dataset.valid))


def _as_shown(task: VisionTask, split: MemoryImages) -> torch.Tensor:
    return normalise(split.images, task.dataset.mean, task.dataset.std)


def test_rewards_leave_the_model_its_gradients_and_the_training_cursor_alone():
    task = make_task()
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    task.rewards(NETWORKS)
    task.rank(NETWORKS, 2)
    assert not any(task.model.modes)
    assert all(torch.equal(value, before[name]) for name, value in task.model.state_dict().items())
    assert all(parameter.grad is None for parameter in task.model.parameters())
    assert task.state_dict()["train"]["cursor"] == 0 and task.state_dict()["valid"]["cursor"] == 1


def test_loss_is_the_cross_entropy_of_the_next_training_minibatch():
    task, seen = make_task(), []
    numbers = {image.numpy().tobytes(): i for i, image in enumerate(_as_shown(task, task.dataset.train))}
    for _ in range(3):
        loss, accuracy = task.shared_loss(NETWORKS[:1])
        images = task.model.seen[-1]
        shown = [numbers[image.numpy().tobytes()] for image in images]
        labels, logits = task.dataset.train.labels[shown], task.model(images, NETWORKS[0])
        torch.testing.assert_close(loss, nn.functional.cross_entropy(logits, labels))
        assert accuracy.item() == pytest.approx((logits.argmax(1) == labels).double().mean().item())
        assert loss.requires_grad and not accuracy.requires_grad
        seen += shown
    assert len(set(seen)) == 3 * BATCH
    assert all(task.model.modes)


def test_loss_and_accuracy_of_several_networks_are_their_means():
    apart = [make_task().shared_loss([network]) for network in NETWORKS]
    loss, accuracy = make_task().shared_loss(NETWORKS)
    torch.testing.assert_close(loss, torch.stack([one for one, _ in apart]).mean())
    torch.testing.assert_close(accuracy, torch.stack([one for _, one in apart]).mean())


def test_training_images_are_augmented():
    shown = []
    for cutout in (0, 2):
        task = make_task(cnn_cutout=cutout)
        task.shared_loss(NETWORKS[:1])
        shown.append(task.model.seen[0])
    cut = shown[1] == 0
    assert torch.equal(shown[1][~cut], shown[0][~cut]) and cut.flatten(1).any(1).all()


def test_training_images_without_labels_are_turned_at_random():
    task = make_task(make_dataset(is_rotation=True, sizes=(400, 100, 4)), batch_size=400)
    torch.manual_seed(1)
    loss, _ = task.shared_loss(NETWORKS[:1])
    upright = {image.numpy().tobytes() for image in _as_shown(task, task.dataset.train)}
    labels = [
        next(turn for turn in range(4) if image.rot90(-turn, (1, 2)).contiguous().numpy().tobytes() in upright)
        for image in task.model.seen[0]
    ]
    assert all(60 < labels.count(turn) < 140 for turn in range(4))
    logits = task.model(task.model.seen[0], NETWORKS[0])
    torch.testing.assert_close(loss, nn.functional.cross_entropy(logits, torch.tensor(labels)))


def test_splits_that_fill_no_minibatch_are_named():
    for sizes, is_rotation, split in (
        ((5, 15, 13), False, "train"),
        ((5, 9, 9), True, "train"),
    ):
        with tiny.refused(f"tiny, {split}: batch size is 6; it must be between 1 and the number of"):
            make_task(make_dataset(sizes=sizes, is_rotation=is_rotation))


def test_few_validation_images_are_one_minibatch_of_rewards():
    task = make_task(make_dataset(sizes=(20, 5, 13)))
    assert len(next(task._endless["valid"])[0]) == 5
