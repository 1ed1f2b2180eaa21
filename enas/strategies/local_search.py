"""Local search (White et al. 2021, arXiv:2005.02960, algorithm 1), begun anew at each local optimum."""

from typing import Any

from torch import Tensor, randperm

from enas.search.controllers import Controller, RandomController, Sample, proposed
from enas.search.space import ArchT, Space
from enas.settings import ConfigLike


class LocalSearch(Controller[ArchT]):
    """Looks at all neighbours of an architecture, in random order, and moves to the best one if that is better.

    A neighbour is another function that differs in one decision, and none is looked at twice. `sample` proposes
    neighbours, and uniform functions where none is left: in a search, ω trains on them, and deriving takes the best.
    """

    def __init__(self, space: Space[ArchT], config: ConfigLike | None = None):
        super().__init__(space)
        self.rewards: dict[Any, float] = {}  # of each function that was looked at
        self.around: list[ArchT] = []  # an architecture and its neighbours; empty before a beginning
        self.left: list[ArchT] = []  # neighbours that were not looked at yet

    def get_extra_state(self) -> list[Any]:
        parts = (self.rewards, self.around, self.left)
        return [[*self.rewards.values()], *([self.space.row(one) for one in part] for part in parts)]

    def set_extra_state(self, state: list[Any]) -> None:
        functions, self.around, self.left = ([self.space.decode(row) for row in part] for part in state[1:])
        self.rewards = {one.canonical(): reward for one, reward in zip(functions, state[0], strict=True)}

    def sample(self, num: int) -> Sample[ArchT]:
        missing = num - len(self.left)
        chance = RandomController(self.space).sample(missing).architectures if missing > 0 else []
        return proposed(self.space, [*self.left[:num], *chance])

    def learn(self, sample: Sample[ArchT], rewards: Tensor) -> dict[str, float]:
        self.rewards |= zip((one.canonical() for one in sample.architectures), rewards.tolist(), strict=True)
        if not self.around:
            self.move(self.best(sample.architectures))
        self.left = [one for one in self.left if one.canonical() not in self.rewards]
        while self.around and not self.left:
            if (best := self.best(self.around)) is self.around[0]:
                self.around = []
            else:
                self.move(best)
        return {"functions": float(len(self.rewards))}

    def best(self, known: list[ArchT]) -> ArchT:
        return max(known, key=lambda one: self.rewards[one.canonical()])

    def move(self, centre: ArchT) -> None:
        row, found = self.space.row(centre), {centre.canonical(): centre}
        for place, choices in enumerate(self.space.allowed):
            for choice in choices:
                other = self.space.decode([*row[:place], choice, *row[place + 1 :]])
                found.setdefault(other.canonical(), other)
        self.around = [*found.values()]
        new = [one for function, one in found.items() if function not in self.rewards]
        self.left = [new[index] for index in randperm(len(new))]
