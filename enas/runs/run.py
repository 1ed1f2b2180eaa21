"""From settings to results: runs as objects, and the functions behind the commands.

A new run takes a `Config`. A function for an existing run takes its name or path (if empty, the newest fitting run) and
the settings to change. Each function gives the caller's random states and number of threads back, and refuses to run
beside another thread's run. With `quiet` it prints nothing and shows no bars; train.log is written anyway.

`on_epoch` is called after every epoch with the `Run` and the epoch's entry of its `history`. It returns numbers to add
there, to results.json and to the curves, by name, or None. If it raises, the run is saved, and the exception goes on.
"""

import io
import json
import math
import os
import shlex
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from enas.choice.problem import GIVEN, Given
from enas.config import Config, named, with_preset
from enas.data.dataset_folder import SPLITS
from enas.data.identity import digest, identity_of
from enas.data.own import divided, numbered, settings_for, write_dataset
from enas.errors import Interrupted, RankLostError, UserError, in_one_line
from enas.files import finite, read_json, reading, write_json
from enas.runs.final import Final, baselines_of, final_or_given, find_final, named_architecture
from enas.runs.folder import check_free, check_same_data, config_for_scratch, find_run, run_config, saved_config, say
from enas.runs.opening import ARCHITECTURE, check_data, open_run, read_run, undisturbed
from enas.search.architecture import Architecture, architecture_from_dict, load_architecture
from enas.search.checkpoint import Checkpoints
from enas.search.controllers import Controller
from enas.search.derive import ordered, summary
from enas.search.metric import Metric
from enas.search.problem import Exported
from enas.search.ranks import launched, seeded
from enas.search.record import describe_comparison, flat, format_score
from enas.search.rungs import halve, rungs_to
from enas.search.scratch import ScratchTrainer
from enas.search.trainer import Trainer
from enas.search.training import Training
from enas.settings import SCRATCH, SEARCHES, TRAINING, USE
from enas.terminal import progress_bar, quietable

SMALL = {"rnn": "small", "cnn": "small_cnn"}  # network_type -> preset for the user's own data


class Run(dict[str, Any]):
    """A run: the dict of its results, which stands for its `folder` where a path is needed.

    Methods take settings to change, as the functions of the same names. `here` holds settings for this machine, such as
    data_dir, and `training` is that of a run under way.
    """

    def __init__(self, folder: Path, results: Mapping[str, Any], training: Training | None = None, **here: Any):
        super().__init__(results)
        self.folder, self._training, self._here = folder, training, here

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def results(self) -> dict[str, Any]:
        """The content of results.json."""
        return finite(dict(self))

    @property
    def history(self) -> list[dict[str, Any]]:
        """The entries of the epochs, flat: the median in the summary "policy" is policy_median."""
        return [flat(entry) for entry in self.get("history", ())]

    @property
    def architecture(self) -> Any:
        """The architecture, which a notebook shows as a picture; None if there is none yet."""
        return self.get("architecture") and architecture_from_dict(self["architecture"])

    def derive(self, **changes: Any) -> Self:
        """Derive again; return this run."""
        return self._changed_by(derive, changes)

    def test(self, **changes: Any) -> Self:
        """Evaluate the architecture on the test split; return this run."""
        return self._changed_by(test, changes)

    def resume(self, **changes: Any) -> Self:
        """Go on from the newest checkpoint; return this run."""
        return self._changed_by(resume, changes)

    def train_scratch(self, **changes: Any) -> "Run":
        """Train the architecture of a search from scratch; return the new run."""
        return train_scratch(self.folder, **{**self._here, **changes})

    def _changed_by(self, function: Callable[..., object], changes: dict[str, Any]) -> Self:
        self._training = None  # its weights are the old ones
        function(self.folder, **{**self._here, **changes})
        self.clear()
        self.update(read_json(self.folder / "results.json"))
        return self

    @undisturbed()
    def module(self) -> nn.Module:
        """Return the architecture as an exported module, with the newest weights, or from scratch the best epoch's."""
        return exported(self.folder, **self._here)[0].module()

    def sample(self, num: int, seed: int = 0) -> list[Any]:
        """Return `num` architectures that the controller of a search draws by `seed`."""
        for name, number in {"num": num, "seed": seed}.items():
            if not isinstance(number, Integral) or not 0 <= number < 2**63:
                raise UserError(f"{name} is {number!r}; it must be an integer, at least 0 and below 2**63")
        controller = self._controller()
        with torch.no_grad(), seeded(int(seed), torch.device("cpu")):
            return controller.sample(num).architectures

    def log_prob(self, architectures: Sequence[Architecture]) -> list[float]:
        """Return the log-probability, in nats, with which the controller of a search draws each architecture."""
        controller = self._controller()
        if not controller.is_trained:
            raise UserError(f"{self.folder}: samples uniformly; only a trained controller has log-probabilities")
        if not (some := _checked(architectures, saved_config(self.folder).space.architecture)):
            return []
        with torch.no_grad():
            return controller.log_prob(some).log_probs.sum(1).tolist()

    def _controller(self) -> Controller[Any]:
        training = self._opened()
        if not isinstance(training, Trainer):
            raise UserError(f"{self.folder}: was trained from scratch; only a search has a controller")
        return training.controller

    @undisturbed()
    def score(self, architectures: Iterable[Architecture], split: str = "valid") -> list[float]:
        """Return each architecture's metric on "train", "valid" or "test" with the run's weights.

        They are the newest, as of a search and in `on_epoch`; of an ended run from scratch, those of the best epoch.
        """
        if split not in SPLITS:
            raise UserError(f"split is {split!r}; it must be one of {', '.join(SPLITS)}")
        training = self._opened()
        needed = type(training.architecture) if isinstance(training, ScratchTrainer) else training.space.architecture
        return [training.score(one, split) for one in _checked(architectures, needed)]

    def _opened(self) -> Training:
        if self._training is None:
            with undisturbed():
                config = run_config(self.folder, {"mode": saved_config(self.folder).mode, **self._here})
                self._training = training = read_run(config, self.folder)
                if isinstance(training, ScratchTrainer):
                    training.load_best()
        return self._training


def _checked(architectures: Iterable[Any], needed: type[Architecture]) -> list[Any]:
    """Return a list of architectures; UserError if one is of another type than is `needed`."""
    is_one = isinstance(architectures, str) or (isinstance(architectures, Mapping) and "type" in architectures)
    some = [*architectures] if isinstance(architectures, Iterable) and not is_one else [architectures]
    for one in some:
        if not isinstance(one, needed):
            raise UserError(f"{one!r:.60} ({type(one).__name__}) is not {needed.title}, which is needed here")
    return some


Hook = Callable[[Run, dict[str, Any]], Mapping[str, float] | None] | None


@quietable
def load(load_path: str | Path, *, log_dir: str | Path = "logs", **here: Any) -> Run:
    """Return the run that `load_path` names, a path or a name in `log_dir`; if empty, the newest there.

    `here` holds settings for this machine, such as data_dir.
    """
    path = find_run({"load_path": load_path, "log_dir": log_dir}) / "results.json"
    return Run(path.parent, read_json(path) if path.is_file() else {}, **here)


@quietable
def train(
    config: Config, architecture: Architecture | None = None, given: Collection[str] = (), on_epoch: Hook = None
) -> Run:
    """Train a new run to its end: a search, or from scratch `architecture`, or that of `dag_path`; return the run.

    In mode train_scratch the best epoch is tested at the end; without validation data the last one is. `given` names
    the settings that the user gave: those without an effect are logged. UserError, here and below, comes with a line
    that names what is wrong and what would be right.
    """
    _check_new(config, TRAINING)
    if architecture is None and config.mode not in SEARCHES:
        architecture = named_architecture(config)
    elif architecture is not None:
        config = config.replace(mode="single") if config.mode in SEARCHES else config
        needed, makers = config.space.architecture, config.space.problem().baselines.values()
        if not isinstance(architecture, needed) and type(architecture) not in {type(make(config)) for make in makers}:
            _checked([architecture], needed)
    baselines = _trained_baselines(config)
    with open_run(config, architecture=architecture, given=given) as trainer:
        return _finished(trainer, on_epoch, baselines)


def _check_new(config: Config, modes: Collection[str]) -> None:
    if config.mode not in modes:
        raise UserError(f"mode is {config.mode}; a new run of this function has mode {' or '.join(modes)}")
    if config.mode in SEARCHES and config.load_path:
        raise UserError(f"load_path is {config.load_path}, but this begins a new run; enas.load(…).resume() goes on")
    check_free(config)


@quietable
@undisturbed()
def search(
    train: Any,
    valid: Any = 0.1,
    test: Any = 0.1,
    *,
    dataset: str = "own",
    config: str = "",
    on_epoch: Hook = None,
    **settings: Any,
) -> Run:
    """Search on the user's own data; return the run.

    Args:
        train, valid, test: texts, sequences of words or token ids, or (image, label), in the forms of `enas.data.own`.
            They are written as the dataset folder `data_dir/dataset`, which later modes read. valid and test may be
            fractions of train, drawn with random_seed.
        dataset: the dataset's name from now on. Other data need another name.
        config: a preset in configs/; by default `small` for text and `small_cnn` for images.
        settings: as on the command line; they override the preset. text, image and label name columns of tables.
    """
    columns: dict[str, str] = {key: settings.pop(key) for key in ("text", "image", "label") if key in settings}
    splits = {split: numbered(split, one, columns) for split, one in zip(SPLITS, (train, valid, test), strict=True)}
    kind = settings_for(splits["train"])
    preset = config or SMALL.get(settings.get("network_type", kind["network_type"]))
    wanted = Config(**{**kind, **settings, "config": preset, "dataset": dataset})
    _check_new(wanted, SEARCHES)
    if wanted.network_type in SMALL and wanted.network_type != kind["network_type"]:
        raise UserError(f"network_type is {wanted.network_type}; these data need {kind['network_type']}")
    if shares := {split: share for split, share in splits.items() if isinstance(share, float)}:
        splits |= divided(splits["train"], shares, wanted.random_seed)
    write_dataset(dataset, [*splits.values()], wanted.data_dir, partial(check_data, wanted))
    with open_run(wanted, given=settings) as trainer:
        if shares:
            counts = ", ".join(f"{split} {len(part):,}" for split, part in splits.items())
            trainer.logbook.info(f"{dataset}: divided with random_seed {wanted.random_seed}: {counts}")
        return _finished(trainer, on_epoch)


@quietable
@undisturbed()
def search_module(
    make: Any, train: Any, valid: Any, loss: Any, score: Any, test: Any = (), on_epoch: Hook = None, **settings: Any
) -> Run:
    """Search the choices in a module of the user's own; return the run.

    Args:
        make: a class or function that returns a new module, which holds one or more `enas.Choice`.
        train, valid, test: iterables of minibatches, begun anew for each pass. A minibatch is (input, target), or a
            dict of arguments of the module, which is the target too; an input may be such a dict.
        loss, score: (output, target) to the mean over the minibatch; a higher score is better.
        settings: as on the command line; they override the preset `config`, by default `small_module`. `load_path`
            names a run of the same module to go on with; in a new process, make this call before the run's methods.
    """
    settings = {"dataset": getattr(make, "__name__", "").replace("<lambda>", "") or "module", **settings}
    path, preset, trainer = settings.pop("load_path", ""), settings.pop("config", "small_module"), None
    folder = find_run({**settings, "load_path": path}) if os.fspath(path) else None  # an early `Run` is empty
    name = settings["dataset"] = saved_config(folder).dataset if folder else settings["dataset"]
    given, earlier = Given(make, {"train": train, "valid": valid, "test": test}, loss=loss, score=score), {**GIVEN}
    if name in earlier and not folder and given.objects != earlier[name].objects:
        raise UserError(f"dataset {name} has another module, loss, score or data in this process; give another dataset")
    GIVEN[name], settings = given, {"network_type": "module", **settings}
    try:
        if folder:
            resume(folder, on_epoch, **settings)
            return load(folder)
        config = Config(**{"config": preset, **settings})
        _check_new(config, SEARCHES)
        with open_run(config, given=settings) as trainer:
            return _finished(trainer, on_epoch)
    except Exception as error:
        has_begun = folder is not None and name not in earlier and not isinstance(error, UserError)
        is_saved = trainer.progress.epoch > 0 if trainer else has_begun
        if not isinstance(error, Interrupted) and not is_saved:  # no run needs the new one
            del GIVEN[name]
            GIVEN.update(earlier)
        raise


@quietable
def train_or_resume(config: Config, architecture: Architecture | None = None) -> Run:
    """Train as `train` to `stop_epoch`, or go on with the run of the same `name` in `log_dir`; return the run."""
    folder = Path(config.log_dir, config.name)
    is_begun = config.name and Checkpoints(folder / "checkpoints").paths()
    here = {name: getattr(config, name) for name in ("stop_epoch", "data_dir", "num_gpu")}
    return resume(folder, **here) if is_begun else train(config, architecture)


def scored(score: Callable[[], Mapping[str, Any]], names: Iterable[str]) -> Mapping[str, Any]:
    """Return one candidate's scores; NaN, and the "trouble" in words, if it diverges, is refused or lacks memory."""
    try:
        return score()
    except Exception as error:
        said = in_one_line(error)
        # Missing data and a full disk would be every candidate's trouble. Processes must agree on what comes next.
        is_common = isinstance(error.__cause__ or error, OSError) or (launched().size > 1 and said is not error)
        if said is None or isinstance(said, Interrupted | RankLostError) or is_common:
            raise
        say([f"this one has no score: {said}"])
        return {**dict.fromkeys(names, math.nan), "trouble": str(said)}


def train_to(config: Config, architecture: Architecture) -> dict[str, Any]:
    """Train one architecture from scratch, or go on with it, as `train_or_resume`; return its results so far.

    They are NaN if the training has no result, see `scored`. A pause at `stop_epoch` changes no result. UserError if
    the run of this `name` has another architecture or other settings. Baselines are not trained.
    """
    folder = Path(config.log_dir, config.name)
    if config.name and Checkpoints(folder / "checkpoints").paths():
        saved, known = saved_config(folder), load_architecture(folder / ARCHITECTURE)
        if _digest(saved, known) != _digest(config.replace(mode=saved.mode), architecture):
            raise UserError(f"{folder}: has another architecture or other settings; give another name")
    names = [f"{split}_{config.space.metric.name}" for split in ("validation", "test")]
    try:
        results = scored(lambda: train_or_resume(config.replace(compare_with=()), architecture), names)
    except Interrupted as stop:
        raise Interrupted(stop.status - 128, "the same command goes on") from None
    validation = results[names[0]]
    return {"architecture": architecture.to_dict(), **results, names[0]: math.nan if validation is None else validation}


@quietable
def train_scratch(load_path: str | Path, on_epoch: Hook = None, **changes: Any) -> Run:
    """Train the architecture of a search from scratch; return the new run.

    `architecture_of` gives the architecture, unless `dag_path` names another. The baselines that `compare_with` names
    are trained first, as runs of their own, which the same call takes over. A baseline named n times trains with n
    seeds, and its mean is compared.
    """
    folder, changes = find_run({**changes, "load_path": load_path}, SEARCHES), _in_mode("train_scratch", changes)
    others = changes.get("compare_with", saved_config(folder).compare_with)
    config = config_for_scratch(folder, changes, is_compared=bool(others))
    _compared(config)  # else refused before anything is trained
    _check_new(config, SCRATCH)
    architecture = named_architecture(config) if config.dag_path else architecture_of(folder, **changes)
    baselines = _trained_baselines(config)
    with open_run(config, architecture=architecture) as trainer:
        return _finished(trainer, on_epoch, baselines)


def _in_mode(mode: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings to change, those of a preset too, with a function's own mode; UserError if they name another."""
    if (asked := changes.get("mode", mode)) != mode:
        raise UserError(f"mode is {asked!r}, but it is {mode} here; leave it out")
    return with_preset({**changes, "mode": mode})


def _compared(config: Config) -> list[str]:
    """List `compare_with` in the order of the baselines; UserError if one is none. A search only keeps the setting."""
    known = [*baselines_of(config)]
    if unknown := set(config.compare_with) - {*known}:
        raise UserError(f"compare_with: {', '.join(sorted(unknown))} is no baseline; there are {', '.join(known)}")
    return sorted(config.compare_with, key=known.index) if config.mode == "train_scratch" else []


def _trained_baselines(config: Config) -> dict[str, list[dict[str, Any]]]:
    """Train the baselines of `compare_with` from scratch, or go on with them; return their results by name."""
    makers, results = baselines_of(config), dict[str, list[dict[str, Any]]]()
    for name in _compared(config):
        some = results.setdefault(name, [])
        alone = config.replace(compare_with=(), name="", stop_epoch=0, random_seed=config.random_seed + len(some))
        baseline = makers[name](alone)
        some.append(train_to(alone.replace(name=f"{name}_{_digest(alone, baseline)[:8]}"), baseline))
    return results


def _named_mean(name: str, scores: Sequence[float | None], metric: Metric) -> str:
    """Return the score of one training, or the mean and the best of several, with the name of what was trained."""
    spread = summary([math.nan if score is None else score for score in scores], metric)
    several = f" (mean of {len(scores)}, best {format_score(spread['best'])})" if len(scores) > 1 else ""
    return f"{name} {format_score(spread['mean'])}{several}"


@quietable
def resume(load_path: str | Path, on_epoch: Hook = None, **changes: Any) -> Run:
    """Go on with a run, a search or one architecture from scratch, from its newest checkpoint; return the run."""
    folder = find_run({**changes, "load_path": load_path}, TRAINING)
    saved = saved_config(folder)
    config = run_config(folder, {"stop_epoch": 0, **_in_mode(saved.mode, changes)})
    with open_run(config, folder, given=changes) as trainer:
        trainer.ranks.from_first(lambda: write_json(folder / "params.json", config.to_dict()))
        trainer.logbook.info(f"run {folder}: resumed in epoch {trainer.progress.epoch + 1}")
        if saved.max_epoch != config.max_epoch:
            longer = f"max_epoch {config.max_epoch} instead of {saved.max_epoch}"
            trainer.logbook.info(f"{longer}; schedules over the whole run, if any, change")
        return _finished(trainer, on_epoch, _trained_baselines(config))


@quietable
def derive(load_path: str | Path, **changes: Any) -> dict[str, Any]:
    """Derive an architecture from a search, and write it down there; return the run's results.

    The run's architecture so far is one of the candidates, so that a worse one never takes its place.
    """
    folder = find_run({**changes, "load_path": load_path}, SEARCHES)
    config = run_config(folder, _in_mode("derive", changes))
    with open_run(config, folder, given=changes) as trainer:
        known = trainer.progress.architecture
        found = trainer.deriver.shortlist(known and architecture_from_dict(known))
        chosen = _best_finalist(trainer, config, found.best(config.derive_finalists))
        derived = trainer.deriver.derivation(found, chosen)
        if derived.architecture is None:
            raise UserError(f"{derived.problem}; raise the limit, or derive_num_sample")
        trainer.header["finalists"] = [config.derive_finalists, config.derive_rung_epoch]
        trainer.record(derived)
        if derived.comparison:
            trainer.logbook.info(describe_comparison(derived.comparison))
        how = "derived" if chosen is None else "derived the finalist that is best from scratch; with shared weights"
        what = "keeps the architecture it had, which is no worse" if trainer.progress.architecture == known else how
        return _report(trainer, trainer.results(), what)


@quietable
def test(load_path: str | Path, **changes: Any) -> dict[str, Any]:
    """Evaluate the architecture of a run on the test split, and write it down there; return the run's results.

    A search scores it with its shared weights; if `dag_path` names another architecture, nothing is written down. A run
    from scratch scores its best epoch.
    """
    folder, dag_path = find_run({**changes, "load_path": load_path}, TRAINING), changes.pop("dag_path", "")
    config = run_config(folder, _in_mode("test", changes))
    with open_run(config, folder, given=changes) as trainer:
        task, is_scratch = trainer.task, isinstance(trainer, ScratchTrainer)
        if is_scratch and not dag_path:
            return _test_scratch(trainer)
        final = final_or_given(folder, config, dag_path, is_scratch)
        trainer.header |= {"finalists": final.finalists} if final.finalists else {}
        trainer.take(final.architecture, task.evaluate(final.architecture, "valid"))
        results = {**trainer.results(), f"test_{task.metric.name}": task.evaluate(final.architecture, "test")}
        return _report(trainer, results, "tested", is_written=not dag_path)


def architecture_of(load_path: str | Path, **changes: Any) -> Architecture:
    """Return the architecture of a search, as its results.json names it.

    If there is none, or `changes` hold other settings of `derive` than the search had, or it wants finalists that have
    not been trained, one is derived, which is the run's from then on.
    """
    folder = find_run({**changes, "load_path": load_path}, SEARCHES)
    saved = saved_config(folder)
    names = [name for name in changes if name.startswith("derive_") or name in ("max_parameters", "max_flops")]
    asked = {name: changes[name] for name in names if changes[name] != getattr(saved, name)}
    final = None if asked else find_final(folder, saved.space.metric.name, saved.space.architecture)
    if final and (saved.derive_finalists == 0 or final.finalists == [saved.derive_finalists, saved.derive_rung_epoch]):
        return final.architecture
    here = {name: changes[name] for name in ("data_dir", "num_gpu", "num_threads", "rank_timeout") if name in changes}
    return architecture_from_dict(derive(folder, **here, **asked)["architecture"])


def _digest(config: Config, architecture: Architecture) -> str:
    # A run may choose its precision itself, and how it is recorded may change when it goes on.
    apart = {*named(USE), "precision", "log_step", "max_save_num", "save_epoch"}
    settings = {name: value for name, value in config.to_dict().items() if name not in apart}
    return digest(json.dumps([settings, architecture.to_dict()]).encode())


def halved(config: Config, candidates: Sequence[Architecture], note: Callable[[str], Any] = str) -> Architecture:
    """Train different architectures from scratch by successive halving to `max_epoch`; return the one that is left.

    Each has its run below `config.log_dir`, where the same call goes on if interrupted. `note` gets a line a rung.
    """
    metric = config.space.metric

    def trained(left: Sequence[Architecture], epochs: int) -> dict[Architecture, float]:
        scores = {}
        for one in progress_bar(left, f"finalists to epoch {epochs}"):
            with redirect_stdout(io.StringIO()):
                results = train_to(config.replace(name=_digest(config, one), stop_epoch=epochs), one)
            scores[one] = results[f"validation_{metric.name}"]
            if trouble := results.get("trouble"):
                note(f"{json.dumps(one.to_dict())}: {trouble}")
        if trouble and len(left) == len(candidates) and all(map(math.isnan, scores.values())):
            raise UserError(f"no finalist has a score; the last one: {trouble}")
        best = f"best validation {metric.name} {format_score(scores[ordered(scores, metric)[0]])}"
        note(f"rung to epoch {epochs} from scratch: {len(left)} finalists, {best}")
        return scores

    return halve(candidates, rungs_to(config.max_epoch), trained, metric)


def _best_finalist(trainer: Training, config: Config, finalists: list[Architecture]) -> Architecture | None:
    """Return the finalist that successive halving ends with; None if derive_finalists is 0, or there is none."""
    if config.derive_finalists == 0 or not finalists:
        return None
    last, home = config.derive_rung_epoch, trainer.folder / "finalists"
    changes = {"max_epoch": last, "cnn_lr_period": last, "mode": "single", "max_save_num": 1, "wandb": False}
    changes |= {"log_dir": str(home), **{name: getattr(config, name) for name in ("data_dir", "num_gpu", "precision")}}
    with redirect_stdout(io.StringIO()):
        alone = config_for_scratch(trainer.folder, changes)
    best = halved(alone, finalists, trainer.logbook.info)
    trainer.ranks.from_first(lambda: shutil.rmtree(home, ignore_errors=True))
    return best


def exported(folder: Path, dag_path: str | Path = "", **here: Any) -> tuple[Exported, Final, dict[str, Any]]:
    """Return a run's export, its architecture, and the progress of its weights; `here` are settings of this machine."""
    config, checkpoints = saved_config(folder), Checkpoints(folder / "checkpoints")
    is_scratch, space = config.mode in SCRATCH, config.space
    make = space.problem().export
    if make is None:
        raise UserError(f"{folder}: {space.architecture.title} cannot be exported; its search space has no export")
    final = final_or_given(folder, config, dag_path, is_scratch)
    path, state = checkpoints.best() if is_scratch else checkpoints.newest()
    data = space.problem().load_data(config.replace(**here))
    check_same_data(folder, config.dataset, identity_of(data))
    with reading(path, alone=False):
        model, average = state["task"]["model"], state.get("average")  # which a training from scratch may have
        weights = model if average is None else {name: average[f"module.{name}"] for name in model}
        weights = {name: one.float() if space.by_command else one for name, one in weights.items()}
        return make(final.architecture, weights, config, data), final, state["progress"]


def _finished(trainer: Training, on_epoch: Hook, baselines: Mapping[str, Sequence[Mapping[str, Any]]] = {}) -> Run:
    """Train to the end, or to a pause, and report the results, beside those of `baselines`; return the run."""
    if on_epoch is not None:
        trainer.on_epoch = lambda entry: on_epoch(Run(trainer.folder, trainer.results(), trainer), flat(entry))
    results = trainer.train()
    if trainer.is_paused():
        trainer.logbook.info(f"run {trainer.folder}: paused; it goes on with: {trainer.resumed_by()}")
    elif isinstance(trainer, ScratchTrainer):
        if trainer.progress.epoch < trainer.config.max_epoch:
            since = f"no epoch after {trainer.best_epoch()} was better; with scratch_early_stop 0 it goes on"
            trainer.logbook.info(f"ended after epoch {trainer.progress.epoch}: {since}")
        trainer.logbook.output_files["architecture"] = trainer.folder / ARCHITECTURE
        is_tested = trainer.header["mode"] == "train_scratch" or not trainer.task.has_validation
        results = _test_scratch(trainer) if is_tested else _report(trainer, results, "trained")
        metric = trainer.task.metric
        for split in ("validation", "test") if baselines else ():
            key, every = f"{split}_{metric.name}", {"found": [results], **baselines}
            scores = ", ".join(_named_mean(name, [one[key] for one in some], metric) for name, some in every.items())
            trainer.logbook.info(f"{split} {metric.name} from scratch: {scores}")
    else:
        _say_found(trainer, results)
        _say_where(trainer)
    return Run(trainer.folder, results)


def _test_scratch(trainer: ScratchTrainer) -> dict[str, Any]:
    trainer.load_best()
    score = trainer.score(trainer.architecture, "test")
    return _report(trainer, {**trainer.results(), f"test_{trainer.task.metric.name}": score}, "tested")


def _report(trainer: Training, results: dict[str, Any], what: str, *, is_written: bool = True) -> dict[str, Any]:
    """Log the results, and write them as results.json unless not `is_written`; return them."""
    if is_written:
        trainer.logbook.results(results)
    metric = trainer.task.metric.name
    known = {f"{split} {metric}": results[f"{split}_{metric}"] for split in ("validation", "test")}
    scores = ", ".join(f"{name} {format_score(score)}" for name, score in known.items() if score is not None)
    trainer.logbook.info(f"run {trainer.folder}: {what}, {scores}")
    trainer.logbook.note(json.dumps(results["architecture"]))
    if is_written:
        _say_where(trainer)
    return results


def _say_found(trainer: Training, results: dict[str, Any]) -> None:
    if results["architecture"] is None:
        return
    found, metric = architecture_from_dict(results["architecture"]), trainer.task.metric.name
    size = "" if (cost := trainer.size.cost(found)) is None else f" with {cost}"
    score = "not finite" if (value := results[f"validation_{metric}"]) is None else format_score(value)
    trainer.logbook.info(f"found {found.title}{size}: validation {metric} {score} with shared weights")
    if compared := [entry for entry in results["history"] if "place" in entry]:
        trainer.logbook.info(describe_comparison(compared[-1]))


def _say_where(trainer: Training) -> None:
    folder, space = trainer.folder, trainer.space
    said: dict[str, object] = {**trainer.logbook.output_files, "results": folder / "results.json"}
    said |= {"log": folder / "train.log", "curves": f"tensorboard --logdir {shlex.quote(str(folder))}"}
    # Commands cannot load a search space that a notebook defines.
    is_known = trainer.use_flag or space.architecture.__module__.startswith("enas.")
    if is_known and trainer.progress.architecture is not None:
        which = f"--load_path {shlex.quote(str(folder))}{trainer.use_flag}"
        if space.by_command and not isinstance(trainer, ScratchTrainer):
            said["from scratch"] = f"python -m enas scratch {which}"
        said["page"] = f"python -m enas report {which} --output report.html"
        is_searched = isinstance(architecture_from_dict(trainer.progress.architecture), space.architecture)
        if space.by_command and is_searched and space.problem().export is not None:
            said["module"] = f"python -m enas export {which} --output my_module"
    for name, text in said.items():
        trainer.logbook.info(f"{name + ':':14}{text}")
