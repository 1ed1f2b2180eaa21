"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347), with the settings of REINFORCE."""

from torch import Tensor, minimum

from enas.search.controllers import LSTMController, Sample
from enas.search.settings import ControllerConfig
from enas.search.space import ArchT, Space
from enas.settings import ConfigLike

CLIP = 0.2  # ε of the paper's table 1
PASSES = 4  # over each sample


class PPO(LSTMController[ArchT]):
    """Maximises the clipped objective, equation 7, of each decision."""

    def __init__(self, space: Space[ArchT], config: ConfigLike):
        super().__init__(space, config[ControllerConfig])

    def learn(self, sample: Sample[ArchT], rewards: Tensor) -> dict[str, float]:
        settings, old = self.reinforce.config, sample.log_probs.detach()  # [M, D]
        advantage = self.reinforce.advantage(rewards, old)
        for _ in range(PASSES):
            scored = self.log_prob(sample.architectures)
            ratio = (scored.log_probs - old).exp()
            clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
            loss = -minimum(ratio * advantage, clipped * advantage).sum(1).mean()
            if settings.entropy_mode == "regularizer":  # equation 9
                loss = loss - settings.entropy_coeff * scored.entropies.sum(1).mean()
            self.reinforce.step(loss, self.epoch)
        values = {"loss": loss, "entropy": scored.entropies.sum(1), "clipped": (ratio != clipped).float()}
        return {name: float(value.detach().mean()) for name, value in values.items()}
