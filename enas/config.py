"""All settings of a run, collected from the parts that own them: the source of flags, config files and params.json."""

import ast
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import Field, dataclass, fields
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from enas.choice.space import MODULE
from enas.cnn.space import MACRO, MICRO
from enas.errors import NotFoundError, UserError, did_you_mean
from enas.files import read_text
from enas.rnn.space import RNN
from enas.search import own_code
from enas.search import settings as searching
from enas.search.registry import ALIASES, REWARDS, SPACES, STRATEGIES, SearchSpace, network_types, register, space_for
from enas.settings import MODES, SCRATCH, SPACE, TRAINING, USE, Part, Settings, checked, place, setting, unmet
from enas.strategies import TRAIN_TYPES

_PACKAGE = Path(__file__).resolve().parent
CONFIG_DIR = _PACKAGE / "configs"  # where the package is installed
if not CONFIG_DIR.is_dir():
    CONFIG_DIR = _PACKAGE.parent / "configs"
STRATEGIES.update(TRAIN_TYPES)  # of every search space that is registered from now on
OURS = [register(space) for space in (MACRO, MICRO, RNN, MODULE)]

_use = partial(setting, kind=USE, again=MODES)  # for where and how any run is used


@dataclass(frozen=True, kw_only=True)
class RunConfig(Settings):
    """The run: task, data and places."""

    network_type: str = setting(
        "rnn", "search recurrent cells (rnn), networks (cnn) or, in Python, a module", choices=network_types, kind=SPACE
    )
    cnn_space: str = setting(
        "macro",
        "cnn: search whole networks (macro) or cells (micro)",
        choices=lambda: [one.selected_by["cnn_space"] for one in SPACES.values() if "cnn_space" in one.selected_by],
        only={"network_type": "cnn"},
        kind=SPACE,
    )
    dataset: str = setting("ptb", "ptb, wikitext, cifar, pydoc, markov, shapes, or a folder in data_dir", kind=SPACE)
    train_type: str = setting(
        "orig",
        "how architectures are sampled; enas and regular are other names of orig",
        choices=lambda: [*dict.fromkeys(name for one in SPACES.values() for name in one.train_types), *ALIASES],
        kind=SPACE,
    )
    mode: str = _use(
        "train",
        "search, derive an architecture from a search, test a run, train the architecture in dag_path from scratch, or "
        "train the architecture of a search from scratch",
        choices=MODES,
    )
    load_path: str = _use(
        "",
        "run to resume, derive from, test, or train from scratch: name or path; without it the newest, or a new search",
        is_path=True,
    )
    dag_path: str = setting(
        "",
        "JSON file of an architecture to train, test, or study instead of the run's own; in mode single also random, "
        "and for text lstm",
        only={"mode": (*SCRATCH, "test")},
        is_path=True,
    )
    compare_with: tuple[str, ...] = setting(
        (),
        "baselines to train first: random (a uniform architecture), for text lstm; a repeated name has more seeds",
        only={"mode": "train_scratch"},
        kind=USE,
    )
    log_dir: str = _use("logs", "folder in which a new run makes its own folder", is_path=True)
    name: str = setting("", "new run's folder; by default DATASET_TRAIN-TYPE_TIME", only={"mode": TRAINING}, kind=USE)
    data_dir: str = _use("data", "folder of all datasets", is_path=True)
    random_seed: int = setting(12345, "seed of Python, NumPy and torch", at_least=0, below=2**63)
    num_gpu: int = _use(-1, "0 uses the CPU, 1 a GPU, -1 a GPU if there is one; torchrun uses several", at_least=-1)
    rank_timeout: float = _use(600.0, "torchrun: seconds to wait for another process before the run ends", above=0)
    num_threads: int = _use(0, "CPU threads; 0 is OMP_NUM_THREADS, or the fastest in trials", at_least=0, at_most=1024)
    use: tuple[str, ...] = _use((), "modules of your own to load first, names or .py files; ENAS_USE names more")
    wandb: bool = setting(
        False,
        "also show the curves and pictures in Weights & Biases; WANDB_MODE=offline keeps them on this machine",
        only={"mode": TRAINING},
        kind=USE,
        again=TRAINING,
    )

    def check(self) -> None:
        object.__setattr__(self, "train_type", ALIASES.get(self.train_type, self.train_type))
        name = self.name
        if name and (name != Path(name).name or name.startswith((".", "~")) or not name.isprintable()):
            raise UserError(f"name is {name!r}; it must be a plain name, of a new folder in log_dir")


COMMON = (
    RunConfig,
    searching.TrainerConfig,
    searching.DeriveConfig,
    searching.SizeConfig,
    searching.ReinforceConfig,
    searching.ControllerConfig,
    searching.ControllerOptimConfig,
)


def parts_of(spaces: Iterable[SearchSpace]) -> tuple[type[Settings], ...]:
    """Return the `Settings` classes of every run, and those of some search spaces."""
    return tuple(dict.fromkeys((*COMMON, *(part for space in spaces for part in space.settings))))


def all_settings(spaces: Iterable[SearchSpace] | None = None) -> dict[str, Field[Any]]:
    """Return the settings of every run and of some search spaces, by default all registered ones, by name."""
    return {spec.name: spec for part in parts_of(spaces or SPACES.values()) for spec in fields(part)}


def named(kind: str) -> set[str]:
    """Return the names of all settings of a kind."""
    return {name for name, spec in all_settings().items() if spec.metadata["kind"] == kind}


class Config:
    """All settings of a run, which never change: `config[TrainerConfig]` is a part, `config.max_epoch` one setting.

    Settings that are not given have their defaults, for which `configs/config_ours.py` gives the reasons, or the values
    of the preset that `config` names, see `with_preset`. UserError for an unknown, wrong or contradictory one.
    """

    def __init__(self, **settings: Any):
        if settings.get("use"):
            own_code.use(checked(all_settings()["use"], settings["use"]))
        known, settings = all_settings(), with_preset(settings)
        for name in settings:
            if name not in known:
                raise UserError(f"unknown setting {name}{did_you_mean(name, known)}")
        if callable(reward := settings.get("reward")):
            settings["reward"] = _registered(reward)
        self._values = {name: checked(spec, settings.get(name, spec.default)) for name, spec in known.items()}
        self.space = space_for(self._values)
        for part in parts_of([self.space]):
            self._values |= vars(self[part])
        self._check()

    def _check(self) -> None:
        known = self.space.train_types
        if self.train_type not in known:
            rule = f"it must be {' or '.join(known)} for network_type {self.network_type}"
            raise UserError(f"train_type is {self.train_type!r}; {rule}")
        if (self.max_parameters or self.max_flops) and self.space.problem().cost is None:
            raise UserError(f"max_parameters and max_flops: space {self.space.name} registers no cost; leave both 0")
        if self.reward and self.derive_finalists:
            raise UserError("derive_finalists ranks trainings by their metric, not by reward; leave one of the two out")
        if self._matters("controller_start") and self[searching.TrainerConfig].warm_up_epochs >= self.max_epoch:
            reason = f"of {self.max_epoch} epochs it leaves the controller none; lower it, or raise max_epoch"
            raise UserError(f"controller_start is {self.controller_start}; {reason}")
        for name in ("controller_num_aggregate", "controller_max_step"):
            is_alone = self._matters("baseline") and self.baseline == "leave_one_out" and getattr(self, name) == 1
            if is_alone and self._matters(name):
                reason = "baseline leave_one_out compares the architectures of an update and needs at least 2"
                raise UserError(f"{name} is 1; {reason}")
        self.space.check(self)

    def _matters(self, name: str) -> bool:
        return unmet(all_settings()[name], self._values) is None

    def __getitem__(self, part: type[Part]) -> Part:
        return part(**{spec.name: self._values[spec.name] for spec in fields(part)})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._values:
            raise AttributeError(f"there is no setting {name}")
        return self._values[name]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and self._values == other._values

    def __repr__(self) -> str:
        changed = {name: value for name, value in self._values.items() if value != all_settings()[name].default}
        return f"Config({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    @property
    def values(self) -> Mapping[str, Any]:
        return MappingProxyType(self._values)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of params.json, which any process can read that knows the space."""
        return json.loads(json.dumps({name: self._values[name] for name in all_settings([*OURS, self.space])}))

    def replace(self, **changes: Any) -> "Config":
        """Return a copy with some settings changed; raises as `Config`."""
        return Config(**{**self._values, **with_preset(changes)})


def _registered(reward: Any) -> str:
    """Register a reward function by its name, and return that; UserError if the name is another function's."""
    name = getattr(reward, "__name__", type(reward).__name__)
    entry = REWARDS.get(name)
    known = entry.args[0] if isinstance(entry, partial) and entry.args else entry or reward
    both = [one if hasattr(one, "__code__") else type(one) for one in (known, reward)]
    old, new = (getattr(one, "__code__", one) for one in both)
    holds = any(getattr(reward, part, None) for part in ("__closure__", "__defaults__", "__self__", "__dict__", "func"))
    renewed = old is not new and name != "<lambda>" and len({(one.__module__, one.__qualname__) for one in both}) == 1
    if not (known == reward or renewed or (old == new and not holds)):
        raise UserError(f"reward {name}: is the name of another function too; give this one a __name__ of its own")
    REWARDS[name] = partial(lambda reward, config: reward, reward)
    return name


def without_effect(name: str, config: Config) -> tuple[str, str] | None:
    """Say why a setting has no effect beside the others, and what it needs; None if it has an effect.

    In mode train, settings of runs from scratch have an effect: the search keeps them for later.
    """
    if name not in all_settings([config.space]):
        chosen_by = _choice_against(name, config.space)
        return f"{chosen_by} {getattr(config, chosen_by)}", ""
    missing = unmet(all_settings()[name], config.values)
    modes = (missing or {}).get("mode", ())
    if missing is None or (config.mode == "train" and "train_scratch" in modes and "test" not in modes):
        return None
    wanted = [f"{other} {' or '.join(map(str, needed))}" for other, needed in missing.items()]
    return " and ".join(f"{other} {getattr(config, other)}" for other in missing), ", or ".join(wanted)


def _choice_against(name: str, space: SearchSpace) -> str:
    """Return the setting that chooses `space` instead of the spaces that read `name`."""
    readers = [other.selected_by for other in SPACES.values() if name in all_settings([other])]
    return next(key for key, value in space.selected_by.items() if all(one.get(key) != value for one in readers))


def effect_notes(names: Iterable[str], config: Config) -> list[str]:
    """Return log lines that name the settings without an effect, and the settings kept for a later run from scratch."""
    idle: dict[tuple[str, str], list[str]] = {}
    later = []
    for name in names:
        if reason := without_effect(name, config):
            idle.setdefault(reason, []).append(name)
        elif unmet(all_settings()[name], config.values):
            later.append(name)
    lines = [
        f"no effect with {reason}: {', '.join(some)}{f' (needs {needs})' if needs else ''}"
        for (reason, needs), some in idle.items()
    ]
    return [*lines, *([f"only for later runs from scratch: {', '.join(later)}"] if later else [])]


def read_preset(name: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the settings in `configs/NAME.py` (or a file path): assignments of literals, which are not run.

    `config = "other"` in the file makes it a preset of another one. `above` are the presets that start from it.
    UserError if there is no such preset, or it holds something else.
    """
    if name in above:
        raise UserError(f"config {name}: starts from itself")
    path = Path(place(name, "config")) if name.endswith(".py") else CONFIG_DIR / f"{name}.py"
    if not path.is_file():
        known = sorted(file.stem for file in CONFIG_DIR.glob("*.py"))
        near = did_you_mean(name, known)
        raise NotFoundError(f"config {name}: no such preset; there are {', '.join(known)}{near}")
    try:
        tree = ast.parse(read_text(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # numbers or nests may be too long
        raise UserError(f"{path}: not a Python file: {error}") from None
    own: dict[str, Any] = {}
    for node in tree.body:
        with suppress(ValueError, TypeError, RecursionError, MemoryError):  # no literal, or a nest of thousands
            match node:
                case ast.Expr(ast.Constant(str())):  # a docstring
                    continue
                case ast.Assign([ast.Name(setting_name)], literal):
                    own[setting_name] = ast.literal_eval(literal)
                    continue
        raise UserError(f"{path}, line {node.lineno}: a config file holds lines like batch_size = 64, nothing else")
    start = own.pop("config", None)
    return own if start is None else {**read_preset(str(start), (*above, name)), **own}


def with_preset(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return flags, together with the settings of their --config that they do not override.

    Settings of the preset that the flags make ineffective (a controller's under `--train_type random`) are dropped.
    UserError if the preset is unknown or wrong, or for another search space than the flags choose.
    """
    given = dict(given)
    if (name := given.pop("config", None)) is None:
        return given
    preset, known = read_preset(str(name)), all_settings()
    own_code.check_used(preset.get("use"), f"config {name}")
    try:
        Config(**preset)
    except UserError as error:
        raise UserError(f"config {name}: {error}") from None
    preset = {key: checked(known[key], value) for key, value in preset.items()}
    given |= {key: checked(known[key], one) for key, one in given.items() if key in known and key != "reward"}
    values = {key: spec.default for key, spec in known.items()} | preset | given
    space = space_for(values)
    readable, kept = all_settings([space]), {}
    for key, value in preset.items():
        if key in given or (key not in readable and value == known[key].default):
            continue
        if key not in readable:
            chosen_by = _choice_against(key, space)
            reason = f"{key} has no effect for {chosen_by} {values[chosen_by]}"
            raise UserError(f"config {name} is for another search space: {reason}")
        missing = unmet(known[key], values)
        if missing is None or ("mode" in missing and values["mode"] == "train"):
            kept[key] = value
    return {**kept, **given}
