"""A search strategy of your own: local search (White et al. 2021, arXiv:2005.02960, algorithm 1), begun anew at optima.

    python ablation_studies/strategies.py --use examples/own_strategy.py --table cells3 --seeds 20 --queries 100

A strategy is a controller: `sample` proposes architectures, and `learn` gets their rewards. It draws from torch's own
random numbers, and `sample` changes nothing else. `enas strategies` asks a strategy that has no parameters for one
architecture at a time. For a search (`--train_type local_search`), docs/python.md says how checkpoints keep its state.
"""

from torch import randperm

from enas.search.controllers import Controller, RandomController, Sample
from enas.search.registry import register_controller


class LocalSearch(Controller):
    """Looks at all neighbours of an architecture, in random order, and moves to the best one if that is better.

    A neighbour is another function that differs in one decision. No neighbour is looked at twice.
    """

    def __init__(self, space):
        super().__init__(space)
        self.rewards = {}  # of each function that was looked at
        self.around = {}  # the centre, and its neighbours, by function
        self.left = []  # neighbours that were not looked at yet

    def sample(self, num):
        return Sample(self.left[:num]) if self.left else RandomController(self.space).sample(1)

    def learn(self, sample, rewards):
        functions = [one.canonical() for one in sample.architectures]
        self.rewards.update(zip(functions, rewards.tolist(), strict=True))
        if not self.left:  # a new beginning
            self.move(sample.architectures[0])
        self.left = [one for one in self.left if one.canonical() not in self.rewards]
        while self.around and not self.left:
            centre, best = next(iter(self.around)), max(self.around, key=self.rewards.get)
            if best == centre:
                self.around = {}
            else:
                self.move(self.around[best])
        return {}

    def move(self, centre):
        row, self.around = list(self.space.encode(centre)), {centre.canonical(): centre}
        for place, choices in enumerate(self.space.allowed[: len(row)]):
            for choice in choices:
                other = self.space.decode([*row[:place], choice, *row[place + 1 :]])
                self.around.setdefault(other.canonical(), other)
        new = [one for function, one in self.around.items() if function not in self.rewards]
        self.left = [new[index] for index in randperm(len(new))]


register_controller(None, "local_search", lambda space, config: LocalSearch(space))
