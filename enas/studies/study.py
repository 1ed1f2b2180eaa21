"""The architecture that an ablation edits, its variants, one edit each, and how they are scored."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enas.config import Config, effect_notes
from enas.data.identity import identity_of
from enas.errors import UserError
from enas.files import read_json
from enas.runs import run
from enas.runs.folder import (
    IDENTITY,
    check_not_launched,
    check_same_data,
    choose_run,
    config_for_scratch,
    run_config,
    say,
)
from enas.runs.opening import cost_of, read_run
from enas.search.architecture import architecture_from_dict
from enas.search.cost import Cost
from enas.search.metric import Metric
from enas.search.record import progress_bar
from enas.settings import SEARCHES

SPLITS = {"validation": "valid", "test": "test"}
MODES = ("derive", "train_scratch")


# An `Architecture` with the `nodes`, `node_word`, `part_word`, `remove_node` and `replace_part` of `enas.search.graph`.
Editable = Any
Score = Callable[[Editable], dict[str, float]]
ToCost = Callable[[Editable], Cost | None]


@dataclass(frozen=True)
class Variant:
    """The outcome of an edit, which `edit` says in words; "unedited" is the architecture that is studied.

    `node` is the node or layer that was edited, "normal 3" in a micro network; None for all of them or none.
    `replacement` is its new activation or operation, if any.
    """

    edit: str
    architecture: Editable
    node: int | str | None = None
    replacement: str | None = None


@dataclass(frozen=True)
class Study:
    """An architecture to study, and how to score its variants.

    Attributes:
        name: of the run, or of the file, that the architecture comes from.
        config: the settings in force.
        score: the metric of a variant on validation and test.
        origin: what else the scores depend on, JSON-ready: digests of the "data", and whose the shared weights are.
        cost: the cost of a variant, as a run from scratch trains it; None where it is not known.
    """

    name: str
    config: Config
    architecture: Editable
    score: Score
    origin: dict[str, Any]
    cost: ToCost

    @property
    def metric(self) -> Metric:
        """What `score` measures."""
        return self.config.space.metric


def begin(settings: dict[str, Any], max_batches: int | None = None, ablation: str | None = None) -> Study:
    """Find the architecture, and the model to score it with; see `enas.studies.ablations` for the arguments.

    `ablation` is the replacement that the search space must have; any space will do when it is not given.
    """
    check_not_launched("an ablation")
    mode, dag_path = settings.get("mode", "derive"), settings.get("dag_path", "")
    if mode not in MODES:
        raise UserError(f"mode is {mode!r}; an ablation takes {' or '.join(MODES)}")
    if max_batches is not None and max_batches < 1:
        raise UserError(f"max_batches is {max_batches}; it must be at least 1")
    is_trained = mode == "train_scratch"
    if is_trained and max_batches is not None:
        print("no effect in mode train_scratch: max_batches; --max_epoch and --shared_max_step shorten it")
    changes = {name: value for name, value in settings.items() if name not in ("mode", "dag_path", "load_path")}
    folder, config = _settled(settings, changes, mode)
    _check_ablation(config, ablation)
    if is_trained and not config.space.has_validation(config):
        raise UserError("an ablation compares validation scores, and there is no validation data; valid_size is 0")
    architecture = run.searched_architecture(config, dag_path) if dag_path else run.architecture_of(folder, **changes)
    name = "_".join(filter(None, (folder and folder.resolve().name, dag_path and Path(dag_path).stem)))
    if is_trained:
        return Study(f"{name}_{mode}", config, architecture, *_from_scratch(config, folder))
    return Study(name, config, architecture, *_by_shared_weights(config, folder, architecture, changes, max_batches))


def _settled(settings: dict[str, Any], changes: dict[str, Any], mode: str) -> tuple[Any, Config]:
    """The folder of the search that is studied, None for a given architecture alone, and the settings in force."""
    if mode == "train_scratch" and settings.get("dag_path") and not settings.get("load_path"):
        config = Config(**settings)
        say(effect_notes(changes, config))
        return None, config
    folder = choose_run(settings, SEARCHES)
    is_derived = mode == "derive"
    return folder, run_config(folder, {**changes, "mode": mode}) if is_derived else config_for_scratch(folder, changes)


def _by_shared_weights(
    config: Config, folder: Path, architecture: Any, changes: dict[str, Any], max_batches: int | None
) -> tuple[Score, dict[str, Any], ToCost]:
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
    return score, origin, trainer.size.cost


def _from_scratch(config: Config, folder: Path | None) -> tuple[Score, dict[str, Any], ToCost]:
    data = config.space.problem().load_data(config)
    if folder is not None:
        check_same_data(folder, config.dataset, identity_of(data))

    def score(variant: Any) -> dict[str, float]:
        trained = run.single_or_diverged(config, variant)
        return {name: trained[f"{name}_{config.space.metric.name}"] for name in SPLITS}

    return score, {"data": identity_of(data).digests}, cost_of(config, data) or (lambda variant: None)


def _check_ablation(config: Config, ablation: str | None) -> None:
    """Refuse a replacement that belongs to another search space."""
    space: Any = config.space
    known = f"{space.architecture.part_word}_replacement" if space.parts else None
    if ablation in (None, known):
        return
    right = f", which takes ablation_studies/{known}.py" if known else ""
    raise UserError(f"network_type is {config.network_type}{right}; ablation_studies/{ablation}.py is for another")


def removals(architecture: Editable) -> tuple[list[Variant], list[str]]:
    """List the architecture, then a copy without each node; and one line for each node that cannot be removed."""
    variants, kept = [Variant("unedited", architecture)], []
    for node in architecture.nodes:
        edit = f"without {architecture.node_word} {_label(node)}"
        try:
            variants.append(Variant(edit, architecture.remove_node(node), _label(node)))
        except UserError as error:
            kept.append(str(error))
    return variants, kept


def replacements(architecture: Editable, names: Sequence[str]) -> list[Variant]:
    """List the architecture, then copies with the parts of all nodes replaced by each of `names`, then of one node."""
    variants = [Variant("unedited", architecture)]
    variants += [Variant(f"all {name}", architecture.replace_part(name), None, name) for name in names]
    for node, name in itertools.product(architecture.nodes, names):
        edit = f"{architecture.node_word} {_label(node)} {name}"
        variants.append(Variant(edit, architecture.replace_part(name, node), _label(node), name))
    return variants


def _label(node: int | tuple[str, int]) -> int | str:
    return node if isinstance(node, int) else " ".join(map(str, node))


def score_variants(
    study: Study, variants: list[Variant], known: list[dict[str, Any]]
) -> Iterator[list[dict[str, Any]]]:
    """Score each variant, and yield all rows so far: the first is the unedited one, to which changes are relative.

    Edits with one outcome, such as a part replaced by itself, are scored once, and not again if an earlier, interrupted
    call left them in the rows `known`.
    """
    keys, rows = {split: f"{split}_{study.metric.name}" for split in SPLITS}, []
    done: dict[Any, dict[str, float]] = {}
    for row in known:
        scores = {split: math.nan if row[key] is None else row[key] for split, key in keys.items()}
        done[architecture_from_dict(row["architecture"])] = scores
    for variant in progress_bar(variants, "variants"):
        if variant.architecture not in done:
            done[variant.architecture] = study.score(variant.architecture)
        scores, cost = done[variant.architecture], study.cost(variant.architecture)
        base = rows[0] if rows else {key: scores[split] for split, key in keys.items()}
        row = {"edit": variant.edit, "node": variant.node, study.architecture.part_word: variant.replacement}
        row |= {key: scores[split] for split, key in keys.items()}
        row |= {f"{split}_change": scores[split] - base[key] for split, key in keys.items()}
        rows.append({**row, **(cost.to_dict() if cost else {}), "architecture": variant.architecture.to_dict()})
        yield rows
