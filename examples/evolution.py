"""Regularised evolution (Real et al. 2019, arXiv:1802.01548, algorithm 1) instead of a trained controller.

    python examples/evolution.py --train_type evolution --config small --dataset markov --max_epoch 2

The controller has no parameters: it learns a population. `sample` proposes children of that population, so ω trains on
children, and deriving takes the best of `derive_num_sample` children.
"""

import torch
from torch.nn.functional import one_hot

from enas.cli import run_command
from enas.search.controllers import Controller, RandomController, Sample
from enas.search.registry import register_controller


def draw(num: int) -> int:
    return int(torch.randint(num, (1,)))


class Evolution(Controller):
    """A population of `size` architectures, oldest first; the best of a `tournament` is a parent."""

    def __init__(self, space, size: int = 100, tournament: int = 25):
        super().__init__(space)
        self.size, self.tournament = size, tournament
        self.population: list = []  # pairs: the decisions of an architecture, and its reward

    def get_extra_state(self):
        return self.population

    def set_extra_state(self, state):
        self.population = state

    def sample(self, num):
        if len(self.population) < self.size:
            return RandomController(self.space).sample(num)
        rows = [self.child() for _ in range(num)]
        columns = torch.tensor(rows).unbind(1)
        probabilities = [one_hot(made, size).float() for made, size in zip(columns, self.space.sizes, strict=True)]
        return Sample([self.space.decode(row) for row in rows], probabilities=probabilities)

    def child(self) -> list[int]:
        rivals = [self.population[draw(len(self.population))] for _ in range(self.tournament)]
        row, sizes = max(rivals, key=lambda pair: pair[1])[0].copy(), self.space.sizes
        mutable = [index for index, size in enumerate(sizes) if size > 1]
        index = mutable[draw(len(mutable))]
        low = self.space.first_allowed if index == 0 else 0
        count = sizes[index] - low
        row[index] = low + (row[index] - low + 1 + draw(count - 1)) % count  # each other choice is as likely
        return row

    def learn(self, sample, rewards):
        rows = [list(self.space.encode(one)) for one in sample.architectures]
        padded = [row + [0] * (len(self.space.sizes) - len(row)) for row in rows]
        self.population = [*self.population, *zip(padded, rewards.tolist(), strict=True)][-self.size :]
        return {"population": sum(reward for _, reward in self.population) / len(self.population)}


register_controller("rnn", "evolution", lambda cells, config: Evolution(cells))

if __name__ == "__main__":
    raise SystemExit(run_command("search", prog="python examples/evolution.py"))
