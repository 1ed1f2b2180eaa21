"""The ablations: which variants, what they score, and the files that say so."""

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
from cnn_strategies import macro_networks, micro_networks
from hypothesis import given
from matplotlib.backends.backend_agg import FigureCanvasAgg
from strategies import cells

from enas.cli import run_command
from enas.cnn.macro import MacroNetwork
from enas.cnn.micro import MicroCell, MicroNetwork
from enas.cnn.operation_names import MACRO_OPERATIONS, MICRO_OPERATIONS
from enas.errors import TrainingDivergedError, UserError
from enas.rnn.cell import ACTIVATIONS, RNNCell
from enas.runs import run
from enas.runs.commands import execute
from enas.runs.folder import saved_config
from enas.runs.opening import read_run
from enas.search.architecture import architecture_from_dict, load_architecture
from enas.studies import ablations as analysis
from enas.studies import report
from enas.studies.edits import removals, replacements

GIVEN = RNNCell(("sigmoid", "tanh", "ReLU", "identity"), (0, 0, 2))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a finished run that nobody changes, large learning rate: its cells differ."""
    folder = tmp_path_factory.mktemp("trained")
    execute(**tiny.settings(folder, shared_lr=10.0))
    return tiny.only_run(folder / "logs")


# Given networks; of the small runs' size.
NETWORKS = {
    "macro": MacroNetwork(("sep3x3", "max3x3", "conv5x5"), ((), (0,), (0, 1))),
    "micro": MicroNetwork(
        MicroCell(((0, 1), (1, 2)), (("sep3x3", "sep3x3"), ("avg3x3", "identity"))),
        MicroCell(((1, 0), (2, 2)), (("max3x3", "max3x3"), ("sep5x5", "sep3x3"))),
    ),
}
NODES = {"macro": [0, 1, 2], "micro": ["normal 2", "normal 3", "reduction 2", "reduction 3"]}
SPLITS, PARTS = ("validation", "test"), ("activation", "operation")
OPERATIONS = {"macro": MACRO_OPERATIONS, "micro": MICRO_OPERATIONS}


@pytest.fixture(scope="module")
def image_home(tmp_path_factory):
    """A folder with images, and finished searches of both spaces in logs/SPACE, which nobody changes."""
    folder = tmp_path_factory.mktemp("images")
    counts = {"train": 6, "valid": 7, "test": 4}
    pictures.write_folder(folder / "data" / "pets", classes=("ant", "bee", "cat", "dog"), counts=counts)
    for space in NETWORKS:
        execute(**image_settings(folder, cnn_space=space, log_dir=str(folder / "logs" / space)))
    return folder


def image_settings(folder, **changes) -> dict:
    usual = {"network_type": "cnn", "dataset": "pets", "shared_max_step": 3, "max_epoch": 1}
    return tiny.settings(folder, **{**usual, **changes})


@pytest.fixture(scope="module", params=list(NETWORKS))
def space(request):
    return request.param


@pytest.fixture(scope="module")
def searched(image_home, space):
    """The folder of the finished search of a space."""
    return tiny.only_run(image_home / "logs" / space)


@pytest.fixture(scope="module")
def ablated(searched, tmp_path_factory):
    """Where both ablations of that search were run, and what they printed."""
    folder, before = tmp_path_factory.mktemp("ablated"), tiny.tree(searched)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.chdir(folder)
        for ablation in (analysis.operation_replacement, analysis.node_removal):
            assert run_command(f"ablate {ablation.__name__}", [f"--load_path={searched}", "--mode=derive"]) == 0
    assert tiny.tree(searched) == before
    return folder, out.getvalue()


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder, ablation: str, trained) -> dict:
    return json.loads((folder / "analysis_results" / ablation / trained.name / "results.json").read_text())


# --- which variants ---------------------------------------------------------------------------------------------------


@given(cells(max_blocks=5, gaps=True))
def test_every_activation_of_every_node_is_tried(cell):
    variants = replacements(cell, RNNCell.replace_activations, [*ACTIVATIONS])
    assert variants[0].architecture == cell
    assert [variant.architecture.activations for variant in variants[1 : 1 + len(ACTIVATIONS)]] == [
        (name,) * cell.num_blocks for name in ACTIVATIONS
    ]
    single = {(variant.node, variant.replacement): variant.architecture for variant in variants[1 + len(ACTIVATIONS) :]}
    assert set(single) == {(node, name) for node in cell.nodes for name in ACTIVATIONS}
    for (node, name), edited in single.items():
        found = dict(zip(edited.nodes, edited.activations, strict=True))
        assert found == {**dict(zip(cell.nodes, cell.activations, strict=True)), node: name}
        assert edited.edges == cell.edges


@given(cells(min_blocks=2, max_blocks=6, gaps=True))
def test_every_node_but_the_first_is_removed(cell):
    variants, kept = removals(cell)
    assert variants[0].architecture == cell
    assert kept == ["node 0 cannot be removed: only it reads the input and the previous state"]
    assert [variant.node for variant in variants[1:]] == list(cell.nodes[1:])
    parent = dict(zip(cell.nodes[1:], cell.previous, strict=True))
    for variant in variants[1:]:
        gone = variant.node
        expected = {(parent[gone] if up == gone else up, node) for node, up in parent.items() if node != gone}
        assert set(variant.architecture.edges) == expected


def operations_of(network) -> dict:
    """What each layer or node applies, by the name that rows give it."""
    if isinstance(network, MacroNetwork):
        return dict(zip(network.layers, network.operations, strict=True))
    return {
        f"{name} {node}": pair
        for name, cell in (("normal", network.normal), ("reduction", network.reduction))
        for node, pair in zip(cell.nodes, cell.operations, strict=True)
    }


@given(macro_networks(max_layers=4, gaps=True) | micro_networks(gaps=True))
def test_every_operation_of_every_layer_or_node_is_tried(network):
    is_macro = isinstance(network, MacroNetwork)
    names = MACRO_OPERATIONS if is_macro else MICRO_OPERATIONS
    own = operations_of(network)
    variants = replacements(network, type(network).replace_operations, names)
    assert (variants[0].architecture, variants[0].edit) == (network, "unedited")
    everything = {variant.replacement: variant.architecture for variant in variants[1 : 1 + len(names)]}
    single = {(variant.node, variant.replacement): variant.architecture for variant in variants[1 + len(names) :]}
    assert [*everything] == names
    assert set(single) == {(node, name) for node in own for name in names}
    for name, edited in everything.items():
        assert operations_of(edited) == dict.fromkeys(own, name if is_macro else (name, name))
    for (node, name), edited in single.items():
        assert operations_of(edited) == {**own, node: name if is_macro else (name, name)}


@given(macro_networks(max_layers=5, gaps=True))
def test_every_layer_but_the_first_is_removed(network):
    variants, kept = removals(network)
    assert kept == ["layer 0 cannot be removed: only it reads the image"]
    assert [variant.node for variant in variants] == [None, *network.layers[1:]]
    for variant in variants[1:]:
        assert variant.edit == f"without layer {variant.node}"
        assert variant.architecture == network.remove_node(variant.node)


@given(micro_networks(gaps=True))
def test_every_node_of_both_cells_is_removed_unless_it_is_the_only_one(network):
    variants, kept = removals(network)
    if network.normal.num_blocks == 1:
        assert [line.split(":")[0] for line in kept] == ["normal cell", "reduction cell"]
        assert all("cannot be removed: the cell has no other node" in line for line in kept)
        assert len(variants) == 1
        return
    assert not kept and [variant.node for variant in variants[1:]] == list(operations_of(network))
    for variant in variants[1:]:
        gone = operations_of(network).keys() - operations_of(variant.architecture).keys()
        assert gone == {variant.node} and variant.edit == f"without node {variant.node}"


# --- what they score --------------------------------------------------------------------------------------------------


def found_and_tested(folder) -> tuple[dict, float]:
    """What the search found, and its score on the test split with the newest shared weights."""
    found = json.loads((folder / "results.json").read_text())
    trainer = read_run(saved_config(folder), folder)
    return found, trainer.task.evaluate(architecture_from_dict(found["architecture"]), "test")


@pytest.mark.parametrize("ablation", ["activation_replacement", "node_removal"])
def test_the_unedited_row_is_what_the_search_found(at_home, trained, ablation):
    found, tested = found_and_tested(trained)
    rows = getattr(analysis, ablation)(load_path=str(trained))
    assert rows[0]["architecture"] == found["architecture"]
    assert rows[0]["validation_perplexity"] == found["validation_perplexity"]
    assert rows[0]["test_perplexity"] == tested


def test_rows_are_the_scores_of_their_cells(at_home, trained):
    rows = analysis.node_removal(load_path=str(trained)) + analysis.activation_replacement(load_path=str(trained))
    trainer = read_run(saved_config(trained), trained)
    for row in rows:
        cell = RNNCell.from_dict(row["architecture"])
        assert row["validation_perplexity"] == trainer.task.evaluate(cell, "valid")
        assert row["test_perplexity"] == trainer.task.evaluate(cell, "test")
        assert row["validation_change"] == row["validation_perplexity"] - rows[0]["validation_perplexity"]


def test_an_edit_changes_the_perplexity_and_none_does_not(at_home, trained):
    rows = analysis.activation_replacement(load_path=str(trained))
    own = RNNCell.from_dict(rows[0]["architecture"])
    for row in rows[1:]:
        is_same = RNNCell.from_dict(row["architecture"]) == own
        assert (row["validation_change"] == 0) == is_same
    assert all(row["validation_change"] != 0 for row in analysis.node_removal(load_path=str(trained))[1:])


def test_a_split_can_be_shortened(at_home, trained):
    whole = analysis.node_removal(load_path=str(trained))
    short = analysis.node_removal(load_path=str(trained), max_batches=1)
    long = analysis.node_removal(load_path=str(trained), max_batches=10_000)
    assert short[0]["validation_perplexity"] != whole[0]["validation_perplexity"]
    assert long == whole


def test_the_unedited_row_is_what_the_search_of_images_found(at_home, searched, ablated):
    found, tested = found_and_tested(searched)
    for ablation in ("operation_replacement", "node_removal"):
        unedited = written(ablated[0], ablation, searched)["rows"][0]
        assert unedited["architecture"] == found["architecture"]
        assert unedited["validation_accuracy"] == found["validation_accuracy"]
        assert unedited["test_accuracy"] == tested


def test_rows_are_the_accuracies_of_their_networks(searched, space, ablated):
    replaced, removed = (
        written(ablated[0], ablation, searched)["rows"] for ablation in ("operation_replacement", "node_removal")
    )
    config = saved_config(searched)
    trainer = read_run(config, searched)
    for row in replaced + removed:
        network = architecture_from_dict(row["architecture"])
        assert row["validation_accuracy"] == trainer.task.evaluate(network, "valid")
        assert row["test_accuracy"] == trainer.task.evaluate(network, "test")
        assert row["test_change"] == row["test_accuracy"] - replaced[0]["test_accuracy"]
    nodes, names = NODES[space], OPERATIONS[space]
    assert [(row["node"], row["operation"]) for row in replaced] == [
        (None, None), *((None, name) for name in names), *((node, name) for node in nodes for name in names)
    ]  # fmt: skip
    assert [row["node"] for row in removed] == [None, *(node for node in nodes if node != 0)]
    assert len({(row["validation_accuracy"], row["test_accuracy"]) for row in replaced + removed}) > 1


def test_a_given_network_is_studied(at_home, searched, space):
    (at_home / "given.json").write_text(NETWORKS[space].to_json())
    settings = {"load_path": str(searched), "dag_path": "given.json"}
    whole = analysis.node_removal(**settings)
    assert whole[0]["architecture"] == NETWORKS[space].to_dict()
    short = analysis.node_removal(**settings, max_batches=1)
    assert [row["architecture"] for row in short] == [row["architecture"] for row in whole]
    assert [row["validation_accuracy"] for row in short] != [row["validation_accuracy"] for row in whole]
    assert (at_home / "analysis_results" / "node_removal" / f"{searched.name}_given" / "results.json").is_file()


@pytest.mark.parametrize(("space", "with_run"), [("macro", True), ("micro", False)], indirect=["space"])
def test_networks_can_be_trained_anew(at_home, image_home, searched, space, with_run):
    (at_home / "given.json").write_text(NETWORKS[space].to_json())
    budget = {"mode": "train_scratch", "shared_max_step": 2, "log_dir": str(at_home / "made")}
    if with_run:
        rows = analysis.node_removal(**{"load_path": str(searched), **budget})
    else:
        rows = analysis.node_removal(**image_settings(image_home, cnn_space=space, dag_path="given.json", **budget))
        assert rows[0]["architecture"] == NETWORKS[space].to_dict()
    runs = [path for _, path in sorted((path.name, path) for path in (at_home / "made").iterdir())]
    assert len(runs) == len(rows)
    for row, path in zip(rows, runs, strict=True):
        results = json.loads((path / "results.json").read_text())
        assert load_architecture(path / "architecture.json").to_dict() == row["architecture"]
        assert (results["mode"], results["architecture"]) == ("train_scratch", row["architecture"])
        assert results["validation_accuracy"] == row["validation_accuracy"]
        assert results["test_accuracy"] == row["test_accuracy"]


def test_a_given_cell_is_studied(at_home, trained):
    (at_home / "given.json").write_text(GIVEN.to_json())
    rows = analysis.node_removal(load_path=str(trained), dag_path="given.json")
    assert RNNCell.from_dict(rows[0]["architecture"]) == GIVEN
    assert (at_home / "analysis_results" / "node_removal" / f"{trained.name}_given" / "results.json").is_file()


@pytest.mark.parametrize("with_run", [True, False])
def test_variants_can_be_trained_anew(at_home, trained, with_run):
    (at_home / "given.json").write_text(GIVEN.to_json())
    budget = {"max_epoch": 1, "shared_max_step": 3, "log_dir": str(at_home / "made")}
    if with_run:
        settings = {"load_path": str(trained), **budget}
    else:
        settings = tiny.settings(at_home, mode="train_scratch", dag_path="given.json", **budget)
    rows = analysis.node_removal(**{**settings, "mode": "train_scratch"})
    runs = {path.name: json.loads((path / "results.json").read_text()) for path in (at_home / "made").iterdir()}
    assert len(runs) == len(rows) == 4
    for row, name in zip(rows, sorted(runs), strict=True):
        assert runs[name]["mode"] == "train_scratch" and runs[name]["architecture"] == row["architecture"]
        assert runs[name]["test_perplexity"] == row["test_perplexity"]
        assert runs[name]["validation_perplexity"] == row["validation_perplexity"]


def test_edits_with_one_outcome_are_trained_once(at_home, trained):
    (at_home / "given.json").write_text(GIVEN.to_json())
    budget = {"max_epoch": 1, "shared_max_step": 2, "log_dir": str(at_home / "made")}
    settings = tiny.settings(at_home, mode="train_scratch", dag_path="given.json", **budget)
    rows = analysis.activation_replacement(**settings)
    assert len(rows) == 1 + 4 + 4 * GIVEN.num_blocks  # of which one a node replaces what is there
    outcomes = {json.dumps(row["architecture"]): row["test_perplexity"] for row in rows}
    assert len(outcomes) <= len(rows) - GIVEN.num_blocks
    assert len(list((at_home / "made").iterdir())) == len(outcomes)
    for row in rows:
        assert row["test_perplexity"] == outcomes[json.dumps(row["architecture"])]


# --- what is written --------------------------------------------------------------------------------------------------


PLOTS = {"all_nodes.png", "nodes_validation.png", "nodes_test.png"}


def check_files(home, ablation: str, run, metric: str, out: str) -> None:
    """The rows of an ablation are in its results.json, its table, and what it printed, and plots lie beside them."""
    rows, folder = written(home, ablation, run)["rows"], home / "analysis_results" / ablation / run.name
    plots = {"nodes.png"} if ablation == "node_removal" else PLOTS
    assert {path.name for path in folder.glob("[!.]*")} == {"params.json", "results.json", "results.csv", *plots}
    with (folder / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    names = [f"{split}_{what}" for what in (metric, "change") for split in ("validation", "test")]
    costs = ["parameters", "multiply_adds"]
    assert list(table[0]) == ["edit", "node", *(name for name in rows[0] if name in PARTS), *names, *costs]
    decimals, lines = 2 if metric == "perplexity" else 4, out.splitlines()
    assert any(line.endswith(f"({metric})") for line in lines)
    for line, row in zip(table, rows, strict=True):
        assert line["edit"] == row["edit"] and line["node"] == ("" if row["node"] is None else str(row["node"]))
        assert [float(line[name]) for name in (*names, *costs)] == [row[name] for name in (*names, *costs)]
        shown = [f"{row[f'{split}_{metric}']:.{decimals}f} {row[f'{split}_change']:+8.{decimals}f}" for split in SPLITS]
        assert any(line.startswith(f"{row['edit']} ") and all(text in line for text in shown) for line in lines)


def test_the_files_of_an_ablation(at_home, trained, capsys):
    before = tiny.tree(trained)
    assert run_command("ablate activation_replacement", [f"--load_path={trained}", "--mode=derive"]) == 0
    check_files(at_home, "activation_replacement", trained, "perplexity", capsys.readouterr().out)
    folder = at_home / "analysis_results" / "activation_replacement" / trained.name
    assert json.loads((folder / "params.json").read_text())["shared_lr"] == 10.0
    assert tiny.tree(trained) == before


def test_the_files_of_an_ablation_of_images(searched, ablated):
    home, out = ablated
    for ablation in ("operation_replacement", "node_removal"):
        check_files(home, ablation, searched, "accuracy", out)


@pytest.fixture
def plotted(monkeypatch) -> list:
    """The figures that are written, in order."""
    figures = []
    monkeypatch.setattr(FigureCanvasAgg, "print_png", lambda canvas, file: figures.append(canvas.figure))
    return figures


def check_plots(plotted, rows, part: str, metric: str, nodes: list, names, node_word: str, own: list) -> None:
    """The bars and the two tables show the rows; `own` is the replacement that each node has already, if one."""
    bars, *tables = plotted
    for split, bar, figure in zip(SPLITS, bars.axes[0].containers, tables, strict=True):
        key = f"{split}_{metric}"
        assert [one.get_height() for one in bar] == [row[key] for row in rows if row["node"] is None and row[part]]
        axes, image = figure.axes[0], figure.axes[0].images[0]
        assert [label.get_text() for label in axes.get_yticklabels()] == [str(node) for node in nodes]
        assert [label.get_text() for label in axes.get_xticklabels()] == list(names)
        assert axes.get_xlabel() == f"{part} of the {node_word} (outlined: its own)"
        scores = {(str(row["node"]), row[part]): row[key] for row in rows}
        expected = [[scores[str(node), name] - rows[0][key] for name in names] for node in nodes]
        assert image.get_array().tolist() == expected
        red, _, blue, _ = image.cmap(1.0)
        assert (red > blue) == (metric == "perplexity")  # more of it is worse
        corners = [(list(names).index(name) - 0.5, row - 0.5) for row, name in enumerate(own) if name]
        assert [patch.get_xy() for patch in axes.patches] == corners


def test_plots_of_images_show_the_rows(at_home, searched, space, plotted):
    (at_home / "given.json").write_text(NETWORKS[space].to_json())
    rows = analysis.operation_replacement(load_path=str(searched), dag_path="given.json", max_batches=1)
    # A node of two operations has none of its own.
    own = {"macro": ["sep3x3", "max3x3", "conv5x5"], "micro": ["sep3x3", None, "max3x3", None]}[space]
    node_word = {"macro": "layer", "micro": "node"}[space]
    check_plots(plotted, rows, "operation", "accuracy", NODES[space], OPERATIONS[space], node_word, own)


def test_plots_of_cells_show_the_rows(at_home, trained, plotted):
    (at_home / "given.json").write_text(GIVEN.to_json())
    rows = analysis.activation_replacement(load_path=str(trained), dag_path="given.json")
    names = ("tanh", "ReLU", "identity", "sigmoid")
    check_plots(plotted, rows, "activation", "perplexity", [0, 1, 2, 3], names, "node", list(GIVEN.activations))


def test_layer_0_stays_and_that_is_said(space, ablated):
    assert ("layer 0 cannot be removed: only it reads the image\n" in ablated[1]) == (space == "macro")


def test_node_0_stays_and_that_is_said(at_home, trained, capsys):
    assert run_command("ablate node_removal", [f"--load_path={trained}"]) == 0
    assert "node 0 cannot be removed: only it reads the input and the previous state\n" in capsys.readouterr().out
    rows = written(at_home, "node_removal", trained)["rows"]
    assert [row["node"] for row in rows] == [None, 1, 2, 3]


# --- what is refused --------------------------------------------------------------------------------------------------


node_removal = partial(run_command, "ablate node_removal")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--load_path", "nonesuch"], "load_path nonesuch: no such run"),
        (["--mode", "single"], "mode is 'single'; an ablation takes derive or train_scratch"),
        (["--max_batches", "0"], "max_batches is 0; it must be at least 1"),
        (["--max_batch", "3"], "unknown flag --max_batch; did you mean --max_batches?"),
        (["--dag_path", "nonesuch.json"], "nonesuch.json: no such file"),
        (
            ["--dag_path", "one.json"],
            "a recurrent cell with nothing to remove: node 0 cannot be removed: only it reads the input",
        ),
        (["--dag_path", "lstm"], "lstm: no such file; an architecture is a JSON file"),
        (["--dag_path", "network.json"], "network.json: is a macro network; a recurrent cell is needed here"),
        (["--dag_path", "large.json"], "the cell has node 4, but the shared model has nodes 0 … 3"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_an_ablation_refuses(at_home, trained, capsys, flags, says):
    (at_home / "one.json").write_text(RNNCell(("tanh",), ()).to_json())
    (at_home / "large.json").write_text(RNNCell(("tanh",) * 5, (0, 1, 2, 3)).to_json())
    (at_home / "network.json").write_text(NETWORKS["macro"].to_json())
    given = [] if "--load_path" in flags else ["--load_path", str(trained)]
    assert says in tiny.refusal([*given, *flags], at_home, capsys, node_removal)


@pytest.mark.parametrize(
    ("space", "flags", "says"),
    [
        (
            "macro",
            ["--mode", "train_scratch", "--dag_path", "one.json"],
            "a macro network with nothing to remove: layer 0 cannot be removed: only it",
        ),
        ("macro", ["--dag_path", "deep.json"], "the network has 4 layers, but the shared model has 3"),
        ("macro", ["--dag_path", "micro.json"], "micro.json: is a micro network; a macro network is needed here"),
        ("micro", ["--dag_path", "lone.json"], "a micro network with nothing to remove: normal cell: node 2 cannot be"),
        ("micro", ["--dag_path", "large.json"], "the normal cell has node 4, but the shared model has nodes 2 … 3"),
        ("micro", ["--network_type", "rnn"], "network_type is 'rnn', but the run "),
    ],
    indirect=["space"],
)
def test_what_an_ablation_of_images_refuses(at_home, searched, capsys, flags, says):
    networks = {
        "one": MacroNetwork(("conv3x3",), ((),)),
        "deep": MacroNetwork(("conv3x3",) * 4, ((),) * 4),
        "micro": NETWORKS["micro"],
        "lone": MicroNetwork(*[MicroCell(((0, 1),), (("sep3x3", "sep3x3"),))] * 2),
        "large": MicroNetwork(*[MicroCell(((0, 1),) * 3, (("sep3x3", "sep3x3"),) * 3)] * 2),
    }
    for name, network in networks.items():
        (at_home / f"{name}.json").write_text(network.to_json())
    assert says in tiny.refusal(["--load_path", str(searched), *flags], at_home, capsys, node_removal)


@pytest.mark.parametrize("mode", ["derive", "train_scratch"])
def test_the_script_for_another_kind_of_run_names_the_right_one(at_home, trained, searched, mode, capsys):
    scripts = {
        "activation_replacement": (searched, "network_type is cnn, which takes ablation_studies/operation_replacement"),
        "operation_replacement": (trained, "network_type is rnn, which takes ablation_studies/activation_replacement"),
    }
    for name, (folder, says) in scripts.items():
        command = partial(tiny.run_script, f"ablation_studies/{name}.py")
        assert says in tiny.refusal([f"--load_path={folder}", f"--mode={mode}"], at_home, capsys, command)


# --- one folder for each ablation, and nothing lost -------------------------------------------------------------------


def test_each_budget_and_mode_has_its_own_folder(at_home, trained, rendered):
    for more in ([], ["--max_batches", "1"], ["--max_batches", "2"]):
        assert run_command("ablate node_removal", [f"--load_path={trained}", *more]) == 0
    scratch = ["--mode", "train_scratch", "--max_epoch", "1", "--shared_max_step", "2"]
    assert run_command("ablate node_removal", [f"--load_path={trained}", *scratch]) == 0
    assert run_command("ablate node_removal", [f"--load_path={trained}"]) == 0
    folder = at_home / "analysis_results" / "node_removal"
    names = {f"{trained.name}{end}": budget for end, budget in (("", None), ("-2", 1), ("-3", 2))}
    assert {path.name for path in folder.iterdir()} == {*names, f"{trained.name}_train_scratch"}
    for name, budget in names.items():
        assert json.loads((folder / name / "params.json").read_text())["max_batches"] == budget


def test_rows_of_other_data_are_not_taken_over(at_home, monkeypatch):
    """Another text under the same name of a dataset, and the same everything else."""
    (at_home / "given.json").write_text(GIVEN.to_json())
    usual = tiny.settings(at_home, mode="train_scratch", dag_path="given.json", max_epoch=1, shared_max_step=3)
    tiny.write_corpus(at_home / "other" / "tiny", seed=1)
    found = {place: analysis.node_removal(**{**usual, "data_dir": str(at_home / place)}) for place in ("data", "other")}
    for row, other in zip(*found.values(), strict=True):
        assert row["test_perplexity"] != other["test_perplexity"]
    folder = at_home / "analysis_results" / "node_removal"
    assert {path.name for path in folder.iterdir()} == {"given_train_scratch", "given_train_scratch-2"}
    monkeypatch.setattr(run, "single", None)  # what is known of a data set is taken over, wherever it lies
    shutil.copytree(at_home / "other", at_home / "moved")
    assert analysis.node_removal(**{**usual, "data_dir": str(at_home / "moved")}) == found["other"]


@pytest.mark.parametrize("mode", ["derive", "train_scratch"])
def test_rows_whose_data_nobody_noted_are_not_taken_over(at_home, trained, mode):
    settings = {"load_path": str(trained), "mode": mode}
    if mode == "train_scratch":
        settings |= {"max_epoch": 1, "shared_max_step": 2, "log_dir": str(at_home / "made")}
    analysis.node_removal(**settings)
    (folder,) = (at_home / "analysis_results" / "node_removal").iterdir()
    noted = json.loads((folder / "params.json").read_text())
    assert set(noted.pop("data")) == {"train", "valid", "test"}
    (folder / "params.json").write_text(json.dumps(noted))
    analysis.node_removal(**settings)
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, f"{folder.name}-2"}


def test_an_interrupted_ablation_that_trains_goes_on(at_home, trained, monkeypatch, rendered):
    argv = [f"--load_path={trained}", "--mode", "train_scratch", "--max_epoch", "1", "--shared_max_step", "2"]
    train, calls = run.single, []

    def interrupted(config, architecture):
        calls.append(architecture)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(config, architecture)

    monkeypatch.setattr(run, "single", interrupted)
    assert run_command("ablate node_removal", argv) == 130
    folder = at_home / "analysis_results" / "node_removal" / f"{trained.name}_train_scratch"
    kept = json.loads((folder / "results.json").read_text())["rows"]
    assert [row["architecture"] for row in kept] == [one.to_dict() for one in calls[:2]]
    assert run_command("ablate node_removal", argv) == 0
    rows = json.loads((folder / "results.json").read_text())["rows"]
    assert rows[:2] == kept and len(calls) == 1 + len(rows)
    assert len(list(folder.parent.iterdir())) == 1


def test_a_variant_that_diverges_leaves_a_row_that_says_so(at_home, trained, monkeypatch, rendered):
    (at_home / "given.json").write_text(GIVEN.to_json())
    bad, single = GIVEN.remove_node(2), run.single

    def diverging(config, architecture):
        if architecture == bad:
            raise TrainingDivergedError("training diverged")
        return single(config, architecture)

    monkeypatch.setattr(run, "single", diverging)
    settings = tiny.settings(at_home, mode="train_scratch", dag_path="given.json", max_epoch=1, shared_max_step=2)
    rows = analysis.node_removal(**settings)
    scores = [row["test_perplexity"] for row in rows]
    assert [math.isnan(score) for score in scores] == [False, False, True, False]
    (folder,) = (at_home / "analysis_results" / "node_removal").iterdir()
    written = json.loads((folder / "results.json").read_text())["rows"]
    assert [row["test_perplexity"] for row in written] == [None if math.isnan(score) else score for score in scores]


def test_where_results_go_is_checked_before_the_work(at_home, trained, capsys, monkeypatch):
    (at_home / "analysis_results").write_text("in the way")
    monkeypatch.setattr("enas.studies.ablations.score_variants", None)
    line = tiny.refusal([f"--load_path={trained}"], at_home, capsys, node_removal)
    assert f"{trained.name}: cannot be written to (Not a directory); choose another place" in line


def test_a_full_disk_leaves_the_table_on_the_screen(at_home, trained, capsys, monkeypatch):
    def full(path, *args):
        raise UserError(f"{path}: cannot be written (No space left on device)")

    monkeypatch.setattr(report, "write_table", full)
    assert run_command("ablate node_removal", [f"--load_path={trained}"]) == 2
    out, err = capsys.readouterr()
    assert "perplexity" in out and "unedited" in out and err.count("\n") == 1
