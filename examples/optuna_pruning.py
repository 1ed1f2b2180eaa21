"""An Optuna study of two learning rates, which ends hopeless searches after an epoch; needs pip install optuna.

python examples/optuna_pruning.py

Trials run one after another, because a process has one set of random numbers. For trials side by side begin several
processes that share a study's storage.
"""

import optuna

import enas


def objective(trial):
    def on_epoch(run, entry):
        trial.report(entry["validation_perplexity"], entry["epoch"])
        if trial.should_prune():
            raise optuna.TrialPruned

    rates = {name: trial.suggest_float(name, 1e-3, 1e-1, log=True) for name in ("shared_lr", "controller_lr")}
    config = enas.Config(config="small", dataset="markov", max_epoch=6, save_epoch=1, **rates)
    return enas.train(config, on_epoch=on_epoch, quiet=True)["validation_perplexity"]


if __name__ == "__main__":
    study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=2))
    study.optimize(objective, n_trials=8)
    print(study.best_params, study.best_value)
