"""Settings: from the parts that own them come flags, config files and params.json, and no flag is without an effect."""

import ast
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from test_image import write_cifar
from tiny import main

from enas.config import (
    CONFIG_DIR,
    RETIRED,
    Config,
    all_settings,
    config_from,
    effect_notes,
    read_variation,
    without_effect,
)
from enas.errors import UserError
from enas.parser import USUAL, parse_flags, settings_by_part
from enas.rnn.cell import ACTIVATIONS, RNNCell
from enas.runs.commands import execute
from enas.settings import ABOVE_ZERO, ANY_OF, Settings, setting

FIELDS = all_settings()
CELL = RNNCell(("tanh", "ReLU", "identity"), (0, 0))


def _parse(*argv: str) -> dict:
    return parse_flags(list(argv), "test")


def _reads(settings: dict, name: str) -> bool:
    """Whether the search space of a run with these settings reads another."""
    reason = without_effect(name, Config(**settings))
    return reason is None or reason[1] != ""


# --- flags ------------------------------------------------------------------------------------------------------------


def test_help_lists_every_setting_with_its_text_and_default(capsys):
    with pytest.raises(SystemExit) as end:
        _parse("--help_all")
    assert end.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    for name, spec in FIELDS.items():
        assert spec.metadata["help"] and f"--{name}" in out
    assert "this × squared distance" in out and "(default: tanh,ReLU,identity,sigmoid)" in out


def test_help_is_short(capsys):
    with pytest.raises(SystemExit) as end:
        _parse("--help")
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert "--help_all" in out and "--max_epoch" in out and "--config" in out
    assert set(re.findall(r"--(\w+) ", out)) >= USUAL
    assert not [name for name in FIELDS if name not in USUAL and f"--{name} " in out]


def test_each_setting_is_in_one_group():
    names = [name for specs in settings_by_part().values() for name in specs]
    assert sorted(names) == sorted(FIELDS)
    assert {"batch_size", "reward_batch_size"} == settings_by_part()["How much a step reads"].keys()


def test_a_switch_may_stand_alone():
    assert _parse("--wandb", "--tie_weights", "no") == {"wandb": True, "tie_weights": False}


def test_no_flags_no_settings():
    assert _parse() == {}
    assert Config(**_parse()) == Config()


def test_every_flag_reads_its_default_back():
    values = tiny.flags({name: spec.default for name, spec in FIELDS.items()})
    assert Config(**_parse(*values)) == Config()


@pytest.mark.parametrize("text", ["true", "True", "1", "yes", "YES"])
def test_true(text):
    assert _parse("--ppl_square", text) == {"ppl_square": True}


@pytest.mark.parametrize("text", ["false", "False", "0", "no", "No"])
def test_false(text):
    assert _parse("--tie_weights", text) == {"tie_weights": False}


@pytest.mark.parametrize("text", ["rue", "2", "", "y", "none"])
def test_neither_true_nor_false(text):
    with pytest.raises(ValueError, match=r"tie_weights.*true or false"):
        _parse("--tie_weights", text)


def test_names_are_split_at_commas():
    assert _parse("--shared_rnn_activations", "tanh, ReLU") == {"shared_rnn_activations": ("tanh", "ReLU")}


@pytest.mark.parametrize("blank", [" ", "", "\t"])
def test_a_lone_blank_argument_is_passed_over(blank):
    """The commands of the first ENAS code in PyTorch have a backslash and a space at some lines' ends."""
    assert _parse("--dataset", "ptb", blank, "--num_blocks", "3", blank) == {"dataset": "ptb", "num_blocks": 3}


def test_flags_are_not_abbreviated():
    with pytest.raises(ValueError, match=r"unknown flag --num_block; did you mean --num_blocks\?"):
        _parse("--num_block", "3")


@pytest.mark.parametrize("name", ["orig", "enas", "regular"])
def test_names_of_the_original_controller(name):
    assert Config(train_type=name).train_type == "orig"


# --- values -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Example(Settings):
    """One setting of each kind."""

    count: int = setting(3, "how many", at_least=1)
    seed: int = setting(0, "any", at_least=0, below=10)
    rate: float = setting(0.5, "how fast", above=0)
    share: float = setting(0.5, "how much", at_least=0, below=1)
    inside: float = setting(0.5, "how much", above=0, below=1)
    closed: float = setting(0.5, "how much", at_least=0, at_most=1)
    kind: str = setting("a", "which", choices=("a", "b"))
    is_on: bool = setting(False, "whether")
    names: tuple[str, ...] = setting(("x",), "several")


def test_values_that_are_allowed():
    example = Example(count=1, seed=9, rate=2, share=0, closed=1, kind="b", is_on=True, names=["y", "z"])
    assert (example.rate, type(example.rate), example.names) == (2.0, float, ("y", "z"))


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("count", 0, "it must be at least 1"),
        ("count", 1.5, "it must be of type int"),
        ("count", True, "it must be of type int"),
        ("count", "1", "it must be of type int"),
        ("count", None, "it must be of type int"),
        ("seed", 10, "it must lie in [0, 10)"),
        ("rate", 0.0, "it must be above 0"),
        ("rate", float("nan"), "it must be a finite number"),
        ("rate", float("inf"), "it must be a finite number"),
        ("rate", [1], "it must be of type float"),
        ("share", 1.0, "it must lie in [0, 1)"),
        ("share", -0.1, "it must lie in [0, 1)"),
        ("inside", 0, "it must lie in (0, 1)"),
        ("closed", 1.1, "it must lie in [0, 1]"),
        ("kind", "c", "it must be one of a, b"),
        ("is_on", 1, "it must be of type bool"),
        ("names", "x", "it must be a list of names"),
        ("names", [1], "it must be a list of names"),
    ],
)
def test_values_that_are_not(name, value, rule):
    with pytest.raises(UserError, match=rf"^{name} is .*; {re.escape(rule)}$"):
        Example(**{name: value})


PAIRS = {"controller_num_aggregate": 2, "controller_max_step": 4}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"shared_rnn_activations": ()}, r"shared_rnn_activations"),
        ({"shared_rnn_activations": ("tanh", "tanh")}, r"different names"),
        ({"shared_rnn_activations": ("relu",)}, r"out of tanh, ReLU, identity, sigmoid, GELU, SiLU"),
        ({"shared_embed": 64}, r"tie_weights.*shared_embed is 64 and shared_hid 1000"),
        ({"batch_size": 1}, r"batch_size is 1; shared_batch_norm.*at least 2"),
        ({"network_type": "cnn", "train_type": "flexible"}, r"train_type is 'flexible'; it must be orig or random"),
        ({"network_type": "cnn", "cnn_skip_target": 1.0}, r"cnn_skip_target is 1\.0; it must lie in \(0, 1\)"),
        ({"network_type": "cnn", "batch_size": 1}, r"batch_size is 1; it must be at least 2 for network_type cnn"),
        ({"network_type": "cnn", "cnn_hid": 1}, r"cnn_hid is 1; it must be at least 2, or 0"),
        ({"network_type": "cnn", "scratch_cnn_hid": 1}, r"scratch_cnn_hid is 1; it must be at least 2, or 0"),
        ({"network_type": "cnn", "cnn_space": "micro", "cnn_num_layers": 4}, r"cnn_num_layers is 4; .* multiple of 3"),
        ({"network_type": "cnn", "cnn_space": "micro", "scratch_cnn_num_layers": 5}, r"scratch_cnn_num_layers is 5"),
        ({"reward_batch_size": 1}, r"reward_batch_size is 1; shared_batch_norm.*at least 2"),
        (
            {"network_type": "cnn", "reward_batch_size": 1},
            r"reward_batch_size is 1; it must be at least 2 for network_type cnn",
        ),
        ({"max_epoch": 2, "controller_start": 0.75}, r"controller_start is 0\.75; of 2 epochs it leaves .* none"),
        ({"max_epoch": 3, "controller_start": 0.9}, r"controller_start is 0\.9; of 3 epochs it leaves .* none"),
        (PAIRS | {"baseline": "leave_one_out", "controller_max_step": 1}, r"controller_max_step is 1; .* at least 2"),
        ({"mode": "tain"}, r"mode is 'tain'; it must be one of train, derive, test"),
    ],
)
def test_values_that_make_no_sense(changes, says):
    with pytest.raises(ValueError, match=says):
        Config(**changes)


def test_settings_that_make_sense_together():
    assert Config(shared_embed=64, tie_weights=False).shared_embed == 64
    assert Config(batch_size=1, shared_batch_norm=False).batch_size == 1
    assert Config(reward_batch_size=1, shared_batch_norm=False).reward_batch_size == 1
    assert Config(reward_batch_size=1, train_type="random").train_type == "random"  # nothing is rewarded
    assert Config(max_epoch=2, controller_start=0.75, mode="train_scratch").max_epoch == 2  # nothing warms up
    assert Config(max_epoch=2, controller_start=0.75, train_type="random").max_epoch == 2
    assert Config(network_type="cnn", shared_embed=64).shared_embed == 64
    assert Config(network_type="cnn", cnn_num_layers=4).cnn_num_layers == 4


@pytest.mark.parametrize("settings", [[], None, 3, "x", ["dataset"]], ids=repr)
def test_settings_must_be_a_mapping(settings):
    with pytest.raises(ValueError, match=r"^params: holds a "):
        config_from(settings, "params")


def test_an_unknown_setting():
    with pytest.raises(ValueError, match=r"^here: unknown setting shared_hidden; did you mean shared_hid\?"):
        config_from({"shared_hidden": 3}, "here")


# --- params.json ------------------------------------------------------------------------------------------------------


@given(
    st.integers(1, 30),
    st.lists(st.sampled_from([*ACTIVATIONS]), min_size=1, unique=True),
    st.floats(1e-9, 1e9),
    st.floats(0, 1, exclude_max=True),
    st.booleans(),
)
def test_params_round_trip(num_blocks, activations, lr, dropout, square):
    config = Config(
        num_blocks=num_blocks,
        shared_rnn_activations=activations,
        shared_lr=lr,
        shared_dropout=dropout,
        ppl_square=square,
    )
    assert config_from(json.loads(json.dumps(config.to_dict())), "params.json") == config


@pytest.mark.parametrize(("name", "value"), RETIRED.items())
def test_a_file_of_an_earlier_version_loads_where_it_holds_what_is_built_in(name, value):
    assert config_from({name: value}, "params.json") == Config()
    if value is not None:
        with pytest.raises(ValueError, match=rf"^params: {name} is .*; this version has no such setting, and acts as"):
            config_from({name: value + 1}, "params")


def test_replace_changes_a_copy():
    config = Config()
    assert config.replace(num_blocks=5).num_blocks == 5
    assert config.num_blocks == 12
    with pytest.raises(ValueError, match="unknown setting"):
        config.replace(blocks=5)


# --- variations -------------------------------------------------------------------------------------------------------


def _variation(folder: Path, text: str) -> str:
    path = folder / "variation.py"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_reference_names_every_setting_with_its_default():
    assert read_variation("config_ours") == {name: spec.default for name, spec in FIELDS.items()}


@pytest.mark.parametrize("path", sorted(CONFIG_DIR.glob("*.py")), ids=lambda path: path.stem)
def test_every_variation_is_a_config(path):
    variation = read_variation(path.stem)
    assert variation
    assert config_from(variation, path.name) == Config(**variation)
    assert ast.get_docstring(ast.parse(path.read_text())), "a variation says what it is for"


def test_flags_win_over_the_variation(tmp_path):
    name = _variation(tmp_path, '"""Small."""\nnum_blocks = 5  # fewer\nshared_lr = 1.0\n')
    assert _parse("--config", name, "--shared_lr", "2") == {"num_blocks": 5, "shared_lr": 2.0}
    assert _parse("--shared_lr", "2", "--config", name) == {"num_blocks": 5, "shared_lr": 2.0}


def test_defaults_of_another_space_in_a_variation_are_left_out(tmp_path):
    name = _variation(tmp_path, "num_blocks = 12\ncnn_hid = 8\nnetwork_type = 'cnn'\n")
    assert _parse("--config", name) == {"network_type": "cnn", "cnn_hid": 8}


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (
            ["--config", "ptb_small", "--network_type", "cnn"],
            "config ptb_small is for another search space: num_blocks has no effect for network_",
        ),
        (
            ["--config", "cifar_micro_small", "--cnn_space", "macro"],
            "config cifar_micro_small is for another search space: cnn_num_blocks has no ef",
        ),
        (
            ["--config", "cifar_macro_small", "--network_type", "rnn"],
            "config cifar_macro_small is for another search space: image_size has no effect",
        ),
    ],
)
def test_a_variation_for_another_space_is_refused(argv, says):
    with pytest.raises(UserError, match=says):
        _parse(*argv)


def test_a_variation_gives_way_to_the_train_type(tmp_path):
    """The control of a search has its budget, and none of its controller's settings."""
    settings = _parse("--config", "ptb_small", "--train_type", "random")
    assert settings["num_blocks"] == 6 and settings["shared_lr"] == 0.003
    assert not {"controller_max_step", "controller_num_aggregate", "controller_lr"} & set(settings)
    assert effect_notes(settings, Config(**settings)) == []


# --- settings without an effect ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"architecture": "tree"}, "with train_type orig: architecture (needs train_type hardcoded)"),
        ({"train_type": "random", "controller_lr": 0.1, "reward_c": 8.0}, "random: controller_lr, reward_c ("),
        ({"shared_adam_beta2": 0.5}, "with shared_optim sgd: shared_adam_beta2 (needs shared_optim adam)"),
        ({"controller_optim": "momentum", "controller_adam_eps": 1e-3}, "with controller_optim momentum: "),
        ({"shared_lr_min": 0.1}, "shared_lr_cosine False: shared_lr_min (needs shared_lr_cosine True)"),
        ({"shared_lr_cosine": True, "shared_decay": 0.5}, "with shared_lr_cosine True: shared_decay"),
        ({"controller_lr_cosine": True, "controller_lr": 0.1}, "with controller_lr_cosine True: controller_lr"),
        ({"entropy_coeff": 0.0, "entropy_mode": "regularizer"}, "(needs entropy_coeff above 0)"),
        ({"size_beta": -0.5}, "and max_flops 0: size_beta (needs max_parameters above 0, or max_flops above 0)"),
        ({"shared_balanced": True, "shared_num_sample": 2}, "(needs train_type random, or controller_start above 0)"),
        ({"mode": "single", "dag_path": "lstm", "save_epoch": 1}, "with mode single: save_epoch (needs mode train)"),
        ({"mode": "single", "dag_path": "lstm", "controller_lr": 1.0}, "with mode single: controller_lr"),
        ({"dag_path": "lstm"}, "with mode train: dag_path (needs mode single or train_scratch or test)"),
        ({"cnn_space": "micro"}, "with network_type rnn: cnn_space (needs network_type cnn)"),
        ({"cnn_hid": 8}, "no effect with network_type rnn: cnn_hid"),
        ({"network_type": "cnn", "shared_lr": 3.0}, "no effect with network_type cnn: shared_lr"),
        ({"network_type": "cnn", "cnn_num_blocks": 3}, "no effect with cnn_space macro: cnn_num_blocks"),
        ({"network_type": "cnn", "cell_output": "all"}, "no effect with cnn_space macro: cell_output"),
    ],
)  # fmt: skip
def test_flags_without_an_effect_are_named_in_one_line(settings, says):
    (line,) = effect_notes(settings, Config(**settings))
    assert line.startswith("no effect with ") and says in line


def test_a_run_with_a_flag_without_an_effect_says_so_and_goes_on(tmp_path, capsys):
    given = {"train_type": "random", "controller_lr": 0.1, "max_epoch": 1}
    assert main(tiny.flags(tiny.settings(tmp_path, **given))) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("no effect with")]
    assert len(said) == 1 and "controller_lr" in said[0]
    assert said[0] in (tiny.only_run(tmp_path / "logs") / "train.log").read_text()


def test_balancing_needs_two_architectures_a_step():
    """Of one architecture, no choice can be made equally often: that is plain uniform sampling."""
    with pytest.raises(UserError, match="shared_num_sample must be at least 2"):
        Config(train_type="random", shared_balanced=True)
    assert Config(train_type="random", shared_balanced=True, shared_num_sample=2).shared_balanced


def test_flags_for_later_are_said_to_be_kept(tmp_path, capsys):
    """A run from scratch takes over what its search was given."""
    execute(**tiny.settings(tmp_path, max_epoch=1, scratch_early_stop=7, scratch_random_length=False))
    assert "kept for runs from scratch that start from this one: scratch_" in capsys.readouterr().out
    folder = tiny.only_run(tmp_path / "logs")
    execute(mode="train_scratch", load_path=str(folder), log_dir=str(tmp_path / "scratch"), max_epoch=1)
    params = json.loads((tiny.only_run(tmp_path / "scratch") / "params.json").read_text())
    assert (params["scratch_early_stop"], params["scratch_random_length"]) == (7, False)


def test_what_a_setting_needs_is_a_setting_with_such_a_value():
    for name, spec in FIELDS.items():
        only = dict(spec.metadata["only"])
        for other, needed in [*only.pop(ANY_OF, {}).items(), *only.items()]:
            for value in needed if isinstance(needed, tuple) else (needed,):
                assert value is ABOVE_ZERO or type(value) is type(FIELDS[other].default), name


# --- files that are read and not run ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "import os",
        "num_blocks = __import__('os').getpid()",
        "num_blocks = 2 + 3 * len('x')",
        "num_blocks: int = 5",
        "num_blocks = batch_size = 5",
        "num_blocks += 1",
        "if True:\n    num_blocks = 5",
        "num_blocks = {[]: 1}",
        "print('x')",
    ],
)
def test_a_variation_is_read_and_not_run(tmp_path, text):
    with pytest.raises(ValueError, match=r"variation\.py, line 1: a config file holds lines like"):
        read_variation(_variation(tmp_path, text))


def test_a_variation_that_is_no_python(tmp_path):
    with pytest.raises(ValueError, match=r"variation\.py: not a Python file"):
        read_variation(_variation(tmp_path, "num_blocks = = 5"))


@pytest.mark.parametrize("text", ["num_blokcs = 5", "num_blocks = '5'", "num_blocks = 0"])
def test_a_variation_with_a_wrong_setting_is_refused_by_name(tmp_path, text):
    name = _variation(tmp_path, text)
    with pytest.raises(ValueError, match=rf"config {name}: .*num_bl"):
        _parse("--config", name)


def test_an_unknown_variation_lists_the_known():
    with pytest.raises(FileNotFoundError, match=r"config_our: no such variation.*did you mean config_ours\?"):
        read_variation("config_our")


# --- every setting has an effect --------------------------------------------------------------------------------------


# What a run must have for a setting to matter, and a value that then changes its outcome.
COSINE = {"controller_lr_cosine": True, "max_epoch": 3}
ADAM = {"shared_optim": "adam", "shared_lr": 0.01}
FLEXIBLE = {"train_type": "flexible"}
DIVERGING = {"max_epoch": 4, "shared_lr": 30.0, "shared_max_step": 10}
EFFECTS: dict[str, tuple[dict, object]] = {
    "train_type": ({}, "random"),
    "architecture": ({"train_type": "hardcoded"}, "tree"),
    "random_seed": ({}, 7),
    "precision": ({}, "bfloat16"),
    "num_blocks": ({}, 5),
    "shared_rnn_activations": ({}, ("tanh", "ReLU")),
    "cell_output": ({}, "all"),
    "batch_size": ({}, 5),
    "vocab_min_count": ({}, 30),
    "text_unit": ({}, "character"),
    "shared_embed": ({"tie_weights": False}, 6),
    "shared_hid": ({"tie_weights": False}, 6),
    "tie_weights": ({}, False),
    "shared_dropoute": ({}, 0.5),
    "shared_dropouti": ({}, 0.1),
    "shared_dropout": ({}, 0.1),
    "shared_dropouth": ({}, 0.5),
    "shared_wdrop": ({}, 0.1),
    "shared_batch_norm": ({}, False),
    "shared_norm_bound": ({}, 0.01),
    "shared_activation_reg": ({}, 0.5),
    "shared_temporal_activation_reg": ({}, 0.5),
    "shared_norm_stabilizer": ({}, 0.5),
    "shared_init_range": ({}, 0.3),
    "shared_plain_start": ({}, True),
    "shared_rnn_max_length": ({}, 5),
    "shared_max_step": ({}, 4),
    "shared_num_sample": ({}, 2),
    "shared_balanced": ({"train_type": "random", "shared_num_sample": 4}, True),
    "shared_optim": ({"shared_lr": 0.01}, "adam"),
    "shared_lr": ({}, 0.5),
    "shared_decay": ({"shared_decay_after": 0}, 0.5),
    "shared_decay_after": ({}, 0),
    "shared_lr_warmup": ({}, 5),
    "shared_lr_cosine": ({}, True),
    "shared_lr_min": ({"shared_lr_cosine": True}, 0.1),
    "shared_adam_beta2": (ADAM, 0.5),
    "shared_l2_reg": ({}, 0.1),
    "shared_grad_clip": ({}, 0.01),
    "controller_hid": ({}, 6),
    "softmax_temperature": ({}, 1.0),
    "tanh_c": ({}, 0.1),
    "controller_near_prior": ({}, 1.0),
    "controller_max_step": ({}, 3),
    "controller_num_aggregate": ({}, 2),
    "controller_optim": ({}, "momentum"),
    "controller_type": ({}, "independent"),
    "controller_start": ({"max_epoch": 2}, 0.5),
    "baseline": (PAIRS, "leave_one_out"),
    "advantage_spread_decay": ({}, 0.9),
    "reward_batch_size": ({}, 2),
    "controller_lr": ({}, 0.1),
    "controller_adam_beta1": ({}, 0.0),
    "controller_adam_eps": ({}, 1e-3),
    "controller_lr_cosine": ({}, True),
    "controller_lr_max": (COSINE, 0.5),
    "controller_lr_min": (COSINE, 0.04),
    "controller_grad_clip": ({}, 1e-9),
    "reward_c": ({}, 10.0),
    "ppl_square": ({}, True),
    "entropy_coeff": ({}, 1.0),
    "entropy_mode": ({"entropy_coeff": 1.0}, "regularizer"),
    "ema_baseline_decay": ({}, 0.1),
    "discount": ({}, 0.5),
    "max_epoch": ({}, 2),
    "derive_num_sample": ({}, 2),
    "derive_max_batches": ({}, 1),
    "derive_shortlist": ({}, 3),
    "max_parameters": (FLEXIBLE, 300),
    "max_flops": (FLEXIBLE, 300),
    "size_beta": ({**FLEXIBLE, "max_flops": 300}, -10.0),
}
# The same for one architecture from scratch.
SCRATCH_EFFECTS: dict[str, tuple[dict, object]] = {
    "scratch_random_length": ({}, False),
    "scratch_asgd_patience": ({**DIVERGING, "scratch_asgd_patience": 0}, 1),
    "scratch_early_stop": ({**DIVERGING, "scratch_early_stop": 0}, 1),
}
# The same for convolutional networks: the settings of both halves, and those of this one.
MICRO = {"cnn_space": "micro"}
CIFAR = {"dataset": "cifar10", "valid_size": 20}
IMAGE_EFFECTS: dict[str, tuple[dict, object]] = {
    **{name: effect for name, effect in EFFECTS.items() if _reads({"network_type": "cnn"}, name)},
    "cell_output": (MICRO, "all"),
    "derive_shortlist": ({**CIFAR, "derive_max_batches": 1, "derive_num_sample": 20}, 8),
    "max_parameters": ({}, 300),
    "max_flops": ({}, 300),
    "size_beta": ({"max_flops": 300}, -10.0),
    "cnn_space": ({}, "micro"),
    "cnn_num_layers": ({}, 4),
    "cnn_num_blocks": (MICRO, 3),
    "cnn_hid": ({}, 6),
    "cnn_dropout": ({}, 0.5),
    "cnn_lr_max": ({}, 0.01),
    "cnn_lr_min": ({}, 0.04),
    "cnn_lr_period": ({}, 1),
    "cnn_l2_reg": ({}, 0.1),
    "cnn_grad_clip": ({}, 0.01),
    "cnn_crop_padding": ({}, 1),
    "cnn_flip": ({}, False),
    "cnn_cutout": ({}, 8),
    "cnn_authors_prior": (MICRO, True),
    "cnn_reward": ({}, "log_likelihood"),
    "precision": ({}, "bfloat16"),
    "cnn_skip_target": ({}, 0.9),
    "cnn_skip_weight": ({}, 5.0),
    "image_size": ({}, 12),
    "valid_size": (CIFAR, 15),
}
IMAGE_SCRATCH_EFFECTS: dict[str, tuple[dict, object]] = {
    "scratch_cnn_hid": ({}, 6),
    "scratch_cnn_num_layers": (MICRO, 6),
    "scratch_cnn_dropout": ({}, 0.2),
    "scratch_cnn_drop_path": (MICRO, 0.1),
    "scratch_cnn_auxiliary_weight": (MICRO, 0.1),
}
# These change what is written and where, or which problem it is, and are tested as that.
ELSEWHERE = {
    "network_type", "cnn_space", "dataset", "mode", "load_path", "dag_path", "log_dir", "data_dir", "num_gpu",
    "num_threads", "rank_timeout", "save_epoch", "max_save_num", "log_step",
    "derive_finalists", "derive_finalist_epoch", "wandb",
}  # fmt: skip


KINDS = {"rnn": [{}], "cnn": [{"network_type": "cnn"}, {"network_type": "cnn", "cnn_space": "micro"}]}
TABLES = {"rnn": (EFFECTS, SCRATCH_EFFECTS), "cnn": (IMAGE_EFFECTS, IMAGE_SCRATCH_EFFECTS)}
CASES = [(kind, name) for kind, (search, _) in TABLES.items() for name in search]
SCRATCH_CASES = [(kind, name) for kind, (_, scratch) in TABLES.items() for name in scratch]
BRIEF = {
    "rnn": {"shared_max_step": 3, "controller_max_step": 2, "max_epoch": 1},
    "cnn": {"shared_max_step": 2, "controller_max_step": 2, "max_epoch": 1},
}


@pytest.mark.parametrize("network_type", TABLES)
def test_the_table_of_effects_is_complete(network_type):
    search, scratch = TABLES[network_type]
    read = {name for name in FIELDS for kind in KINDS[network_type] if _reads(kind, name)}
    assert set(search) | set(scratch) | ELSEWHERE == read | ELSEWHERE


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """For each network type a folder whose datasets are there."""
    made = {kind: tmp_path_factory.mktemp(kind) for kind in TABLES}
    for kind, folder in made.items():
        tiny.settings(folder, network_type=kind)
    write_cifar(made["cnn"] / "data" / "cifar10")
    return made


@pytest.fixture(scope="module")
def outcome(folders):
    """Network type and settings -> all numbers that a run ends in, remembered for settings seen before."""
    known = {}

    def numbers(network_type: str, changes: dict) -> dict:
        key = repr((network_type, sorted(changes.items())))
        if key not in known:
            trainer = tiny.trainer(
                folders[network_type], **{"network_type": network_type, **BRIEF[network_type], **changes}
            )
            ranks = []
            trainer.task.rank = _recording(trainer.task.rank, ranks)
            trainer.checkpoints = None
            trainer.train()
            state = trainer.state_dict()
            learned = {part: state[part] for part in ("task", "controller", "baseline")}
            known[key] = {**learned, "validation": trainer.progress.validation, "ranks": ranks}
        return known[key]

    return numbers


def _recording(rank, ranks: list):
    def recorded(*args):
        ranks.append(rank(*args))
        return ranks[-1]

    return recorded


@pytest.mark.parametrize(("network_type", "name"), CASES)
def test_every_setting_changes_the_outcome(outcome, network_type, name):
    base, value = TABLES[network_type][0][name]
    assert tiny.difference(outcome(network_type, base), outcome(network_type, base | {name: value})) is not None


@pytest.mark.parametrize("network_type", TABLES)
def test_without_a_change_the_outcome_is_the_same(outcome, network_type):
    assert tiny.difference(outcome(network_type, {}), outcome(network_type, {"log_step": 50})) is None


@pytest.mark.parametrize(("network_type", "other"), [("rnn", "cnn"), ("cnn", "rnn")])
def test_settings_of_the_other_half_change_nothing(outcome, network_type, other):
    foreign = {name: value for table in TABLES[other] for name, (_, value) in table.items()}
    foreign = {name: value for name, value in foreign.items() if not _reads({"network_type": network_type}, name)}
    assert len(foreign) > 20
    assert tiny.difference(outcome(network_type, {}), outcome(network_type, foreign)) is None


@pytest.fixture(scope="module")
def from_scratch(folders, tmp_path_factory):
    """The same for one architecture from scratch."""
    known = {}

    def numbers(network_type: str, changes: dict) -> dict:
        key = repr((network_type, sorted(changes.items())))
        if key not in known:
            known[key] = _scratch_outcome(
                folders[network_type], tmp_path_factory.mktemp("scratch"), network_type, changes
            )
        return known[key]

    return numbers


@pytest.mark.parametrize(("network_type", "name"), SCRATCH_CASES)
def test_every_setting_of_a_run_from_scratch_changes_the_outcome(from_scratch, network_type, name):
    base, value = TABLES[network_type][1][name]
    assert (
        tiny.difference(from_scratch(network_type, base), from_scratch(network_type, base | {name: value})) is not None
    )


@pytest.mark.parametrize("network_type", TABLES)
def test_a_run_from_scratch_ends_the_same_each_time(from_scratch, network_type):
    assert tiny.difference(from_scratch(network_type, {}), from_scratch(network_type, {"log_step": 50})) is None


def _scratch_outcome(folder: Path, run_folder: Path, network_type: str, changes: dict) -> dict:
    architecture = CELL if network_type == "rnn" else tiny.NETWORKS[changes.get("cnn_space", "macro")]
    brief = {"shared_max_step": BRIEF[network_type]["shared_max_step"]}
    settings = {"data_dir": str(folder / "data"), "network_type": network_type, **brief, **changes}
    trainer = tiny.scratch_trainer(run_folder, architecture, **settings)
    trainer.train()
    state = trainer.state_dict()
    return {"task": state["task"], "average": state["average"], "validation": trainer.progress.best}


def test_settings_that_say_where_and_how_often(tmp_path):
    settings = tiny.settings(tmp_path, max_epoch=2, save_epoch=2, log_dir=str(tmp_path / "elsewhere"))
    results = execute(**settings)
    assert [entry["validation_perplexity"] is None for entry in results["history"]] == [True, False]
    folder = tiny.only_run(tmp_path / "elsewhere")
    assert config_from(json.loads((folder / "params.json").read_text()), "params.json") == Config(**settings)


def test_a_variation_starts_from_another(tmp_path):
    for name, lines in (("a", "config = '{}/b.py'\nbatch_size = 3\n"), ("b", "batch_size = 5\nmax_epoch = 7\n")):
        (tmp_path / f"{name}.py").write_text(lines.format(tmp_path))
    assert read_variation(f"{tmp_path}/a.py") == {"batch_size": 3, "max_epoch": 7}
    (tmp_path / "b.py").write_text(f"config = '{tmp_path}/a.py'\n")
    with pytest.raises(UserError, match="starts from itself"):
        read_variation(f"{tmp_path}/a.py")
