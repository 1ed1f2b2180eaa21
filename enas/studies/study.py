"""The architecture that an ablation edits, its variants, one edit each, and how they are scored."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from enas.config import Config, effect_notes
from enas.data.identity import identity_of
from enas.errors import UserError
from enas.files import read_json
from enas.runs import run
from enas.runs.folder import IDENTITY, check_same_data, choose_run, config_for_scratch, run_config, say
from enas.runs.launch import check_not_launched
from enas.runs.opening import cost_of, read_run
from enas.settings import SEARCHES

SPLITS = {"validation": "valid", "test": "test"}
MODES = ("derive", "train_scratch")

# An `Architecture` with the `nodes`, `node_word`, `part_word`, `remove_node` and `replace_part` of `enas.search.graph`.
Editable = Any
# The beginning of a row of results.json, and the edited architecture. The row's "edit" says in words what was done, and
# "unedited" nothing; its "node" is the node or layer that was edited, "normal 3" in a micro network, None for all of
# them or none; its "activation" or "operation" is the new one, None for none.
Variant = tuple[dict[str, Any], Editable]


class Study:
    """An architecture to study, and what scores its variants; see `enas.studies.ablations` for the arguments.

    `ablation` is the replacement that the search space must have; any space will do if it is not given.

    Attributes:
        name: the name of the run, or of the file, that the architecture comes from.
        config: the settings in force.
        keys: the names of the scores in a row, such as "validation_perplexity", by split.
        origin: what else the scores depend on, JSON-ready: digests of the "data", and whose the shared weights are.
        cost: returns the cost of a variant, as a run from scratch trains it; None if it is not known.
    """

    def __init__(self, settings: dict[str, Any], max_batches: int | None = None, ablation: str | None = None):
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
        if is_trained and dag_path and not settings.get("load_path"):
            folder, self.config = None, Config(**settings)
            say(effect_notes(changes, self.config))
        else:
            folder = choose_run(settings, SEARCHES)
            given = {**changes, "mode": mode}
            self.config = config_for_scratch(folder, changes) if is_trained else run_config(folder, given)
        _check(self.config, ablation, is_trained)
        names = [folder and folder.resolve().name, dag_path and Path(dag_path).stem, is_trained and mode]
        self.name = "_".join(filter(None, names))
        self.keys = {split: f"{split}_{self.config.space.metric.name}" for split in SPLITS}
        self.max_batches = max_batches
        self.architecture: Editable = (
            run.searched_architecture(self.config, dag_path) if dag_path else run.architecture_of(folder, **changes)
        )
        if is_trained:
            self._train_anew(folder)
        else:
            self._share_weights(folder, changes)

    def _share_weights(self, folder: Path, changes: dict[str, Any]) -> None:
        trainer = read_run(self.config, folder, changes)
        self.task, self.cost = trainer.task, trainer.size.cost
        self.task.evaluate(self.architecture, "valid", 1)  # refuses one that does not fit before anything is written
        self.origin = {
            "data": read_json(folder / IDENTITY)["splits"],  # the data was found to be the same
            "weights": str(folder.resolve()),
            "step": trainer.progress.step,
            "max_batches": self.max_batches,
        }

    def _train_anew(self, folder: Path | None) -> None:
        data = self.config.space.problem().load_data(self.config)
        if folder is not None:
            check_same_data(folder, self.config.dataset, identity_of(data))
        self.task, self.cost = None, cost_of(self.config, data) or (lambda variant: None)
        self.origin = {"data": identity_of(data).digests}

    def score(self, variant: Editable) -> dict[str, float]:
        """Return the scores of a variant by their `keys`."""
        if self.task is None:
            trained = run.single_or_diverged(self.config, variant)
            return {key: trained[key] for key in self.keys.values()}
        return {key: self.task.evaluate(variant, SPLITS[split], self.max_batches) for split, key in self.keys.items()}


def _check(config: Config, ablation: str | None, is_trained: bool) -> None:
    """Refuse a replacement that belongs to another search space, and a training without validation data."""
    space: Any = config.space
    known = f"{space.architecture.part_word}_replacement" if space.parts else None
    if ablation not in (None, known):
        right = f", which takes ablation_studies/{known}.py" if known else ""
        raise UserError(f"network_type is {config.network_type}{right}; ablation_studies/{ablation}.py is for another")
    if is_trained and not space.has_validation(config):
        raise UserError("an ablation compares validation scores, and there is no validation data; valid_size is 0")


def removals(architecture: Editable) -> tuple[list[Variant], list[str]]:
    """List the architecture, then a copy without each node; and one line for each node that cannot be removed."""
    variants, kept = [_variant(architecture)], []
    for node in architecture.nodes:
        try:
            edited = architecture.remove_node(node)
        except UserError as error:
            kept.append(str(error))
        else:
            variants.append(_variant(edited, f"without {architecture.node_word} {_label(node)}", _label(node)))
    return variants, kept


def replacements(architecture: Editable, names: Sequence[str]) -> list[Variant]:
    """List the architecture, then copies with the parts of all nodes replaced by each of `names`, then of one node."""
    variants = [_variant(architecture)]
    variants += [_variant(architecture.replace_part(name), f"all {name}", None, name) for name in names]
    for node, name in itertools.product(architecture.nodes, names):
        edit = f"{architecture.node_word} {_label(node)} {name}"
        variants.append(_variant(architecture.replace_part(name, node), edit, _label(node), name))
    return variants


def _variant(edited: Editable, edit: str = "unedited", node: Any = None, name: str | None = None) -> Variant:
    return {"edit": edit, "node": node, edited.part_word: name}, edited


def _label(node: int | tuple[str, int]) -> int | str:
    return node if isinstance(node, int) else " ".join(map(str, node))
