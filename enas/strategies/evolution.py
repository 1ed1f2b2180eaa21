"""Regularised evolution (Real et al. 2019, arXiv:1802.01548, algorithm 1)."""

from typing import Any

import torch
from torch import Tensor

from enas.search.controllers import Controller, RandomController, Sample, proposed
from enas.search.space import ArchT, Space
from enas.settings import ConfigLike


class Evolution(Controller[ArchT]):
    """A population of `size` architectures, oldest first; the best of a `tournament` is the parent of the next child.

    The defaults are for hundreds of looks (Dong & Yang 2020); Real et al. have 100 and 25 for 20,000. `sample` proposes
    children: in a search, ω trains on children, and deriving takes the best of them.
    """

    def __init__(self, space: Space[ArchT], config: ConfigLike | None = None, size: int = 10, tournament: int = 3):
        super().__init__(space)
        self.size, self.tournament = size, tournament
        self.population: list[tuple[list[int], float]] = []  # the decisions of each architecture, and its reward

    def get_extra_state(self) -> list[Any]:
        return self.population

    def set_extra_state(self, state: list[Any]) -> None:
        self.population = state

    def sample(self, num: int) -> Sample[ArchT]:
        if len(self.population) < self.size:
            return RandomController(self.space).sample(num)
        return proposed(self.space, [self.space.decode(self.child()) for _ in range(num)])

    def child(self) -> list[int]:
        """Return the decisions of a tournament's winner with one of them changed; each decision is equally likely."""
        rivals = [self.population[int(index)] for index in torch.randint(len(self.population), (self.tournament,))]
        row = [*max(rivals, key=lambda one: one[1])[0]]
        made = self.space.allowed[: self.space.num_made(row[0])]
        allowed = {index: choices for index, choices in enumerate(made) if len(choices) > 1}
        if not allowed:  # the space has one architecture
            return row
        place = [*allowed][int(torch.randint(len(allowed), ()))]
        others = [choice for choice in allowed[place] if choice != row[place]]
        row[place] = others[int(torch.randint(len(others), ()))]
        return row

    def learn(self, sample: Sample[ArchT], rewards: Tensor) -> dict[str, float]:
        rows = map(self.space.row, sample.architectures)
        self.population = [*self.population, *zip(rows, rewards.tolist(), strict=True)][-self.size :]
        return {"population": sum(reward for _, reward in self.population) / len(self.population)}
