"""The heat map of a policy: one row a choice, one column an evaluation."""

import numpy as np
import pytest

from enas.cnn.macro import MacroSpace
from enas.cnn.micro import MicroSpace
from enas.pictures.policy import policy_figure
from enas.rnn.cell import FlexibleRNNSpace, HardcodedRNNSpace, RNNSpace

SPACES = [RNNSpace(4), FlexibleRNNSpace(4), HardcodedRNNSpace(4, shape="tree"), MacroSpace(4), MicroSpace(3)]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: type(space).__name__)
def test_every_choice_has_a_name(space):
    assert [len(names) for names in space.choices] == space.sizes
    named = [name for names in space.choices for name in names if name]
    assert len(set(named)) == len(named)


def test_rows_are_choices_and_columns_evaluations():
    space = MacroSpace(2, ("conv3x3", "max3x3"))
    decisions = [[2, [[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]]], [4, [[0.1, 0.9], [0.4, 0.6], [0.7, 0.3]]]]
    axes = policy_figure(space, decisions).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "0 conv3x3", "0 max3x3", "1 conv3x3", "1 max3x3", "1 skips from 0",
    ]  # fmt: skip
    shown = np.array(axes.images[0].get_array())
    assert shown.T.tolist() == [[0.2, 0.8, 0.5, 0.5, 0.1], [0.1, 0.9, 0.4, 0.6, 0.3]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "4"]


def test_a_decision_without_a_choice_has_no_row():
    decisions = [[1, [[0.25] * 4, [1.0], [0.25] * 4]]]
    labels = [label.get_text() for label in policy_figure(RNNSpace(2), decisions).axes[0].get_yticklabels()]
    assert len(labels) == 8 and "1 reads 0" not in labels


def test_a_long_run_has_a_picture_no_wider_than_a_screen():
    """Memory and time of the picture grew with every evaluation."""
    probabilities = [[0.25] * 4, [1.0], [0.25] * 4]
    wide, wider = (
        policy_figure(RNNSpace(2), [[epoch, probabilities] for epoch in range(1, num + 1)]) for num in (100, 400)
    )
    assert wide.get_size_inches().tolist() == wider.get_size_inches().tolist()
    assert len(wider.axes[0].get_xticklabels()) <= 20
