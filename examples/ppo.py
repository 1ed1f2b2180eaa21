"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347) instead of REINFORCE.

    python examples/ppo.py --train_type ppo --config small --dataset markov --max_epoch 2

Baseline, entropy and optimiser are those of REINFORCE, with the same settings.
"""

import torch

from enas.cli import run_command
from enas.search.controllers import LSTMController
from enas.search.registry import register_controller
from enas.search.settings import ControllerConfig

CLIP = 0.2  # ε of the paper's table 1
PASSES = 4  # over each sample


class PPOController(LSTMController):
    """Maximises the clipped objective, equation 7, of each decision."""

    def learn(self, sample, rewards):
        old = sample.log_probs.detach()  # [M, D]
        advantage = self.reinforce.advantage(rewards, old)
        for _ in range(PASSES):
            scored = self.log_prob(sample.architectures)
            ratio = (scored.log_probs - old).exp()
            clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
            loss = -torch.minimum(ratio * advantage, clipped * advantage).sum(1).mean()
            self.reinforce.step(loss, self.epoch)
        values = {"loss": loss, "entropy": scored.entropies.sum(1), "clipped": (ratio != clipped).float()}
        return {name: float(value.detach().mean()) for name, value in values.items()}


register_controller("rnn", "ppo", lambda cells, config: PPOController(cells, config[ControllerConfig]))

if __name__ == "__main__":
    raise SystemExit(run_command("search"))
