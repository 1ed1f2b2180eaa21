"""Every setting: one dataclass, from which flags, config files and params.json come."""

import argparse
import ast
import dataclasses
import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path

from enas.search_space.rnn_cell import ACTIVATIONS

CONFIG_DIR = Path(__file__).resolve().parent.parent / "configs"
TRAIN_TYPES = {
    **dict.fromkeys(("orig", "enas", "regular"), "orig"),
    "flexible": "flexible",
    "hardcoded": "hardcoded",
    "random": "random",
}
MODES = ("train", "derive", "test", "single", "train_scratch")


def _setting(default, help, choices=None, network_type=None):
    return field(default=default, metadata={"help": help, "choices": choices, "network_type": network_type})


# Settings that one half reads, and the other does not.
_rnn = partial(_setting, network_type="rnn")
_cnn = partial(_setting, network_type="cnn")


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of a run. `configs/config_ours.py` gives the reason for each default."""

    network_type: str = _setting("rnn", "what is searched: recurrent cells or convolutional networks", ("rnn", "cnn"))
    dataset: str = _setting("ptb", "ptb, wikitext, cifar, a built-in (pydoc, markov, shapes), or a folder of data_dir")
    train_type: str = _setting("orig", "how architectures are sampled (enas and regular name orig)", tuple(TRAIN_TYPES))
    architecture: str = _rnn("chain", "connections of train_type hardcoded", ("chain", "tree"))
    mode: str = _setting(
        "train",
        "search, derive from a search, test a run, train the single architecture of dag_path, or train the derived "
        "one from scratch",
        MODES,
    )
    load_path: str = _setting("", "run (name or path) to resume, derive from, test, or train from scratch")
    dag_path: str = _setting("", "architecture of mode single or of an ablation: a JSON file; or, in mode single, lstm")
    log_dir: str = _setting("logs", "where run folders are made")
    data_dir: str = _setting("data", "where datasets lie")
    random_seed: int = _setting(12345, "seed of Python, NumPy and torch")
    num_gpu: int = _setting(-1, "0 is the CPU, 1 a GPU, -1 a GPU when there is one")
    num_threads: int = _setting(0, "threads on the CPU; 0 is OMP_NUM_THREADS, or what a short trial finds fastest")
    precision: str = _rnn(
        "auto",
        "of the decoder's matrix products; auto is bfloat16 where the machine has it and a short trial finds it faster",
        ("auto", "float32", "bfloat16"),
    )

    num_blocks: int = _rnn(12, "nodes of a cell")
    shared_rnn_activations: tuple[str, ...] = _rnn(
        ("tanh", "ReLU", "identity", "sigmoid"), "activations to choose from, separated by commas"
    )
    cell_output: str = _setting("loose_ends", "what is averaged into the output", ("loose_ends", "all"))

    batch_size: int = _setting(64, "sequences or images side by side, in training and in evaluation")
    vocab_min_count: int = _rnn(2, "rarer words become <unk>, where the text has none of its own")

    shared_embed: int = _rnn(1000, "embedding size")
    shared_hid: int = _rnn(1000, "hidden size")
    tie_weights: bool = _rnn(True, "decoder and embedding share their weights")
    shared_dropoute: float = _rnn(0.1, "embedding dropout, of whole words")
    shared_dropouti: float = _rnn(0.65, "locked dropout on the input")
    shared_dropout: float = _rnn(0.4, "locked dropout on the output")
    shared_dropouth: float = _rnn(0.0, "locked dropout of the state, at node 0 and at every edge")
    shared_wdrop: float = _rnn(0.5, "DropConnect on the state's weights of node 0")
    shared_batch_norm: bool = _rnn(True, "normalise the output by batch statistics while searching")
    shared_norm_bound: float = _rnn(25.0, "largest norm of a hidden state")
    shared_activation_reg: float = _rnn(0.0, "coefficient of the squared outputs (AR)")
    shared_temporal_activation_reg: float = _rnn(0.0, "coefficient of the squared state changes (TAR)")
    shared_norm_stabilizer: float = _rnn(0.0, "coefficient of the squared distance of state norms to a fixed point")
    shared_norm_stabilizer_point: float = _rnn(5.0, "that fixed point")
    shared_init_range: float = _rnn(0.0, "shared weights start uniform in ±this; 0 is 1/√shared_hid")
    shared_embed_init_range: float = _rnn(0.05, "embeddings start uniform in ±this")
    shared_input_scale: float = _rnn(0.0, "embedded words are multiplied by this; 0 is √shared_embed")
    shared_unigram_bias: bool = _rnn(True, "the decoder's bias starts at the words' log frequencies in training")

    shared_rnn_max_length: int = _rnn(35, "tokens of truncated back-propagation")
    shared_max_step: int = _setting(0, "shared-parameter steps an epoch; 0 is 400 (text) or a whole pass (images)")
    shared_num_sample: int = _setting(1, "architectures a shared step, their gradients averaged")
    shared_optim: str = _rnn("sgd", "optimiser of the shared parameters", ("sgd", "adam"))
    shared_lr: float = _rnn(20.0, "learning rate of the shared parameters")
    shared_decay: float = _rnn(0.96, "factor on it an epoch")
    shared_decay_after: int = _rnn(15, "epochs before that decay begins")
    shared_lr_warmup: int = _rnn(0, "steps over which it rises from 0")
    shared_lr_cosine: bool = _rnn(False, "cosine schedule over max_epoch, in place of the decay")
    shared_lr_min: float = _rnn(0.0, "where the cosine schedule ends")
    shared_adam_beta1: float = _rnn(0.9, "Adam's decay of the gradient average")
    shared_adam_beta2: float = _rnn(0.999, "Adam's decay of the squared gradient average")
    shared_l2_reg: float = _rnn(1e-7, "weight decay")
    shared_grad_clip: float = _rnn(0.25, "largest gradient norm; 0 does not clip")

    scratch_random_length: bool = _rnn(True, "alone: draw the length of back-propagation anew for each minibatch")
    scratch_asgd_patience: int = _rnn(5, "alone: average weights once worse than this many epochs ago; 0 never")
    scratch_early_stop: int = _rnn(30, "alone: stop after this many epochs without a better validation; 0 never")

    cnn_space: str = _cnn("macro", "cnn: search whole networks (macro) or cells (micro)", ("macro", "micro"))
    cnn_num_layers: int = _cnn(0, "cnn: layers, or normal cells, while searching; 0 is 12 (macro) or 6 (micro)")
    cnn_num_blocks: int = _cnn(5, "cnn, micro: nodes of a cell")
    cnn_hid: int = _cnn(0, "cnn: filters while searching; 0 is 36 (macro), or 20 in the first cells (micro)")
    cnn_dropout: float = _cnn(0.1, "cnn: dropout before the classifier while searching")
    cnn_lr_max: float = _cnn(0.05, "cnn: where each cosine period of the learning rate starts")
    cnn_lr_min: float = _cnn(0.001, "cnn: where it ends")
    cnn_lr_period: int = _cnn(10, "cnn: epochs of the first period; each further one is twice as long")
    cnn_l2_reg: float = _cnn(1e-4, "cnn: weight decay")
    cnn_grad_clip: float = _cnn(5.0, "cnn: largest gradient norm; 0 does not clip")
    cnn_crop_padding: int = _cnn(4, "cnn: training images are shifted by up to this many pixels")
    cnn_flip: bool = _cnn(True, "cnn: half of the training images are mirrored left to right")
    cnn_cutout: int = _cnn(0, "cnn: side in pixels of a square blanked out of training images; 0 blanks none")
    cnn_skip_target: float = _cnn(0.4, "cnn, macro: the skip rate that the controller is drawn to")
    cnn_skip_weight: float = _cnn(0.8, "cnn, macro: weight of that pull in the controller's loss")
    image_size: int = _cnn(0, "cnn: side in pixels that images are brought to; 0 leaves them as they are")
    valid_size: int = _cnn(
        5000,
        "cnn: training images of CIFAR-10 held out for validation; alone, 0 trains on all and tests the last epoch",
    )
    scratch_cnn_hid: int = _cnn(0, "cnn, alone: filters of the first layers; 0 is 96 (macro) or 36 (micro)")
    scratch_cnn_num_layers: int = _cnn(15, "cnn, micro, alone: normal cells")
    scratch_cnn_dropout: float = _cnn(
        -1.0, "cnn, alone: dropout before the classifier; -1 is 0.5 (macro) or 0.2 (micro)"
    )
    scratch_cnn_drop_path: float = _cnn(
        0.4, "cnn, micro, alone: probability of dropping a path of the last cell at the end of training"
    )
    scratch_cnn_auxiliary_weight: float = _cnn(0.4, "cnn, micro, alone: weight of the auxiliary head's loss")

    controller_hid: int = _setting(100, "LSTM units of the controller")
    softmax_temperature: float = _setting(5.0, "logits are divided by this")
    tanh_c: float = _setting(2.5, "logits are then squashed to ±this; 0 does not squash")
    controller_init_range: float = _setting(0.1, "controller weights start uniform in ±this")
    controller_near_prior: float = _rnn(0.0, "this × squared distance is taken off a connection's logit; enas_lm: 1/6")
    cnn_separable_start: float = _cnn(0.0, "cnn, micro: where the biases of separable convolutions start; authors: 10")
    cnn_separable_prior: float = _cnn(
        0.0, "cnn, micro: added to logits of separable convolutions in normal cells, taken off others; authors: 0.25"
    )
    cnn_operation_tanh_c: float = _cnn(0.0, "cnn, micro: tanh_c of operations; 0 is tanh_c; authors: 0.44")
    controller_max_step: int = _setting(2000, "architectures sampled for the controller an epoch")
    controller_num_aggregate: int = _setting(1, "architectures scored together and averaged in one update")
    controller_optim: str = _setting("adam", "optimiser of the controller", ("adam", "momentum", "sgd"))
    controller_lr: float = _setting(3.5e-4, "learning rate of the controller")
    controller_adam_beta1: float = _setting(0.9, "Adam's decay of the gradient average, for the controller")
    controller_adam_beta2: float = _setting(0.999, "Adam's decay of the squared gradient average, for the controller")
    controller_adam_eps: float = _setting(1e-8, "what Adam adds to the root of that average, for the controller")
    controller_lr_cosine: bool = _setting(False, "cosine schedule with restarts, by epoch, in place of controller_lr")
    controller_lr_max: float = _setting(0.05, "where each cosine period starts")
    controller_lr_min: float = _setting(0.001, "where each cosine period ends")
    controller_lr_period: int = _setting(10, "epochs of the first cosine period; each further one is twice as long")
    controller_grad_clip: float = _setting(0.0, "largest gradient norm; 0 does not clip")
    reward_c: float = _rnn(80.0, "reward is this / validation perplexity")
    ppl_square: bool = _rnn(False, "reward is reward_c / validation perplexity squared")
    entropy_coeff: float = _setting(1e-4, "weight of the controller's entropy")
    entropy_mode: str = _setting("reward", "entropy joins the reward, or the loss", ("reward", "regularizer"))
    ema_baseline_decay: float = _setting(0.95, "share of the old baseline that stays")
    discount: float = _setting(1.0, "discount of the reward from decision to decision")

    max_epoch: int = _setting(150, "epochs")
    save_epoch: int = _setting(4, "derive, evaluate, draw and save every this many epochs")
    max_save_num: int = _setting(4, "newest checkpoints to keep, beside the best")
    log_step: int = _setting(50, "steps between two entries in log and TensorBoard")
    derive_num_sample: int = _setting(100, "architectures to choose from when deriving")
    derive_max_batches: int = _setting(4, "validation minibatches that choose among them")

    def __post_init__(self):
        for spec in fields(self):
            object.__setattr__(self, spec.name, _checked(spec, getattr(self, spec.name)))
        object.__setattr__(self, "train_type", TRAIN_TYPES[self.train_type])
        _check_ranges(self)

    def to_dict(self) -> dict:
        """JSON-ready: what params.json holds."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def replace(self, **changes) -> "Config":
        """A copy with some settings changed; ValueError for one that does not exist."""
        return from_mapping({**self.to_dict(), **changes}, "settings")


# The half that alone reads a setting; None where both do.
_NETWORK_TYPES = {spec.name: spec.metadata["network_type"] for spec in fields(Config)}

# Settings that must be at least this; all other numbers only must be what their type says.
_AT_LEAST = {
    1: (
        "num_blocks batch_size vocab_min_count shared_embed shared_hid shared_rnn_max_length "
        "shared_num_sample controller_hid controller_num_aggregate max_epoch save_epoch max_save_num log_step "
        "derive_num_sample derive_max_batches controller_lr_period cnn_num_blocks cnn_lr_period "
        "scratch_cnn_num_layers"
    ),
    0: (
        "shared_lr_warmup shared_lr_min shared_l2_reg shared_grad_clip controller_max_step controller_grad_clip "
        "shared_init_range shared_input_scale shared_decay_after tanh_c entropy_coeff shared_activation_reg "
        "controller_near_prior cnn_operation_tanh_c valid_size shared_max_step num_threads "
        "shared_temporal_activation_reg shared_norm_stabilizer random_seed shared_lr controller_lr controller_lr_min "
        "scratch_asgd_patience scratch_early_stop cnn_num_layers cnn_hid cnn_lr_min cnn_l2_reg cnn_grad_clip "
        "cnn_crop_padding cnn_cutout cnn_skip_weight image_size scratch_cnn_hid scratch_cnn_auxiliary_weight"
    ),
}
_ABOVE_ZERO = (
    "softmax_temperature shared_norm_bound shared_embed_init_range controller_init_range reward_c "
    "shared_decay controller_lr_max controller_adam_eps cnn_lr_max"
)
_BELOW_ONE = (
    "shared_dropoute shared_dropouti shared_dropout shared_dropouth shared_wdrop ema_baseline_decay shared_adam_beta1 "
    "shared_adam_beta2 controller_adam_beta1 controller_adam_beta2 cnn_dropout scratch_cnn_drop_path"
)


def _check_ranges(config: Config) -> None:
    for bound, names in _AT_LEAST.items():
        for name in names.split():
            _require(getattr(config, name) >= bound, name, config, f"must be at least {bound}")
    for name in _ABOVE_ZERO.split():
        _require(getattr(config, name) > 0, name, config, "must be above 0")
    for name in _BELOW_ONE.split():
        _require(0 <= getattr(config, name) < 1, name, config, "must lie in [0, 1)")
    _require(0 <= config.discount <= 1, "discount", config, "must lie in [0, 1]")
    _require(config.num_gpu >= -1, "num_gpu", config, "must be 0 (the CPU), 1, or -1 (a GPU when there is one)")
    _require(config.random_seed < 2**63, "random_seed", config, "must be below 2**63")
    _CHECK_HALF[config.network_type](config)


def _check_rnn(config: Config) -> None:
    names = config.shared_rnn_activations
    _require(bool(names), "shared_rnn_activations", config, "must name at least one")
    are_known = set(names) <= set(ACTIVATIONS) and len(set(names)) == len(names)
    _require(are_known, "shared_rnn_activations", config, f"must be different names out of {', '.join(ACTIVATIONS)}")
    if config.train_type == "flexible":
        _require(config.num_blocks >= 3, "num_blocks", config, "must be at least 3 for train_type flexible")
    if config.tie_weights and config.shared_embed != config.shared_hid:
        raise ValueError(
            f"tie_weights needs equal sizes, but shared_embed is {config.shared_embed} and shared_hid "
            f"{config.shared_hid}; make them equal, or set tie_weights to false"
        )
    if config.shared_batch_norm and config.batch_size == 1:
        raise ValueError(
            "batch_size is 1; shared_batch_norm normalises by the statistics of a batch and needs at least 2, "
            "or set shared_batch_norm to false"
        )


def _check_cnn(config: Config) -> None:
    is_known = config.train_type in ("orig", "random")
    _require(is_known, "train_type", config, "must be orig or random for network_type cnn")
    _require(0 < config.cnn_skip_target < 1, "cnn_skip_target", config, "must lie between 0 and 1")
    _require(config.batch_size >= 2, "batch_size", config, "must be at least 2 for network_type cnn")
    dropout = config.scratch_cnn_dropout
    _require(dropout == -1 or 0 <= dropout < 1, "scratch_cnn_dropout", config, "must lie in [0, 1), or be -1")
    for name in ("cnn_hid", "scratch_cnn_hid"):
        _require(getattr(config, name) != 1, name, config, "must be at least 2, or 0 for the default")
    if config.cnn_space == "micro":
        for name in ("cnn_num_layers", "scratch_cnn_num_layers"):
            rule = "must be a multiple of 3 for cnn_space micro: reduction cells stand between thirds"
            _require(getattr(config, name) % 3 == 0, name, config, rule)


_CHECK_HALF = {"rnn": _check_rnn, "cnn": _check_cnn}


def _require(holds: bool, name: str, config: Config, rule: str) -> None:
    if not holds:
        raise ValueError(f"{name} is {getattr(config, name)!r}; it {rule}")


def _checked(spec: dataclasses.Field, value):
    """`value` as the field's type; ValueError, naming the setting, when it is not one."""
    if spec.type == tuple[str, ...]:
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
            raise ValueError(f"{spec.name} is {value!r}; it must be a list of names")
        return tuple(value)
    if spec.type is float and type(value) is int:
        value = float(value)
    if type(value) is not spec.type:
        raise ValueError(f"{spec.name} is {value!r}; it must be of type {spec.type.__name__}")
    if spec.type is float and not abs(value) < float("inf"):
        raise ValueError(f"{spec.name} is {value!r}; it must be a finite number")
    choices = spec.metadata["choices"]
    if choices and value not in choices:
        raise ValueError(f"{spec.name} is {value!r}; it must be one of {', '.join(choices)}")
    return value


def nearest(name: str, known) -> str:
    """The advice to end an error about an unknown name with: the nearest known one, if any is near."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""


def from_mapping(settings: dict, source: str) -> Config:
    """A Config of named settings; ValueError, naming `source`, for an unknown or a wrong one."""
    if not isinstance(settings, dict):
        raise ValueError(f"{source}: holds a {type(settings).__name__}; it must map settings to values")
    known = {spec.name for spec in fields(Config)}
    for name in settings:
        if name not in known:
            raise ValueError(f"{source}: unknown setting {name}{nearest(name, known)}")
    try:
        return Config(**settings)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def has_effect(name: str, network_type: str) -> bool:
    """Whether a run of `network_type` reads the setting `name`; True for what is no setting."""
    return _NETWORK_TYPES.get(name) in (None, network_type)


def check_effect(names: Iterable[str], network_type: str) -> None:
    """Raise ValueError for a setting, given by name, that a run of `network_type` does not read."""
    for name in names:
        if not has_effect(name, network_type):
            raise ValueError(f"{name} has no effect for network_type {network_type}; leave it out")


def read_variation(name: str) -> dict:
    """The settings of `configs/NAME.py` (or of a file path): assignments of literals, read without running them.

    Raises:
        FileNotFoundError: there is no such variation.
        ValueError: the file holds something else than assignments of literals.
    """
    path = Path(name) if name.endswith(".py") else CONFIG_DIR / f"{name}.py"
    if not path.is_file():
        known = sorted(file.stem for file in CONFIG_DIR.glob("*.py"))
        raise FileNotFoundError(f"config {name}: no such variation; there are {', '.join(known)}{nearest(name, known)}")
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a Python file: {error}") from None
    return dict(_assignment(path, node) for node in tree.body if not _is_docstring(node))


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _assignment(path: Path, node: ast.stmt) -> tuple:
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        try:
            return node.targets[0].id, ast.literal_eval(node.value)
        except (ValueError, TypeError):
            pass
    raise ValueError(f"{path}, line {node.lineno}: a config file holds lines like batch_size = 64, nothing else")


class Parser(argparse.ArgumentParser):
    """Raises ValueError where argparse would print its usage and exit; flags that are not given have no value."""

    def __init__(self, description: str):
        super().__init__(description=description, allow_abbrev=False, argument_default=argparse.SUPPRESS)

    def error(self, message: str):
        raise ValueError(f"{message}; --help lists the flags")

    def given(self, argv: list[str]) -> dict:
        """The values of the flags in `argv`; ValueError for a wrong value or an unknown flag, with the nearest one."""
        known, unknown = self.parse_known_args(argv)
        for word in unknown:
            if not word.strip():
                continue  # what the shell makes of a backslash with a space behind it at a line's end
            flag = word.split("=")[0]
            if flag.startswith("--"):
                raise ValueError(f"unknown flag {flag}{nearest(flag, self._option_string_actions)}")
            raise ValueError(f"unexpected argument {word!r}; settings are given as --name value")
        return vars(known)


def _boolean(text: str) -> bool:
    values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"{text!r} is not true or false (also 1/0, yes/no)")
    return values[text.lower()]


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def make_parser(description: str) -> Parser:
    """A parser with one flag a setting, and --config."""
    parser = Parser(description)
    parser.add_argument("--config", metavar="NAME", help="variation in configs/ to start from")
    for spec in fields(Config):
        reader = {bool: _boolean, tuple[str, ...]: _names}.get(spec.type, spec.type)
        default = ",".join(spec.default) if isinstance(spec.default, tuple) else spec.default
        parser.add_argument(
            f"--{spec.name}",
            type=reader,
            choices=spec.metadata["choices"],
            metavar=None if spec.metadata["choices"] else spec.name.upper(),
            help=f"{spec.metadata['help']} (default: {default})".replace("%", "%%"),
        )
    return parser


def parse_flags(argv: list[str], description: str) -> dict:
    """The settings that the command line gives, those of its --config included; flags win.

    Raises:
        ValueError: for an unknown flag (with the nearest known one) or a wrong value.
        FileNotFoundError: for an unknown --config.
    """
    return with_variation(make_parser(description).given(argv))


def with_variation(given: dict) -> dict:
    """Flags with the settings of their --config put in, where they do not win over them; raises as `parse_flags`.

    A variation may be for the other half: what it says of that one alone is passed over.
    """
    given = dict(given)
    name = given.pop("config", None)
    variation = read_variation(name) if name else {}
    if variation:
        from_mapping(variation, f"config {name}")
    network_type = {**variation, **given}.get("network_type", Config.network_type)
    relevant = {name: value for name, value in variation.items() if has_effect(name, network_type)}
    return {**relevant, **given}
