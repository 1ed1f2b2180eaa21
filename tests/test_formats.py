"""Published architectures: what each format reads and writes, what it refuses, and the converter."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from strategies import cells, macro_networks, micro_cells, micro_networks
from tiny import run_command

from enas.cnn.macro import STEM, MacroNetwork
from enas.cnn.micro import MicroCell, MicroNetwork
from enas.rnn.cell import LSTMBaseline, RNNCell
from enas.search.architecture import load_architecture
from enas.search.formats import read_architecture, write_architecture

main = partial(run_command, "convert")

PUBLISHED_FILES = tiny.ROOT / "configs" / "architectures"

# name of the file in configs/architectures: format, text as published
# Of each of 24 layers its operation, then a digit for each layer before it, or for the stem and the layers but one.
PUBLISHED_MACRO = (
    "0 3 0 0 1 0 2 0 0 1 2 0 0 0 0 3 1 1 0 1 0 2 0 0 0 0 0 1 2 0 1 1 0 1 1 1 1 0 1 1 1 0 1 0 1 0 0 0 0 0 "
    "0 0 0 0 0 2 0 0 0 0 0 1 0 0 0 0 0 1 0 0 1 1 0 0 0 0 1 1 2 0 1 0 0 0 0 0 1 0 1 1 0 1 0 0 1 0 0 0 1 1 "
    "1 0 1 0 1 0 1 1 0 1 0 1 0 0 0 0 0 1 0 0 2 0 0 1 0 0 0 0 0 0 0 1 0 1 0 1 2 0 1 0 0 0 1 0 0 1 1 1 1 0 "
    "0 1 0 2 0 0 0 0 1 0 1 0 1 0 0 1 0 1 0 0 1 3 0 1 1 0 1 0 0 0 0 0 1 0 1 0 1 0 0 0 3 0 1 1 0 0 0 0 0 0 "
    "0 0 0 1 1 0 0 0 0 1 0 1 0 0 1 0 1 1 0 0 0 1 0 0 0 0 0 1 1 0 0 3 0 1 0 1 1 0 0 1 0 1 1 0 1 1 0 1 0 0 "
    "1 0 0 0 1 0 1 0 1 0 0 0 0 0 0 0 0 1 0 1 0 0 1 0 0 0 0 1 1 0 0 0 1 1 1 0 1 0 0 0 1 0 1 0 0 1 1 0 0 0"
)
PUBLISHED = {
    "enas_ptb": ("enas", "0 0 0 1 1 2 1 2 0 2 0 5 1 1 0 6 1 8 1 8 1 8 1"),
    "enas_lm": ("enas_lm", "0 2 1 0 2 1 2 2 4 0 5 0 3 2 6 2"),
    "darts_v1": (
        "darts",
        "Genotype(recurrent=[('relu', 0), ('relu', 1), ('tanh', 2), ('relu', 3), ('relu', 4), ('identity', 1), "
        "('relu', 5), ('relu', 1)], concat=range(1, 9))",
    ),
    "darts_v2": (
        "darts",
        "Genotype(recurrent=[('sigmoid', 0), ('relu', 1), ('relu', 1), ('identity', 1), ('tanh', 2), ('sigmoid', 5), "
        "('tanh', 3), ('relu', 5)], concat=range(1, 9))",
    ),
    "enas_macro": ("enas_macro", PUBLISHED_MACRO),
    "enas_macro_code": ("enas_macro_code", PUBLISHED_MACRO),
    "enas_micro": ("enas_micro", "0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1; 1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1"),
}

#   0 ── 1 ── 2      loose ends 2 and 3
#        └─── 3
LOOSE = RNNCell(("tanh", "ReLU", "identity", "sigmoid"), (0, 1, 1))
ALL = replace(LOOSE, cell_output="all")
LONE = RNNCell(("tanh",), ())
MACRO = MacroNetwork(("conv3x3", "sep5x5", "max3x3"), ((), (0,), (0, 1)))
MICRO = MicroNetwork(
    MicroCell(((0, 1), (1, 2)), (("sep3x3", "identity"), ("avg3x3", "max3x3")), "all"),
    MicroCell(((1, 1), (0, 2)), (("sep5x5", "sep3x3"), ("identity", "sep5x5")), "all"),
)
LOOSE_MICRO = MicroNetwork(*(replace(cell, cell_output="loose_ends") for cell in (MICRO.normal, MICRO.reduction)))
LOOSE_END = replace(MICRO.reduction, inputs=((1, 1), (2, 2)), cell_output="loose_ends")


def _shifted(network: MacroNetwork) -> MacroNetwork:
    return replace(network, skips=[[label - 1 for label in labels] for labels in network.skips])


EXPRESSIBLE = {
    "enas": cells().map(lambda cell: replace(cell, cell_output="loose_ends")),
    "enas_lm": cells(min_blocks=2).map(lambda cell: replace(cell.replace_part("tanh", 0), cell_output="all")),
    "darts": cells().map(lambda cell: cell.replace_part("tanh", 0)),
    "enas_macro": macro_networks(),
    "enas_macro_code": macro_networks().map(_shifted),
    "enas_micro": micro_networks(cell_outputs=("loose_ends",)),
    "darts_cnn": micro_networks(),
    "json": st.one_of(
        cells(gaps=True), macro_networks(gaps=True), micro_networks(gaps=True), micro_cells(), st.just(LSTMBaseline(8))
    ),
}


# Published cells


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_file_of_a_published_cell_equals_its_string(name):
    format, text = PUBLISHED[name]
    path = PUBLISHED_FILES / f"{name}.json"
    assert load_architecture(path) == read_architecture(text, format)
    assert write_architecture(load_architecture(path), format) == text
    assert {file.stem for file in PUBLISHED_FILES.glob("*.json")} == {*PUBLISHED}


def test_the_cell_of_the_paper():
    cell = read_architecture(PUBLISHED["enas_ptb"][1], "enas")
    assert cell.previous == (0, 1, 2, 2, 2, 5, 1, 6, 8, 8, 8)
    assert [node for node, name in enumerate(cell.activations) if name == "tanh"] == [0, 1, 4, 5, 7]
    assert [node for node, name in enumerate(cell.activations) if name == "ReLU"] == [2, 3, 6, 8, 9, 10, 11]
    assert cell.output_nodes == (3, 4, 7, 9, 10, 11)


def test_the_micro_cells_of_the_paper():
    """The first node of the normal cell adds an average pool and a separable 3×3 convolution of the older input."""
    network = read_architecture(PUBLISHED["enas_micro"][1], "enas_micro")
    assert (network.normal.inputs[0], network.normal.operations[0]) == ((0, 0), ("avg3x3", "sep3x3"))
    assert network.normal.loose_ends == (2, 3, 4, 5, 6)
    assert network.reduction.loose_ends == (2, 4, 5, 6)


def test_the_macro_network_of_the_paper_in_both_readings():
    """Layer 2 has digits 1 0 and layer 5 has 1 1 0 1 0."""
    paper, code = (read_architecture(PUBLISHED_MACRO, format) for format in ("enas_macro", "enas_macro_code"))
    assert paper.num_layers == code.num_layers == 24 and paper.operations == code.operations
    assert (paper.skips[2], paper.skips[5]) == ((0,), (0, 1, 3))
    assert (code.skips[2], code.skips[5]) == ((STEM,), (STEM, 0, 2))


# Reading and writing


@pytest.mark.parametrize(
    ("format", "cell", "text"),
    [
        ("enas", LOOSE, "0 0 1 1 2 1 3"),
        ("enas", LONE, "0"),
        ("enas_lm", ALL, "0 1 1 3 1 2"),
        ("darts", ALL, "Genotype(recurrent=[('relu', 0), ('identity', 1), ('sigmoid', 1)], concat=range(1, 4))"),
        ("darts", LOOSE, "Genotype(recurrent=[('relu', 0), ('identity', 1), ('sigmoid', 1)], concat=[2, 3])"),
        ("darts", replace(LONE, cell_output="all"), "Genotype(recurrent=[], concat=[0])"),
        ("enas_macro", MACRO, "0 3 1 5 1 1"),
        ("enas_macro_code", _shifted(MACRO), "0 3 1 5 1 1"),
        ("enas_micro", LOOSE_MICRO, "0 0 1 4 1 2 2 3; 1 1 1 0 0 4 2 1"),
        (
            "darts_cnn",
            MICRO,
            "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ('avg_pool_3x3', 1), ('max_pool_3x3', 2)], "
            "normal_concat=[2, 3], reduce=[('sep_conv_5x5', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), "
            "('sep_conv_5x5', 2)], reduce_concat=[2, 3])",
        ),
    ],
)
def test_texts_worked_out_by_hand(format, cell, text):
    assert write_architecture(cell, format) == text
    assert read_architecture(text, format) == cell


@pytest.mark.parametrize("format", EXPRESSIBLE)
@given(data=st.data())
def test_reading_undoes_writing(format, data):
    architecture = data.draw(EXPRESSIBLE[format])
    text = write_architecture(architecture, format)
    again = read_architecture(text, format)
    assert "\n" not in text
    assert write_architecture(again, format) == text
    if format.startswith("darts"):
        again = _as_all_if_the_same(again)
        architecture = _as_all_if_the_same(architecture)
    assert again == architecture


def _as_all_if_the_same(architecture):
    """The architecture, its cells of cell_output=all where that changes none of the nodes that are output."""
    if isinstance(architecture, MicroNetwork):
        return MicroNetwork(*map(_as_all_if_the_same, (architecture.normal, architecture.reduction)))
    everything = replace(architecture, cell_output="all")
    return everything if everything.output_nodes == architecture.output_nodes else architecture


def test_a_genotype_of_both_outputs():
    text = write_architecture(replace(MICRO, reduction=LOOSE_END), "darts_cnn")
    assert "normal_concat=[2, 3]" in text and "reduce_concat=[3]" in text
    again = read_architecture(text, "darts_cnn")
    assert (again.normal.cell_output, again.reduction.cell_output) == ("all", "loose_ends")
    assert read_architecture(text.replace("[2, 3]", "range(2, 4)"), "darts_cnn") == again


@pytest.mark.parametrize(
    ("name", "separator", "others"),
    [("enas_micro", "; ", ["|", "\n", " ", ";", "\n;\n"]), ("enas_ptb", " ", [",", ", ", "\n", "\t", "  "])],
)
def test_cells_and_integers_may_be_parted_in_several_ways(name, separator, others):
    format, text = PUBLISHED[name]
    for other in others:
        assert read_architecture(text.replace(separator, other) + "\n", format) == read_architecture(text, format)


PAIRS = "[('relu', 0), ('identity', 1), ('sigmoid', 1)]"


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        (PAIRS, ALL),
        (PAIRS.strip("[]"), ALL),
        (PAIRS.replace("(", "[").replace(")", "]"), ALL),
        (f"Genotype(concat=[1, 2, 3], recurrent={PAIRS})", ALL),
        (f"Genotype(\n  recurrent = {PAIRS},\n  concat = range(1, 4),\n)\n", ALL),
        (f"Genotype(recurrent={PAIRS}, concat=(3, 2))", LOOSE),
        (f"Genotype(recurrent={PAIRS}, concat=range(2, 4))", LOOSE),
    ],
)
def test_a_genotype_may_be_written_in_several_ways(text, cell):
    assert read_architecture(text, "darts") == cell


# What is refused

SKIP = "('skip_connect', 0)"
REST = "normal_concat=[2], reduce=[], reduce_concat=[]"


@pytest.mark.parametrize(("function", "given"), [(read_architecture, "0"), (write_architecture, LONE)])
def test_an_unknown_format_is_named(function, given):
    with tiny.refused("format is 'nas'; it must be one of json, enas_macro, enas_macro_code, enas_micro, darts_cnn"):
        function(given, "nas")


@pytest.mark.parametrize(
    ("format", "text", "message"),
    [
        ("enas", "0 0", "enas: a cell is an odd number of integers, 2N-1 for N nodes; got 2"),
        ("enas", "0 0 1.0", "enas: '1.0' is not an integer"),
        ("enas", "0 0 ٣", "enas: '٣' is not an integer"),
        ("enas_lm", "0 2 1", "enas_lm: a cell is pairs of previous node and activation, 2N-2 integers; got 3"),
        ("enas_lm", "0 4", "enas_lm: activation number 4 is not in 0 … 3"),
        ("darts", "", "darts: '' is not a genotype; it must look like Genotype(recurrent="),
        ("darts", "\0", "is not a genotype"),
        ("darts", "(" * 10_000, "is not a genotype"),
        ("darts", "a" + ".a" * 10_000 + "()", "darts: "),
        ("darts", "Cell(recurrent=[], concat=[0])", "is not a genotype"),
        ("darts", "Genotype(recurrent=open('x'), concat=[1])", "is not a genotype"),
        ("darts", "('relu', 0)", "'relu' is not a pair of activation and node like ('tanh', 0)"),
        ("darts", "[('ReLU', 0)]", "unknown activation 'ReLU'; known: tanh, relu, sigmoid, identity"),
        ("darts", "[('relu', 1)]", "darts: node 1 reads node 1, which is not an earlier node"),
        ("darts", "[('relu', '0')]", "node 1 reads node '0', which is not an earlier node of the cell"),
        ("darts", f"Genotype(recurrent={PAIRS}, concat=[3])", "concat is [3]; it must name all of nodes 1 2 3, or"),
        ("darts", f"Genotype(recurrent={PAIRS}, concat=[2, 2, 3])", "or the loose ends 2 3, and nothing else"),
        ("darts", f"Genotype(recurrent={PAIRS}, concat=range(1, {10**30}))", "is not a genotype"),
        ("darts", f"Genotype(recurrent={PAIRS}, concat=[True, 2, 3])", "concat is [True, 2, 3]; it must name all of"),
        ("json", "0 0 1", "json: not JSON ("),
        ("json", "{}", "json: architecture type is None; it must be one of"),
        ("json", '{"type": "rnn_cell", "a\\nb": 1}', "json: a recurrent cell needs the keys"),
        ("enas_micro", "0 0 0 0; 0 0 0", "enas_micro: a cell is four integers a node; got 3"),
        # Python would warn of the backslash on stderr, and read on.
        ("darts_cnn", r"[('sep\_conv_3x3', 0)]", "is not a genotype; it must look like Genotype(normal=[…], …)"),
        ("enas_micro", "0 0 0", "a network is two cells of four integers a node; got 3 integers"),
        ("enas_micro", "0 0 0 0; 0 0 0 0; 0 0 0 0", "a network is two cells, normal and reduction; found 3"),
        ("darts_cnn", f"Genotype(normal=[('dil_conv_3x3', 2)], {REST})", "unknown operation 'dil_conv_3x3'; known: "),
        ("darts_cnn", "Genotype(normal=[])", "has normal, normal_concat, reduce, reduce_concat; found normal"),
        ("darts_cnn", "[('skip_connect', 0)]", "a genotype has normal, normal_concat, reduce, reduce_concat; found a"),
        ("darts_cnn", f"Genotype(normal=[{SKIP}], {REST})", "a cell is two pairs of operation and node for each"),
        ("darts_cnn", f"Genotype(normal=[{SKIP}, (['x'], 1)], {REST})", "unknown operation ['x']"),
        ("darts_cnn", f"Genotype(normal=[{SKIP}, {SKIP}], {REST.replace('[2]', '[2.0]')})", "it must name all"),
    ],
)
def test_a_text_that_fits_no_architecture_is_refused(format, text, message):
    with tiny.refused(message):
        read_architecture(text, format)


@pytest.mark.parametrize(
    ("format", "cell", "message"),
    [
        ("enas", ALL, "enas: cell_output is all; this format has only loose_ends"),
        ("enas_lm", LOOSE, "enas_lm: cell_output is loose_ends; this format has only all"),
        ("enas_lm", ALL.remove_node(2), "enas_lm: a cell with removed nodes has no encoding; renumber() it first"),
        ("enas_lm", replace(LONE, cell_output="all"), "enas_lm: a cell of one node has no pairs to write"),
        ("enas_lm", ALL.replace_part("ReLU", 0), "the activation of node 0 is ReLU; this format has only tanh"),
        ("darts", ALL.replace_part("sigmoid", 0), "node 0 is sigmoid; this format has only tanh there"),
        ("darts", ALL.remove_node(2), "darts: a cell with removed nodes has no genotype; renumber() it first"),
        ("darts", ALL.replace_part("GELU", 1), "darts: cannot encode GELU: only tanh, ReLU, sigmoid, identity"),
        ("enas_macro", _shifted(MACRO), "enas_macro: a network that skips from the stem has no encoding"),
        ("enas_macro_code", MACRO, "layer 1 skips from layer 0, for which this format has no digit"),
        ("enas_micro", MICRO, "cell_output is all; this format has only loose_ends"),
        ("darts_cnn", MICRO.remove_node(("normal", 2)), "a network with removed nodes has no genotype; renumber() it"),
        ("enas", MACRO, "enas: this format has only a recurrent cell, not a macro network"),
        ("enas_lm", LSTMBaseline(8), "enas_lm: this format has only a recurrent cell, not an LSTM"),
    ],
)
def test_a_cell_that_a_format_cannot_express_is_refused(format, cell, message):
    with tiny.refused(message):
        write_architecture(cell, format)


# The converter


def _outcome(capsys, *argv: str) -> tuple[int, str, str]:
    status = main(list(argv))
    return status, *capsys.readouterr()


def test_the_converter_knows_the_file_of_an_lstm_in_a_new_process(tmp_path):
    (tmp_path / "lstm.json").write_text(LSTMBaseline(8).to_json())
    words = [sys.executable, "-m", "enas", "convert", "--from", "json", str(tmp_path / "lstm.json"), "--to", "darts"]
    done = subprocess.run(words, cwd=tiny.ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: darts: this format has only a recurrent cell, not an LSTM\n")


def test_the_converter_reads_one_argument_several_standard_input_or_a_json_file(tmp_path, monkeypatch, capsys):
    for words in (["0 0 1 1 2 1 3"], ["0,0,1,1,2,1,3"], ["0", "0", "1", "1", "2", "1", "3"]):
        assert _outcome(capsys, "--from", "enas", *words) == (0, LOOSE.to_json() + "\n", "")
    monkeypatch.setattr("sys.stdin", io.StringIO("0 1\n1 3 1 2\n"))
    expected = (0, write_architecture(ALL, "darts") + "\n", "")
    assert _outcome(capsys, "--from", "enas_lm", "--to", "darts", "-") == expected
    monkeypatch.setattr("sys.stdin", None)  # it is closed
    line = "error: standard input is closed; pipe the text into the command, or give its words\n"
    assert _outcome(capsys, "--from", "enas", "-") == (2, "", line)
    path = tmp_path / "architecture.json"
    path.write_text(json.dumps(MICRO.to_dict(), indent=2), encoding="utf-8")
    assert _outcome(capsys, "--from", "json", str(path)) == (0, MICRO.to_json() + "\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("enas 0,0", "enas: a cell is an odd number of integers"),
        ("enas 0 --to enas_lm", "enas_lm: cell_output is loose_ends"),
        ("json absent.json", "absent.json: cannot be read (No such file or directory)"),
        ("enas", "the following arguments are required: STRING"),
    ],
)
def test_the_converter_refuses_bad_input_in_one_line_with_status_2(words, message, tmp_path, capsys):
    assert message in tiny.refusal(["--from", *words.split()], tmp_path, capsys, main)
