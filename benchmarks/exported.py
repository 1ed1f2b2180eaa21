"""An exported cell beside torch.nn.GRU of the same width, forward alone and with backward, in turns.

python -m benchmarks.exported --hidden 200 --batch 64 --nodes 2,3,6
"""

import argparse
import sys
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.measure import Action, Row, in_turns, machine, table
from enas.rnn.cell import PAPER_ACTIVATIONS, RNNCell
from enas.rnn.export import functions
from enas.rnn.reference import Cell

STEPS = 35


def cell_of(nodes: int, hidden: int) -> Cell:
    """Return an exported cell of random weights: a binary tree of nodes with the paper's activations in turn."""
    names = tuple(PAPER_ACTIVATIONS[node % len(PAPER_ACTIVATIONS)] for node in range(nodes))
    cell = RNNCell(names, tuple((node - 1) // 2 for node in range(1, nodes)))
    return Cell(hidden, hidden, activations=functions(cell)[0], norm_bound=25.0, architecture=cell.to_dict())


def rows(hidden: int, batch: int, sizes: list[int], rounds: int) -> list[Row]:
    """Time the GRU and a cell of each number of nodes, on the same sequences."""
    networks: dict[str, nn.Module] = {"torch.nn.GRU": nn.GRU(hidden, hidden)}
    networks |= {f"cell of {nodes} nodes": cell_of(nodes, hidden) for nodes in sizes}
    inputs, tokens = torch.randn(STEPS, batch, hidden), STEPS * batch
    actions = []
    for name, network in networks.items():
        actions.append(Action(f"{name}, forward", _forward(network, inputs), tokens, "tokens"))
        actions.append(Action(f"{name}, both", _both(network, inputs), tokens, "tokens"))
    return in_turns(actions, rounds, torch.device("cpu"))


def _forward(network: nn.Module, inputs: torch.Tensor) -> Callable[[], object]:
    return torch.no_grad()(lambda: network(inputs))


def _both(network: nn.Module, inputs: torch.Tensor) -> Callable[[], object]:
    return lambda: network(inputs.clone().requires_grad_())[0].sum().backward()


def main(argv: list[str] | None = None) -> int:
    """Print a table and the machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in {"hidden": 200, "batch": 64, "rounds": 15}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--nodes", type=lambda text: [int(part) for part in text.split(",")], default=[2, 3, 6])
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    print(table(rows(given.hidden, given.batch, given.nodes, given.rounds)))
    print(machine(torch.device("cpu")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
