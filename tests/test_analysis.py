"""The ablations: which variants, what they score, and the files that say so."""

import csv
import json
import shutil

import pytest
import tiny
from hypothesis import given
from strategies import cells

from enas import analysis, run
from enas.analysis import activation_variants, main, removal_variants
from enas.search_space import ACTIVATIONS, RNNCell

GIVEN = RNNCell(("sigmoid", "tanh", "ReLU", "identity"), (0, 0, 2))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a finished run that nobody changes, large learning rate: its cells differ."""
    folder = tmp_path_factory.mktemp("trained")
    run.execute(tiny.settings(folder, shared_lr=10.0))
    return tiny.only_run(folder / "logs")


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder, ablation: str, trained) -> dict:
    return json.loads((folder / "analysis_results" / ablation / trained.name / "results.json").read_text())


# --- which variants ---------------------------------------------------------------------------------------------------


@given(cells(max_blocks=5, gaps=True))
def test_every_activation_of_every_node_is_tried(cell):
    variants = activation_variants(cell, ACTIVATIONS)
    assert variants[0].architecture == cell
    assert [variant.architecture.activations for variant in variants[1:5]] == [
        (name,) * cell.num_blocks for name in ACTIVATIONS
    ]
    single = {(variant.node, variant.replacement): variant.architecture for variant in variants[5:]}
    assert set(single) == {(node, name) for node in cell.nodes for name in ACTIVATIONS}
    for (node, name), edited in single.items():
        found = dict(zip(edited.nodes, edited.activations, strict=True))
        assert found == {**dict(zip(cell.nodes, cell.activations, strict=True)), node: name}
        assert edited.edges == cell.edges


@given(cells(min_blocks=2, max_blocks=6, gaps=True))
def test_every_node_but_the_first_is_removed(cell):
    variants, kept = removal_variants(cell)
    assert variants[0].architecture == cell
    assert kept == ["node 0 cannot be removed: it alone reads the input and the previous state"]
    assert [variant.node for variant in variants[1:]] == list(cell.nodes[1:])
    parent = dict(zip(cell.nodes[1:], cell.previous, strict=True))
    for variant in variants[1:]:
        gone = variant.node
        expected = {(parent[gone] if up == gone else up, node) for node, up in parent.items() if node != gone}
        assert set(variant.architecture.edges) == expected


# --- what they score --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ablation", ["activation_replacement", "node_removal"])
def test_the_unedited_row_is_what_derive_reports(at_home, trained, ablation):
    copy = shutil.copytree(trained, at_home / trained.name)
    derived = run.execute({"load_path": str(copy), "mode": "derive"})
    tested = run.execute({"load_path": str(copy), "mode": "test"})
    rows = getattr(analysis, ablation)({"load_path": str(trained)})
    assert rows[0]["architecture"] == derived["architecture"]
    assert rows[0]["validation_perplexity"] == derived["validation_perplexity"]
    assert rows[0]["test_perplexity"] == tested["test_perplexity"]


def test_rows_are_the_scores_of_their_cells(at_home, trained):
    rows = analysis.node_removal({"load_path": str(trained)}) + analysis.activation_replacement(
        {"load_path": str(trained)}
    )
    trainer, _ = run.restore(run.saved_config(trained), trained)
    for row in rows:
        cell = RNNCell.from_dict(row["architecture"])
        assert row["validation_perplexity"] == trainer.task.evaluate(cell, "valid")
        assert row["test_perplexity"] == trainer.task.evaluate(cell, "test")
        assert row["validation_change"] == row["validation_perplexity"] - rows[0]["validation_perplexity"]


def test_an_edit_changes_the_perplexity_and_none_does_not(at_home, trained):
    rows = analysis.activation_replacement({"load_path": str(trained)})
    own = RNNCell.from_dict(rows[0]["architecture"])
    for row in rows[1:]:
        is_same = RNNCell.from_dict(row["architecture"]) == own
        assert (row["validation_change"] == 0) == is_same
    assert all(row["validation_change"] != 0 for row in analysis.node_removal({"load_path": str(trained)})[1:])


def test_a_split_can_be_shortened(at_home, trained):
    whole = analysis.node_removal({"load_path": str(trained)})
    short = analysis.node_removal({"load_path": str(trained)}, max_batches=1)
    long = analysis.node_removal({"load_path": str(trained)}, max_batches=10_000)
    assert short[0]["validation_perplexity"] != whole[0]["validation_perplexity"]
    assert long == whole


def test_a_given_cell_is_studied(at_home, trained):
    (at_home / "given.json").write_text(GIVEN.to_json())
    rows = analysis.node_removal({"load_path": str(trained), "dag_path": "given.json"})
    assert RNNCell.from_dict(rows[0]["architecture"]) == GIVEN
    assert (at_home / "analysis_results" / "node_removal" / f"{trained.name}_given" / "results.json").is_file()


@pytest.mark.parametrize("with_run", [True, False])
def test_variants_can_be_trained_anew(at_home, trained, with_run):
    (at_home / "given.json").write_text(GIVEN.to_json())
    budget = {"max_epoch": 1, "shared_max_step": 3, "log_dir": str(at_home / "made")}
    if with_run:
        settings = {"load_path": str(trained), **budget}
    else:
        settings = tiny.settings(at_home, dag_path="given.json", **budget)
    rows = analysis.node_removal({**settings, "mode": "train_scratch"})
    runs = {path.name: json.loads((path / "results.json").read_text()) for path in (at_home / "made").iterdir()}
    assert len(runs) == len(rows) == 4
    for row, name in zip(rows, sorted(runs), strict=True):
        assert runs[name]["mode"] == "train_scratch" and runs[name]["architecture"] == row["architecture"]
        assert runs[name]["test_perplexity"] == row["test_perplexity"]
        assert runs[name]["validation_perplexity"] == row["validation_perplexity"]


# --- what is written --------------------------------------------------------------------------------------------------


def test_the_files_of_an_ablation(at_home, trained, capsys):
    before = tiny.tree(trained)
    assert main(analysis.activation_replacement, [f"--load_path={trained}", "--mode=derive"]) == 0
    folder = at_home / "analysis_results" / "activation_replacement" / trained.name
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "params.json", "results.json", "results.csv", "all_nodes.png", "nodes_validation.png", "nodes_test.png"
    }  # fmt: skip
    rows = written(at_home, "activation_replacement", trained)["rows"]
    with (folder / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["edit"] for row in table] == [row["edit"] for row in rows]
    assert [float(row["test_perplexity"]) for row in table] == [row["test_perplexity"] for row in rows]
    assert json.loads((folder / "params.json").read_text())["shared_lr"] == 10.0
    out = capsys.readouterr().out
    assert all(row["edit"] in out and f"{row['validation_perplexity']:.2f}" in out for row in rows)
    assert tiny.tree(trained) == before


def test_node_0_stays_and_that_is_said(at_home, trained, capsys):
    assert main(analysis.node_removal, [f"--load_path={trained}"]) == 0
    assert "node 0 cannot be removed: it alone reads the input and the previous state\n" in capsys.readouterr().out
    rows = written(at_home, "node_removal", trained)["rows"]
    assert [row["node"] for row in rows] == [None, 1, 2, 3]


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--load_path", "nonesuch"], "load_path nonesuch: no such run"),
        (["--mode", "single"], "mode is 'single'; an ablation takes derive or train_scratch"),
        (["--max_batches", "0"], "max_batches is 0; it must be at least 1"),
        (["--max_batch", "3"], "unknown flag --max_batch; did you mean --max_batches?"),
        (["--mode", "train_scratch", "--max_batches", "3"], "max_batches has no effect in mode train_scratch"),
        (["--dag_path", "nonesuch.json"], "nonesuch.json: no such file"),
        (
            ["--dag_path", "one.json"],
            "a recurrent cell with nothing to remove: node 0 cannot be removed: it alone reads the input",
        ),
        (["--dag_path", "large.json"], "the cell has node 4, but the shared model has nodes 0 … 3"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_an_ablation_refuses(at_home, trained, capsys, flags, says):
    (at_home / "one.json").write_text(RNNCell(("tanh",), ()).to_json())
    (at_home / "large.json").write_text(RNNCell(("tanh",) * 5, (0, 1, 2, 3)).to_json())
    before = tiny.tree(at_home)
    given = [] if "--load_path" in flags else ["--load_path", str(trained)]
    assert main(analysis.node_removal, [*given, *flags]) == 2
    err = capsys.readouterr().err
    assert says in err and len(err.splitlines()) == 1
    assert tiny.tree(at_home) == before


@pytest.mark.parametrize("script", ["activation_replacement", "node_removal"])
def test_as_a_script(at_home, trained, script):
    argv = [f"--load_path={trained.name}", "--mode=derive", "--log_dir", str(trained.parent), "--max_batches", "1"]
    status, out, err = tiny.finish(tiny.start(argv, at_home, f"ablation_studies/{script}.py"))
    assert (status, err) == (0, "") and "unedited" in out
    source = (tiny.ROOT / "ablation_studies" / f"{script}.py").read_text()
    assert len(source.splitlines()) < 12
