"""One architecture from scratch: its own weights, averaged SGD, early stop, the best epoch tested, exact resume."""

import copy
import math
from dataclasses import replace

import pytest
import tiny
import torch
from strategies import nodes

from enas.config import Config, read_preset
from enas.errors import TrainingDivergedError
from enas.rnn import reference as rnn_reference
from enas.rnn.cell import LSTMBaseline, RNNCell
from enas.rnn.problem import PROBLEM, cost, load_data, nearest_lstm
from enas.rnn.task import LanguageTask
from enas.runs import run
from enas.search.checkpoint import Checkpoints
from enas.search.scratch import ScratchTrainer

CELL = RNNCell(("tanh", "ReLU", "identity"), (0, 0))


def scripted(trainer, scores: list[float]):
    """The trainer, with these validations in place of its own."""
    left = iter(scores)
    trainer.task.evaluate = lambda architecture, split, max_batches=None: next(left)
    return trainer


def test_the_model_is_the_architecture_and_no_more(tmp_path):
    model = tiny.scratch_trainer(tmp_path, CELL).task.model
    assert set(model.edges) == {"0_1", "0_2"}
    assert not model.config.shared_batch_norm and not hasattr(model, "norm_scale")


def test_a_cell_with_a_removed_node_learns(tmp_path):
    cell = RNNCell(("tanh", "ReLU", "identity", "tanh"), (0, 1, 2)).remove_node(2)
    settings = {"shared_optim": "adam", "shared_lr": 0.01, "shared_max_step": 60, "max_epoch": 3}
    trainer = tiny.scratch_trainer(tmp_path, cell, **settings, **tiny.CALM)
    assert set(trainer.task.model.edges) == {"0_1", "1_3"}
    scores = [entry["validation_perplexity"] for entry in trainer.train()["history"]]
    # The text follows the alphabet four times in five, within sentences of random starts: well under its ten words.
    assert scores == sorted(scores, reverse=True) and scores[-1] < 6


def test_the_test_split_is_read_in_columns_that_know_the_words_before_them(tmp_path):
    """As one stream, 5,000 words are 834 passes of 6; in 90 columns of 56 words, and 200 before them, they are 43."""
    trainer = tiny.scratch_trainer(tmp_path, CELL, batch_size=90, shared_init_range=0.5)
    tiny.with_large_embeddings(trainer.task.model)
    corpus = replace(trainer.task.corpus, test=trainer.task.corpus.test.repeat(100)[:5000])
    trainer.task.corpus = corpus
    passes = tiny.spy(trainer.task.model, "score")
    columns = trainer.task.evaluate(CELL, "test")
    assert [len(inputs) for (inputs, *_), _ in passes] == [6] * 42 + [4]
    stream = LanguageTask(corpus, trainer.task.model, replace(trainer.task.config, batch_size=1))
    assert columns == pytest.approx(stream.evaluate(CELL, "test"), rel=1e-6)


def test_ptb_final_reads_embeddings_as_they_are_bounds_no_state_and_starts_without_a_bias_of_the_decoder(tmp_path):
    sizes = {"dataset": "tiny", "shared_embed": 8, "shared_hid": 8}
    model = tiny.scratch_trainer(tmp_path, CELL, **{**read_preset("ptb_final"), **sizes}).task.model.eval()
    words = torch.randint(10, (12, 3))
    assert not model.decoder_bias.any()
    with torch.no_grad():
        for weight in (model.w_input, model.w_state, *model.edges.values()):
            weight.mul_(100)  # now node 2, an identity, grows from step to step
        states = model(words, [CELL], model.initial_state(1, 3)).states[:, 0]
        edges = {edge: model.edge(*edge) for edge in CELL.edges}
        start = model.initial_state(1, 3)[0]
        projected = model.embedding[words] @ model.w_input
        free = rnn_reference.sequence(nodes(CELL), projected, start, model.w_state, edges, norm_bound=math.inf)
    assert states.norm(dim=-1).max() > 1000
    torch.testing.assert_close(states, free, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "patience, scores, begins",
    [
        (0, [9, 8, 9, 9, 9, 9, 9], None),
        (1, [9, 8, 7, 6, 5, 4, 3], None),
        (1, [9, 8, 8.5, 7], None),  # the epoch before is not yet long ago
        (1, [9, 8, 8.5, 8.2, 7], 4),
        (2, [9, 7, 8, 6.5, 7.2, 7.1, 6], 5),
        (2, [9, 9, 9, 9, 9, 9, 9], None),  # equal is not worse
        (5, [5, 9, 9, 9, 9, 9, 9], 7),
        (5, [9, 9, 9, 9, 9, 5, 6], None),
    ],
)
def test_averaging_begins_once_validation_is_worse_than_long_before(tmp_path, patience, scores, begins):
    """Merity et al. 2017, algorithm 1: after epoch t when v_t > min(v_0 … v_{t−n−1})."""
    trainer = scripted(tiny.scratch_trainer(tmp_path, CELL, shared_max_step=1, scratch_asgd_patience=patience), scores)
    averages = []
    for _ in scores:
        trainer.train_shared()
        trainer.finish_epoch()
        averages.append(trainer.average is not None)
    assert averages == [begins is not None and epoch >= begins for epoch in range(1, len(scores) + 1)]
    expected = next((t + 1 for t in range(patience + 1, len(scores)) if scores[t] > min(scores[: t - patience])), None)
    assert begins == (expected if patience else None)


def test_the_average_is_the_mean_of_all_weights_since(tmp_path):
    trainer = scripted(tiny.scratch_trainer(tmp_path, CELL, scratch_asgd_patience=1), [1, 2, 3, 4])
    for _ in range(3):
        trainer.train_shared()
        trainer.finish_epoch()
    assert trainer.average is not None
    weights, step, seen = dict(trainer.task.model.named_parameters()), trainer.step_shared, []
    trainer.step_shared = lambda: (step(), seen.append({name: one.detach().double() for name, one in weights.items()}))
    trainer.train_shared()
    assert len(seen) == tiny.SETTINGS["shared_max_step"]
    for name, average in trainer.average.module.named_parameters():
        mean = torch.stack([iterate[name] for iterate in seen]).mean(0)
        torch.testing.assert_close(average.double(), mean, rtol=1e-5, atol=1e-6)
        assert name == "decoder_bias" or not torch.equal(average, weights[name])


def test_evaluation_reads_the_average_and_training_goes_on_with_the_weights(tmp_path):
    trainer = tiny.scratch_trainer(tmp_path, CELL)
    model = trainer.task.model
    own = copy.deepcopy(dict(model.state_dict()))
    trainer.average = torch.optim.swa_utils.AveragedModel(model)
    for weight in trainer.average.module.parameters():
        weight.data.zero_()
    entry = {}
    trainer.evaluate(entry)  # all-zero weights: every word is as likely
    assert entry["validation_perplexity"] == pytest.approx(len(model.decoder_bias))
    assert tiny.difference(dict(model.state_dict()), own) is None


@pytest.mark.parametrize(
    "patience, scores, epochs",
    [
        (0, [5, 6, 7, 8, 9, 9], 6),
        (1, [5, 4, 4, 3, 3, 3], 3),
        (2, [5, 6, 4, 5, 4.5, 1], 5),
        (2, [float("nan"), float("nan"), 1, 1, 1, 1], 2),
        (6, [5, 6, 7, 8, 9, 9], 6),
    ],
)
def test_training_stops_after_so_many_epochs_without_improvement(tmp_path, patience, scores, epochs):
    trainer = tiny.scratch_trainer(
        tmp_path, CELL, shared_max_step=1, max_epoch=6, scratch_early_stop=patience, scratch_asgd_patience=0
    )
    results = scripted(trainer, scores).train()
    assert results["epoch"] == len(results["history"]) == epochs


def test_an_early_stop_is_told_and_may_be_lifted(tmp_path, capsys):
    settings = tiny.settings(tmp_path, mode="single", shared_max_step=1, shared_lr=0.0, max_epoch=5)
    made = run.train(Config(**settings, scratch_early_stop=2), CELL)
    assert "ended after epoch 3: no epoch after 1 was better; with scratch_early_stop 0 it" in capsys.readouterr().out
    assert made["epoch"] == 3 and made.resume(scratch_early_stop=0)["epoch"] == 5
    assert "ended after" not in capsys.readouterr().out


def test_the_best_epoch_is_reported_and_tested(tmp_path):
    trainer = tiny.scratch_trainer(tmp_path, CELL, max_epoch=4, scratch_asgd_patience=0)
    evaluate = trainer.task.evaluate
    results = scripted(trainer, [5.0, 3.0, 3.0, 4.0]).train()
    assert (results["validation_perplexity"], results["best_epoch"], results["epoch"]) == (3.0, 2, 4)
    best = trainer.checkpoints.best()[1]
    assert best["progress"]["epoch"] == 2
    trainer.task.evaluate = evaluate
    trainer.load_best()
    score = trainer.score(CELL, "test")
    assert tiny.difference(dict(trainer.task.model.state_dict()), dict(best["task"]["model"])) is None
    assert score == evaluate(CELL, "test")
    assert results["num_parameters"] == sum(weight.numel() for weight in trainer.task.model.parameters())


@pytest.mark.parametrize("is_averaged", [True, False])
def test_the_weights_of_the_best_epoch_are_tested_scored_and_exported(tmp_path, monkeypatch, is_averaged):
    """The fourth of five epochs is the best. If weights are averaged, the average counts."""
    changes = {"max_epoch": 5, "shared_max_step": 4, "scratch_asgd_patience": int(is_averaged)}
    left = iter([5.0, 6.0, 7.0, 1.0, 2.0])  # averages from epoch 3 on, if it does, and is best at 4
    with monkeypatch.context() as scripted:
        scripted.setattr(ScratchTrainer, "score", lambda *_: next(left))
        made = run.train(Config(**tiny.settings(tmp_path, mode="single", **changes)), CELL, quiet=True)
    state = Checkpoints(made.folder / "checkpoints").best()[1]
    assert made["best_epoch"] == 4 and (state["average"] is not None) == is_averaged
    weights = dict(state["task"]["model"])
    if is_averaged:
        weights = {name: state["average"][f"module.{name}"] for name in weights}
    trainer = tiny.scratch_trainer(tmp_path / "other", CELL, **changes)
    trainer.task.model.load_state_dict(weights)
    for split in ("valid", "test"):
        assert made.score([CELL], split) == [trainer.task.evaluate(CELL, split)]
    assert made.test()["test_perplexity"] == trainer.task.evaluate(CELL, "test")
    assert torch.equal(run.exported(made.folder)[0].weights["embedding"], weights["embedding"])


def test_a_best_epoch_before_the_average_has_none(tmp_path):
    trainer = tiny.scratch_trainer(tmp_path, CELL, max_epoch=4, scratch_asgd_patience=1)
    scripted(trainer, [1.0, 5.0, 6.0, 7.0]).train()
    assert trainer.average is not None
    trainer.load_best()
    assert trainer.average is None


def test_a_run_without_a_finite_validation_is_not_tested(tmp_path):
    trainer = scripted(tiny.scratch_trainer(tmp_path, CELL, max_epoch=1), [float("nan")])
    trainer.train()
    with pytest.raises(TrainingDivergedError, match="no epoch has a finite validation perplexity"):
        trainer.load_best()


@pytest.mark.parametrize("is_random", [True, False])
def test_the_learning_rate_follows_the_length(tmp_path, is_random):
    changes = {"shared_rnn_max_length": 20, "shared_lr": 3.0, "scratch_random_length": is_random}
    trainer = tiny.scratch_trainer(tmp_path, CELL, **changes)
    step, calls, rates = trainer.step_shared, tiny.spy(trainer.task.model, "loss"), []
    trainer.step_shared = lambda: (rates.append(trainer.shared_optimizer.param_groups[0]["lr"]), step())
    trainer.train_shared()
    lengths = [len(inputs) for (inputs, *_), _ in calls]
    assert (len(set(lengths)) > 3) is is_random
    assert rates == pytest.approx([3.0 * length / 20 if is_random else 3.0 for length in lengths])


@pytest.mark.parametrize("tie_weights", [True, False])
def test_the_nearest_lstm_is_as_large_as_a_cell(tmp_path, tie_weights):
    sizes = {"shared_embed": 12, "shared_hid": 12} if tie_weights else {"shared_embed": 10, "shared_hid": 14}
    config = Config(**tiny.settings(tmp_path, num_blocks=3, tie_weights=tie_weights, **sizes))
    corpus = load_data(config)
    model = PROBLEM.task(config, corpus, torch.device("cpu"), CELL).model
    size = sum(weight.numel() for weight in model.parameters())
    sizes = {num: cost(config, len(corpus.vocabulary), LSTMBaseline(num)).parameters for num in range(1, 100)}
    assert nearest_lstm(config) == LSTMBaseline(min(sizes, key=lambda num: abs(sizes[num] - size)))
