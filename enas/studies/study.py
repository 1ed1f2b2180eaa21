"""The architecture that an ablation edits, and how its variants are scored."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enas.config import Config, effect_notes
from enas.data.identity import identity_of
from enas.errors import UserError
from enas.files import read_json
from enas.runs import run
from enas.runs.folder import IDENTITY, check_same_data, choose_run, config_for_scratch, run_config
from enas.runs.launch import check_not_launched
from enas.runs.opening import cost_of, read_run
from enas.search.cost import Cost
from enas.search.metric import Metric
from enas.search.record import progress_bar
from enas.settings import SEARCHES
from enas.studies.edits import Editable, Variant

SPLITS = {"validation": "valid", "test": "test"}
MODES = ("derive", "train_scratch")


@dataclass(frozen=True)
class Study:
    """An architecture to study, and how to score its variants.

    Attributes:
        name: of the run, or of the file, that the architecture comes from.
        config: the settings in force.
        architecture: what is studied.
        score: the metric of a variant on validation and test.
        origin: what else the scores depend on, JSON-ready: digests of the "data" and, with shared weights, whose they
            are.
        cost: the cost of a variant, as a run from scratch trains it; None where it is not known.
    """

    name: str
    config: Config
    architecture: Editable
    score: Callable[[Editable], dict[str, float]]
    origin: dict[str, Any]
    cost: Callable[[Editable], Cost | None]

    @property
    def metric(self) -> Metric:
        """What `score` measures."""
        return self.config.space.metric


def begin(settings: dict[str, Any], max_batches: int | None = None, ablation: str | None = None) -> Study:
    """Find the architecture, and the model to score it with; see `enas.studies.ablations` for arguments and errors.

    `ablation` is the replacement that the search space must have; any space will do when it is not given.
    """
    check_not_launched("an ablation")
    mode = settings.get("mode", "derive")
    if mode not in MODES:
        raise UserError(f"mode is {mode!r}; an ablation takes {' or '.join(MODES)}")
    if max_batches is not None and max_batches < 1:
        raise UserError(f"max_batches is {max_batches}; it must be at least 1")
    changes = {name: value for name, value in settings.items() if name not in ("mode", "dag_path", "load_path")}
    if mode == "derive":
        return _with_shared_weights(settings, changes, max_batches, ablation)
    if max_batches is not None:
        print("no effect in mode train_scratch: max_batches; --max_epoch and --shared_max_step shorten it")
    return _from_scratch(settings, changes, ablation)


def _with_shared_weights(
    settings: dict[str, Any], changes: dict[str, Any], max_batches: int | None, ablation: str | None
) -> Study:
    folder = choose_run(settings, SEARCHES)
    config = run_config(folder, {**changes, "mode": "derive"})
    _check_ablation(config, ablation)
    dag_path = settings.get("dag_path", "")
    architecture = run.searched_architecture(config, dag_path) if dag_path else run.architecture_of(folder, **changes)
    trainer = read_run(config, folder, changes)
    trainer.task.evaluate(architecture, "valid", 1)  # one that does not fit is refused before anything is written

    def score(variant: Editable) -> dict[str, float]:
        return {name: trainer.task.evaluate(variant, split, max_batches) for name, split in SPLITS.items()}

    origin = {
        "data": read_json(folder / IDENTITY)["splits"],  # the data was found to be the same
        "weights": str(folder.resolve()),
        "step": trainer.progress.step,
        "max_batches": max_batches,
    }
    return Study(_name(folder, dag_path), config, architecture, score, origin, trainer.size.cost)


def _from_scratch(settings: dict[str, Any], changes: dict[str, Any], ablation: str | None) -> Study:
    dag_path, folder = settings.get("dag_path", ""), None
    if dag_path and not settings.get("load_path"):
        config = Config(**settings)
        for line in effect_notes(changes, config):
            print(line)
    else:
        folder = choose_run(settings, SEARCHES)
        config = config_for_scratch(folder, changes)
    _check_ablation(config, ablation)
    if not config.space.has_validation(config):
        raise UserError("an ablation compares validation scores, and there is no validation data; valid_size is 0")
    data = config.space.problem().load_data(config)
    if folder is not None:
        check_same_data(folder, config.dataset, identity_of(data))
    architecture = run.searched_architecture(config, dag_path) if dag_path else run.architecture_of(folder, **changes)

    def score(variant: Editable) -> dict[str, float]:
        trained = run.single_or_diverged(config, variant)
        return {name: trained[f"{name}_{config.space.metric.name}"] for name in SPLITS}

    name, origin = f"{_name(folder, dag_path)}_train_scratch", {"data": identity_of(data).digests}
    return Study(name, config, architecture, score, origin, cost_of(config, data) or (lambda variant: None))


def _check_ablation(config: Config, ablation: str | None) -> None:
    """Refuse a replacement that belongs to another search space."""
    replacement = config.space.replacement
    if ablation is None or (replacement is not None and replacement.ablation == ablation):
        return
    right = f", which takes ablation_studies/{replacement.ablation}.py" if replacement else ""
    raise UserError(f"network_type is {config.network_type}{right}; ablation_studies/{ablation}.py is for another")


def _name(folder: Path | None, dag_path: str | None) -> str:
    return "_".join([part for part in (folder and folder.resolve().name, dag_path and Path(dag_path).stem) if part])


def score_variants(
    study: Study, variants: list[Variant], known: list[dict[str, Any]]
) -> Iterator[list[dict[str, Any]]]:
    """Score each variant, and yield all rows so far: the first is the unedited one, to which changes are relative.

    Edits with one outcome, such as a part replaced by itself, are scored once, and not again if an earlier, interrupted
    call left them in the rows `known`.
    """
    metric = study.metric.name
    rows: list[dict[str, Any]] = []
    done = {_key(row["architecture"]): {name: row[f"{name}_{metric}"] for name in SPLITS} for row in known}
    for variant in progress_bar(variants, "variants"):
        key = _key(variant.architecture.to_dict())
        if key not in done:
            done[key] = study.score(variant.architecture)
        rows.append(_row(study, variant, done[key], rows))
        yield rows


def _key(architecture: dict[str, Any]) -> str:
    return json.dumps(architecture, sort_keys=True)


def _row(study: Study, variant: Variant, scores: dict[str, float], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    metric = study.metric.name
    found = {f"{name}_{metric}": value for name, value in scores.items()}
    base, cost = rows[0] if rows else found, study.cost(variant.architecture)
    return {
        "edit": variant.edit,
        "node": variant.node,
        study.architecture.part_word: variant.replacement,
        **found,
        **{f"{name}_change": value - base[f"{name}_{metric}"] for name, value in scores.items()},
        **(cost.to_dict() if cost else {}),
        "architecture": variant.architecture.to_dict(),
    }
