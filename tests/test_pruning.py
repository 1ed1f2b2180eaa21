"""The study of examples/optuna_pruning.py: its trials are runs as they are without a study."""

import runpy

import pytest
import tiny

import enas
from enas import Config
from enas.errors import UserError

optuna = pytest.importorskip("optuna", reason="the study needs optuna, which requirements-dev.txt names")


class Never(optuna.pruners.BasePruner):
    def prune(self, study, trial):
        return False


class Always(optuna.pruners.BasePruner):
    def prune(self, study, trial):
        return True


@pytest.fixture
def objective(tmp_path, monkeypatch):
    """The objective of the example, with a tiny text and sizes."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sizes = tiny.settings(tmp_path, max_epoch=3, shared_optim="adam")
    del sizes["shared_lr"]

    def config(**given):
        return Config(**sizes, **{name: given[name] for name in ("shared_lr", "controller_lr")})

    monkeypatch.setattr(enas, "Config", config)
    return runpy.run_path(str(tiny.ROOT / "examples" / "optuna_pruning.py"))["objective"]


def _study(objective, pruner, trials: int = 3, **settings):
    study = optuna.create_study(pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=1))
    study.optimize(objective, n_trials=trials, **settings)
    return study.trials


def test_a_trial_ends_as_the_run_does_without_a_study(objective, capsys):
    """And the study draws the settings that it would draw around any other function."""
    trials = _study(objective, Never())
    assert capsys.readouterr().out == ""
    alone = [enas.train(enas.Config(**trial.params), quiet=True) for trial in trials]
    assert [trial.value for trial in trials] == [run["validation_perplexity"] for run in alone]
    reports = [[*trial.intermediate_values.values()] for trial in trials]
    assert reports == [[entry["validation_perplexity"] for entry in run.history] for run in alone]
    names = ("shared_lr", "controller_lr")
    others = _study(lambda trial: sum(trial.suggest_float(name, 1e-3, 1e-1, log=True) for name in names), Never())
    assert [trial.params for trial in others] == [trial.params for trial in trials]


def test_a_pruned_trial_leaves_a_run_that_goes_on_to_the_same_end(objective, tmp_path):
    (trial,) = _study(objective, Always(), trials=1)
    assert trial.state == optuna.trial.TrialState.PRUNED and [*trial.intermediate_values] == [1]
    run = enas.load(tiny.only_run(tmp_path / "logs"))
    assert run["epoch"] == 1
    whole = enas.train(enas.Config(**trial.params))
    assert run.resume()["validation_perplexity"] == whole["validation_perplexity"]


def test_two_threads_of_a_study_are_refused_in_a_line(objective):
    refused = []

    def noting(trial):
        try:
            return objective(trial)
        except UserError as error:
            refused.append(str(error))
            return float("inf")

    trials = _study(noting, Never(), trials=2, n_jobs=2)
    ((line),) = refused
    assert line.startswith("another thread of this process is busy") and line.endswith("in a process of its own")
    (value,) = (trial.value for trial in trials if trial.value < float("inf"))
    (params,) = (trial.params for trial in trials if trial.value == value)
    assert enas.train(enas.Config(**params))["validation_perplexity"] == value
