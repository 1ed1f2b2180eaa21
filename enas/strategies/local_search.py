"""Local search (White et al. 2021, arXiv:2005.02960, algorithm 1), begun anew at each local optimum."""

from typing import Any

from torch import Tensor, randperm

from enas.search.controllers import Controller, RandomController, Sample, proposed
from enas.search.space import ArchT, Space
from enas.settings import ConfigLike


class LocalSearch(Controller[ArchT]):
    """Looks at all neighbours of an architecture, in random order, and moves to the best one if that is better.

    A neighbour is another function that differs in one decision, and none is looked at twice. Where `sample` is asked
    for more than the neighbours that are left, half of the rest are the best known, and half are uniform functions. In
    a search the rewards of earlier epochs count as they are, although the shared weights have changed.
    """

    def __init__(self, space: Space[ArchT], config: ConfigLike | None = None):
        super().__init__(space)
        self.known: dict[Any, tuple[float, ArchT]] = {}  # reward and labelling of each function that was looked at
        self.around: list[ArchT] = []  # an architecture and its neighbours; empty before a beginning
        self.left: list[ArchT] = []  # neighbours that were not looked at yet

    def get_extra_state(self) -> list[Any]:
        known = [[reward, self.space.row(one)] for reward, one in self.known.values()]
        return [known, *([self.space.row(one) for one in part] for part in (self.around, self.left))]

    def set_extra_state(self, state: list[Any]) -> None:
        decode = self.space.decode
        self.known = {(one := decode(row)).canonical(): (reward, one) for reward, row in state[0]}
        self.around, self.left = ([decode(row) for row in part] for part in state[1:])

    def sample(self, num: int) -> Sample[ArchT]:
        near = [self.left[index] for index in randperm(len(self.left))[:num]]
        ranking = sorted(self.known.values(), key=lambda one: one[0], reverse=True)
        best = [one for _, one in ranking[: (num - len(near)) // 2]]
        missing = num - len(near) - len(best)
        chance = RandomController(self.space).sample(missing).architectures if missing else []
        return proposed(self.space, [*near, *best, *chance])

    def learn(self, sample: Sample[ArchT], rewards: Tensor) -> dict[str, float]:
        functions = [one.canonical() for one in sample.architectures]
        pairs = zip(functions, sample.architectures, strict=True)
        new = [one for function, one in pairs if function not in self.known]
        self.known |= zip(functions, zip(rewards.tolist(), sample.architectures, strict=True), strict=True)
        if not self.around:
            self.move(self.best(new or sample.architectures))
        self.left = [one for one in self.left if one.canonical() not in self.known]
        while self.around and not self.left:
            if (best := self.best(self.around)) is self.around[0]:
                self.around = []
            else:
                self.move(best)
        return {"functions": float(len(self.known))}

    def best(self, some: list[ArchT]) -> ArchT:
        return max(some, key=lambda one: self.known[one.canonical()][0])

    def move(self, centre: ArchT) -> None:
        row, found = self.space.row(centre), {centre.canonical(): centre}
        for place, choices in enumerate(self.space.allowed):
            for choice in choices:
                other = self.space.decode([*row[:place], choice, *row[place + 1 :]])
                found.setdefault(other.canonical(), other)
        self.around = [*found.values()]
        self.left = [one for function, one in found.items() if function not in self.known]
