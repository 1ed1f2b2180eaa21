"""A search over parts of a module given in Python."""

import itertools
import json
import random
import runpy
import subprocess
import sys
from dataclasses import dataclass

import pytest
import tiny
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import enas
from enas.choice.problem import GIVEN, Given, ModuleTask, choices_in, content, endless, one_pass
from enas.choice.space import ModuleChoices
from enas.config import Config
from enas.errors import Interrupted, UserError
from enas.export.folder import export
from enas.runs.opening import make_trainer
from enas.search.checkpoint import seed_everything
from enas.search.ranks import BATCH
from enas.search.training import Training

SIZES = {"max_epoch": 3, "save_epoch": 1, "num_gpu": 0, "num_threads": 1, "controller_max_step": 20}
SIZES |= {"controller_start": 0.3, "derive_num_sample": 8, "quiet": True}


class Zero(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


class GRU(nn.GRU):
    """A GRU that returns its outputs alone."""

    def __init__(self, size):
        super().__init__(size, size, batch_first=True)

    def forward(self, x):
        return super().forward(x)[0]


class Convolution(nn.Module):
    """A convolution over the steps of [batch, steps, size]."""

    def __init__(self, size, width):
        super().__init__()
        self.inner = nn.Conv1d(size, size, width, padding="same")

    def forward(self, x):
        return self.inner(x.mT).mT


class First(nn.Module):
    """The mean, or the last of all steps."""

    def __init__(self, is_last):
        super().__init__()
        self.is_last = is_last

    def forward(self, x):
        return x[:, -1] if self.is_last else x.mean(1)


class TextNet(nn.Module):
    """A classifier of sequences of tokens, with five choices."""

    def __init__(self, size=8):
        super().__init__()
        self.embedding = nn.Embedding(6, size)
        self.norm = enas.Choice(layer=nn.LayerNorm(size), none=nn.Identity())
        self.layers = nn.ModuleList(
            enas.Choice(gru=GRU(size), conv=Convolution(size, 3), none=nn.Identity()) for _ in range(2)
        )
        self.act = enas.Choice(relu=nn.ReLU(), gelu=nn.GELU())
        self.pool = enas.Choice(mean=First(False), last=First(True))
        self.classifier = nn.Linear(size, 2)

    def forward(self, tokens):
        x = self.norm(self.embedding(tokens))
        for layer in self.layers:
            x = x + self.act(layer(x))
        return self.classifier(self.pool(x))


class Block(nn.Module):
    """A residual block, whose main path is chosen."""

    def __init__(self, channels):
        super().__init__()
        same = {"padding": "same", "bias": False}
        self.path = enas.Choice(
            conv3=nn.Conv2d(channels, channels, 3, **same),
            conv5=nn.Conv2d(channels, channels, 5, **same),
            none=Zero(),
        )
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return F.relu(x + self.norm(self.path(x)))


class ResNet(nn.Module):
    """A small residual network with five choices."""

    def __init__(self, channels=6):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(channels) for _ in range(4)))
        self.pool = enas.Choice(mean=nn.AdaptiveAvgPool2d(1), max=nn.AdaptiveMaxPool2d(1))
        self.classifier = nn.Linear(channels, 2)

    def forward(self, images):
        return self.classifier(self.pool(self.blocks(self.stem(images))).flatten(1))


class Nest(nn.Module):
    """A Choice in two places, one inside of a part, and one that is a part."""

    def __init__(self):
        super().__init__()
        self.act = enas.Choice(tanh=nn.Tanh(), relu=nn.ReLU())
        inner = enas.Choice(wide=nn.Linear(3, 3), none=nn.Identity())
        self.mix = enas.Choice(deep=nn.Sequential(nn.Linear(3, 3), self.act, inner), choice=inner, zero=Zero())

    def forward(self, x):
        return self.act(self.mix(x))


def accuracy(output, target):
    return (output.argmax(1) == target).float().mean()


def texts(num=240):
    """Tokens 0 to 5, and whether most of them are below 3."""
    tokens = torch.randint(6, (num, 7), generator=torch.Generator().manual_seed(0))
    return tokens, ((tokens < 3).sum(1) > 3).long()


def images(num=160):
    """Stripes of two directions, with noise."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(num) % 2
    stripes = (torch.arange(8) % 2).float().expand(8, 8)
    clean = torch.stack([stripes if label else stripes.T for label in labels])
    return clean.unsqueeze(1) + 0.3 * torch.randn(num, 1, 8, 8, generator=generator), labels


def loaders(inputs, labels, size=20, **settings):
    """Loaders of three splits, the first of them shuffled."""
    parts = [slice(0, -80), slice(-80, -40), slice(-40, None)]
    train, *others = (TensorDataset(inputs[part], labels[part]) for part in parts)
    held = (DataLoader(one, batch_size=40) for one in others)
    names = ("train", "valid", "test")
    return dict(zip(names, [DataLoader(train, batch_size=size, shuffle=True, **settings), *held], strict=True))


def search(make, data, folder, **settings):
    return enas.search_module(
        make, **data, loss=F.cross_entropy, score=accuracy, log_dir=str(folder), **{**SIZES, **settings}
    )


def prepared(make, data, architecture=None, score=accuracy, **settings):
    """A task without a run."""
    GIVEN["tested"] = given = Given(make, {"test": (), **data}, loss=F.cross_entropy, score=score)
    config = Config(network_type="module", dataset="tested", config="small_module", **settings)
    seed_everything(0)
    return config, given, ModuleTask(config, given, torch.device("cpu"), architecture)


def every(given):
    return [given.decode(row) for row in itertools.product(*map(range, given.sizes))]


@pytest.fixture(autouse=True)
def forgotten():
    """Modules given in a test are forgotten after it."""
    yield
    GIVEN.clear()


def test_an_architecture_is_the_part_at_each_choice_in_the_order_of_the_module():
    _, given, _ = prepared(TextNet, loaders(*texts()))
    assert given.sizes == [2, 3, 3, 2, 2]
    one = given.decode([1, 0, 1, 1, 0])
    assert one.chosen == ("norm=none", "layers.0=gru", "layers.1=conv", "act=gelu", "pool=mean")
    assert given.encode(one) == [1, 0, 1, 1, 0] and one.canonical() == one
    assert len(set(every(given))) == 72
    assert ModuleChoices.from_json(one.to_json()) == one
    for wrong in (one.chosen[1:], (*one.chosen, "act=relu"), one.chosen[::-1], ("norm=all", *one.chosen[1:])):
        with pytest.raises(UserError, match="not in the space"):
            given.encode(ModuleChoices(wrong))
    with pytest.raises(UserError, match="texts like mix=gru"):
        ModuleChoices.from_dict({"type": "module_choices", "chosen": [1]})


@pytest.mark.parametrize("make", [TextNet, ResNet])
def test_the_found_module_computes_what_the_search_computed(make):
    """Every architecture in float64; nothing of enas is left in it."""
    inputs, _ = texts(5) if make is TextNet else images(5)
    _, given, task = prepared(lambda: make().double(), loaders(*texts()))
    inputs = inputs if make is TextNet else inputs.double()
    task.model.eval()
    for architecture in every(given)[::5]:
        given.choose(task.choices, architecture)
        wanted = task.model(inputs)
        other = make().double()
        other.load_state_dict(task.model.state_dict())
        found = given.derived(other, architecture).eval()
        assert torch.equal(found(inputs), wanted)
        assert not any(type(one).__module__.startswith("enas") for one in found.modules())


def test_choices_may_be_nested_and_stand_in_several_places():
    _, given, task = prepared(Nest, {"train": [1], "valid": [1]})
    assert [len(names) for names in given.choices] == [2, 3, 2]
    assert [names[0] for names in given.choices] == ["act=tanh", "mix=deep", "mix.parts.deep.2=wide"]
    x = torch.randn(4, 3)
    for act, mix, inner in itertools.product(("tanh", "relu"), ("deep", "choice", "zero"), ("wide", "none")):
        architecture = ModuleChoices((f"act={act}", f"mix={mix}", f"mix.parts.deep.2={inner}"))
        given.choose(task.choices, architecture)
        function, linear = getattr(torch, act), task.model.mix.parts["deep"][0]
        last = task.choices["mix.parts.deep.2"].parts[inner]
        wanted = {"deep": last(function(linear(x))), "choice": last(x), "zero": 0 * x}[mix]
        assert torch.equal(task.model(x), function(wanted))
        other = Nest()
        other.load_state_dict(task.model.state_dict())
        found = given.derived(other, architecture)
        assert torch.equal(found(x), function(wanted)) and not choices_in(found)
    root = Given(lambda: enas.Choice(a=nn.Tanh(), b=nn.ReLU()), {})
    assert isinstance(root.derived(root.make(), ModuleChoices(("=b",))), nn.ReLU)


def test_parts_that_are_not_chosen_stay_as_they_are(tmp_path):
    """No gradient, no weight decay, no moments, no running averages: not one bit moves."""
    config, given, task = prepared(ResNet, loaders(*images()), shared_l2_reg=0.1, shared_lr_warmup=0)
    controller = config.space.problem().controller(config)
    trainer = make_trainer(config, given, task, controller, tmp_path)
    every_part = given.decode([0, 0, 0, 0, 0])
    trainer.shared_step([every_part])  # moments of Adam exist
    before = {name: weight.clone() for name, weight in task.model.state_dict().items()}
    trainer.shared_step([given.decode([1, 2, 0, 0, 1])])
    moved = {name for name, weight in task.model.state_dict().items() if not torch.equal(weight, before[name])}
    paths = {name.split(".parts.")[0][-6:-5] + name.split(".parts.")[1][:5] for name in moved if ".parts." in name}
    assert paths == {"0conv5", "2conv3", "3conv3"}
    assert {"stem.weight", "classifier.bias", "blocks.1.norm.running_mean"} < moved
    assert all(weight.grad is None for weight in task.model.parameters())


def test_the_loss_of_a_step_is_the_mean_over_its_architectures():
    _, given, task = prepared(lambda: TextNet().double(), loaders(*texts(), size=160))
    some = [given.decode([0, 0, 1, 1, 0]), given.decode([1, 1, 2, 0, 1])]
    place = task.state_dict()
    alone = []
    for one in some:
        task.load_state_dict(place)
        alone.append(task.shared_loss([one])[0])
    task.load_state_dict(place)
    torch.testing.assert_close(task.shared_loss(some)[0], torch.stack(alone).mean())
    inputs, labels = next(one_pass(given.splits["valid"], 0, 0))
    task.model.eval()
    given.choose(task.choices, some[1])
    assert task.rewards(some)[1] == pytest.approx(accuracy(task.model(inputs), labels))


def test_the_score_of_a_split_counts_every_example_once():
    inputs, labels = texts(130)
    valid = [(inputs[:100], labels[:100]), (inputs[100:], labels[100:])]
    _, given, task = prepared(TextNet, {"train": valid, "valid": valid})
    one = given.decode([0, 0, 0, 0, 0])
    task.model.eval()
    assert task.evaluate(one, "valid") == pytest.approx(float(accuracy(task.model(inputs), labels)))
    assert task.evaluate(one, "valid", 1) == pytest.approx(float(accuracy(task.model(inputs[:100]), labels[:100])))
    assert task.evaluate(one, "test") != task.evaluate(one, "test")  # NaN: there is none


def test_the_examples_of_a_minibatch_are_counted_by_its_first_tensor():
    """A list of texts beside it may be of any length."""

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.choice = enas.Choice(one=nn.Linear(1, 1), two=nn.Linear(1, 1))

        def forward(self, numbers, names):
            return self.choice(numbers)

    valid = [{"names": ["a", "b", "c"], "numbers": torch.full((num, 1), float(num))} for num in (1, 4)]
    data = {"train": valid, "valid": valid}
    _, given, task = prepared(Named, data, score=lambda output, batch: batch["numbers"].mean())
    assert task.evaluate(given.decode([0]), "valid") == pytest.approx((1 * 1 + 4 * 4) / 5)


class Stream(IterableDataset):
    """Sequences without a length, which draw as they go."""

    def __iter__(self):
        return iter((torch.randint(6, (7,)), random.randrange(2)) for _ in range(60))


def of_kind(kind):
    tokens, labels = texts()
    if kind == "list":
        pairs = [*zip(tokens.split(20), labels.split(20), strict=True)]
        return {"train": pairs[:8], "valid": pairs[8:]}
    if kind == "stream":
        return {**loaders(tokens, labels), "train": DataLoader(Stream(), batch_size=10)}
    settings = {"own": {"generator": torch.Generator()}, "workers": {"num_workers": 2}}.get(kind, {})
    return loaders(tokens, labels, **settings)


@pytest.mark.parametrize("kind", ["list", "shuffled", "own", "workers"])
def test_a_place_in_the_data_is_found_again(kind):
    whole = endless(of_kind(kind)["train"], 5, [0, 0])
    batches = [next(whole) for _ in range(20)]  # of 8 a pass
    assert not torch.equal(batches[0][0], batches[8][0]) or kind == "list"  # another order
    state = torch.get_rng_state()
    rest = endless(of_kind(kind)["train"], 5, [1, 3])
    assert all(torch.equal(next(rest)[0], batch[0]) for batch in batches[11:])
    assert torch.equal(torch.get_rng_state(), state)


def test_neighbouring_seeds_have_no_order_in_common():
    loader = loaders(*texts())["train"]
    firsts = {tuple(next(one_pass(loader, seed, number))[1].tolist()) for seed in range(4) for number in range(4)}
    assert len(firsts) == 16


@pytest.mark.parametrize("kind", ["shuffled", "own", "stream"])
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path, kind, monkeypatch):
    sizes = {"shared_max_step": 7}
    whole = search(TextNet, of_kind(kind), tmp_path / "whole", **sizes)
    steps, step = [], Training.shared_step

    def stopping(trainer, *inputs):
        step(trainer, *inputs)
        steps.append(1)
        if len(steps) == 10:
            trainer.signum = 15

    monkeypatch.setattr(Training, "shared_step", stopping)
    GIVEN.clear()
    with pytest.raises(Interrupted, match=r"enas.search_module\(…, load_path="):
        search(TextNet, of_kind(kind), tmp_path / "part", **sizes)
    GIVEN.clear()
    again = search(TextNet, of_kind(kind), tmp_path / "part", load_path=tiny.only_run(tmp_path / "part"), **sizes)
    states = [tiny.newest_state(one.folder) for one in (whole, again)]
    for one, other in zip(*map(tree_leaves, states), strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.parametrize(("make", "data"), [(TextNet, texts), (ResNet, images)])
def test_a_search_learns_and_every_use_of_it_works(tmp_path, make, data):
    splits = loaders(*data())
    run = search(make, splits, tmp_path, max_epoch=12, shared_lr=0.02)
    assert run["validation_score"] > 0.85 and len(run.architecture.chosen) == 5
    inputs, labels = splits["valid"].dataset.tensors
    assert float(accuracy(run.module()(inputs), labels)) == pytest.approx(run["validation_score"])
    assert run.test()["test_score"] > 0.8
    assert run.score([run.architecture]) == [run["validation_score"]]
    assert {type(one) for one in run.sample(3)} == {ModuleChoices}
    run.derive(derive_num_sample=12, derive_shortlist=4, derive_finalists=2, derive_rung_epoch=3)
    assert "rung to epoch 1 from scratch: 3 finalists" in (run.folder / "train.log").read_text()
    scratch = run.train_scratch(max_epoch=4, shared_lr=0.02, quiet=True)
    assert scratch.architecture == run.architecture
    made = scratch.module()
    assert not any(type(one).__module__.startswith("enas") for one in made.modules())
    inputs, labels = splits["test"].dataset.tensors
    assert float(accuracy(made(inputs), labels)) == pytest.approx(scratch["test_score"])
    assert sum(weight.numel() for weight in made.parameters()) == scratch["num_parameters"]


def test_runs_go_on_elsewhere_once_the_module_is_given_again(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = loaders(*texts())
    run = search(TextNet, data, "logs", stop_epoch=1)
    assert run.folder.name.startswith("TextNet_orig_") and run["epoch"] == 1
    GIVEN.clear()
    line = "error: TextNet: a command cannot make a module that is given in Python; use the Python program "
    line += "that defines it: enas.search_module(…, load_path=RUN) opens a run that exists\n"
    for command in (["search", "--load_path", run.folder.name], ["derive", "--load_path", run.folder.name]):
        assert tiny.refusal(command, tmp_path, capsys, tiny.command_line) == line
    with pytest.raises(UserError, match=r"save run\.module"):
        export(run.folder, tmp_path / "out")
    assert tiny.command_line(["report", "--load_path", run.folder.name, "--output", "page.html"]) == 0
    again = search(TextNet, data, "logs", load_path=run.folder.name)
    assert again["epoch"] == 3 and again.derive().architecture is not None
    with pytest.raises(UserError, match="choices"):
        search(ResNet, data, "logs", load_path=run.folder.name)


def test_a_minibatch_may_be_a_dict(tmp_path):
    class Named(TextNet):
        def forward(self, tokens, label=None):
            return super().forward(tokens)

    tokens, labels = texts()
    data = {
        split: [{"tokens": tokens[i : i + 40], "label": labels[i : i + 40]} for i in range(0, 240, 40)]
        for split in ("train", "valid")
    }
    functions = {
        "loss": lambda output, batch: F.cross_entropy(output, batch["label"]),
        "score": lambda output, batch: accuracy(output, batch["label"]),
    }
    run = enas.search_module(Named, **data, **functions, log_dir=str(tmp_path), **SIZES | {"train_type": "random"})
    assert run["validation_score"] > 0.5 and run["test_score"] is None
    pairs = {split: [({"tokens": one["tokens"]}, one["label"]) for one in data[split]] for split in data}
    assert search(Named, pairs, tmp_path, max_epoch=1, dataset="pairs")["epoch"] == 1


WRONG = {
    "instance": (TextNet(), {}, "a class or function that returns a new"),
    "no_choice": (lambda: nn.Linear(2, 2), {}, "with an enas.Choice"),
    "no_module": (lambda: 3, {}, "with an enas.Choice"),
    "generator": (TextNet, {"train": (one for one in loaders(*texts())["train"])}, "train has no length"),
    "once": (
        TextNet,
        {"train": (one for one in [*loaders(*texts())["train"]]), "shared_max_step": 5},
        "iterated again",
    ),
    "empty": (TextNet, {"valid": []}, "pass 1 gives no minibatch"),
    "empty_uniform": (TextNet, {"valid": [], "train_type": "random"}, "pass 1 gives no minibatch"),
    "none": (TextNet, {"test": None}, "test is None; it must be an iterable of minibatches"),
    "fraction": (TextNet, {"valid": 0.1}, r"valid is 0\.1; it must be an iterable of minibatches"),
    "same": (itertools.repeat(TextNet()).__next__, {}, "make returned weights that it had returned before"),
    "no_loss": (TextNet, {"loss": lambda output, target: None}, "loss or score is no single number"),
    "batches": (
        TextNet,
        {"train": [torch.zeros(3, 2)]},
        r"a minibatch is a Tensor; it must be a pair, \(input, target\)",
    ),
    "persistent": (
        TextNet,
        {"train": DataLoader(TensorDataset(*texts()), num_workers=1, persistent_workers=True)},
        "train: a resumed run would differ with persistent_workers=True",
    ),
    "vector": (TextNet, {"score": lambda output, target: output.argmax(1) == target}, "return the mean over the minib"),
    "limit": (TextNet, {"max_parameters": 1000}, "registers no cost"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_ends_in_one_line(tmp_path, name):
    make, changes, reason = WRONG[name]
    settings = {**loaders(*texts()), "loss": F.cross_entropy, "score": accuracy, "log_dir": str(tmp_path), **SIZES}
    with pytest.raises(UserError, match=reason) as error:
        enas.search_module(make, **{**settings, **changes})
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "parts", [{}, {"a": nn.ReLU()}, {"a": nn.ReLU(), "b": None}, {"a": nn.ReLU(), "b": torch.tanh}]
)
def test_a_choice_needs_two_modules(parts):
    with pytest.raises(UserError, match="needs 2 parts or more"):
        enas.Choice(**parts)


@pytest.mark.parametrize("name", ["float", "half", "a.b", ""])
def test_a_part_has_a_name_that_a_module_may_have(name):
    with pytest.raises(UserError, match="named as ModuleDict allows"):
        enas.Choice(**{name: nn.ReLU(), "none": nn.Identity()})


class Counting(nn.Module):
    """A module with a buffer of integers, a state of its own, and parameters in float64."""

    def __init__(self):
        super().__init__()
        self.mix = enas.Choice(a=nn.Linear(7, 2, dtype=torch.float64), b=nn.Linear(7, 2, dtype=torch.float64))
        self.register_buffer("steps", torch.tensor(2**24 + 1))
        self.extra = "begun"

    def get_extra_state(self):
        return {"extra": self.extra}

    def set_extra_state(self, state):
        self.extra = state["extra"]

    def forward(self, tokens):
        self.extra = "used"
        return self.mix(tokens.double())


def test_module_keeps_its_types_and_the_random_numbers_of_the_caller(tmp_path):
    run = search(Counting, loaders(*texts()), tmp_path, max_epoch=1)
    state = torch.get_rng_state()
    for one in (run, run.train_scratch(max_epoch=1, quiet=True)):
        made = one.module()
        assert torch.equal(torch.get_rng_state(), state)
        assert made.mix.weight.dtype == torch.float64 and made.extra == "used"
        assert made.steps.dtype == torch.int64 and made.steps == 2**24 + 1


def test_a_call_goes_on_with_runs_of_modules_alone(tmp_path):
    home = tmp_path / "rnn"
    other = enas.train(Config(**tiny.settings(home)), quiet=True)
    with pytest.raises(UserError, match=r"network_type is 'module', but the run .* has 'rnn'"):
        enas.search_module(TextNet, **loaders(*texts()), loss=None, score=None, load_path=other.folder)
    assert not GIVEN


def test_a_preset_does_not_stop_a_run_from_going_on(tmp_path):
    data = loaders(*texts())
    run = search(TextNet, data, tmp_path, stop_epoch=1, config="small_module")
    early = enas.Run(run.folder, {})  # as a run is before its first epoch has ended
    assert search(TextNet, data, tmp_path, load_path=early, config="small_module")["epoch"] == 3
    assert tiny.only_run(tmp_path) == run.folder


def test_a_refused_call_leaves_an_earlier_run_as_it_was(tmp_path):
    data = loaders(*texts())
    run = search(TextNet, data, tmp_path, max_epoch=1)
    score = run.score([run.architecture])
    for changes in ({"max_epoch": -1}, {"load_path": run.folder, "random_seed": 5}, {"shared_optim": "none"}):
        with pytest.raises(UserError):
            search(TextNet, data, tmp_path, **changes)
        assert enas.load(run.folder).score([run.architecture]) == score
    with pytest.raises(UserError, match="dataset TextNet has another module, loss, score or data"):
        search(TextNet, loaders(*texts(200)), tmp_path)
    with pytest.raises(UserError, match="give another dataset"):
        enas.search_module(TextNet, **data, loss=F.cross_entropy, score=lambda *both: -accuracy(*both))
    with pytest.raises(UserError, match="give another dataset"):
        search(ResNet, data, tmp_path, dataset="TextNet")
    assert enas.load(run.folder).score([run.architecture]) == score
    for _ in range(2):
        parts = {
            "loss": nn.CrossEntropyLoss(),
            "score": lambda *both: -accuracy(*both),
        }  # as a notebook's cell has them
        enas.search_module(TextNet, **data, **parts, log_dir=str(tmp_path), **SIZES, dataset="again")
    with pytest.raises(UserError, match="train has no length"):
        search(TextNet, {**data, "train": (one for one in data["train"])}, tmp_path, dataset="new")
    assert search(TextNet, data, tmp_path, dataset="new", max_epoch=1)["epoch"] == 1  # once the data are mended


def test_a_run_in_another_process_goes_on_after_its_hook_has_raised(tmp_path):
    data = loaders(*texts())
    run = search(TextNet, data, tmp_path, stop_epoch=1)
    GIVEN.clear()
    with pytest.raises(ZeroDivisionError):
        search(TextNet, data, tmp_path, load_path=run.folder, on_epoch=lambda *_: 1 / 0)
    assert enas.load(run).resume()["epoch"] == 3


class Normed(nn.Module):
    """A network whose running statistics count in evaluation."""

    def __init__(self):
        super().__init__()
        self.norm, self.act, self.last = nn.BatchNorm1d(7), enas.Choice(tanh=nn.Tanh(), relu=nn.ReLU()), nn.Linear(7, 2)

    def forward(self, x):
        return self.last(self.act(self.norm(x)))


def test_a_skipped_step_leaves_running_statistics_as_they_were(tmp_path):
    tokens, labels = texts()
    spoiled = tokens.float()
    spoiled[3, 2] = torch.nan
    run = search(Normed, loaders(spoiled, labels), tmp_path, max_epoch=1)
    state = tiny.newest_state(run.folder)
    assert state["progress"]["skipped"] == 1
    assert all(torch.isfinite(weight).all() for weight in state["task"]["model"].values())
    assert run["validation_score"] is not None


def test_a_run_does_not_go_on_with_other_data(tmp_path):
    tokens, labels = texts()
    run = search(TextNet, loaders(tokens, labels), tmp_path, stop_epoch=1)
    GIVEN.clear()
    with pytest.raises(UserError, match="the train split, the valid split, the test split changed"):
        search(TextNet, loaders(5 - tokens, labels), tmp_path, load_path=run.folder)
    same = loaders(tokens, labels)
    del same["test"]
    assert search(TextNet, same, tmp_path, load_path=run.folder)["epoch"] == 3


class Noisy(IterableDataset):
    """Sequences that no seed gives again."""

    def __iter__(self):
        draw = torch.Generator()
        draw.seed()
        return iter((torch.randint(6, (7,), generator=draw), 0) for _ in range(3))


def test_data_are_known_by_their_first_minibatch():
    data = loaders(*texts())
    assert content(data["train"]) == content(loaders(*texts())["train"]) != content(data["valid"])
    used = iter(data["train"])
    assert content(used) == content(DataLoader(Noisy())) == "" and len([*used]) == 8
    batch = {"a": torch.zeros(2, dtype=torch.bfloat16), "b": torch.tensor(True), "c": "text"}
    assert content([batch]) != content([{**batch, "b": torch.tensor(False)}])
    rows = torch.arange(12.0).view(4, 3)
    assert content([(rows, rows[:, -1])]) == content([(rows, rows[:, -1].clone())])  # a column of a table


class Frozen(nn.Module):
    """A backbone that is not trained, and an adapter or none behind it."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(4, 2).requires_grad_(False)
        self.adapter = enas.Choice(linear=nn.Linear(2, 2), none=nn.Identity())

    def forward(self, x):
        return self.adapter(self.backbone(x))


def test_parts_without_trained_weights_may_be_drawn(tmp_path):
    data = {name: [(torch.randn(8, 4), torch.randint(2, (8,)))] * 4 for name in ("train", "valid", "test")}
    for seed in (1, 2):
        run = search(Frozen, data, tmp_path, max_epoch=2, random_seed=seed, dataset=f"frozen{seed}", shared_max_step=20)
        assert 0 <= run["validation_score"] <= 1
    (tmp_path / "none.json").write_text(ModuleChoices(("adapter=none",)).to_json())
    with pytest.raises(UserError, match="the module has no parameters to train"):
        run.train_scratch(dag_path=str(tmp_path / "none.json"), max_epoch=1)


def test_a_split_that_is_used_up_is_refused(tmp_path):
    data = loaders(*texts())
    run = search(TextNet, {**data, "test": iter([*data["test"]])}, tmp_path, max_epoch=1)
    assert run.test()["test_score"] > 0
    with pytest.raises(UserError, match="gives no minibatch; give lists or DataLoaders"):
        run.test()
    assert run["test_score"] is not None


def test_a_found_module_is_saved_and_loaded_without_enas(tmp_path):
    """In a process that cannot import enas."""
    _, given, task = prepared(
        lambda: nn.Sequential(enas.Choice(a=nn.Linear(2, 2), b=nn.Identity())), {"train": [1], "valid": []}
    )
    torch.save(given.derived(task.model, given.decode([0])), tmp_path / "found.pt")
    code = "import sys, torch; sys.modules['enas'] = None; print(torch.load('found.pt', weights_only=False))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "(0): Linear" in done.stdout


def test_results_and_pictures_name_the_parts(tmp_path):
    with tiny.rendering():
        run = search(TextNet, loaders(*texts()), tmp_path)
    architecture = json.loads((run.folder / "results.json").read_text())["architecture"]
    assert architecture == {"type": "module_choices", "chosen": [*run.architecture.chosen]}
    assert (run.folder / "policy.png").is_file() and any((run.folder / "networks").iterdir())


@pytest.fixture(scope="module")
def mixers():
    """The names of examples/mixers.py."""
    return runpy.run_path(str(tiny.ROOT / "examples" / "mixers.py"))


def test_the_tasks_of_the_mixers_are_what_they_say(mixers):
    pairs, targets = mixers["examples"]("recall", 50, 0)
    for steps, (*unscored, answer) in zip(pairs.tolist(), targets.tolist(), strict=True):
        *seen, (asked, blank) = steps
        assert dict(seen)[asked] == answer and blank == mixers["TOKENS"] and set(unscored) == {mixers["IGNORED"]}
    pairs, targets = mixers["examples"]("parity", 50, 0)
    for bits, wanted in zip(pairs[..., 0].tolist(), targets.tolist(), strict=True):
        assert wanted == [sum(bits[: step + 1]) % 2 for step in range(len(bits))]
    pairs, targets = mixers["examples"]("copying", 50, 0)
    delay = mixers["DELAY"]
    assert torch.equal(targets[:, delay:], pairs[:, :-delay, 0]) and (targets[:, :delay] == mixers["IGNORED"]).all()
    assert not torch.equal(mixers["examples"]("parity", 50, 1)[0], mixers["examples"]("parity", 50, 0)[0])


def test_no_mixer_looks_ahead(mixers):
    torch.manual_seed(0)
    layer, x = mixers["Layer"]().double(), torch.randn(2, 7, mixers["WIDTH"], dtype=torch.float64)
    other = torch.cat([x[:, :4], torch.randn_like(x[:, 4:])], dim=1)
    for name in mixers["MIXERS"]:
        layer.mixer.chosen = name
        torch.testing.assert_close(layer(x)[:, :4], layer(other)[:, :4])
        assert torch.equal(layer(x)[:, 6], layer(torch.cat([other[:, :3], x[:, 3:]], dim=1))[:, 6])
        sees = not torch.equal(layer(x)[:, 6], layer(torch.cat([x[:, :5], other[:, 5:6], x[:, 6:]], dim=1))[:, 6])
        assert sees == (name != "none")


def test_the_minimal_gated_unit_is_the_equation(mixers):
    torch.manual_seed(0)
    unit = mixers["MinimalGatedUnit"]().double()
    x, h, states = torch.randn(3, 5, mixers["WIDTH"], dtype=torch.float64), 0.0, []
    w_f, w = unit.inputs.weight.chunk(2)
    b_f, b = unit.inputs.bias.chunk(2)
    for step in range(5):
        h = h + torch.zeros(3, mixers["WIDTH"], dtype=torch.float64)
        f = torch.sigmoid(x[:, step] @ w_f.T + b_f + h @ unit.gate.weight.T)
        h = (1 - f) * h + f * torch.tanh(x[:, step] @ w.T + b + (f * h) @ unit.value.weight.T)
        states.append(h)
    torch.testing.assert_close(unit(x), torch.stack(states, dim=1))


def test_the_search_takes_attention_for_recall(mixers, tmp_path):
    """A short search with a seed that the table has not; the example has the table of all tasks."""
    row = mixers["search"]("recall", 3, str(tmp_path), 100)
    assert "attention" in row["chosen"] and row["scores"]["found"] > 0.9


def test_each_mixer_is_trained_alone_too(mixers, tmp_path, monkeypatch):
    batches = mixers["batches"]
    monkeypatch.setitem(mixers["search"].__globals__, "batches", lambda task, num, seed: batches(task, 4, seed))
    row = mixers["search"]("copying", 1, str(tmp_path), 0)
    assert [*row["scores"]] == ["found", *mixers["MIXERS"]] and len(row["chosen"]) == 2
    assert mixers["search"]("copying", 1, str(tmp_path), 1)["seed"] == 1  # in the same process


@dataclass
class Wrapped:
    logits: torch.Tensor


class Wrapping(nn.Module):
    def __init__(self):
        super().__init__()
        self.choice = enas.Choice(one=nn.Linear(3, 2), other=nn.Linear(3, 2))

    def forward(self, x):
        return Wrapped(self.choice(x))


PAIRS = [(torch.randn(4, 3), torch.zeros(4, dtype=torch.long))] * 3
MEASURES = {"loss": F.cross_entropy, "score": accuracy}
WRAPPED = {
    "loss": lambda output, target: F.cross_entropy(output.logits, target),
    "score": lambda output, target: accuracy(output.logits, target),
}


@pytest.mark.parametrize("cut", [lambda loss: loss.item(), lambda loss: loss.detach()])
def test_losses_without_a_gradient_are_refused_after_an_epoch(tmp_path, monkeypatch, cut):
    """They would train nothing, and end well."""
    monkeypatch.chdir(tmp_path)
    measures = {**WRAPPED, "loss": lambda *both: cut(WRAPPED["loss"](*both))}
    with tiny.refused(DETACHED):
        enas.search_module(Wrapping, PAIRS, PAIRS, **measures, num_gpu=0)


def test_single_losses_without_a_gradient_and_gradients_while_scoring_are_allowed(tmp_path, monkeypatch):
    """A minibatch may have no targets, and a module may compute gradients itself."""
    monkeypatch.chdir(tmp_path)

    class Tracing(nn.Sequential):
        def forward(self, x):
            with torch.enable_grad():
                return super().forward(x)

    def make():
        return Tracing(enas.Choice(one=nn.Linear(3, 2), other=nn.Linear(3, 2)))

    def loss(output, target):
        return F.cross_entropy(output, target) if target.any() else torch.zeros(())

    pairs = [(torch.randn(4, 3), torch.full((4,), number % 2)) for number in range(6)]
    found = enas.search_module(make, pairs, pairs, loss, lambda *both: accuracy(*both).item(), **SIZES)
    assert found["epoch"] == 3


def task_of(make, **measures):
    given = Given(make, {"train": PAIRS, "valid": PAIRS}, **{**MEASURES, **measures})
    return ModuleTask(Config(network_type="module"), given, torch.device("cpu"), None)


NONE, LINEAR = ModuleChoices(("=none",)), ModuleChoices(("=linear",))
DETACHED = "loss gave numbers without a gradient for an epoch; return the tensor that it computes"


def none_or_linear():
    return enas.Choice(none=nn.Identity(), linear=nn.Linear(3, 3))


def tied():
    made = enas.Choice(linear=nn.Linear(3, 3), other=nn.Sequential(nn.Linear(3, 3), nn.ReLU()))
    made.parts["other"][0] = made.parts["linear"]
    return made


def test_epochs_of_parts_without_parameters_are_no_error():
    task = task_of(none_or_linear)
    for _ in range(2 * len(PAIRS)):
        assert not task.shared_loss([NONE])[0].grad_fn


def test_once_a_loss_had_a_gradient_epochs_without_one_are_no_error():
    """As of a backbone that is not trained, when the policy prefers a part without parameters."""

    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.choice = nn.Linear(3, 3), none_or_linear()

        def forward(self, x):
            with torch.no_grad():
                x = self.backbone(x)
            return self.choice(x)

    task = task_of(Frozen)
    none, linear = (ModuleChoices((f"choice{one.chosen[0]}",)) for one in (NONE, LINEAR))
    for one in (linear, *[none] * 3 * len(PAIRS)):
        task.shared_loss([one])
    assert task_of(Frozen).shared_loss([none])[0].grad_fn is None


@pytest.mark.parametrize(("make", "sampled"), [(none_or_linear, [NONE, LINEAR]), (tied, [LINEAR])])
def test_only_steps_that_should_train_count(make, sampled):
    task = task_of(make, loss=lambda *both: F.cross_entropy(*both).detach())
    steps = [one for _ in PAIRS for one in sampled]
    for one in steps[:-1]:
        task.shared_loss([one])
    with tiny.refused(DETACHED):
        task.shared_loss([steps[-1]])


def test_trials_of_the_machine_do_not_count():
    """They repeat the first step, whose minibatch may have no targets."""
    task = task_of(none_or_linear, loss=lambda *both: F.cross_entropy(*both).detach())
    before = task.state_dict()
    for _ in range(5):
        task.shared_loss([LINEAR])
        task.load_state_dict(before)


def test_every_finalist_refused_ends_the_derivation_with_the_reason(tmp_path, monkeypatch):
    """As in several processes, which cannot share the minibatches of a module."""
    monkeypatch.chdir(tmp_path)
    found = enas.search_module(Wrapping, PAIRS, PAIRS, **WRAPPED, **SIZES)
    before = (found.folder / "results.json").read_text()
    divide = ModuleTask.divide
    monkeypatch.setattr(ModuleTask, "divide", lambda *given: divide(*given) if given[2] != BATCH else tiny.refuse())
    with tiny.refused("no finalist has a score; the last one: "):
        found.derive(derive_finalists=2, derive_shortlist=2, derive_rung_epoch=1)
    assert (found.folder / "results.json").read_text() == before
