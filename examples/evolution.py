"""Regularised evolution (Real et al. 2019, arXiv:1802.01548, algorithm 1) instead of a trained controller.

    python examples/evolution.py --train_type evolution --config small --dataset markov --max_epoch 2

The controller learns a population instead of parameters. `sample` proposes its children: ω trains on children, and
deriving takes the best of `derive_num_sample` children.
"""

import torch
from torch.nn.functional import one_hot

from enas.cli import run_command
from enas.search.controllers import Controller, RandomController, Sample
from enas.search.registry import register_controller


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
        rows, sizes = [self.child() for _ in range(num)], self.space.sizes
        probabilities = [one_hot(made, size).float() for made, size in zip(torch.tensor(rows).T, sizes, strict=True)]
        return Sample([self.space.decode(row) for row in rows], probabilities=probabilities)

    def child(self) -> list[int]:
        rivals = [self.population[int(torch.randint(len(self.population), ()))] for _ in range(self.tournament)]
        row, sizes = max(rivals, key=lambda pair: pair[1])[0].copy(), self.space.sizes
        counts = [size - (0 if index else self.space.first_allowed) for index, size in enumerate(sizes)]
        mutable = [index for index, count in enumerate(counts) if count > 1]
        index = mutable[int(torch.randint(len(mutable), ()))]
        low, step = sizes[index] - counts[index], 1 + int(torch.randint(counts[index] - 1, ()))
        row[index] = low + (row[index] - low + step) % counts[index]  # each other choice is as likely
        return row

    def learn(self, sample, rewards):
        rows = [list(self.space.encode(one)) for one in sample.architectures]
        rows = [row + [0] * (len(self.space.sizes) - len(row)) for row in rows]
        self.population = [*self.population, *zip(rows, rewards.tolist(), strict=True)][-self.size :]
        return {"population": sum(reward for _, reward in self.population) / len(self.population)}


register_controller("rnn", "evolution", lambda cells, config: Evolution(cells))

if __name__ == "__main__":
    raise SystemExit(run_command("search"))
