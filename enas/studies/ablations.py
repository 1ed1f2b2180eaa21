"""Ablation studies: how an architecture's score changes without a node, or with other activations or operations."""

import csv
import io
import itertools
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from enas.config import Config, effect_notes, named, with_preset, without_effect
from enas.data.identity import identity_of
from enas.errors import UserError
from enas.files import atomic_write, finite, read_json, reading, write_json
from enas.pictures.plots import bars_figure, table_figure, write_figure
from enas.runs import folder as run_folder
from enas.runs import run
from enas.runs.final import searched_architecture
from enas.runs.opening import cost_of, read_run, undisturbed
from enas.search.architecture import architecture_from_dict
from enas.settings import SEARCHES, USE
from enas.studies.sweep import Rows
from enas.terminal import progress_bar

RESULTS_DIR = Path("analysis_results")
SPLITS = {"validation": "valid", "test": "test"}
MODES = ("derive", "train_scratch")
REMOVAL = "node_removal"  # the other ablations are replacements

Row = dict[str, Any]
Editable = Any  # an architecture with the names of `enas.search.graph.Graph`
# The beginning of a row of results.json, and the edited architecture. The row's "edit" is the edit in words, or
# "unedited"; its "node" is the edited node or layer, "normal 3" in a micro network, None for all nodes or no node; its
# "activation" or "operation" is the new one, or None.
Variant = tuple[Row, Editable]


@undisturbed()
def activation_replacement(*, max_batches: int | None = None, **settings: Any) -> list[Row]:
    """Score the cell with all its activations replaced by each in turn, then with those of single nodes replaced.

    Args:
        max_batches: minibatches of each split to score on, in mode derive; all unless given.
        settings: as on the command line: mode derive scores with the shared weights of the run that load_path names
            (or the newest), mode train_scratch trains every variant; dag_path names another architecture.

    Returns:
        the rows of results.json, written as they come to analysis_results/activation_replacement/RUN/, or RUN_MODE/,
        with plots and a table. The same call goes on after the last row; one that differs has a folder RUN-2.
    """
    return _scored(Study("activation_replacement", settings, max_batches))


@undisturbed()
def operation_replacement(*, max_batches: int | None = None, **settings: Any) -> list[Row]:
    """Score the network with its operations replaced, of a micro node both; see `activation_replacement`."""
    return _scored(Study("operation_replacement", settings, max_batches))


@undisturbed()
def node_removal(*, max_batches: int | None = None, **settings: Any) -> list[Row]:
    """Score the architecture without each of its nodes, or layers, in turn; see `activation_replacement`."""
    return _scored(Study(REMOVAL, settings, max_batches))


class Study:
    """An architecture to study, and the means to score its variants; see `activation_replacement` for the arguments.

    `keys` are the names of the scores in a row by split, such as "validation_perplexity"; `params` is all that the
    scores depend on; `cost` gives the cost of a variant trained from scratch, or None.
    """

    def __init__(self, ablation: str, settings: dict[str, Any], max_batches: int | None):
        run_folder.check_not_launched("an ablation")
        mode, dag_path = settings.get("mode", "derive"), settings.get("dag_path", "")
        if mode not in MODES:
            raise UserError(f"mode is {mode!r}; an ablation takes {' or '.join(MODES)}")
        if max_batches is not None and not 1 <= max_batches <= sys.maxsize:
            raise UserError(f"max_batches is {max_batches}; it must be at least 1, and fit in 63 bits")
        is_trained = mode == "train_scratch"
        if is_trained and max_batches is not None:
            print("no effect in mode train_scratch: max_batches; --max_epoch and --shared_max_step shorten it")
        given = with_preset(settings).items()
        changes = {name: value for name, value in given if name not in ("mode", "dag_path", "load_path")}
        if is_trained and dag_path and not settings.get("load_path"):
            folder, self.config = None, Config(**settings)
            if self.config.precision == "auto":  # each variant would choose for itself, and they are compared
                self.config = self.config.replace(precision="float32")
            run_folder.say(effect_notes(changes, self.config))
        else:
            folder = run_folder.find_run(settings, SEARCHES)
            alike = partial(run_folder.config_for_scratch, is_compared=True)
            self.config = (alike if is_trained else run_folder.run_config)(folder, {**changes, "mode": mode})
        _check(self.config, ablation, is_trained)
        names = [folder and folder.resolve().name, dag_path and Path(dag_path).stem, is_trained and mode]
        self.ablation, self.name = ablation, "_".join(filter(None, names))
        self.keys = {split: f"{split}_{self.config.space.metric.name}" for split in SPLITS}
        self.architecture: Editable = (
            searched_architecture(self.config, dag_path) if dag_path else run.architecture_of(folder, **changes)
        )
        self.params = {**self.config.to_dict(), "ablation": ablation, "architecture": self.architecture.to_dict()}
        self.task: Any = None
        if is_trained:
            data = self.config.space.problem().load_data(self.config)
            self.params["data"] = identity_of(data).splits
            if folder is not None:
                run_folder.check_same_data(folder, self.config.dataset, identity_of(data))
            self.cost = cost_of(self.config, data) or (lambda variant: None)
            return
        trainer = read_run(self.config, folder, changes)
        trainer.task.evaluate(self.architecture, "valid", 1)  # refuses one that does not fit before anything is written
        self.task, self.cost, self.max_batches = trainer.task, trainer.size.cost, max_batches
        source = {"weights": str(folder.resolve()), "step": trainer.progress.step, "max_batches": max_batches}
        # The data was found to be the same.
        self.params |= {"data": read_json(folder / run_folder.IDENTITY)["splits"], **source}

    def score(self, variant: Editable) -> Row:
        """Return the scores of a variant by their `keys`, and perhaps "trouble", see `run.scored`."""
        if self.task is None:
            return self.scores_in(finite(run.train_to(self.config.replace(name=""), variant)))
        keys, score, most = self.keys, self.task.evaluate, self.max_batches
        scored = run.scored(lambda: {keys[one]: score(variant, SPLITS[one], most) for one in keys}, keys.values())
        return self.scores_in(finite(scored))

    def scores_in(self, row: Row) -> Row:
        """Return the scores of results or a row, and its "trouble" if it has one: NaN where JSON has null."""
        scores = {key: math.nan if row[key] is None else float(row[key]) for key in self.keys.values()}
        return scores | {name: row[name] for name in ("trouble",) if name in row}


def _check(config: Config, ablation: str, is_trained: bool) -> None:
    """Refuse a replacement that belongs to another search space, and a training without validation data."""
    space: Any = config.space
    needed = ("node_word", "part_word", "remove_node" if ablation == REMOVAL else "replace_part")
    if missing := [name for name in needed if not hasattr(space.architecture, name)]:
        lack = f"{space.architecture.title} has no {', '.join(missing)}, by which an ablation edits"
        raise UserError(f"network_type is {config.network_type}: {lack}; see Graph in enas.search.graph")
    known = f"{space.architecture.part_word}_replacement" if space.parts else None
    if ablation not in (REMOVAL, known):
        right = f", which takes ablation_studies/{known}.py" if known else ""
        raise UserError(f"network_type is {config.network_type}{right}; ablation_studies/{ablation}.py is for another")
    if is_trained and config.valid_size == 0 and without_effect("valid_size", config) is None:
        raise UserError("an ablation compares validation scores, and there is no validation data; valid_size is 0")


def variants_of(architecture: Editable, names: Sequence[str] | None) -> tuple[list[Variant], list[str]]:
    """List the architecture, then its edited copies; and one line for each edit that cannot be made.

    The parts of all nodes are replaced by each of `names`, then those of one node; or nodes are removed, without names.
    """
    variants: list[Variant] = [({"edit": "unedited", "node": None, architecture.part_word: None}, architecture)]
    notes = []
    everywhere = itertools.product([None], names or ())
    for node, name in [*everywhere, *itertools.product(architecture.nodes, [None] if names is None else names)]:
        label = " ".join(map(str, node)) if isinstance(node, tuple) else node
        where = "all" if node is None else f"{architecture.node_word} {label}"
        try:
            edited = architecture.remove_node(node) if name is None else architecture.replace_part(name, node)
        except UserError as error:
            notes.append(str(error))
            continue
        edit = f"without {where}" if name is None else f"{where} {name}"
        variants.append(({"edit": edit, "node": label, architecture.part_word: name}, edited))
    return variants, notes


def _scored(study: Study) -> list[Row]:
    """Score all variants, write each row when it is there, beside an earlier call's further rows; then print and plot.

    Edits with one outcome, such as a part replaced by itself, are scored once, and not again if results.json has them.
    "same_as" is the first edit with the same function, or None. Such variants have scores of their own by shared
    weights, and are trained from scratch once.
    """
    names = None if study.ablation == REMOVAL else study.config.space.parts(study.config)
    variants, notes = variants_of(study.architecture, names)
    if len(variants) == 1:
        raise UserError(f"{study.architecture.title} with nothing to remove: {'; '.join(notes)}")
    path = (folder := _folder_of(study)) / "results.json"
    with run_folder.only_user(folder):
        write_json(folder / "params.json", study.params)
        with reading(path):
            known = [*read_json(path)["rows"]] if path.is_file() else []
            done = {architecture_from_dict(row["architecture"]): study.scores_in(row) for row in known}
        firsts: dict[Editable, tuple[str, Editable]] = {}  # the first variant of each function
        rows: list[Row] = []
        for row, architecture in progress_bar(variants, "variants"):
            edit, first = firsts.setdefault(architecture.canonical(), (row["edit"], architecture))
            row = {**row, "same_as": None if edit == row["edit"] else edit}
            key = architecture if study.task else first
            scores = done[key] = done.get(key) or study.score(key)
            if not rows and "trouble" in scores:
                raise UserError(f"the unedited architecture has no score: {scores['trouble']}")
            unedited, cost = rows[0] if rows else scores, study.cost(architecture)
            changes = {f"{split}_change": scores[key] - unedited[key] for split, key in study.keys.items()}
            costs = vars(cost) if cost else {}
            rows.append({**row, **scores, **changes, **costs, "architecture": architecture.to_dict()})
            write_json(path, {"ablation": study.ablation, "run": study.name, "rows": [*rows, *known[len(rows) :]]})
        run_folder.say(notes)
        print(_shown(study, rows))
        write_table(folder / "results.csv", rows)
        _plot(folder, study, rows)
        print(f"wrote {folder}: params.json, results.json, results.csv and plots")
    return rows


def _folder_of(study: Study) -> Path:
    """Return `RESULTS_DIR`/ABLATION/STUDY, or STUDY-2 and so on if another one lies there."""
    asked, here = finite(study.params), (named(USE) - {"mode"}) | {"dag_path"}
    for number in itertools.count(1):
        folder = RESULTS_DIR / study.ablation / (study.name if number == 1 else f"{study.name}-{number}")
        saved = read_json(path) if (path := folder / "params.json").is_file() else asked
        if all(saved.get(name) == asked.get(name) for name in {*saved, *asked} - here):
            break
    return folder


def write_table(path: Path, rows: list[Row]) -> None:
    """Write rows as a CSV file, without their architectures."""
    text, columns = io.StringIO(newline=""), dict.fromkeys(key for row in rows for key in row if key != "architecture")
    table = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def _shown(study: Study, rows: list[Row]) -> Rows:
    """Return the printed table."""
    table, metric = Rows(), study.config.space.metric
    for row in rows:
        shown = {f"{metric.name} of": row["edit"]}
        for split, key in study.keys.items():
            change = row[f"{split}_change"]
            shown |= {split: f"{row[key]:.{metric.decimals}f}", f"{split} change": f"{change:+.{metric.decimals}f}"}
        shown |= {name: f"{row[name]:,}" for name in ("parameters", "multiply_adds") if name in row}
        table.append({**shown, "same as": row["same_as"] or "", "": row.get("trouble", "")})
    return table


def _plot(folder: Path, study: Study, rows: list[Row]) -> None:
    """Plot bars of replacements at all nodes, and tables of those at one node; or else bars of the removed nodes."""
    node, part, metric = study.architecture.node_word, study.architecture.part_word, study.config.space.metric
    unedited, *edited = rows
    replaced = {row[part]: row for row in edited if row["node"] is None}
    bars = replaced or {f"{node} {row['node']}": row for row in edited}
    figure = bars_figure(
        [*bars],
        {split: [row[f"{split}_change"] for row in bars.values()] for split in SPLITS},
        baseline={split: unedited[key] for split, key in study.keys.items()},
        metric=metric,
        title=f"{study.name}: {f'all {part}s replaced' if replaced else f'one {node} removed'}",
    )
    write_figure(figure, folder / ("all_nodes.png" if replaced else "nodes.png"))
    single = {(str(row["node"]), row[part]): row for row in edited if row["node"] is not None}
    for split, key in study.keys.items() if replaced else ():
        figure = table_figure(
            {place: row[key] for place, row in single.items()},
            # A node's own part is the replacement that changed nothing.
            own=[place for place, row in single.items() if row["architecture"] == unedited["architecture"]],
            baseline=unedited[key],
            metric=metric,
            split=split,
            names=(node, part),
            title=f"{study.name}: one {node}'s {part} replaced",
        )
        write_figure(figure, folder / f"nodes_{split}.png")
