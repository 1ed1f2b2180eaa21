"""MicroCell and MicroNetwork: what is a cell and what is not, published strings, and edited copies."""

import json
import re
from pathlib import Path

import pytest
from cnn_strategies import micro_cells, micro_networks
from hypothesis import given
from hypothesis import strategies as st

from enas.search_space import MICRO_OPERATIONS, MicroCell, MicroNetwork
from enas.search_space.formats import FORMATS

ARCHITECTURES = Path(__file__).parents[1] / "configs" / "architectures"
PUBLISHED = "0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1; 1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1"
DILATED = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
    "normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], "
    "reduce_concat=[2, 3, 4, 5])"
)
# Node 3 reads node 2, node 4 reads nodes 2 and 3: the loose ends are 4 and 5.
CELL = MicroCell(
    ((0, 1), (2, 0), (2, 3), (1, 1)),
    (("sep3x3", "max3x3"), ("identity", "sep5x5"), ("avg3x3", "sep3x3"), ("sep5x5", "identity")),
)
NETWORK = MicroNetwork(CELL, CELL.replace_operations("max3x3"))
read_enas, write_enas = FORMATS["enas_micro"].read, FORMATS["enas_micro"].write
read_darts, write_darts = FORMATS["darts_cnn"].read, FORMATS["darts_cnn"].write


def refused(message: str):
    """A ValueError whose text contains `message`, word for word."""
    return pytest.raises(ValueError, match=re.escape(message))


# What a cell is


def test_parts_of_a_small_cell():
    assert CELL.num_blocks == 4
    assert CELL.nodes == (2, 3, 4, 5)
    assert CELL.loose_ends == CELL.output_nodes == (4, 5)
    assert MicroCell(CELL.inputs, CELL.operations, "all").output_nodes == (2, 3, 4, 5)
    assert hash(MicroCell([list(pair) for pair in CELL.inputs], CELL.operations)) == hash(CELL)


@given(micro_cells(gaps=True))
def test_every_node_is_read_or_loose(cell):
    read = {label for pair in cell.inputs for label in pair}
    assert set(cell.loose_ends) == set(cell.nodes) - read
    assert cell.nodes[-1] in cell.loose_ends
    assert not {0, 1} & set(cell.output_nodes)


SEP = ("sep3x3", "sep3x3")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (((), ()), "a cell needs at least one node"),
        ((((0, 1),), ()), "a cell of 1 nodes needs 1 pairs of operations, not 0"),
        ((((0, 2),), (SEP,)), "node 2 reads 2, which is neither a cell input (0, 1) nor an earlier node of the cell"),
        ((((0, -1),), (SEP,)), "node 2 reads -1"),
        ((((0, True),), (SEP,)), "node 2 reads True"),
        ((((0, 1), (0, 4)), (SEP, SEP)), "node 3 reads 4"),
        ((((0, 1), (0, 2)), (SEP, SEP), "all", (3, 4)), "node 4 reads 2"),
        ((((0, 1, 1),), (SEP,)), "node 2 needs two inputs and two operations, not 3 and 2"),
        ((((0, 1),), (("sep3x3",),)), "node 2 needs two inputs and two operations, not 2 and 1"),
        ((((0, 1),), (("sep3x3", "conv3x3"),)), "unknown operation 'conv3x3'; known: sep3x3, sep5x5, avg3x3, max3x3"),
        ((((0, 1),), (SEP,), "mean"), "cell_output is 'mean'; it must be one of loose_ends, all"),
        ((((0, 1),), (SEP,), "all", (1,)), "node labels must be 2 or more and increase, one a node; got [1]"),
        ((((0, 1), (0, 1)), (SEP, SEP), "all", (3, 3)), "node labels must be 2 or more and increase, one a node"),
        ((((0, 1),), (SEP,), "all", (2, 3)), "node labels must be 2 or more and increase, one a node; got [2, 3]"),
        ((((0, 1),), (SEP,), "all", ("2",)), "node labels must be integers"),
    ],
)
def test_what_is_no_cell(parts, message):
    with refused(message):
        MicroCell(*parts)


def test_a_network_is_made_of_cells():
    with refused("the reduction cell must be a MicroCell, not NoneType"):
        MicroNetwork(CELL, None)


# Integers and published strings


def test_the_published_cells():
    network = MicroNetwork.load(ARCHITECTURES / "enas_micro.json")
    assert read_enas(PUBLISHED) == network
    assert write_enas(network) == PUBLISHED
    # The first node of the normal cell adds an average pool and a separable 3×3 convolution of the older input.
    assert network.normal.inputs[0] == (0, 0)
    assert network.normal.operations[0] == ("avg3x3", "sep3x3")
    assert network.normal.loose_ends == (2, 3, 4, 5, 6)
    assert network.reduction.loose_ends == (2, 4, 5, 6)


@pytest.mark.parametrize("separator", ["|", "\n", " ", ";", "\n;\n"])
def test_cells_may_be_parted_in_several_ways(separator):
    assert read_enas(PUBLISHED.replace("; ", separator) + "\n") == read_enas(PUBLISHED)


@given(micro_networks(), st.permutations(MICRO_OPERATIONS))
def test_decode_undoes_encode(network, operations):
    cell = network.normal
    assert MicroCell.decode(cell.encode(), cell_output=cell.cell_output) == cell
    assert MicroCell.decode(cell.encode(operations), operations, cell.cell_output) == cell


@given(micro_networks(cell_outputs=("loose_ends",)))
def test_strings_are_read_as_they_were_written(network):
    assert MicroNetwork.decode(network.encode()) == network
    assert read_enas(write_enas(network)) == network


@given(micro_networks())
def test_genotypes_are_read_as_they_were_written(network):
    again = read_darts(write_darts(network))
    for cell, other in ((network.normal, again.normal), (network.reduction, again.reduction)):
        assert (cell.inputs, cell.operations) == (other.inputs, other.operations)
        assert cell.output_nodes == other.output_nodes


def test_a_genotype():
    text = DILATED.replace("dil_conv_3x3", "sep_conv_5x5").replace(
        "reduce_concat=[2, 3, 4, 5]", "reduce_concat=[3, 4, 5]"
    )
    network = read_darts(text)
    assert network.normal.inputs == ((0, 1), (0, 1), (1, 0), (0, 2))
    assert network.normal.operations[3] == ("identity", "sep5x5")
    assert network.normal.cell_output == "all"
    assert network.reduction.inputs == ((0, 1), (2, 1), (0, 2), (2, 1))
    assert network.reduction.cell_output == "loose_ends"
    assert write_darts(network) == text
    assert read_darts(text.replace("[2, 3, 4, 5]", "range(2, 6)")) == network


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DILATED, "unknown operation 'dil_conv_3x3'; known: sep_conv_3x3, sep_conv_5x5, avg_pool_3x3"),
        ("Genotype(", "is not a genotype; it must look like Genotype("),
        ("__import__('os')", "is not a genotype; it must look like Genotype("),
        ("Genotype(normal=[])", "a genotype has normal, normal_concat, reduce, reduce_concat; found normal"),
        (
            "Genotype(normal=[('skip_connect', 0)], REST)",
            "a cell is two pairs of operation and node for each",
        ),
        ("Genotype(normal=[('skip_connect', 0), 3], REST)", "3 is not a pair of operation and node"),
        ("Genotype(normal=[('skip_connect', 0), (['x'], 1)], REST)", "unknown operation ['x']"),
        ("Genotype(normal=[('skip_connect', 0), ('skip_connect', 2)], REST)", "node 2 reads 2"),
        ("Genotype(normal=open('x'), REST)", "is not a genotype"),
        ("Genotype(normal=[('skip_connect', 0)] * 2, REST)", "is not a genotype"),
        ("Genotype(normal=3, REST)", "is not a genotype"),
    ],
)
def test_what_is_no_genotype(text, message):
    with refused(message):
        read_darts(text.replace("REST", "normal_concat=[2], reduce=[], reduce_concat=[]"))


@pytest.mark.parametrize("concat", ["[3]", "[2, 3, 3]", "[]", "range(2, 900)", "[2.0, 3]", "[None]"])
def test_a_concat_that_is_neither_all_nor_the_loose_ends_is_refused(concat):
    cell = "[('skip_connect', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1)]"
    text = f"Genotype(normal={cell}, normal_concat={concat}, reduce={cell}, reduce_concat=[2, 3])"
    with refused("it must name all of nodes 2 3, or the loose ends 2 3, and nothing else"):
        read_darts(text)


def test_where_all_nodes_are_loose_a_genotype_is_one_of_cell_output_all():
    cell = MicroCell(((0, 1), (1, 0)), (SEP, SEP))
    assert cell.output_nodes == (2, 3)
    assert read_darts(write_darts(MicroNetwork(cell, cell))).normal.cell_output == "all"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0 0", "a network is two cells of four integers a node; got 3 integers"),
        ("0 0 0 0; 0 0 0", "a cell is four integers a node; got 3"),
        ("0 0 0 0; 0 0 0 0; 0 0 0 0", "a network is two cells, normal and reduction; found 3"),
        ("", "a network is two cells, normal and reduction; found 0"),
        ("0 5 0 0; 0 0 0 0", "operation number 5 is not in 0 … 4"),
        ("0 0 2 0; 0 0 0 0", "node 2 reads 2"),
        ("0 a 0 0; 0 0 0 0", "'a' is not an integer"),
    ],
)
def test_a_string_that_is_no_network(text, message):
    with refused(message):
        read_enas(text)


def test_what_the_integers_cannot_say():
    with refused("a cell with removed nodes has no encoding; renumber() it first"):
        CELL.remove_node(3).encode()
    with refused("cannot encode avg3x3, sep5x5: only sep3x3, max3x3, identity are allowed"):
        CELL.encode(("sep3x3", "max3x3", "identity"))
    with refused("a network of cells of 4 and 3 nodes has no encoding"):
        MicroNetwork(CELL, CELL.remove_node(5)).encode()
    with refused("cell_output is all; this format has only loose_ends"):
        write_enas(MicroNetwork(CELL, MicroCell(CELL.inputs, CELL.operations, "all")))
    with refused("a network with removed nodes has no genotype; renumber() it first"):
        write_darts(NETWORK.remove_node(("normal", 3)))
    with refused("a cell is a list of integers"):
        MicroCell.decode([0, 0, 1.0, 0])


# JSON


@given(micro_networks(gaps=True))
def test_from_json_undoes_to_json(network):
    assert "\n" not in network.to_json()
    assert MicroNetwork.from_json(network.to_json()) == network
    assert MicroCell.from_json(network.normal.to_json()) == network.normal


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "cnn_micro"}, "architecture type is 'cnn_micro', not 'cnn_micro_cell'"),
        ({"inputs": None}, "inputs of a convolutional cell must be a list"),
        ({"inputs": [0, 0, 0, 0]}, "each item of inputs of a convolutional cell must be a list"),
        ({"operations": ["sep3x3"] * 4}, "each item of operations of a convolutional cell must be a list"),
        ({"nodes": []}, "nodes is [], but the others make it [2, 3, 4, 5]"),
        ({"num_blocks": 5}, "num_blocks is 5, but the others make it 4"),
        ({"colour": 1}, "a convolutional cell needs the keys cell_output, inputs, nodes, num_blocks, operations, type"),
    ],
)
def test_json_that_is_no_cell(change, message):
    data = NETWORK.to_dict()
    data["reduction"] |= change
    with refused(message):
        MicroNetwork.from_json(json.dumps(data))


def test_json_that_is_no_network():
    with refused("a micro network needs the keys normal, reduction, type; found normal, type"):
        MicroNetwork.from_dict({"type": "cnn_micro", "normal": CELL.to_dict()})
    with refused("architecture type is 'cnn_macro', not 'cnn_micro'"):
        MicroNetwork.from_dict(NETWORK.to_dict() | {"type": "cnn_macro"})


# Edited copies


def test_a_removed_node_leaves_both_its_inputs_to_its_readers():
    cell = CELL.remove_node(2)  # read inputs 0 and 1; node 3 read it first, node 4 too
    assert cell.nodes == (3, 4, 5)
    assert cell.inputs == ((0, 0), (0, 3), (1, 1))
    assert CELL.remove_node(3).inputs == ((0, 1), (2, 0), (1, 1))  # node 4 read it second
    assert CELL.remove_node(3).loose_ends == (4, 5)


@given(micro_cells(min_blocks=2, gaps=True), st.data())
def test_removing_any_node(cell, data):
    node = data.draw(st.sampled_from(cell.nodes))
    smaller = cell.remove_node(node)
    inputs = dict(zip(cell.nodes, cell.inputs, strict=True))
    assert smaller.nodes == tuple(label for label in cell.nodes if label != node)
    for label, pair in zip(smaller.nodes, smaller.inputs, strict=True):
        first, second = inputs[label]
        assert pair == (inputs[node][0] if first == node else first, inputs[node][1] if second == node else second)
    operations = dict(zip(cell.nodes, cell.operations, strict=True))
    assert dict(zip(smaller.nodes, smaller.operations, strict=True)).items() <= operations.items()
    assert smaller.cell_output == cell.cell_output


@given(micro_cells(min_blocks=3), st.data())
def test_the_order_of_two_removals_is_of_no_account(cell, data):
    one, other = data.draw(st.lists(st.sampled_from(cell.nodes), min_size=2, max_size=2, unique=True))
    assert cell.remove_node(one).remove_node(other) == cell.remove_node(other).remove_node(one)


@given(micro_cells(gaps=True))
def test_renumbering_changes_labels_and_nothing_else(cell):
    renumbered = cell.renumber()
    new = dict(zip((0, 1, *cell.nodes), (0, 1, *renumbered.nodes), strict=True))
    assert renumbered.nodes == tuple(range(2, cell.num_blocks + 2))
    assert renumbered.inputs == tuple((new[one], new[other]) for one, other in cell.inputs)
    assert (renumbered.operations, renumbered.cell_output) == (cell.operations, cell.cell_output)
    assert renumbered.output_nodes == tuple(new[label] for label in cell.output_nodes)


@given(micro_cells(gaps=True), st.sampled_from(MICRO_OPERATIONS), st.data())
def test_replacing_operations(cell, operation, data):
    node = data.draw(st.sampled_from(cell.nodes))
    changed = cell.replace_operations(operation, node)
    expected = [
        (operation,) * 2 if label == node else old for label, old in zip(cell.nodes, cell.operations, strict=True)
    ]
    assert list(changed.operations) == expected
    assert (changed.inputs, changed.nodes) == (cell.inputs, cell.nodes)
    assert set(cell.replace_operations(operation).operations) == {(operation,) * 2}


def test_edits_of_a_network_name_the_cell():
    assert NETWORK.nodes == tuple((name, node) for name in ("normal", "reduction") for node in (2, 3, 4, 5))
    smaller = NETWORK.remove_node(("reduction", 3))
    assert (smaller.normal, smaller.reduction) == (CELL, NETWORK.reduction.remove_node(3))
    changed = NETWORK.replace_operations("identity", ("normal", 4))
    assert (changed.normal, changed.reduction) == (CELL.replace_operations("identity", 4), NETWORK.reduction)
    assert NETWORK.replace_operations("max3x3") == MicroNetwork(NETWORK.reduction, NETWORK.reduction)
    assert smaller.renumber() == MicroNetwork(CELL, smaller.reduction.renumber())


def test_edits_that_are_refused():
    lone = MicroCell(((0, 1),), (SEP,))
    with refused("node 2 cannot be removed: the cell has no other node"):
        lone.remove_node(2)
    for edit in (MicroCell.remove_node, lambda cell, node: cell.replace_operations("sep3x3", node)):
        with refused("the cell has no node 3; its nodes are 2, 4, 5"):
            edit(CELL.remove_node(3), 3)
    with refused("the network has no node ('normal', 9); its nodes are normal 2, reduction 2"):
        MicroNetwork(lone, lone).remove_node(("normal", 9))
    with refused("unknown operation 'conv3x3'"):
        NETWORK.replace_operations("conv3x3")
