"""A choice among parts of a module, and the search over the choices of a module given in Python."""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from operator import length_hint
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from enas.choice.space import MODULE, ModuleChoices
from enas.data.identity import Identity, digest
from enas.errors import UserError
from enas.pictures.drawing import new_graph, write_graph
from enas.search.checkpoint import random_states, restore_random_states, seed_everything
from enas.search.problem import Problem
from enas.search.space import Space
from enas.search.task import Task
from enas.settings import ConfigLike


class Choice(nn.Module):
    """Parts of which a search takes one: `Choice(gru=nn.GRU(64, 64), none=Zero())`, called like the part `chosen`.

    A Choice that a module holds in several places is one decision. A Choice inside of a part is a decision of its own,
    without effect if another part is chosen. UserError unless there are at least 2 parts, all modules.
    """

    def __init__(self, **parts: nn.Module):
        super().__init__()
        is_refused = {"", *dir(nn.ModuleDict())} & {*parts} or "." in "".join(parts)
        if is_refused or len(parts) < 2 or not all(isinstance(part, nn.Module) for part in parts.values()):
            text = ", ".join(f"{name}={type(part).__name__}" for name, part in parts.items())
            raise UserError(f"Choice({text}) needs 2 parts or more, each a torch.nn.Module, named as ModuleDict allows")
        self.parts, self.chosen = nn.ModuleDict(parts), next(iter(parts))

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self.parts[self.chosen](*inputs, **named)


def choices_in(module: nn.Module) -> dict[str, Choice]:
    """Return the choices of a module, in the order of `named_modules`, by the first name of each."""
    return {name: one for name, one in module.named_modules() if isinstance(one, Choice)}


class Given(Space[ModuleChoices]):
    """A module given in Python: its choices as a space of decisions, and the arguments of `enas.search_module`."""

    notes, sizes, choices = (), cast(list[int], ()), cast(list[list[str]], ())

    def __init__(self, make: Callable[[], nn.Module], splits: Mapping[str, Iterable[Any]], **functions: Any):
        self.make, self.splits, self.functions = make, splits, functions
        self.objects: list[Any] = [*map(id, (make, *splits.values()))]  # to tell another search with the same name
        self.objects += [getattr(one, "__code__", repr(one)) for one in functions.values()]  # often made in the call
        module = None if isinstance(make, nn.Module) else make()
        if not isinstance(module, nn.Module) or not choices_in(module):
            raise UserError("make must be a class or function that returns a new torch.nn.Module with an enas.Choice")
        self.choices = [[f"{place}={part}" for part in one.parts] for place, one in choices_in(module).items()]
        if {one for one in module.parameters() if one.requires_grad} & {*make().parameters()}:
            raise UserError("make returned weights that it had returned before; each call must return new ones")
        if wrong := [name for name, one in splits.items() if not {"__iter__", "__getitem__"} & {*dir(one)}]:
            raise UserError(f"{wrong[0]} is {splits[wrong[0]]!r:.80}; it must be an iterable of minibatches")
        if keeping := [name for name, one in splits.items() if getattr(one, "persistent_workers", False)]:
            raise UserError(f"{keeping[0]}: a resumed run would differ with persistent_workers=True; leave that out")
        self.known = {name: content(one) for name, one in splits.items() if length_hint(one, 1)}  # without test=()
        self.sizes, self.identity = [*map(len, self.choices)], Identity("choices", (*chain(*self.choices),), self.known)

    def encode(self, architecture: ModuleChoices) -> list[int]:
        codes = [some.index(one) for some in self.choices for one in architecture.chosen if one in some]
        if len(codes) != len(self.sizes) or self.decode(codes) != architecture:
            raise UserError(f"{architecture} is not in the space; one part is needed of each of {self.choices}")
        return codes

    def decode(self, decisions: Sequence[int]) -> ModuleChoices:
        return ModuleChoices(tuple(some[code] for some, code in zip(self.choices, decisions, strict=True)))

    def choose(self, choices: Mapping[str, Choice], architecture: ModuleChoices) -> None:
        """Let each Choice of a search run the part that the architecture takes."""
        for choice, code in zip(choices.values(), self.encode(architecture), strict=False):
            choice.chosen = [*choice.parts][code]

    def derived(self, module: nn.Module, architecture: ModuleChoices) -> nn.Module:
        """Return the module with the chosen parts in the places of its choices, which it holds no more."""
        self.choose(choices_in(module), architecture)
        root = nn.ModuleList([module])
        for owner in [*root.modules()]:
            for name, part in owner._modules.items():
                while isinstance(part, Choice):
                    part = owner._modules[name] = part.parts[part.chosen]
        return root[0]


GIVEN: dict[str, Given] = {}  # by the setting `dataset` of their runs


def given(config: ConfigLike) -> Given:
    """Return the module of a run; UserError if this process was not given it."""
    if config.dataset not in GIVEN:
        right = "use the Python program that defines it: enas.search_module(…, load_path=RUN) opens a run that exists"
        raise UserError(f"{config.dataset}: a command cannot make a module that is given in Python; {right}")
    return GIVEN[config.dataset]


def one_pass(loader: Iterable[Any], seed: int, number: int, start: int = 0) -> Iterator[Any]:
    """Yield the minibatches of pass `number` from `start` on; their order, if random, follows from seed and number."""
    states = random_states()
    number = random.Random(f"{seed} {number}").getrandbits(63)  # so that no two seeds have an order in common
    seed_everything(number)
    if isinstance(own := getattr(loader, "generator", None), torch.Generator):
        own.manual_seed(number)
    batches = iter(loader)
    # A sampler draws the order with the first minibatch. The others may draw too, from the run's own random numbers.
    first = [batch for index, batch in enumerate(islice(batches, max(1, start))) if index == start]
    restore_random_states(states)
    yield from chain(first, batches)


def endless(loader: Iterable[Any], seed: int, place: list[int]) -> Iterator[Any]:
    """Yield minibatches without end, and move `place` along: the pass, and how many of its minibatches are read."""
    while True:
        for batch in one_pass(loader, seed, *place):
            place[1] += 1
            yield batch
        if place[1] == 0:
            raise UserError(f"pass {place[0] + 1} gives no minibatch; give lists or DataLoaders, to be iterated again")
        place[:] = place[0] + 1, 0


def content(loader: Iterable[Any]) -> str:
    """Return a digest of the tensors in the first minibatch; "" if two passes differ, or would use up the data."""
    found = set()
    for batch in (next(endless(loader, 0, [0, 0])) for _ in range(0 if isinstance(loader, Iterator) else 2)):
        leaves = tree_leaves(dict(batch) if isinstance(batch, Mapping) else batch)
        dense = [one.detach().cpu() for one in leaves if isinstance(one, Tensor) and one.layout == torch.strided]
        found.add(digest(*(one.flatten().contiguous().view(torch.uint8).numpy() for one in dense)))
    return found.pop() if len(found) == 1 else ""


class ModuleTask(Task):
    """A module on the user's minibatches: with all parts in a search, and with the chosen parts from scratch."""

    metric = MODULE.metric

    def __init__(self, config: ConfigLike, data: Given, device: torch.device, architecture: ModuleChoices | None):
        made = data.make() if architecture is None else data.derived(data.make(), architecture)
        self.given, self.model, self.choices, self.seed = data, made.to(device), choices_in(made), config.random_seed
        if not any(weight.requires_grad for weight in self.model.parameters()):
            raise UserError("the module has no parameters to train")
        self.steps_per_epoch = config.shared_max_step or length_hint(data.splits["train"])
        if self.steps_per_epoch == 0:
            raise UserError("train has no length; give shared_max_step, the number of minibatches in an epoch")
        self._go_to({"train": [0, 0], "valid": [0, 0]})

    def _go_to(self, places: Mapping[str, Sequence[int]]) -> None:
        self.places = {split: [*place] for split, place in places.items()}
        self.batches = {name: endless(self.given.splits[name], self.seed, self.places[name]) for name in places}
        # Steps that trained nothing, from the beginning of a search to the first loss with a gradient.
        self.idle_steps = -math.inf if any(places["train"]) or not self.choices else 0

    def shared_loss(self, architectures: Sequence[ModuleChoices]) -> tuple[Tensor, Tensor]:
        self.model.train()
        batch, values = next(self.batches["train"]), []
        for one, draws in zip(architectures, self.ranks.draws(len(architectures), self.device), strict=True):
            with draws:
                values.append(self._measured(one, batch, "loss", "score"))
        losses, scores = map(torch.stack, zip(*values, strict=True))
        # A minibatch without targets, or parts that are not trained, give a loss without a gradient.
        self.idle_steps = -math.inf if losses.requires_grad else self.idle_steps + self._is_trained(self.model)
        if self.idle_steps >= self.steps_per_epoch:
            raise UserError("loss gave numbers without a gradient for an epoch; return the tensor that it computes")
        return losses.mean().requires_grad_(), scores.detach().float().mean()

    def _is_trained(self, module: nn.Module) -> bool:
        """Return whether a module has parameters with a gradient that are not in other parts than the chosen ones."""
        inner = [module.parts[module.chosen]] if isinstance(module, Choice) else module.children()
        own = any(weight.requires_grad for weight in module.parameters(recurse=False))
        return own or any(map(self._is_trained, inner))

    @torch.no_grad()
    def rewards(self, architectures: Sequence[ModuleChoices]) -> Tensor:
        self.model.eval()
        batch = next(self.batches["valid"])
        return torch.tensor([float(self._measured(one, batch, "score")[0]) for one in architectures])

    @torch.no_grad()
    def evaluate(self, architecture: ModuleChoices, split: str, max_batches: int | None = None) -> float:
        """Return the mean score over the examples of a split; NaN if there are none."""
        self.model.eval()
        total = torch.zeros(2, dtype=torch.float64)  # of scores, and of examples
        for batch in islice(one_pass(self.given.splits[split], self.seed, 0), max_batches):
            leaves = tree_leaves(dict(batch) if isinstance(batch, Mapping) else batch)
            num = next((len(one) for one in leaves if isinstance(one, Tensor) and one.ndim), 1)
            total += torch.tensor([num * float(self._measured(architecture, batch, "score")[0]), num])
        if total[1] == 0 and (split != "test" or split in self.given.known):
            next(endless(self.given.splits[split], self.seed, [0, 0]))  # raises the error
        return float(total[0] / total[1])

    def _measured(self, architecture: ModuleChoices, batch: Any, *names: str) -> list[Tensor]:
        """Return loss or score, as `names` say, of an architecture's output on a minibatch: scalars."""
        self.given.choose(self.choices, architecture)
        batch = tree_map(lambda one: one.to(self.device) if hasattr(one, "to") else one, batch)
        is_pair = isinstance(batch, tuple | list) and len(batch) == 2
        if not is_pair and not isinstance(batch, Mapping):
            raise UserError(f"a minibatch is a {type(batch).__name__}; it must be a pair, (input, target), or a dict")
        inputs, target = batch if is_pair else (batch, batch)
        output = self.model(**inputs) if isinstance(inputs, Mapping) else self.model(inputs)
        found = [self.given.functions[name](output, target) for name in names]
        values = [torch.as_tensor(() if one is None else one, device=self.device) for one in found]
        if any(value.dim() for value in values):
            raise UserError(f"{' or '.join(names)} is no single number; return the mean over the minibatch")
        return values

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "places": {split: [*place] for split, place in self.places.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._go_to(state["places"])


def draw(architecture: ModuleChoices, path: Path, title: str | None) -> Path:
    """Draw a box that lists the choices."""
    graph = new_graph("module", title)
    graph.node("module", label="".join(f"{one}\\l" for one in architecture.chosen))
    return write_graph(graph, path)


def kept(architecture: ModuleChoices, weights: Mapping[str, Tensor], config: ConfigLike, data: Given) -> Any:
    """Return an object whose `module` returns the found module with a run's weights, in evaluation mode."""
    made = data.make() if config.mode == "train" else data.derived(data.make(), architecture)
    made.load_state_dict(weights)
    return SimpleNamespace(module=data.derived(made, architecture).eval)


PROBLEM = Problem(space=given, load_data=given, task=ModuleTask, draw=draw, export=kept)
