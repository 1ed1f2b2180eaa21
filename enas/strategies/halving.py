"""Successive halving (Jamieson & Talwalkar 2016, arXiv:1502.07943, figure 3) of new candidates, over and over."""

from torch import Tensor

from enas.search.controllers import Controller, RandomController, Sample
from enas.search.rungs import FACTOR, rungs_to
from enas.search.space import ArchT, Space
from enas.settings import ConfigLike


class Halving(Controller[ArchT]):
    """Trains 3ᵏ candidates to the first of k rungs, the best third of them to the next, and so on to `max_epoch`."""

    def __init__(self, config: ConfigLike, space: Space[ArchT]):
        super().__init__(space)
        self.rungs = rungs_to(config.max_epoch)
        self._begin()

    def _begin(self) -> None:
        num = FACTOR ** len(self.rungs)
        drawn = RandomController(self.space).sample(2 * num).architectures
        self.left, self.rung = [*{one.canonical(): one for one in drawn}.values()][:num], 0
        self.rewards: dict[ArchT, float] = {}

    def sample(self, num: int) -> Sample[ArchT]:
        return Sample(self.left[:num], epochs=self.rungs[self.rung])

    def learn(self, sample: Sample[ArchT], rewards: Tensor) -> dict[str, float]:
        self.rewards.update(zip(sample.architectures, rewards.tolist(), strict=True))
        self.left = self.left[len(rewards) :]
        if not self.left:
            best = sorted(self.rewards, key=self.rewards.__getitem__, reverse=True)
            self.left, self.rung, self.rewards = best[: len(best) // FACTOR], self.rung + 1, {}
            if not self.left or self.rung == len(self.rungs):
                self._begin()
        return {}
