"""Dropouts: what shares a mask, what the expectation is, and when nothing happens."""

import pytest
import torch

from enas.rnn.language_model import embedding_dropout, locked_dropout

WEIGHT = torch.arange(1.0, 2001.0).view(1000, 2)  # a vocabulary of 1000 words, no entry zero
WORDS = torch.arange(1000).repeat(3, 1)  # every word once a step

DROPOUTS = {
    "embedding": lambda p, training: embedding_dropout(WEIGHT, WORDS, p, training),
    "locked": lambda p, training: locked_dropout(WEIGHT.repeat(3, 1, 1), p, training),
}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("dropout", DROPOUTS.values(), ids=DROPOUTS)
@pytest.mark.parametrize("p, training", [(0.0, True), (0.9, False)])
def test_identity_at_zero_and_in_evaluation(dropout, p, training):
    assert torch.equal(dropout(p, training), WEIGHT.expand_as(dropout(p, training)))


@pytest.mark.parametrize("dropout", DROPOUTS.values(), ids=DROPOUTS)
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_entries_are_zero_or_scaled_so_that_their_expectation_stays(dropout, p):
    scale = dropout(p, True) / WEIGHT
    kept = scale > 0
    assert torch.allclose(scale[kept], torch.tensor(1 / (1 - p)))
    assert kept.float().mean() == pytest.approx(1 - p, abs=0.05)


def test_embedding_dropout_drops_whole_words_wherever_they_stand():
    words = torch.randint(1000, (50, 40))
    kept = embedding_dropout(WEIGHT, words, 0.5, True) != 0  # [T, B, E]
    assert torch.equal(kept[..., 0], kept[..., 1])
    for word in words.unique():
        assert kept[words == word].unique().numel() == 1


def test_locked_dropout_keeps_its_mask_over_time_and_nothing_else():
    kept = locked_dropout(torch.ones(5, 2, 3, 400), 0.5, True) != 0  # [T, M, B, H]
    assert (kept == kept[0]).all()
    rows = kept[0].flatten(0, 1)
    assert len(rows.unique(dim=0)) == len(rows)
