"""Every architecture class: what is one and what is not, integers, JSON, files, and edited copies."""

import json
import re
from dataclasses import FrozenInstanceError, fields, replace

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from strategies import cells, macro_networks, micro_cells, micro_networks

from enas.cnn.macro import MacroNetwork
from enas.cnn.micro import MicroCell, MicroNetwork
from enas.cnn.network import reduction_layers
from enas.cnn.operation_names import MACRO_OPERATIONS, MICRO_OPERATIONS
from enas.rnn.cell import ACTIVATIONS, RNNCell
from enas.search.architecture import architecture_from_dict, load_architecture

#   0 ── 1 ── 2      loose ends 2, 4 and 5
#   └─── 3 ── 4
#        └─── 5
RNN = RNNCell(("tanh", "ReLU", "identity", "sigmoid", "tanh", "ReLU"), (0, 1, 0, 3, 3))
MACRO = MacroNetwork(("conv3x3", "max3x3", "sep5x5", "avg3x3"), ((), (), (0,), (0, 2)))
# Node 3 reads node 2, node 4 reads nodes 2 and 3: the loose ends are 4 and 5.
MICRO_CELL = MicroCell(
    ((0, 1), (2, 0), (2, 3), (1, 1)),
    (("sep3x3", "max3x3"), ("identity", "sep5x5"), ("avg3x3", "sep3x3"), ("sep5x5", "identity")),
)
MICRO = MicroNetwork(MICRO_CELL, MICRO_CELL.replace_part("max3x3"))
SEP = ("sep3x3", "sep3x3")
LONE = MicroCell(((0, 1),), (SEP,))
PAIR = MicroNetwork(LONE, LONE)

STRATEGIES = {RNNCell: cells, MacroNetwork: macro_networks, MicroCell: micro_cells, MicroNetwork: micro_networks}
NAMES = {
    RNNCell: [*ACTIVATIONS], MacroNetwork: MACRO_OPERATIONS, MicroCell: MICRO_OPERATIONS, MicroNetwork: MICRO_OPERATIONS
}  # fmt: skip
every_kind = pytest.mark.parametrize("kind", STRATEGIES)
every_graph = pytest.mark.parametrize("kind", [RNNCell, MacroNetwork, MicroCell])


def applied(graph) -> dict:
    """What each node applies."""
    parts = graph.activations if isinstance(graph, RNNCell) else graph.operations
    return dict(zip(graph.nodes, parts, strict=True))


def reads(graph) -> dict:
    """What each node reads."""
    if isinstance(graph, RNNCell):
        return {0: (), **{node: (label,) for label, node in graph.edges}}
    read = graph.skips if isinstance(graph, MacroNetwork) else graph.inputs
    return dict(zip(graph.nodes, read, strict=True))


def removable(graph) -> tuple[int, ...]:
    """The nodes that may be removed."""
    if isinstance(graph, MicroCell):
        return graph.nodes if graph.num_blocks > 1 else ()
    return graph.nodes[1:]


# What an architecture is


def test_parts_of_a_recurrent_cell():
    assert (RNN.num_blocks, RNN.nodes) == (6, (0, 1, 2, 3, 4, 5))
    assert RNN.edges == ((0, 1), (1, 2), (0, 3), (3, 4), (3, 5))
    assert RNN.parents == (0, 1, 0, 3, 3)
    assert RNN.loose_ends == RNN.output_nodes == (2, 4, 5)
    everything = replace(RNN, cell_output="all")
    assert (everything.loose_ends, everything.output_nodes) == ((2, 4, 5), (1, 2, 3, 4, 5))
    assert everything.remove_node(1).output_nodes == (2, 3, 4, 5)  # labels, not positions
    assert [RNNCell(("ReLU",), (), output).output_nodes for output in ("loose_ends", "all")] == [(0,), (0,)]
    cell = RNNCell(("tanh",) * 4, (0, 3, 3), nodes=(0, 3, 5, 9))
    assert cell.edges == ((0, 3), (3, 5), (3, 9))
    assert cell.parents == (0, 1, 1)  # positions, not labels


def test_parts_of_convolutional_architectures():
    assert (MICRO_CELL.num_blocks, MICRO_CELL.nodes) == (4, (2, 3, 4, 5))
    assert MICRO_CELL.loose_ends == MICRO_CELL.output_nodes == (4, 5)
    assert replace(MICRO_CELL, cell_output="all").output_nodes == (2, 3, 4, 5)
    assert MACRO.layers == MACRO.nodes == (0, 1, 2, 3)
    assert MICRO.nodes == tuple((name, node) for name in ("normal", "reduction") for node in (2, 3, 4, 5))


@pytest.mark.parametrize("kind", [RNNCell, MicroCell])
@given(data=st.data())
def test_every_node_is_read_or_loose(kind, data):
    cell = data.draw(STRATEGIES[kind](gaps=True))
    read = {label for labels in reads(cell).values() for label in labels}
    assert cell.loose_ends == tuple(node for node in cell.nodes if node not in read)
    assert cell.nodes[-1] in cell.loose_ends and set(cell.output_nodes) <= set(cell.nodes)


@pytest.mark.parametrize(
    ("num_layers", "expected"), [(12, (3, 7)), (24, (7, 15)), (6, (1, 3)), (3, (0, 1)), (5, (0, 2)), (2, (0,)), (1, ())]
)
def test_reductions_are_after_one_and_two_thirds(num_layers, expected):
    assert reduction_layers(num_layers) == expected


@every_kind
@given(data=st.data())
def test_lists_make_the_same_architecture_which_is_frozen(kind, data):
    architecture = data.draw(STRATEGIES[kind](gaps=True))
    lists = {spec.name: _listed(getattr(architecture, spec.name)) for spec in fields(kind)}
    assert len({architecture, kind(**lists)}) == 1
    for spec in fields(kind):
        with pytest.raises(FrozenInstanceError):
            setattr(architecture, spec.name, getattr(architecture, spec.name))


def _listed(value):
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


CONV = ("conv3x3",)


@pytest.mark.parametrize(
    ("kind", "parts", "message"),
    [
        (RNNCell, ((), ()), "a cell has 1 to 300 nodes, not 0"),
        (RNNCell, (("tanh", "relu"), (0,)), f"unknown activation 'relu'; known: {', '.join(ACTIVATIONS)}"),
        (RNNCell, (("tanh", ["tanh"]), (0,)), "unknown activation ['tanh']"),
        (RNNCell, (("tanh",) * 3, (0,)), "a cell of 3 nodes needs 2 previous nodes, not 1"),
        (RNNCell, (("tanh",) * 2, (False,)), "node 1 reads node False, which is not an earlier node of the cell"),
        (RNNCell, (("tanh",) * 2, (0,), "all", (0, "1")), "node labels must be integers"),
        (RNNCell, (("tanh",) * 3, (0, 0), "all", (1, 2, 3)), "labels must increase from 0, one a node; got [1, 2, 3]"),
        (RNNCell, (("tanh",) * 3, (0, 0), "all", (0, 1, 1)), "labels must increase from 0, one a node; got [0, 1, 1]"),
        (RNNCell, (("tanh",) * 3, (0, 0), "all", (0, 1)), "labels must increase from 0, one a node; got [0, 1]"),
        (RNNCell, (("tanh",) * 4, (0, 2, 0)), "node 2 reads node 2, which is not an earlier node of the cell"),
        (RNNCell, (("tanh",) * 3, (0, 1), "all", (0, 2, 4)), "node 4 reads node 1, which is not an earlier node"),
        (RNNCell, (("tanh",), (), "mean"), "cell_output is 'mean'; it must be one of loose_ends, all"),
        (MacroNetwork, ((), ()), "a network has 1 to 300 layers, not 0"),
        (MacroNetwork, (("conv7x7",), ((),)), "'conv7x7'; known: conv3x3, sep3x3, conv5x5, sep5x5, avg3x3, max3x3"),
        (MacroNetwork, (CONV * 2, ((),)), "a network of 2 layers needs 2 lists of skips, not 1"),
        (MacroNetwork, (CONV * 2, ((), (1,))), "layer 1 skips from layer 1, which is not an earlier layer of the"),
        (MacroNetwork, (CONV * 2, ((), (False,))), "layer 1 skips from layer False"),
        (MacroNetwork, (CONV * 3, ((), (), (1, 0))), "skips of layer 2 must increase; got [1, 0]"),
        (MacroNetwork, (CONV * 2, ((), ()), (1, 2), 3), "layer labels must increase from 0, one a layer; got [1, 2]"),
        (MacroNetwork, (CONV * 2, ((), ()), (0, True), 3), "layer labels must be integers"),
        (
            MacroNetwork,
            (CONV * 2, ((), ()), (0, 2)),
            "num_layers is 2, but the network has a layer 2; it must lie in [3, ",
        ),
        (MacroNetwork, (CONV * 2, ((), ()), (), "3"), "num_layers is '3'"),
        (MacroNetwork, (CONV * 2, ((), (1,)), (0, 2), 3), "layer 2 skips from layer 1, which is not an earlier layer"),
        (MicroCell, ((), ()), "a cell has 1 to 300 nodes, not 0"),
        (MicroCell, (((0, 1),), ()), "a cell of 1 nodes needs 1 pairs of operations, not 0"),
        (MicroCell, (((0, 2),), (SEP,)), "node 2 reads 2, which is neither a cell input (0, 1) nor an earlier node of"),
        (MicroCell, (((0, True),), (SEP,)), "node 2 reads True"),
        (MicroCell, (((0, 1), (0, 2)), (SEP, SEP), "all", (3, 4)), "node 4 reads 2"),
        (MicroCell, (((0, 1, 1),), (SEP,)), "node 2 needs two inputs and two operations, not 3 and 2"),
        (MicroCell, (((0, 1),), (("sep3x3",),)), "node 2 needs two inputs and two operations, not 2 and 1"),
        (MicroCell, (((0, 1),), (("sep3x3", "conv3x3"),)), "'conv3x3'; known: sep3x3, sep5x5, avg3x3, max3x3, id"),
        (MicroCell, (((0, 1),), (SEP,), "all", (1,)), "labels must be 2 or more and increase, one a node; got [1]"),
        (MicroNetwork, (MICRO_CELL, None), "the reduction cell must be a MicroCell, not NoneType"),
    ],
)
def test_parts_that_make_no_architecture_are_refused(kind, parts, message):
    with tiny.refused(message):
        kind(*parts)


# Integers


def test_encodings_worked_out_by_hand():
    assert RNN.encode() == (0, 0, 1, 1, 2, 0, 3, 3, 0, 3, 1)
    assert RNNCell(("sigmoid",), ()).encode() == (3,)
    assert MACRO.encode() == (0, 5, 0, 3, 1, 0, 4, 1, 0, 1)
    assert MICRO_CELL.encode() == (0, 0, 1, 3, 2, 4, 0, 1, 2, 2, 3, 0, 1, 1, 1, 4)
    assert MICRO.encode() == MICRO_CELL.encode() + MICRO.reduction.encode()


@every_kind
@given(data=st.data())
def test_decode_undoes_encode_whatever_the_order_of_names(kind, data):
    outputs = {"cell_outputs": ("loose_ends",)} if kind is MicroNetwork else {}
    architecture = data.draw(STRATEGIES[kind](**outputs))
    output = {} if kind in (MacroNetwork, MicroNetwork) else {"cell_output": architecture.cell_output}
    names = data.draw(st.permutations(NAMES[kind]))
    decisions = architecture.encode(names)
    assert kind.decode(decisions, names, **output) == architecture
    assert kind.decode(list(decisions), names, **output).encode(names) == decisions
    assert kind.decode(architecture.encode(), **output) == architecture


@pytest.mark.parametrize(
    ("kind", "decisions", "message"),
    [
        (RNNCell, [], "a cell is an odd number of integers, 2N-1 for N nodes; got 0"),
        (RNNCell, [0, 0, 4], "activation number 4 is not in 0 … 3"),
        (RNNCell, [0, 1, 0], "node 1 reads node 1, which is not an earlier node of the cell"),
        (RNNCell, [0.0], "a cell is a list of integers"),
        (MacroNetwork, [0, 0], "a network is 1, 3, 6 … L(L+1)/2 integers for L layers; got 2"),
        (MacroNetwork, [6], "operation number 6 of layer 0 is not in 0 … 5"),
        (MacroNetwork, [0, -1, 0], "operation number -1 of layer 1 is not in 0 … 5"),
        (MacroNetwork, [0, 0, 2], "a skip decision of layer 1 is 2; it must be 0 or 1"),
        (MicroCell, [0, 0, 0], "a cell is four integers a node; got 3"),
        (MicroCell, [0, 5, 0, 0], "operation number 5 is not in 0 … 4"),
        (MicroNetwork, [0] * 4, "a network is two cells of four integers a node; got 4 integers"),
    ],
)
def test_integers_that_make_no_architecture_are_refused(kind, decisions, message):
    with tiny.refused(message):
        kind.decode(decisions)


@pytest.mark.parametrize(
    ("architecture", "names", "message"),
    [
        (RNN, ("tanh", "ReLU"), "cannot encode identity, sigmoid: only tanh, ReLU are allowed"),
        (RNN.remove_node(2), [*ACTIVATIONS], "a cell with removed nodes has no encoding; renumber() it first"),
        (MACRO, ("conv3x3", "max3x3"), "cannot encode avg3x3, sep5x5: only conv3x3, max3x3 are allowed"),
        (MACRO.remove_node(1), MACRO_OPERATIONS, "a network with removed layers has no encoding"),
        (MICRO_CELL, ("sep3x3", "max3x3", "identity"), "cannot encode avg3x3, sep5x5: only sep3x3, max3x3, identity"),
        (MicroNetwork(MICRO_CELL, MICRO_CELL.remove_node(5)), MICRO_OPERATIONS, "cells of 4 and 3 nodes has no"),
    ],
)
def test_an_architecture_without_integers_is_refused(architecture, names, message):
    with tiny.refused(message):
        architecture.encode(names)


# JSON and files


@every_kind
@given(data=st.data())
def test_json_and_files_come_back(kind, data, tmp_path_factory):
    architecture = data.draw(STRATEGIES[kind](gaps=True))
    text = architecture.to_json()
    assert "\n" not in text and json.loads(text) == architecture.to_dict()
    assert kind.from_json(text) == architecture_from_dict(json.loads(text)) == architecture
    path = tmp_path_factory.mktemp("architectures") / "architecture.json"
    path.write_text(text, encoding="utf-8")
    assert kind.load(path) == kind.load(str(path)) == load_architecture(path) == architecture
    with tiny.refused("not JSON ("):
        kind.from_json(text[: data.draw(st.integers(0, len(text) - 1))])


RNN_KEYS = "activations, cell_output, nodes, num_blocks, previous, type"


@pytest.mark.parametrize(
    ("architecture", "change", "message"),
    [
        (RNN, {"activations": "tanh"}, "activations of a recurrent cell must be a list"),
        (RNN, {"previous": [0, 1, 0, 3, [3]]}, "node 5 reads node [3], which is not an earlier node of the cell"),
        (RNN, {"num_blocks": 6.0}, "num_blocks is 6.0, but the others make it 6"),
        (RNN, {"nodes": []}, "nodes is [], but the others make it [0, 1, 2, 3, 4, 5]"),
        (RNN, {"type": ["rnn_cell"]}, "architecture type is ['rnn_cell'], not 'rnn_cell'"),
        (RNN, {"colour": 1}, f"{RNN_KEYS}; found activations, cell_output, colour, nodes, num_blocks, previous, type"),
        (MACRO, {"skips": [0, 1, 2, 3]}, "each item of skips of a macro network must be a list"),
        (MACRO, {"num_layers": True}, "num_layers is True, but"),
        (MICRO_CELL, {"type": "cnn_micro"}, "architecture type is 'cnn_micro', not 'cnn_micro_cell'"),
        (MICRO_CELL, {"inputs": [0, 0, 0, 0]}, "each item of inputs of a convolutional cell must be a list"),
        (MICRO, {"colour": 1}, "a micro network needs the keys normal, reduction, type; found colour, normal, reduct"),
    ],
)
def test_json_that_makes_no_architecture_is_refused(architecture, change, message):
    changed = architecture.to_dict() | change
    with tiny.refused(message):
        type(architecture).from_json(json.dumps(changed))
    if architecture is MICRO_CELL:
        with tiny.refused(message):
            MicroNetwork.from_dict(MICRO.to_dict() | {"reduction": changed})


def test_load_names_the_file_and_what_is_wrong_with_it(tmp_path):
    path = tmp_path / "cell.json"
    for content, message in ((b"\xff\xfe\x00", ""), (b"[]", f"a recurrent cell needs the keys {RNN_KEYS}; found list")):
        path.write_bytes(content)
        with tiny.refused(f"{path}: {message}"):
            RNNCell.load(path)
    with pytest.raises(FileNotFoundError, match=r"absent\.json: cannot be read \(No such file or directory\)"):
        load_architecture(tmp_path / "absent.json")
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}: is no regular file")):
        load_architecture(tmp_path)


# Edited copies


@every_graph
@given(data=st.data())
def test_parts_are_replaced_in_one_node_or_in_all(kind, data):
    architecture = data.draw(STRATEGIES[kind](gaps=True))
    before, node = architecture.to_json(), data.draw(st.sampled_from(architecture.nodes))
    name = data.draw(st.sampled_from(NAMES[kind]))
    part = (name, name) if kind is MicroCell else name
    changed, everywhere = architecture.replace_part(name, node), architecture.replace_part(name)
    assert applied(changed) == applied(architecture) | {node: part}
    assert applied(everywhere) == dict.fromkeys(architecture.nodes, part)
    assert architecture.to_json() == before
    for edited in (changed, everywhere):
        other = {key for key, value in edited.to_dict().items() if value != architecture.to_dict()[key]}
        assert other <= {"activations", "operations"}


@every_graph
@given(data=st.data())
def test_any_node_can_be_removed(kind, data):
    """Its readers read what it read, in its place; a layer that skipped from it skips from one layer fewer."""
    architecture = data.draw(STRATEGIES[kind](gaps=True))
    before = reads(architecture)
    for node in removable(architecture):
        smaller = architecture.remove_node(node)
        assert smaller.nodes == tuple(label for label in architecture.nodes if label != node)
        assert applied(smaller) == {label: part for label, part in applied(architecture).items() if label != node}
        for label, found in reads(smaller).items():
            places = enumerate(before[label])
            if kind is MacroNetwork:
                assert found == tuple(read for _, read in places if read != node)
            else:
                assert found == tuple(before[node][place] if read == node else read for place, read in places)
        rest = "num_layers" if kind is MacroNetwork else "cell_output"
        assert getattr(smaller, rest) == getattr(architecture, rest)


@pytest.mark.parametrize("kind", [RNNCell, MicroCell])
@given(data=st.data())
def test_renumbering_changes_labels_and_nothing_else(kind, data):
    architecture = data.draw(STRATEGIES[kind](gaps=True))
    renumbered = architecture.renumber()
    inputs, first = {RNNCell: ((), 0), MicroCell: ((0, 1), 2)}[kind]
    new = dict(zip((*inputs, *architecture.nodes), (*inputs, *renumbered.nodes), strict=True))
    assert renumbered.nodes == tuple(range(first, first + architecture.num_blocks))
    expected = {new[node]: tuple(new[label] for label in labels) for node, labels in reads(architecture).items()}
    assert reads(renumbered) == expected
    assert list(applied(renumbered).values()) == list(applied(architecture).values())
    assert renumbered.cell_output == architecture.cell_output
    assert renumbered.output_nodes == tuple(new[label] for label in architecture.output_nodes)
    assert renumbered.renumber() == renumbered
    names = NAMES[kind]
    assert kind.decode(renumbered.encode(names), names, renumbered.cell_output) == renumbered


@given(micro_networks(gaps=True), st.data())
def test_edits_of_a_network_are_those_of_its_cells(network, data):
    name, node = data.draw(st.sampled_from(network.nodes))
    cell, operation = getattr(network, name), data.draw(st.sampled_from(MICRO_OPERATIONS))
    edited = replace(network, **{name: cell.replace_part(operation, node)})
    assert network.replace_part(operation, (name, node)) == edited
    if removable(cell):
        assert network.remove_node((name, node)) == replace(network, **{name: cell.remove_node(node)})
    both = (network.normal, network.reduction)
    assert network.renumber() == MicroNetwork(*(each.renumber() for each in both))
    assert network.replace_part(operation) == MicroNetwork(*(each.replace_part(operation) for each in both))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda: RNN.remove_node(0), "node 0 cannot be removed: only it reads the input and the previous state"),
        (lambda: MACRO.remove_node(0), "layer 0 cannot be removed: only it reads the image"),
        (lambda: LONE.remove_node(2), "node 2 cannot be removed: the cell has no other node"),
        (lambda: PAIR.remove_node(("normal", 2)), "normal cell: node 2 cannot be removed: the cell has no other node"),
        (lambda: PAIR.remove_node(("normal", 9)), "has no node ('normal', 9); its nodes are normal 2, reduction 2"),
        (lambda: RNN.remove_node(1).remove_node(1), "the cell has no node 1; its nodes are 0, 2, 3, 4, 5"),
        (lambda: RNN.replace_part("tanh", -1), "the cell has no node -1; its nodes are 0, 1, 2, 3, 4, 5"),
        (lambda: MACRO.remove_node(1).remove_node(1), "the network has no layer 1; its layers are 0, 2, 3"),
        (lambda: RNN.replace_part("swish", 0), f"unknown activation 'swish'; known: {', '.join(ACTIVATIONS)}"),
        (lambda: MICRO.replace_part("conv3x3"), "unknown operation 'conv3x3'"),
    ],
)
def test_edits_that_are_refused(edit, message):
    with tiny.refused(message):
        edit()
