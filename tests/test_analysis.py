"""The ablations, of every search space: which variants, what they score, and the files that say so."""

import contextlib
import csv
import io
import json
import math
import shutil
from functools import partial

import pictures
import pytest
import tiny
from hypothesis import given
from matplotlib.backends.backend_agg import FigureCanvasAgg
from strategies import cells, macro_networks, micro_networks
from tiny import run_command

from enas.cnn.macro import MacroNetwork
from enas.cnn.micro import MicroCell, MicroNetwork
from enas.cnn.operation_names import MACRO_OPERATIONS, MICRO_OPERATIONS
from enas.errors import UserError
from enas.rnn.cell import ACTIVATIONS, PAPER_ACTIVATIONS, RNNCell
from enas.runs import run
from enas.runs.commands import execute
from enas.runs.folder import saved_config
from enas.runs.opening import read_run
from enas.search.architecture import architecture_from_dict, load_architecture
from enas.studies import ablations as analysis
from enas.studies.ablations import variants_of

# Given architectures, of the size that the small runs have.
GIVEN = {
    "rnn": RNNCell(("sigmoid", "tanh", "ReLU", "identity"), (0, 0, 2)),
    "macro": MacroNetwork(("sep3x3", "max3x3", "conv5x5"), ((), (0,), (0, 1))),
    "micro": MicroNetwork(
        MicroCell(((0, 1), (1, 2)), (("sep3x3", "sep3x3"), ("avg3x3", "identity"))),
        MicroCell(((1, 0), (2, 2)), (("max3x3", "max3x3"), ("sep5x5", "sep3x3"))),
    ),
}
NODES = {"rnn": [0, 1, 2, 3], "macro": [0, 1, 2], "micro": ["normal 2", "normal 3", "reduction 2", "reduction 3"]}
# What each node of GIVEN applies, in whose column of a table it is outlined; a node of two operations has none.
OWN = {
    "rnn": ["sigmoid", "tanh", "ReLU", "identity"],
    "macro": ["sep3x3", "max3x3", "conv5x5"],
    "micro": ["sep3x3", None, "max3x3", None],
}
NAMES = {"rnn": [*PAPER_ACTIVATIONS], "macro": MACRO_OPERATIONS, "micro": MICRO_OPERATIONS}
PARTS = {"rnn": "activation", "macro": "operation", "micro": "operation"}
METRICS = {"rnn": "perplexity", "macro": "accuracy", "micro": "accuracy"}
SPLITS = {"validation": "valid", "test": "test"}
BUDGET = {"mode": "train_scratch", "max_epoch": 1, "shared_max_step": 2, "log_dir": "made"}
node_removal = partial(run_command, "ablate node_removal")


def settings_of(space: str, folder, **changes) -> dict:
    """A small search; the large learning rate makes cells differ."""
    usual = {"shared_lr": 10.0}
    if space != "rnn":
        usual = {"network_type": "cnn", "cnn_space": space, "dataset": "pets", "shared_max_step": 3, "max_epoch": 1}
    return tiny.settings(folder, **{**usual, **changes})


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with data, and finished searches of all spaces in SPACE/logs, which nobody changes."""
    folder = tmp_path_factory.mktemp("home")
    for space in GIVEN:
        if space != "rnn":
            counts = {"train": 6, "valid": 7, "test": 4}
            pets = folder / space / "data" / "pets"
            pictures.write_folder(pets, classes=("ant", "bee", "cat", "dog"), counts=counts)
        execute(**settings_of(space, folder / space))
    return folder


@pytest.fixture(scope="module", params=list(GIVEN))
def space(request):
    return request.param


@pytest.fixture(scope="module")
def searched(home, space):
    """The folder of the finished search of a space."""
    return tiny.only_run(home / space / "logs")


@pytest.fixture
def trained(home):
    """The folder of the finished search of cells."""
    return tiny.only_run(home / "rnn" / "logs")


@pytest.fixture(scope="module")
def ablated(searched, space, tmp_path_factory):
    """Where both ablations of that search were run, and what they printed."""
    folder, before = tmp_path_factory.mktemp("ablated"), tiny.tree(searched)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.chdir(folder)
        for ablation in (f"{PARTS[space]}_replacement", "node_removal"):
            assert run_command(f"ablate {ablation}", [f"--load_path={searched}", "--mode=derive"]) == 0
    assert tiny.tree(searched) == before
    return folder / "analysis_results", out.getvalue()


@pytest.fixture(scope="module")
def replaced(ablated, searched, space) -> list[dict]:
    return rows_of(ablated[0] / f"{PARTS[space]}_replacement" / searched.name)


@pytest.fixture(scope="module")
def removed(ablated, searched) -> list[dict]:
    return rows_of(ablated[0] / "node_removal" / searched.name)


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    """An empty folder to work in, but for given.json, a cell."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given.json").write_text(GIVEN["rnn"].to_json())
    return tmp_path


def rows_of(folder) -> list[dict]:
    return json.loads((folder / "results.json").read_text())["rows"]


# --- which variants ---------------------------------------------------------------------------------------------------


def parts_of(architecture) -> dict:
    """What each node or layer applies, by the name that rows give it."""
    if isinstance(architecture, RNNCell):
        return dict(zip(architecture.nodes, architecture.activations, strict=True))
    if isinstance(architecture, MacroNetwork):
        return dict(zip(architecture.layers, architecture.operations, strict=True))
    both = {"normal": architecture.normal, "reduction": architecture.reduction}
    return {
        f"{name} {node}": pair
        for name, cell in both.items()
        for node, pair in zip(cell.nodes, cell.operations, strict=True)
    }


def without_parts(data: dict) -> dict:
    """An architecture's dictionary without its activations or operations."""
    data = {key: value for key, value in data.items() if key not in ("activations", "operations")}
    return {key: without_parts(value) if isinstance(value, dict) else value for key, value in data.items()}


@given(cells(max_blocks=5, gaps=True) | macro_networks(max_layers=4, gaps=True) | micro_networks(gaps=True))
def test_every_part_of_every_node_is_tried(architecture):
    known = {RNNCell: [*ACTIVATIONS], MacroNetwork: MACRO_OPERATIONS, MicroNetwork: MICRO_OPERATIONS}
    names = known[type(architecture)]
    own, pair = parts_of(architecture), lambda name: (name, name) if isinstance(architecture, MicroNetwork) else name
    ((unedited, same), *variants), _ = variants_of(architecture, names)
    assert (same, unedited["edit"]) == (architecture, "unedited")
    assert all(without_parts(one.to_dict()) == without_parts(architecture.to_dict()) for _, one in variants)
    edited = {(row["node"], row[architecture.part_word]): parts_of(one) for row, one in variants}
    assert edited == {
        **{(None, name): dict.fromkeys(own, pair(name)) for name in names},
        **{(node, name): {**own, node: pair(name)} for node in own for name in names},
    }


@given(cells(max_blocks=6, gaps=True) | macro_networks(max_layers=5, gaps=True) | micro_networks(gaps=True))
def test_every_node_is_removed_but_those_without_which_nothing_is_left(architecture):
    ((_, unedited), *variants), kept = variants_of(architecture, None)
    assert unedited == architecture
    nodes, word = list(parts_of(architecture)), architecture.node_word
    if not isinstance(architecture, MicroNetwork):
        assert [line.split(":")[0] for line in kept] == [f"{word} 0 cannot be removed"]
        nodes = nodes[1:]
    elif len(nodes) == 2:
        assert [line.split(":")[0] for line in kept] == ["normal cell", "reduction cell"]
        assert all("cannot be removed: the cell has no other node" in line for line in kept)
        nodes = []
    else:
        assert kept == []
    assert [(row["node"], row["edit"]) for row, _ in variants] == [(node, f"without {word} {node}") for node in nodes]
    for row, one in variants:
        assert parts_of(architecture).keys() - parts_of(one).keys() == {row["node"]}


# --- what they score --------------------------------------------------------------------------------------------------


def test_the_unedited_row_is_what_the_search_found(searched, space, replaced, removed):
    found = json.loads((searched / "results.json").read_text())
    for rows in (replaced, removed):
        assert rows[0]["architecture"] == found["architecture"]
        assert rows[0][f"validation_{METRICS[space]}"] == found[f"validation_{METRICS[space]}"]


def test_rows_are_the_scores_of_their_architectures(searched, space, replaced, removed):
    trainer = read_run(saved_config(searched), searched)
    for row in replaced + removed:
        architecture = architecture_from_dict(row["architecture"])
        for split, data in SPLITS.items():
            assert row[f"{split}_{METRICS[space]}"] == trainer.task.evaluate(architecture, data)
            change = row[f"{split}_{METRICS[space]}"] - replaced[0][f"{split}_{METRICS[space]}"]
            assert row[f"{split}_change"] == change
    nodes, names = NODES[space], NAMES[space]
    assert [(row["node"], row[PARTS[space]]) for row in replaced] == [
        (None, None), *((None, name) for name in names), *((node, name) for node in nodes for name in names)
    ]  # fmt: skip
    assert [row["node"] for row in removed] == [None, *(node for node in nodes if node != 0)]


def test_a_given_architecture_is_studied_and_a_split_can_be_shortened(at_home, searched, space):
    (at_home / "given.json").write_text(GIVEN[space].to_json())
    settings = {"load_path": str(searched), "dag_path": "given.json"}
    whole, short, long = (analysis.node_removal(**settings, max_batches=num) for num in (None, 1, 10_000))
    assert whole[0]["architecture"] == GIVEN[space].to_dict()
    assert [row["architecture"] for row in short] == [row["architecture"] for row in whole]
    scores = [[row[f"validation_{METRICS[space]}"] for row in rows] for rows in (whole, short)]
    assert scores[0] != scores[1] and long == whole
    assert (at_home / "analysis_results" / "node_removal" / f"{searched.name}_given" / "results.json").is_file()


@pytest.mark.parametrize(
    ("space", "with_run"), [("rnn", True), ("rnn", False), ("macro", True), ("micro", False)], indirect=["space"]
)
def test_variants_can_be_trained_anew(at_home, home, searched, capsys, space, with_run):
    (at_home / "given.json").write_text(GIVEN[space].to_json())
    if with_run:
        rows = analysis.node_removal(load_path=str(searched), **BUDGET)
    else:
        (at_home / "preset.py").write_text("cnn_cutout = 0\n" if space == "micro" else "tie_weights = False\n")
        changes = {"dag_path": "given.json", "config": "preset.py"}
        rows = analysis.node_removal(**settings_of(space, home / space, **changes, **BUDGET))
        assert rows[0]["architecture"] == GIVEN[space].to_dict() and "config" not in capsys.readouterr().out
    runs = [path for _, path in sorted((path.name, path) for path in (at_home / "made").iterdir())]
    for row, path in zip(rows, runs, strict=True):
        results = json.loads((path / "results.json").read_text())
        assert load_architecture(path / "architecture.json").to_dict() == row["architecture"]
        assert (results["mode"], results["architecture"]) == ("train_scratch", row["architecture"])
        for name in (f"{split}_{METRICS[space]}" for split in SPLITS):
            assert results[name] == row[name]


def test_edits_with_one_outcome_are_trained_once(at_home, home):
    rows = analysis.activation_replacement(**settings_of("rnn", home / "rnn", dag_path="given.json", **BUDGET))
    assert len(rows) == 1 + 4 + 4 * 4  # of which one a node replaces what is there
    outcomes = {json.dumps(row["architecture"]): row["test_perplexity"] for row in rows}
    assert len(outcomes) <= len(rows) - 4 and len(list((at_home / "made").iterdir())) == len(outcomes)
    assert all(row["test_perplexity"] == outcomes[json.dumps(row["architecture"])] for row in rows)


STAR = RNNCell(("sigmoid", "tanh", "tanh", "tanh"), (0, 0, 0))  # the same function without any one of three nodes


def test_variants_that_are_one_function_are_trained_once(at_home, home):
    (at_home / "star.json").write_text(STAR.to_json())
    rows = analysis.node_removal(**settings_of("rnn", home / "rnn", dag_path="star.json", **BUDGET))
    assert [row["same_as"] for row in rows] == [None, None, "without node 1", "without node 1"]
    assert len(list((at_home / "made").iterdir())) == 2
    assert len({row["test_perplexity"] for row in rows[1:]}) == 1 and rows[0]["test_change"] == 0
    assert [row["architecture"] for row in rows] == [
        STAR.to_dict(),
        *(STAR.remove_node(n).to_dict() for n in (1, 2, 3)),
    ]
    (folder,) = (at_home / "analysis_results" / "node_removal").iterdir()
    assert [row["same_as"] for row in rows_of(folder)] == [row["same_as"] for row in rows]


def test_variants_that_are_one_function_have_scores_of_their_own_with_shared_weights(at_home, trained, capsys):
    (at_home / "star.json").write_text(STAR.to_json())
    rows = analysis.node_removal(load_path=str(trained), dag_path="star.json")
    assert len({row["test_perplexity"] for row in rows}) == 4
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("without")]
    assert [line.endswith("  without node 1") for line in printed] == [False, True, True]
    replaced = analysis.activation_replacement(load_path=str(trained), dag_path="star.json", max_batches=1)
    same = {row["edit"]: row["same_as"] for row in replaced if row["same_as"]}
    assert same["node 1 tanh"] == "unedited" and same["node 2 ReLU"] == "node 1 ReLU" and "node 1 ReLU" not in same


# --- what is written --------------------------------------------------------------------------------------------------


def test_the_files_of_an_ablation(ablated, searched, space, replaced, removed):
    """The rows are in results.json, in the table, and in what is printed; plots lie beside them."""
    metric, decimals = METRICS[space], 2 if space == "rnn" else 4
    lines = ablated[1].splitlines()
    assert ("node 0 cannot be removed: only it reads the input and the previous state" in lines) == (space == "rnn")
    assert ("layer 0 cannot be removed: only it reads the image" in lines) == (space == "macro")
    assert sum(line.startswith(f"{metric} of ") for line in lines) == 2
    numbers = [f"{split}_{what}" for what in (metric, "change") for split in SPLITS] + ["parameters", "multiply_adds"]
    plots = {"all_nodes.png", "nodes_validation.png", "nodes_test.png"}
    for ablation, rows in ((f"{PARTS[space]}_replacement", replaced), ("node_removal", removed)):
        folder = ablated[0] / ablation / searched.name
        names = {"nodes.png"} if rows is removed else plots
        assert {path.name for path in folder.glob("[!.]*")} == {"params.json", "results.json", "results.csv", *names}
        assert json.loads((folder / "params.json").read_text())["shared_lr"] == saved_config(searched).shared_lr
        with (folder / "results.csv").open(newline="") as file:
            table = list(csv.DictReader(file))
        assert list(table[0]) == ["edit", "node", PARTS[space], "same_as", *numbers]
        for line, row in zip(table, rows, strict=True):
            assert (line["edit"], line["node"]) == (row["edit"], "" if row["node"] is None else str(row["node"]))
            assert [float(line[name]) for name in numbers] == [row[name] for name in numbers]
            shown = [f"{row[f'{one}_{metric}']:.{decimals}f} {row[f'{one}_change']:+.{decimals}f}" for one in SPLITS]
            shown = " ".join([*shown, f"{row['parameters']:,}"])
            assert any(" ".join(line.split()).startswith(f"{row['edit']} {shown} ") for line in lines)


def test_plots_show_the_rows(at_home, searched, space, monkeypatch):
    figures, metric, part, names = [], METRICS[space], PARTS[space], NAMES[space]
    monkeypatch.setattr(FigureCanvasAgg, "print_png", lambda canvas, file: figures.append(canvas.figure))
    (at_home / "given.json").write_text(GIVEN[space].to_json())
    ablation = getattr(analysis, f"{part}_replacement")
    rows = ablation(load_path=str(searched), dag_path="given.json", max_batches=1)
    bars, *tables = figures
    for split, bar, figure in zip(SPLITS, bars.axes[0].containers, tables, strict=True):
        key = f"{split}_{metric}"
        changes = [row[key] - rows[0][key] for row in rows if row["node"] is None and row[part]]
        assert [one.get_height() for one in bar] == changes
        axes, image = figure.axes[0], figure.axes[0].images[0]
        assert [label.get_text() for label in axes.get_yticklabels()] == [str(node) for node in NODES[space]]
        assert [label.get_text() for label in axes.get_xticklabels()] == list(names)
        assert axes.get_xlabel() == f"{part} of the {GIVEN[space].node_word} (outlined: its own)"
        scores = {(row["node"], row[part]): row[key] - rows[0][key] for row in rows}
        assert image.get_array().tolist() == [[scores[node, name] for name in names] for node in NODES[space]]
        red, _, blue, _ = image.cmap(1.0)
        assert (red > blue) == (metric == "perplexity")  # more of it is worse
        corners = [(list(names).index(name) - 0.5, row - 0.5) for row, name in enumerate(OWN[space]) if name]
        assert [patch.get_xy() for patch in axes.patches] == corners


# --- what is refused --------------------------------------------------------------------------------------------------


FILES = {
    "one": RNNCell(("tanh",), ()),
    "long": RNNCell(("tanh",) * 5, (0, 1, 2, 3)),
    "layer": MacroNetwork(("conv3x3",), ((),)),
    "deep": MacroNetwork(("conv3x3",) * 4, ((),) * 4),
    "micro": GIVEN["micro"],
    "lone": MicroNetwork(*[MicroCell(((0, 1),), (("sep3x3", "sep3x3"),))] * 2),
    "large": MicroNetwork(*[MicroCell(((0, 1),) * 3, (("sep3x3", "sep3x3"),) * 3)] * 2),
}


@pytest.mark.parametrize(
    ("space", "flags", "says"),
    [
        ("rnn", "--load_path nonesuch", "load_path nonesuch: no such run"),
        ("rnn", "--mode single", "mode is 'single'; an ablation takes derive or train_scratch"),
        ("rnn", "--max_batches 0", "max_batches is 0; it must be at least 1"),
        ("rnn", "--dag_path nonesuch.json", "nonesuch.json: cannot be read (No such file or directory)"),
        ("rnn", "--dag_path one.json", "a recurrent cell with nothing to remove: node 0 cannot be removed: only it"),
        ("rnn", "--dag_path lstm", "lstm: cannot be read (No such file or directory)"),
        ("rnn", "--dag_path deep.json", "deep.json: is a macro network; a recurrent cell is needed here"),
        ("rnn", "--dag_path long.json", "the cell has node 4, but the shared model has nodes 0 … 3"),
        ("macro", "--mode train_scratch --dag_path layer.json", "a macro network with nothing to remove: layer 0"),
        ("macro", "--dag_path deep.json", "the network has 4 layers, but the shared model has 3"),
        ("micro", "--dag_path lone.json", "a micro network with nothing to remove: normal cell: node 2 cannot be"),
        ("micro", "--dag_path large.json", "the normal cell has node 4, but the shared model has nodes 2 … 3"),
        ("micro", "--network_type rnn", "network_type is 'rnn', but the run "),
    ],
    indirect=["space"],
)
def test_what_an_ablation_refuses(at_home, searched, capsys, flags, says):
    for name, architecture in FILES.items():
        (at_home / f"{name}.json").write_text(architecture.to_json())
    given = [] if "--load_path" in flags else ["--load_path", str(searched)]
    assert says in tiny.refusal([*given, *flags.split()], at_home, capsys, node_removal)


@pytest.mark.parametrize("mode", ["derive", "train_scratch"])
def test_the_script_for_another_kind_of_run_names_the_right_one(at_home, searched, space, mode, capsys):
    right, wrong = ("activation", "operation") if space == "rnn" else ("operation", "activation")
    kind = "rnn" if space == "rnn" else "cnn"
    command = partial(tiny.run_script, f"ablation_studies/{wrong}_replacement.py")
    line = tiny.refusal([f"--load_path={searched}", f"--mode={mode}"], at_home, capsys, command)
    assert f"network_type is {kind}, which takes ablation_studies/{right}_replacement" in line


# --- one folder for each ablation, and nothing lost -------------------------------------------------------------------


def test_each_budget_and_mode_has_its_own_folder(at_home, trained):
    for more in ([], ["--max_batches", "1"], ["--max_batches", "2"], tiny.flags(BUDGET), []):
        assert node_removal([f"--load_path={trained}", *more]) == 0
    folder = at_home / "analysis_results" / "node_removal"
    names = {f"{trained.name}{end}": budget for end, budget in (("", None), ("-2", 1), ("-3", 2))}
    assert {path.name for path in folder.iterdir()} == {*names, f"{trained.name}_train_scratch"}
    for name, budget in names.items():
        assert json.loads((folder / name / "params.json").read_text())["max_batches"] == budget


def test_rows_of_other_data_are_not_taken_over(at_home, monkeypatch):
    """Another text under the same name of a dataset, and the same everything else."""
    usual = settings_of("rnn", at_home, dag_path="given.json", **BUDGET)
    tiny.write_corpus(at_home / "other" / "tiny", seed=1)
    found = {place: analysis.node_removal(**{**usual, "data_dir": str(at_home / place)}) for place in ("data", "other")}
    for row, other in zip(*found.values(), strict=True):
        assert row["test_perplexity"] != other["test_perplexity"]
    folder = at_home / "analysis_results" / "node_removal"
    assert {path.name for path in folder.iterdir()} == {"given_train_scratch", "given_train_scratch-2"}
    monkeypatch.setattr(run, "train", None)  # what is known of a data set is taken over, wherever it lies
    shutil.copytree(at_home / "other", at_home / "moved")
    assert analysis.node_removal(**{**usual, "data_dir": str(at_home / "moved")}) == found["other"]


def test_an_interrupted_ablation_that_trains_goes_on(at_home, trained):
    argv = [f"--load_path={trained}", *tiny.flags(BUDGET)]
    folder = at_home / "analysis_results" / "node_removal" / f"{trained.name}_train_scratch"
    with tiny.in_call(run, "train", 3, tiny.interrupt) as calls:
        assert node_removal(argv) == 130
        kept = rows_of(folder)
        assert [row["architecture"] for row in kept] == [one.to_dict() for _, one in calls[:2]]
        with tiny.in_call(analysis, "write_json", 3, tiny.interrupt):  # after the settings and the first row
            assert node_removal(argv) == 130
        assert rows_of(folder) == kept
        assert node_removal(argv) == 0
    assert rows_of(folder)[:2] == kept and len(calls) == 1 + len(rows_of(folder))
    assert len(list(folder.parent.iterdir())) == 1


@pytest.mark.parametrize("rows", [{}, [{"validation_perplexity": "good"}], "rows"])
def test_rows_that_were_edited_are_named(at_home, trained, capsys, rows):
    argv = [f"--load_path={trained}", "--max_batches=1"]
    assert node_removal(argv) == 0
    path = next(at_home.glob("analysis_results/node_removal/*/results.json"))
    content = json.loads(path.read_text())
    edited = [{**content["rows"][0], **row} for row in rows] if isinstance(rows, list) else rows
    path.write_text(json.dumps({**content, "rows": edited}))
    status = node_removal(argv)
    assert status == 0 if rows == {} else f"{path.relative_to(at_home)}: " in capsys.readouterr().err


@pytest.mark.parametrize("trouble", tiny.TROUBLES)
def test_the_trouble_of_one_variant_is_a_row_that_says_so(at_home, monkeypatch, capsys, trouble):
    bad, settings = GIVEN["rnn"].remove_node(2), settings_of("rnn", at_home, dag_path="given.json", **BUDGET)
    with tiny.in_call(run, "train", lambda _, architecture: architecture == bad, tiny.TROUBLES[trouble]):
        scores = [row["test_perplexity"] for row in analysis.node_removal(**settings)]
    assert [math.isnan(score) for score in scores] == [False, False, True, False]
    (folder,) = (at_home / "analysis_results" / "node_removal").iterdir()
    written = [row["test_perplexity"] for row in rows_of(folder)]
    assert written == [None if math.isnan(score) else score for score in scores]
    assert trouble in rows_of(folder)[2]["trouble"] and trouble in capsys.readouterr().out
    monkeypatch.setattr(run, "train", None)  # the same call takes its rows over
    assert str([row["test_perplexity"] for row in analysis.node_removal(**settings)]) == str(scores)


def test_an_ablation_ends_if_the_unedited_architecture_has_no_score(at_home):
    """All changes are measured from it, and the reason may be a flag."""
    settings = settings_of("rnn", at_home, dag_path="given.json", **BUDGET)
    with tiny.in_call(run, "train", lambda *_: True, tiny.TROUBLES["refused"]), tiny.refused("has no score: "):
        analysis.node_removal(**settings)
    (folder,) = (at_home / "analysis_results" / "node_removal").iterdir()
    assert not (folder / "results.json").exists()
    assert all("trouble" not in row for row in analysis.node_removal(**settings))


def test_a_table_has_the_columns_of_all_its_rows(tmp_path):
    rows = [{"edit": "unedited", "score": 1.0}, {"edit": "b", "score": math.nan, "trouble": "diverged"}]
    analysis.write_table(tmp_path / "results.csv", rows)
    assert (tmp_path / "results.csv").read_text() == "edit,score,trouble\nunedited,1.0,\nb,nan,diverged\n"


def test_an_infinite_score_is_one_that_is_not_a_number(at_home, monkeypatch):
    """JSON has null for both, and the same call goes on with what it reads."""
    single, bad = run.train_to, GIVEN["rnn"].remove_node(2)

    def infinite(config, architecture):
        results = single(config, architecture)
        return {**results, "test_perplexity": math.inf} if architecture == bad else results

    monkeypatch.setattr(run, "train_to", infinite)
    settings = settings_of("rnn", at_home, dag_path="given.json", **BUDGET)
    rows = analysis.node_removal(**settings)
    assert [math.isnan(row["test_change"]) for row in rows].count(True) == 1
    (folder,) = (at_home / "analysis_results" / "node_removal").iterdir()
    assert [row["test_perplexity"] for row in rows_of(folder)].count(None) == 1
    files = tiny.tree(folder)
    monkeypatch.setattr(run, "train_to", None)
    assert str(analysis.node_removal(**settings)) == str(rows) and tiny.tree(folder) == files


def test_where_results_go_is_checked_before_the_work(at_home, trained, capsys, monkeypatch):
    (at_home / "analysis_results").write_text("in the way")
    monkeypatch.setattr(analysis, "progress_bar", None)
    line = tiny.refusal([f"--load_path={trained}"], at_home, capsys, node_removal)
    assert f"{trained.name}: cannot be written (Not a directory); make room, or choose another place" in line


def test_a_full_disk_leaves_the_table_on_the_screen(at_home, trained, capsys, monkeypatch):
    def full(path, *args):
        raise UserError(f"{path}: cannot be written (No space left on device)")

    monkeypatch.setattr(analysis, "write_table", full)
    assert node_removal([f"--load_path={trained}"]) == 2
    out, err = capsys.readouterr()
    assert "perplexity" in out and "unedited" in out and err.count("\n") == 1
