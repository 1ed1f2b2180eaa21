"""A search strategy of your own: a tree-structured Parzen estimator (Bergstra et al. 2011), over decisions.

    python ablation_studies/strategies.py --use examples/own_strategy.py --table cells3 --seeds 20 --queries 100

A strategy is a controller: `sample` proposes architectures, and `learn` gets their rewards. It draws from torch's own
random numbers, and `sample` changes nothing else. `enas strategies` asks a strategy that has no parameters for one
architecture at a time. For a search (`--train_type tpe`), docs/python.md says how checkpoints keep its state.
"""

import math

import torch

from enas.search.controllers import Controller, RandomController, Sample
from enas.search.registry import register_controller

FIRST, CANDIDATES = 10, 24  # uniform architectures before the first estimate; draws for each proposal


class TPE(Controller):
    """Draws from the decisions of the best quarter, and proposes a new function that is rare among the others."""

    def __init__(self, space):
        super().__init__(space)
        self.seen = []  # the reward and the decisions of each look
        self.functions = set()

    def sample(self, num):
        if len(self.seen) < FIRST:
            return RandomController(self.space).sample(num)
        return Sample([self.propose() for _ in range(num)])

    def propose(self):
        seen = sorted(self.seen, reverse=True)
        num_good = math.ceil(len(seen) / 4)
        good, others = self.frequencies(seen[:num_good]), self.frequencies(seen[num_good:])
        draws = [torch.multinomial(weights, CANDIDATES, replacement=True) for weights in good]
        ratios = [(some[drawn] / rest[drawn]).log() for drawn, some, rest in zip(draws, good, others, strict=True)]
        ranking = torch.stack(draws, 1)[torch.stack(ratios).sum(0).argsort(descending=True)].tolist()
        found = [self.space.decode(row) for row in ranking]
        return next((one for one in found if one.canonical() not in self.functions), found[0])

    def frequencies(self, seen):
        """Return the share of each choice in each decision; every choice counts once more than it was made."""
        found = []
        for place, (size, allowed) in enumerate(zip(self.space.sizes, self.space.allowed, strict=True)):
            counts = torch.zeros(size)
            counts[list(allowed)] = 1.0
            made = torch.tensor([row[place] for _, row in seen if place < len(row)], dtype=torch.long)
            found.append((counts + made.bincount(minlength=size)) / (len(allowed) + len(made)))
        return found

    def learn(self, sample, rewards):
        self.seen += zip(rewards.tolist(), map(self.space.encode, sample.architectures), strict=True)
        self.functions |= {one.canonical() for one in sample.architectures}
        return {}


register_controller(None, "tpe", lambda space, config: TPE(space))
