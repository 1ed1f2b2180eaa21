"""Settings: from the parts that own them come flags, config files and params.json, and no flag is without an effect."""

import ast
import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import tiny
from test_image import write_cifar

from enas.config import (
    CONFIG_DIR,
    SPACES,
    Config,
    all_settings,
    effect_notes,
    named,
    parts_of,
    read_preset,
    without_effect,
)
from enas.errors import UserError
from enas.parser import USUAL, Parser, parse_flags, settings_by_part
from enas.rnn.cell import RNNCell
from enas.runs.commands import execute
from enas.runs.folder import saved_config
from enas.settings import ABOVE_ZERO, ANY_OF, SCRATCH, USE, checked, choices_of

FIELDS = all_settings()
REFERENCE = read_preset("config_ours")
CELL = RNNCell(("tanh", "ReLU", "identity"), (0, 0))


def _parse(*argv: str) -> dict:
    return parse_flags(Parser("test"), list(argv))


# --- all settings -----------------------------------------------------------------------------------------------------


def test_a_new_flag_is_a_decision():
    """To add or remove one, change tests/flags.txt, and give the reason in the commit."""
    assert sorted(FIELDS) == sorted(REFERENCE) == (tiny.ROOT / "tests" / "flags.txt").read_text().splitlines()


@pytest.mark.parametrize("name", FIELDS)
def test_a_setting_is_in_the_reference_and_in_one_group_and_reads_its_default_back(name):
    spec = FIELDS[name]
    assert spec.metadata["help"]
    assert REFERENCE[name] == spec.default
    assert sum(name in specs for specs in settings_by_part().values()) == 1
    assert _parse(*tiny.flags({name: spec.default})) == {name: spec.default}


def test_help_is_short_and_help_all_lists_every_setting_with_its_default(capsys):
    pages = []
    for flag in ("--help_all", "--help"):
        with pytest.raises(SystemExit, match=r"\A0\Z"):
            _parse(flag)
        pages.append(" ".join(capsys.readouterr().out.split()))
    everything, usual = pages
    assert all(f"--{name} " in everything for name in FIELDS)
    assert "(norm of a state − a constant)²" in everything and "(default: tanh,ReLU,identity,sigmoid)" in everything
    usual_names = {name for names in USUAL.values() for name in names}
    assert {name for name in re.findall(r"--(\w+) ", usual) if name in FIELDS} == usual_names
    assert all(f"{heading}: " in usual for heading in USUAL)
    assert "--help_all" in usual and "--config" in usual


# --- flags ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ([], {}),
        (["--wandb", "--tie_weights", "no"], {"wandb": True, "tie_weights": False}),  # a switch may stand alone
        (["--ppl_square", "YES", "--cnn_flip", "0"], {"ppl_square": True, "cnn_flip": False}),
        (["--shared_rnn_activations", "tanh, ReLU"], {"shared_rnn_activations": ("tanh", "ReLU")}),
        # The commands of the first ENAS code in PyTorch have a backslash and a space at some lines' ends.
        (["--dataset", "ptb", " ", "--num_blocks", "3", "", "\t"], {"dataset": "ptb", "num_blocks": 3}),
    ],
)
def test_flags_become_settings(words, settings):
    assert _parse(*words) == settings


# --- values -----------------------------------------------------------------------------------------------------------

CNN = {"network_type": "cnn"}
MICRO = {**CNN, "cnn_space": "micro"}
PAIRS = {"controller_num_aggregate": 2, "controller_max_step": 4}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_blocks": 0}, r"^num_blocks is 0; it must lie in"),
        ({"num_blocks": 1.5}, r"^num_blocks is 1.5; .*int"),
        ({"num_blocks": True}, r"^num_blocks is True; .*int"),
        ({"num_blocks": "1"}, r"^num_blocks is '1'; .*int"),
        ({"wandb": 1}, r"^wandb is 1; .*bool"),
        ({"shared_lr": [1]}, r"^shared_lr is .*float"),
        ({"shared_norm_bound": 0.0}, r"^shared_norm_bound is 0.0; .*above 0"),
        ({"size_beta": 0.1}, r"^size_beta is 0.1; .*at most 0"),
        ({"scratch_cnn_dropout": 1.0}, r"^scratch_cnn_dropout is 1.0; .*below 1"),
        ({"shared_dropout": 1.0}, r"^shared_dropout is 1.0; .*\[0, 1\)"),
        ({"shared_dropout": -0.1}, r"^shared_dropout is -0.1; .*\[0, 1\)"),
        ({"cnn_skip_target": 0}, r"^cnn_skip_target is 0.0; .*\(0, 1\)"),
        ({"discount": 1.1}, r"^discount is 1.1; .*\[0, 1\]"),
        ({"mode": "tain"}, r"^mode is 'tain'; .*train, derive, test"),
        ({"shared_rnn_activations": "tanh"}, r"^shared_rnn_activations is 'tanh'; .*list of names"),
        ({"shared_rnn_activations": [1]}, r"^shared_rnn_activations is \[1\]; .*list of names"),
        ({"shared_rnn_activations": ()}, r"^shared_rnn_activations is"),
        ({"shared_rnn_activations": ("tanh", "tanh")}, r"different names"),
        ({"shared_rnn_activations": ("relu",)}, r"out of tanh, ReLU, identity, sigmoid, GELU, SiLU"),
        (
            {**CNN, "cnn_operations": ("identity",)},
            r"cnn_operations is identity; it must be different names out of conv3x3, ",
        ),
        ({**CNN, "cnn_space": "micro", "cnn_operations": ("max3x3", "conv3x3")}, r"out of sep3x3, .*, identity; --use"),
        ({**CNN, "cnn_operations": ("max3x3", "max3x3")}, r"cnn_operations is max3x3, max3x3; it must be different"),
        ({"shared_embed": 64}, r"tie_weights.*shared_embed is 64 and shared_hid 1000"),
        ({"batch_size": 1}, r"batch_size is 1; shared_batch_norm.*at least 2"),
        ({"reward_batch_size": 1}, r"reward_batch_size is 1; shared_batch_norm.*at least 2"),
        ({**CNN, "batch_size": 1}, r"batch_size is 1; .*at least 2 for network_type cnn"),
        ({**CNN, "reward_batch_size": 1}, r"reward_batch_size is 1; .*at least 2 for network_type cnn"),
        ({**CNN, "train_type": "flexible"}, r"train_type is 'flexible'; it must be orig or random"),
        ({**CNN, "cnn_hid": 1}, r"cnn_hid is 1; .*at least 2, or 0"),
        ({**CNN, "scratch_cnn_hid": 1}, r"scratch_cnn_hid is 1; .*at least 2, or 0"),
        ({**CNN, "scratch_cnn_dropout": -0.5}, r"scratch_cnn_dropout is -0.5; .*or be -1"),
        ({**MICRO, "cnn_num_layers": 4}, r"cnn_num_layers is 4; .* multiple of 3"),
        ({**MICRO, "scratch_cnn_num_layers": 5}, r"scratch_cnn_num_layers is 5; .* multiple of 3"),
        ({"max_epoch": 2, "controller_start": 0.75}, r"controller_start is 0\.75; of 2 epochs .*raise max_epoch"),
        ({**PAIRS, "baseline": "leave_one_out", "controller_max_step": 1}, r"controller_max_step is 1; .* at least 2"),
        ({"derive_finalists": 3}, r"derive_finalists is 3; .*derive_shortlist, which is 1"),
        ({"derive_shortlist": 3, "derive_finalists": 3, "reward": "own"}, r"derive_finalists ranks .*, not by reward"),
        *(({name: 10**19}, f"{name} is out of range") for name in ("max_epoch", "controller_hid", "shared_lr")),
        *(
            ({"tanh_c": value}, r"tanh_c is .*; it must be 0, or of a magnitude between 1e-30 and 1e30")
            for value in (math.inf, math.nan, 1e39, 1e-39)
        ),
        ({"shared_hidden": 3}, r"unknown setting shared_hidden; did you mean shared_hid\?"),
    ],
    ids=str,
)
def test_values_that_make_no_sense_are_refused(tmp_path, changes, says):
    with pytest.raises(UserError, match=says):
        Config(**changes)
    (tmp_path / "params.json").write_text(json.dumps(changes))
    with pytest.raises(UserError, match=rf"^{re.escape(str(tmp_path))}/params.json: .*{says.removeprefix('^')}"):
        saved_config(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"shared_embed": 64, "tie_weights": False},
        {"batch_size": 1, "shared_batch_norm": False},
        {"batch_size": 1, "mode": "single"},  # batch norm is of shared weights alone
        {"reward_batch_size": 1, "shared_batch_norm": False},
        {"reward_batch_size": 1, "train_type": "random"},  # nothing is rewarded
        {"max_epoch": 2, "controller_start": 0.75, "mode": "train_scratch"},  # nothing warms up
        {"max_epoch": 2, "controller_start": 0.75, "train_type": "random"},
        {**CNN, "shared_embed": 64},
        {**CNN, "cnn_num_layers": 4},
        {"shared_lr": 2, "shared_rnn_activations": ["tanh"]},  # JSON knows neither float nor tuple
        {"train_type": "enas"},  # names of the original controller
        {"train_type": "regular"},
    ],
    ids=str,
)
def test_settings_that_make_sense_together_are_taken(changes):
    found, before = Config(**changes), Config()
    for name, value in changes.items():
        assert getattr(found, name) == {"enas": "orig", "regular": "orig", "['tanh']": ("tanh",)}.get(str(value), value)
    assert before.replace(**changes) == found and before == Config()


# --- presets ----------------------------------------------------------------------------------------------------------


def _preset(folder: Path, text: str) -> str:
    path = folder / "preset.py"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("path", sorted(CONFIG_DIR.glob("*.py")), ids=lambda path: path.stem)
def test_every_preset_is_a_config(path):
    preset = read_preset(path.stem)
    assert preset
    Config(**preset)
    assert ast.get_docstring(ast.parse(path.read_text())), "a preset says what it is for"


def test_flags_win_over_the_preset(tmp_path):
    """Defaults of another search space than its own are left out."""
    name = _preset(tmp_path, '"""Small."""\nnum_blocks = 5  # fewer\nshared_lr = 1.0\n')
    for words in (["--config", name, "--shared_lr", "2"], ["--shared_lr", "2", "--config", name]):
        assert _parse(*words) == {"num_blocks": 5, "shared_lr": 2.0}
    name = _preset(tmp_path, "num_blocks = 12\ncnn_hid = 8\nnetwork_type = 'cnn'\n")
    assert _parse("--config", name) == {"network_type": "cnn", "cnn_hid": 8}


def test_a_preset_gives_way_to_the_train_type():
    """The control of a search has its budget, and none of its controller's settings."""
    settings = _parse("--config", "ptb_small", "--train_type", "random")
    assert settings["num_blocks"] == 6 and settings["shared_lr"] == 0.003
    assert not {"controller_max_step", "controller_num_aggregate", "controller_lr"} & set(settings)
    assert effect_notes(settings, Config(**settings)) == []


@pytest.mark.parametrize(
    ("preset", "flags", "says"),
    [
        ("ptb_small", ["--network_type", "cnn"], "ptb_small is for another search space: num_blocks has no effect"),
        ("cifar_micro_small", ["--cnn_space", "macro"], "is for another search space: cnn_num_blocks has no effect"),
        ("cifar_macro_small", ["--network_type", "rnn"], "is for another search space: image_size has no effect"),
        ("config_our", [], r"no such preset.*did you mean config_ours\?"),
        ("num_blokcs = 5", [], r"config .*preset.py: .*did you mean num_blocks\?"),
        ("num_blocks = '5'", [], r"config .*preset.py: num_blocks is '5'"),
        ("num_blocks = = 5", [], r"preset\.py: not a Python file"),
        (f"num_blocks = {'(' * 5000}1{')' * 5000}", [], r"preset\.py: not a Python file"),
        (f"num_blocks = {'-' * 5000}1", [], r"preset\.py(: not|, line 1: a config)"),  # by Python
        (f"shared_lr = 0x{'F' * 5000}", [], r"preset\.py: shared_lr is out of range"),
        *(
            (text, [], r"preset\.py, line 1: a config file holds lines like")  # it is read, and not run
            for text in (
                "import os",
                "num_blocks = __import__('os').getpid()",
                "num_blocks = batch_size = 5",
                "num_blocks += 1",
                "num_blocks = {[]: 1}",
            )
        ),
    ],
)
def test_a_preset_that_cannot_be_used_is_refused(tmp_path, preset, flags, says):
    name = preset if preset.isidentifier() else _preset(tmp_path, preset)
    with pytest.raises(UserError, match=says):
        _parse("--config", name, *flags)


def test_a_wrong_type_beside_a_preset_is_refused_like_any_other():
    with tiny.refused("entropy_coeff is 'high'; it must be of type float"):
        Config(config="small", entropy_coeff="high")


# --- settings without an effect ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {**CNN, "train_type": "random", "reward_batch_size": 8},  # which ranks candidates
        {"train_type": "random", "reward": "mine", "reward_c": 9.0, "ppl_square": True},
        {"train_type": "ppo", "controller_hid": 8, "tanh_c": 1.0},
    ],
)
def test_flags_with_an_effect_are_not_named(settings):
    always = {"controller_type": "independent"}  # which ppo does not read
    assert effect_notes(settings, Config(**settings, **always)) == []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"architecture": "tree"}, "with train_type orig: architecture (needs train_type hardcoded)"),
        ({"train_type": "random", "controller_lr": 0.1, "baseline": "ema"}, "random: controller_lr, baseline ("),
        ({"shared_lr_cosine": True, "shared_decay": 0.5}, "with shared_lr_cosine True: shared_decay"),
        ({"entropy_coeff": 0.0, "entropy_mode": "regularizer"}, "(needs entropy_coeff above 0)"),
        ({"size_beta": -0.5}, "and max_flops 0: size_beta (needs max_parameters above 0, or max_flops above 0)"),
        ({"mode": "single", "dag_path": "lstm", "save_epoch": 1}, "with mode single: save_epoch (needs mode train)"),
        ({"dag_path": "lstm"}, "with mode train: dag_path (needs mode single or train_scratch or test)"),
        ({"cnn_space": "micro"}, "with network_type rnn: cnn_space (needs network_type cnn)"),
        ({"cnn_hid": 8}, "no effect with network_type rnn: cnn_hid"),
        ({**CNN, "cnn_num_blocks": 3}, "no effect with cnn_space macro: cnn_num_blocks"),
        ({**CNN, "mode": "single", "cnn_hid": 8, "cnn_dropout": 0.5}, "with mode single: cnn_hid, cnn_dropout ("),
        ({"train_type": "random", "reward_batch_size": 8}, "with train_type random and network_type rnn: reward_batch"),
    ],
)
def test_flags_without_an_effect_are_named_in_one_line(settings, says):
    (line,) = effect_notes(settings, Config(**settings))
    assert line.startswith("no effect with ") and says in line


def test_a_run_says_which_flags_have_no_effect_and_which_are_kept_for_later(tmp_path, capsys):
    """A run from scratch takes over what its search was given."""
    given = {"train_type": "random", "controller_lr": 0.1, "scratch_early_stop": 7, "scratch_random_length": False}
    folder = tiny.run_in(tmp_path, max_epoch=1, **given)
    out, log = capsys.readouterr().out, (folder / "train.log").read_text()
    for line in ("no effect with train_type random: ", "only for later runs from scratch: scratch_"):
        assert line in out and line in log
    execute(mode="train_scratch", load_path=str(folder), log_dir=str(tmp_path / "scratch"), max_epoch=1)
    params = tiny.params(tiny.only_run(tmp_path / "scratch"))
    assert (params["scratch_early_stop"], params["scratch_random_length"]) == (7, False)


# --- every setting has an effect --------------------------------------------------------------------------------------

# These change what is written and where, or which problem it is, and are tested as that.
ELSEWHERE = named(USE) | {
    "network_type",
    "cnn_space",
    "dataset",
    "dag_path",
    "reward",  # see test_learners
    "save_epoch",
    "max_save_num",
    "log_step",
    "derive_finalists",
    "derive_rung_epoch",
}
DIVERGING = {"max_epoch": 4, "shared_lr": 30.0, "shared_max_step": 10}
# What a run must have for a setting to matter, beside what the setting says that it needs; and a value that then
# changes the outcome, where `_other` finds none that does so in a run this short.
EFFECTS: dict[str, tuple[dict, object]] = {
    "train_type": ({}, "random"),
    "precision": ({}, "bfloat16"),
    "vocab_min_count": ({}, 30),
    "shared_embed": ({"tie_weights": False}, 6),
    "shared_hid": ({"tie_weights": False}, 6),
    "shared_norm_bound": ({}, 0.01),
    "shared_decay": ({"shared_decay_after": 0}, 0.5),
    "shared_decay_after": ({}, 0),
    "shared_lr_warmup": ({}, 5),
    "controller_start": ({"max_epoch": 2}, 0.5),
    "baseline": (PAIRS, "leave_one_out"),
    "reward_batch_size": ({}, 2),
    "controller_lr_min": ({"max_epoch": 3}, 0.04),
    "controller_grad_clip": ({}, 1e-9),
    "derive_shortlist": ({}, 3),
    "scratch_asgd_patience": ({**DIVERGING, "scratch_asgd_patience": 0}, 1),
    "scratch_early_stop": ({**DIVERGING, "scratch_early_stop": 0}, 1),
    "image_size": ({}, 8),
    "cnn_grad_clip": ({}, 0.01),
    "cnn_operations": ({}, ("sep3x3", "max3x3")),
    "scratch_cnn_dropout": ({}, 0.2),
    "valid_size": ({"dataset": "cifar10", "valid_size": 20}, 15),
}
BRIEF = {
    "rnn": {"shared_max_step": 3, "controller_max_step": 2, "max_epoch": 1},
    "cnn": {"network_type": "cnn", "shared_max_step": 2, "controller_max_step": 2, "max_epoch": 1},
}
BASE = {
    kind: {name: spec.default for name, spec in FIELDS.items()} | sizes | BRIEF[kind]
    for kind, sizes in {"rnn": tiny.SETTINGS, "cnn": tiny.IMAGE_SETTINGS}.items()
}


def _own(*kinds: str) -> set[str]:
    """The settings of the parts that search spaces of these kinds name; such a part may extend a common one."""
    parts = [part for space in SPACES.values() if space.selected_by["network_type"] in kinds for part in space.settings]
    return {spec.name for part in parts for spec in dataclasses.fields(part)}


# What all spaces share is read in one place for all, and is tried on recurrent cells.
COMMON = {spec.name for part in parts_of([]) for spec in dataclasses.fields(part)}
TRIED = {"rnn": set(FIELDS) - _own("cnn") | COMMON | _own("rnn"), "cnn": _own("cnn")}
CASES = [(kind, name) for kind, names in TRIED.items() for name in FIELDS if name in names - ELSEWHERE]


def _other(name: str, value: object) -> object:
    """Another value that a setting allows: the opposite, the next choice, fewer names, twice as much, or half."""
    if name in EFFECTS:
        return EFFECTS[name][1]
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        return value[:2]
    candidates = choices_of(FIELDS[name]) or (2 * value or type(value)(1), value / 2 or 0.5)
    return next(one for one in candidates if one != value and _is_allowed(name, one))


def _is_allowed(name: str, value: object) -> bool:
    try:
        return checked(FIELDS[name], value) == value
    except UserError:
        return False


def _needed(kind: str, name: str) -> dict:
    """The settings with which another one has an effect."""
    needs = dict(FIELDS[name].metadata["only"])
    needs |= dict([*needs.pop(ANY_OF, {}).items()][:1])
    needs.pop("mode", None)
    if kind == "cnn" and without_effect(name, Config(**BASE[kind])):
        needs["cnn_space"] = "micro"
    found = {}
    for other, value in needs.items():
        allowed = value if isinstance(value, tuple) else (value,)
        is_met = BASE[kind][other] > 0 if value is ABOVE_ZERO else BASE[kind][other] in allowed
        if not is_met:
            found[other] = 300 if value is ABOVE_ZERO else allowed[0]
    return {**found, **EFFECTS.get(name, ({}, None))[0]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """For each network type a folder whose datasets are there."""
    made = {kind: tmp_path_factory.mktemp(kind) for kind in TRIED}
    for kind, folder in made.items():
        tiny.settings(folder, network_type=kind)
    write_cifar(made["cnn"] / "data" / "cifar10")
    return made


@pytest.fixture(scope="module")
def outcome(folders, tmp_path_factory):
    """Network type, settings, whether from scratch -> all numbers that a run ends in, remembered for the next call."""
    known = {}

    def numbers(kind: str, changes: dict, is_scratch: bool = False) -> dict:
        key = repr((kind, sorted(changes.items()), is_scratch))
        if key not in known:
            settings = {"data_dir": str(folders[kind] / "data"), **BRIEF[kind], **changes}
            known[key] = _numbers(tmp_path_factory.mktemp("run"), settings, is_scratch)
        return known[key]

    return numbers


def _numbers(folder: Path, settings: dict, is_scratch: bool) -> dict:
    if is_scratch:
        architecture = tiny.NETWORKS[settings.get("cnn_space", "macro")] if "network_type" in settings else CELL
        trainer = tiny.scratch_trainer(folder, architecture, **{"max_epoch": 2, **settings})
    else:
        trainer = tiny.trainer(folder, **settings)
    ranks = tiny.spy(trainer.task, "rank")
    trainer.train()
    state, progress = trainer.state_dict(), trainer.progress
    learned = [state.get(part) for part in ("task", "controller", "baseline", "average")]
    scores = (progress.validation, progress.best, [row for _, row in ranks])
    return {"learned": learned, "scores": scores}


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_every_setting_changes_the_outcome(outcome, kind, name):
    needed = _needed(kind, name)
    is_scratch = FIELDS[name].metadata["only"].get("mode") == SCRATCH
    changed = {**needed, name: _other(name, {**BASE[kind], **needed}[name])}
    assert tiny.difference(outcome(kind, needed, is_scratch), outcome(kind, changed, is_scratch)) is not None


@pytest.mark.parametrize("kind", TRIED)
def test_without_a_change_the_outcome_is_the_same(outcome, kind):
    for is_scratch in (False, True):
        assert tiny.difference(outcome(kind, {}, is_scratch), outcome(kind, {"log_step": 50}, is_scratch)) is None


@pytest.mark.parametrize(("kind", "other"), [("rnn", "cnn"), ("cnn", "rnn")])
def test_settings_of_the_other_half_change_nothing(outcome, kind, other):
    names = _own(other) - _own(kind) - COMMON - ELSEWHERE
    assert len(names) > 20
    foreign = {name: _other(name, BASE[other][name]) for name in names}
    assert tiny.difference(outcome(kind, {}), outcome(kind, foreign)) is None


def test_a_preset_starts_from_another(tmp_path):
    for name, lines in (("a", "config = '{}/b.py'\nbatch_size = 3\n"), ("b", "batch_size = 5\nmax_epoch = 7\n")):
        (tmp_path / f"{name}.py").write_text(lines.format(tmp_path))
    assert read_preset(f"{tmp_path}/a.py") == {"batch_size": 3, "max_epoch": 7}
    (tmp_path / "b.py").write_text(f"config = '{tmp_path}/a.py'\n")
    (tmp_path / "odd.py").write_text("config = 3\n")
    with pytest.raises(UserError, match="config 3: no such preset"):
        read_preset(str(tmp_path / "odd.py"))
    with pytest.raises(UserError, match="starts from itself"):
        read_preset(f"{tmp_path}/a.py")


def test_settings_may_be_numbers_of_numpy_and_paths(tmp_path):
    made = Config(shared_lr=np.float64(0.5), max_epoch=np.int64(3), tie_weights=np.True_, data_dir=tmp_path)
    assert (made.shared_lr, made.max_epoch, made.data_dir) == (0.5, 3, str(tmp_path))
    assert [type(one) for one in (made.shared_lr, made.max_epoch)] == [float, int]
