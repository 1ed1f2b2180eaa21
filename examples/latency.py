"""Search for fast architectures: rewards fall with the latency that a table of measured operations adds up.

    python examples/latency.py --reward latency --config small --dataset markov --max_epoch 2
    python examples/latency.py check

The second line compares such sums with the times of whole networks: they agree within 10 %, except for cells so small
that an operation takes microseconds, which the sum makes a quarter slower. The table is the file latency.json in the
working folder, so that a resumed run goes on with the same rewards; delete it on another machine.
"""

import functools
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from enas import Config
from enas.__main__ import main
from enas.cnn.network import NETWORKS
from enas.cnn.settings import MicroCNNConfig, ScratchCNNConfig
from enas.errors import UserError
from enas.files import read_json, write_json
from enas.rnn.cell import ACTIVATIONS, RNNCell
from enas.rnn.reference import Cell
from enas.search.controllers import RandomController
from enas.search.registry import register_reward

BETA = -0.1  # weight of the distance from the target latency; scores are about 1
FASTER = 0.8  # the target, as a share of the median latency of uniform architectures
PASSES = 12  # through a network that has new operations; the first two warm up


def module(architecture, config) -> tuple[torch.nn.Module, list[torch.Tensor]]:
    """The exported network, and inputs of the run's sizes: one step of a text, or images of 32×32 pixels."""
    if architecture.type_name not in (RNNCell.type_name, *NETWORKS):
        raise UserError(f"latency: {architecture.title} has no exported module to measure")
    found = {"architecture": architecture.to_dict(), "num_classes": 10, "dropout": 0.0, "batch_statistics": False}
    if isinstance(architecture, RNNCell):
        own = {name: ACTIVATIONS[name].function for name in architecture.activations}
        found |= {"activations": own, "norm_bound": config.shared_norm_bound}
        sizes = (config.shared_embed, config.shared_hid)
        return Cell(*sizes, **found), [torch.randn(1, config.batch_size, size) for size in sizes]
    if architecture.type_name == "cnn_macro":
        found["channels"] = config[ScratchCNNConfig].widths
    else:
        sizes = config[MicroCNNConfig]
        found |= {"channels": sizes.channels, "num_layers": sizes.scratch_cnn_num_layers}
    return NETWORKS[architecture.type_name](**found).eval(), [torch.randn(config.batch_size, 3, 32, 32)]


class Operations(TorchDispatchMode):
    """The operations that torch executes, named by function and arguments, with the time of each."""

    def __init__(self, clock):
        super().__init__()
        self.clock, self.times = clock, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        sizes = tree_map(lambda x: list(x.shape) if isinstance(x, torch.Tensor) else x, [args, kwargs])
        start = self.clock()
        result = function(*args, **(kwargs or {}))
        self.times.append((f"{function} {sizes}", self.clock() - start))
        return result


class Latency:
    """The latency of an architecture in seconds: the sum over its operations, from the table."""

    def __init__(self, config, clock=time.perf_counter, path=Path("latency.json")):
        self.config, self.clock, self.path = config, clock, path
        self.table = read_json(path) if path.exists() else {}
        self.of = functools.cache(self._of)

    def _of(self, architecture) -> float:
        with torch.device("meta"):  # without arithmetic: most architectures have no new operation
            names = [name for name, _ in self.operations(architecture)]
        if not self.table.keys() >= {*names}:
            self.measure(architecture)
        return sum(self.table[name] for name in names)

    @torch.inference_mode()
    def operations(self, architecture, passes: int = 1) -> list[tuple[str, float]]:
        network, inputs = module(architecture, self.config)
        for _ in range(passes):
            with Operations(self.clock) as executed:
                network(*inputs)
            yield from executed.times

    def measure(self, architecture) -> None:
        """Time new operations where they stand in a network: weights are then as near to the processor as in use."""
        times, overhead = defaultdict(list), self.overhead()
        with torch.random.fork_rng():
            for name, seconds in self.operations(architecture, PASSES):
                times[name].append(seconds)
        medians = {name: statistics.median(each[len(each) // 6 :]) - overhead for name, each in times.items()}
        self.table = medians | self.table
        write_json(self.path, self.table)  # whole or not at all

    def overhead(self) -> float:
        """The time that measuring adds to an operation."""
        x, start = torch.zeros(1), self.clock()
        for _ in range(200):
            x.abs()
        plain = (self.clock() - start) / 200
        with Operations(self.clock) as executed:
            for _ in range(200):
                x.abs()
        return statistics.median(seconds for _, seconds in executed.times) - plain

    def whole(self, architecture) -> float:
        """The time of the whole network."""
        network, inputs = module(architecture, self.config)
        times = []
        with torch.inference_mode():
            for _ in range(PASSES):
                start = self.clock()
                network(*inputs)
                times.append(self.clock() - start)
        return statistics.median(times[2:])


def rewarded(config, target=None, **measured):
    """Return the reward function: score + β · |latency / target − 1| (Bender et al. 2020, section 4)."""
    latency = Latency(config, **measured)
    uniform = RandomController(config.space.problem().space(config), generator=torch.Generator().manual_seed(0))
    target = target or FASTER * statistics.median(map(latency.of, uniform.sample(50).architectures))
    return lambda some, scores: scores + BETA * torch.tensor([abs(latency.of(one) / target - 1) for one in some])


def check() -> None:
    """Print the latencies of cells and networks: the sums, and the times of the whole."""
    for settings in (
        {"num_blocks": 8, "shared_embed": 400, "shared_hid": 400},
        {"network_type": "cnn", "batch_size": 8},
    ):
        config = Config(**settings)
        latency = Latency(config)
        for architecture in RandomController(config.space.problem().space(config)).sample(4).architectures:
            found, whole = latency.of(architecture), latency.whole(architecture)
            print(f"{config.network_type}: {1000 * found:.2f} ms by the table, {1000 * whole:.2f} ms as a whole")


register_reward("latency", rewarded)

if __name__ == "__main__":
    if sys.argv[1:] == ["check"]:
        check()
    else:
        raise SystemExit(main("search"))
