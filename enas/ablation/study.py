"""The architecture that an ablation edits, and what its variants are scored with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from enas import run
from enas.ablation.variants import Editable, Variant
from enas.build import half
from enas.build_rnn import LSTM
from enas.config import Config, from_mapping
from enas.logbook import progress_bar
from enas.run_folder import SEARCHES, choose_run, run_config, scratch_config
from enas.tasks.language import LanguageTask
from enas.tasks.vision import VisionTask

SPLITS = {"validation": "valid", "test": "test"}
MODES = ("derive", "train_scratch")
# For each network_type the ablation that replaces what its nodes apply.
REPLACEMENTS = {"rnn": "activation_replacement", "cnn": "operation_replacement"}


@dataclass(frozen=True)
class Metric:
    """What scores measure, and how they are written.

    Attributes:
        name: of the metric.
        decimals: digits after the point.
        higher_is_better: whether more of it is.
    """

    name: str
    decimals: int
    higher_is_better: bool


METRICS = {"rnn": Metric(LanguageTask.metric, 2, False), "cnn": Metric(VisionTask.metric, 4, True)}


@dataclass(frozen=True)
class Study:
    """What the variants of an architecture are scored with.

    Attributes:
        name: of the run, or of the file, that the architecture comes from.
        config: the settings in force.
        architecture: what is studied.
        score: its metric, and that of any variant, on validation and test.
    """

    name: str
    config: Config
    architecture: Editable
    score: Callable[[Editable], dict[str, float]]

    @property
    def metric(self) -> Metric:
        """What `score` measures."""
        return METRICS[self.config.network_type]


def begin(settings: dict, max_batches: int | None = None, network_type: str | None = None) -> Study:
    """Find the architecture, and what to score it with.

    Args:
        settings, max_batches: as for `enas.analysis.activation_replacement`.
        network_type: the only one that the ablation is for; any when not given.

    Raises:
        ValueError, FileNotFoundError: with a line that names what is wrong and what would be right.
    """
    mode = settings.get("mode", "derive")
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; an ablation takes {' or '.join(MODES)}")
    if max_batches is not None and max_batches < 1:
        raise ValueError(f"max_batches is {max_batches}; it must be at least 1")
    if settings.get("dag_path") == LSTM:
        raise ValueError(f"dag_path is {LSTM}, which has no nodes to edit; name the JSON file of an architecture")
    if mode == "derive":
        return _with_shared_weights(settings, max_batches, network_type)
    if max_batches is not None:
        raise ValueError(
            "max_batches has no effect in mode train_scratch; --max_epoch and --shared_max_step shorten it"
        )
    return _from_scratch(settings, network_type)


def _with_shared_weights(settings: dict, max_batches: int | None, network_type: str | None) -> Study:
    dag_path = settings.get("dag_path")
    folder = choose_run(settings, SEARCHES)
    config = run_config(folder, {name: value for name, value in settings.items() if name != "dag_path"})
    _check_network_type(config, network_type)
    trainer, warnings = run.restore(config, folder)
    for line in warnings:
        print(line)
    architecture = _read(config, dag_path) if dag_path else trainer.derive()[0]

    def score(variant: Editable) -> dict[str, float]:
        return {name: trainer.task.evaluate(variant, split, max_batches) for name, split in SPLITS.items()}

    return Study(_name(folder, dag_path), config, architecture, score)


def _from_scratch(settings: dict, network_type: str | None) -> Study:
    dag_path, folder = settings.get("dag_path"), None
    if dag_path and not settings.get("load_path"):
        config = from_mapping(settings, "settings")
    else:
        folder = choose_run(settings, SEARCHES)
        config = scratch_config(folder, settings)
    _check_network_type(config, network_type)
    if config.network_type == "cnn" and config.valid_size == 0:
        raise ValueError("valid_size is 0; an ablation compares validation scores, so hold images out for them")
    architecture = _read(config, dag_path) if dag_path else run.derived_architecture(folder, settings)
    metric = METRICS[config.network_type].name

    def score(variant: Editable) -> dict[str, float]:
        results = run.train_alone(config, variant)
        return {name: results[f"{name}_{metric}"] for name in SPLITS}

    return Study(_name(folder, dag_path), config, architecture, score)


def _check_network_type(config: Config, network_type: str | None) -> None:
    if network_type not in (None, config.network_type):
        right, wrong = (f"ablation_studies/{REPLACEMENTS[kind]}.py" for kind in (config.network_type, network_type))
        raise ValueError(f"network_type is {config.network_type}, which takes {right}; {wrong} is for {network_type}")


def _read(config: Config, dag_path: str) -> Editable:
    return half(config).read_dag_path(config.replace(dag_path=dag_path))


def _name(folder: Path | None, dag_path: str | None) -> str:
    return "_".join([part for part in (folder and folder.resolve().name, dag_path and Path(dag_path).stem) if part])


def score_variants(study: Study, variants: list[Variant]) -> list[dict]:
    """One row a variant, in order; the first one is the architecture itself, and the changes are from it."""
    metric, rows = study.metric.name, []
    for variant in progress_bar(variants, "variants"):
        scores = study.score(variant.architecture)
        base = rows[0] if rows else {f"{name}_{metric}": value for name, value in scores.items()}
        rows.append(
            {
                "edit": variant.edit,
                "node": variant.node,
                study.architecture.part_word: variant.replacement,
                **{f"{name}_{metric}": value for name, value in scores.items()},
                **{f"{name}_change": value - base[f"{name}_{metric}"] for name, value in scores.items()},
                "architecture": variant.architecture.to_dict(),
            }
        )
    return rows
