"""The language task: what it counts, what it carries over, and what it leaves alone."""

import math
from dataclasses import replace
from itertools import islice

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from enas.data.builtin import SPLITS
from enas.rnn.cell import RNNCell
from enas.rnn.settings import LanguageTaskConfig, SharedRNNConfig
from enas.rnn.shared import SharedRNN
from enas.rnn.task import CELLS_AT_ONCE, LanguageTask
from enas.rnn.text import Corpus, TrainingBatches, evaluation_batches, to_rows

VOCAB, BATCH, LENGTH = 9, 3, 4
CELL = RNNCell(("tanh", "ReLU", "sigmoid"), (0, 1))
CELLS = [RNNCell.decode((a, 0, b, c, d)) for a in range(2) for b in range(3) for c in range(2) for d in range(2)]
DROPOUTS = {"shared_dropoute": 0.5, "shared_dropouti": 0.5, "shared_dropout": 0.5, "shared_wdrop": 0.5}


def make_corpus(vocab_size: int = VOCAB, num_test: int = 23) -> Corpus:
    torch.manual_seed(2)
    vocabulary = ("<eos>", *(f"word{number}" for number in range(1, vocab_size)))
    train, valid, test = (torch.randint(vocab_size, (size,)) for size in (50, 41, num_test))
    return Corpus("tiny", vocabulary, train, valid, test)


def make_task(
    corpus: Corpus | None = None, *, model: dict | None = None, from_scratch: bool = False, **settings
) -> LanguageTask:
    """A float64 task; `model` changes its shared parameters, `settings` the task itself."""
    corpus = corpus or make_corpus()
    sizes = {"shared_embed": 4, "shared_hid": 4, "num_blocks": 3, "shared_init_range": 1.0}
    torch.manual_seed(0)
    shared = SharedRNN(len(corpus.vocabulary), SharedRNNConfig(**{**tiny.CALM, **sizes, **(model or {})}))
    config = LanguageTaskConfig(**{"batch_size": BATCH, "shared_rnn_max_length": LENGTH, **settings})
    return LanguageTask(corpus, tiny.with_large_embeddings(shared.double()), config, from_scratch=from_scratch)


def training_batches(task: LanguageTask) -> TrainingBatches:
    return TrainingBatches(to_rows(task.corpus.train, task.config.batch_size), task.config.shared_rnn_max_length)


def close(value: float):
    return pytest.approx(value, rel=1e-10)


@given(st.integers(1, 30), st.integers(1, 60), st.integers(1, 20), st.integers(1, 70))
def test_perplexity_of_a_uniform_model_is_the_vocabulary_size(vocab_size, num_tokens, batch_size, length):
    corpus = make_corpus(vocab_size, num_tokens)
    untied = {"shared_batch_norm": False, "tie_weights": False}
    task = make_task(corpus, model=untied, batch_size=batch_size, shared_rnn_max_length=length)
    torch.nn.init.zeros_(task.model.decoder)
    assert task.evaluate(CELL, "test") == close(vocab_size)


@pytest.mark.parametrize("warm_up", [0, 1, 3, 8, 30])
@pytest.mark.parametrize("batch_size, length", [(1, 1), (1, 30), (3, 4), (5, 7), (4, 100), (20, 2)])
def test_every_token_counts_after_the_state_that_the_tokens_before_its_column_leave(batch_size, length, warm_up):
    sizes = {"batch_size": batch_size, "shared_rnn_max_length": length}
    task = make_task(model={"shared_batch_norm": False}, **sizes)
    task.test_warm_up = warm_up
    tokens, total = task.corpus.test, 0.0
    for own in torch.arange(23).tensor_split(batch_size):
        state = task.model.initial_state(1, 1)
        for position in range(max(0, own[0] - warm_up), own[-1] + 1):
            word, target = tokens[position - 1], tokens[position]
            nll, state = task.model.score(word.view(1, 1), target.view(1, 1), [CELL], state)
            total += nll.item() if position in own else 0.0
    assert task.evaluate(CELL, "test") == close(math.exp(total / 23))


def test_evaluation_reads_its_split_without_dropout_and_only_the_test_split_with_a_warm_up():
    task, other = make_task(), make_task(model=DROPOUTS)
    other.test_warm_up = 20
    first, again, warm = ([one.evaluate(CELL, split) for split in SPLITS] for one in (task, task, other))
    assert first == again and len(set(first)) == 3
    assert first[:2] == warm[:2] and first[2] != warm[2]
    other.test_warm_up = 0
    assert first[2] == other.evaluate(CELL, "test")


@pytest.mark.parametrize("max_batches", [1, 2, 100])
def test_rank_scores_all_cells_on_the_same_batches(max_batches):
    task = make_task()
    together = task.rank(CELLS, max_batches)
    assert len(CELLS) > 2 * CELLS_AT_ONCE
    assert together == close([task.rank([cell], max_batches)[0] for cell in CELLS])
    assert task.rank(CELLS[::-1], max_batches) == close(together[::-1])


def test_rank_reads_the_first_validation_batches_and_carries_the_state():
    task = make_task()
    batches = list(evaluation_batches(task.corpus.valid, BATCH, LENGTH))
    state, total, count = task.model.initial_state(1, BATCH), 0.0, 0
    for inputs, targets, mask in batches[:2]:
        nll, state = task.model.score(inputs, targets, [CELL], state, mask)
        total, count = total + nll.item(), count + mask.sum().item()
    assert task.rank([CELL], 2) == close([math.exp(total / count)])
    assert len(batches) > 2
    assert task.rank([CELL], len(batches)) == [task.evaluate(CELL, "valid")]


@pytest.mark.parametrize("settings", [{"reward_c": 7.0}, {"reward_batch_size": 2}, {"ppl_square": True}], ids=str)
def test_reward_is_c_over_the_perplexity_of_the_next_whole_validation_batch(settings):
    task, size = make_task(**settings), settings.get("reward_batch_size", BATCH)
    power = 2 if "ppl_square" in settings else 1
    rows = to_rows(task.corpus.valid, size)
    for start in [*range(0, len(rows) - LENGTH, LENGTH)] * 2:
        inputs, targets = rows[start : start + LENGTH].long(), rows[start + 1 : start + 1 + LENGTH].long()
        for cell, reward in zip(CELLS[:3], task.rewards(CELLS[:3]).tolist(), strict=True):
            loss, _ = task.model.loss(inputs, targets, [cell], task.model.initial_state(1, size))
            assert reward == pytest.approx(settings.get("reward_c", 80.0) / math.exp(loss.item()) ** power, rel=1e-6)


def test_rewards_know_nothing_of_dropout_and_leave_the_model_and_its_training_alone():
    plain, dropping = make_task(), make_task(model=DROPOUTS)
    for task in (plain, dropping):
        task.shared_loss([CELL])
    before, carried = {n: p.clone() for n, p in dropping.model.state_dict().items()}, dropping._state.clone()
    assert torch.equal(plain.rewards(CELLS), dropping.rewards(CELLS))
    assert all(torch.equal(value, before[name]) for name, value in dropping.model.state_dict().items())
    assert all(parameter.grad is None for parameter in dropping.model.parameters())
    assert torch.equal(dropping._state, carried)
    assert dropping._endless["train"].cursor == LENGTH


def test_from_scratch_a_text_may_be_too_short_for_rewards():
    corpus = replace(make_corpus(), valid=torch.arange(BATCH + 1))
    with tiny.refused("tiny, valid.txt: 4 tokens are too few"):
        make_task(corpus)
    task = make_task(corpus, from_scratch=True)
    again = make_task(corpus, from_scratch=True)
    task.shared_loss([CELL])
    again.load_state_dict(task.state_dict())
    assert again.evaluate(CELL, "valid") == task.evaluate(CELL, "valid")


def test_state_is_carried_from_batch_to_batch_and_zeroed_where_the_text_starts():
    task = make_task()
    batches = training_batches(task)
    state, starts = None, 0
    while starts < 3:
        inputs, targets, is_start = next(batches)
        starts += is_start
        state = task.model.initial_state(1, BATCH) if is_start else state
        expected, output = task.model.loss(inputs, targets, [CELL], state)
        state = output.states[-1].detach()
        loss, nll = task.shared_loss([CELL])
        assert torch.equal(nll, expected.detach()) and torch.equal(loss, expected)
        loss.backward()  # would fail the second time, were the first batch's graph still attached


def test_a_checkpoint_holds_the_last_state_alone():
    task = make_task()
    task.shared_loss([CELL])
    state = task.state_dict()["state"]
    assert state.untyped_storage().nbytes() == state.nbytes  # torch.save writes all that a view looks at


def test_next_state_is_zero_once_it_is_forgotten():
    task = make_task()
    task.shared_loss([CELL])
    task.forget_state()
    _, (inputs, targets, _) = islice(training_batches(task), 2)
    expected, _ = task.model.loss(inputs, targets, [CELL], task.model.initial_state(1, BATCH))
    assert torch.equal(task.shared_loss([CELL])[1], expected.detach())


def test_loss_of_several_cells_is_their_mean():
    losses = [make_task().shared_loss([cell])[1] for cell in CELLS[:3]]
    torch.testing.assert_close(make_task().shared_loss(CELLS[:3])[1], torch.stack(losses).mean())


PENALTIES = {
    "none": ({}, lambda states, outputs: 0.0),
    "AR": ({"shared_activation_reg": 2.0}, lambda states, outputs: 2 * (outputs**2).mean()),
    "TAR": (
        {"shared_temporal_activation_reg": 3.0}, lambda states, outputs: 3 * ((states[1:] - states[:-1]) ** 2).mean(),
    ),
    "norm": (
        {"shared_norm_stabilizer": 0.5},
        lambda states, outputs: 0.5 * (((states**2).sum(-1).sqrt() - 5.0) ** 2).mean(),
    ),
}  # fmt: skip
PENALTIES["all"] = (
    {name: value for settings, _ in PENALTIES.values() for name, value in settings.items()},
    lambda *given: sum(PENALTIES[name][1](*given) for name in ("AR", "TAR", "norm")),
)


@pytest.mark.parametrize("settings, penalty", PENALTIES.values(), ids=PENALTIES)
def test_regularisers_add_what_their_formulas_say(settings, penalty):
    task = make_task(model=DROPOUTS, **settings)
    inputs, targets, _ = next(training_batches(task))
    torch.manual_seed(5)  # the same masks for both
    expected, output = task.model.loss(inputs, targets, CELLS[:2], task.model.initial_state(2, BATCH))
    torch.manual_seed(5)
    loss, nll = task.shared_loss(CELLS[:2])
    assert torch.equal(nll, expected.detach())
    torch.testing.assert_close(loss, expected + penalty(output.states, output.outputs), rtol=1e-12, atol=0)
    assert (output.outputs == 0).any() and not nll.requires_grad


def test_a_batch_of_one_step_has_no_temporal_penalty():
    loss, nll = make_task(shared_temporal_activation_reg=1.0, shared_rnn_max_length=1).shared_loss([CELL])
    assert torch.equal(loss, nll)


def test_lower_perplexity_is_better_and_is_the_exponential_of_the_mean_loss():
    is_better = LanguageTask.metric.is_better
    assert is_better(2.0, 3.0) and is_better(2.0, None) and is_better(2.0, math.nan)
    assert not is_better(3.0, 3.0) and not is_better(math.nan, 3.0) and not is_better(math.nan, None)
    assert make_task().epoch_metric(math.log(50.0)) == close(50.0)
    assert math.isfinite(make_task().epoch_metric(1e6))
