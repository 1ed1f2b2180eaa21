"""The policy of a controller over the epochs of a run: a heat map of the probability of each choice."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from enas.pictures.plots import new_figure
from enas.search.space import Space

WIDEST = 14.0  # inches; more evaluations get narrower columns


def policy_figure(space: Space[Any], decisions: list[list[Any]]) -> Figure:
    """A heat map of the probability of every choice at every evaluation.

    A decision with one choice has no row, and one between two of which the first is "no" has one.

    Args:
        space: names the choices.
        decisions: for each evaluation its epoch, and for each decision the probabilities of its choices.
    """
    labels, rows, borders = [], [], []
    for index, names in enumerate(space.choices):
        if len(names) == 1:
            continue
        first = 0 if len(names) != 2 or names[0] else 1
        labels += names[first:]
        rows += [[chances[index][choice] for _, chances in decisions] for choice in range(first, len(names))]
        borders.append(len(rows) - 0.5)
    epochs = [epoch for epoch, _ in decisions]
    width, height = min(WIDEST, max(4.0, 2.6 + 0.25 * len(epochs))), max(2.4, 1.2 + 0.17 * len(rows))
    figure, axes = new_figure(width, height, dpi=100)
    image = axes.imshow(np.array(rows), aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    for border in borders[:-1]:
        axes.axhline(border, color="0.3", linewidth=0.6)
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    every = -(-len(epochs) // 20)
    axes.set_xticks(range(0, len(epochs), every), [str(epoch) for epoch in epochs[::every]], fontsize=7)
    axes.set_xlabel("epoch")
    axes.set_title("probability of each choice", fontsize=9)
    figure.colorbar(image, ax=axes)
    return figure
