"""RNNCell: what is a cell and what is not, its encodings, and edited copies of it."""

import json
import re
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import cells

from enas.search_space.rnn_cell import ACTIVATIONS, RNNCell

#   0 ── 1 ── 2      loose ends 2, 4 and 5
#   └─── 3 ── 4
#        └─── 5
CELL = RNNCell(("tanh", "ReLU", "identity", "sigmoid", "tanh", "ReLU"), (0, 1, 0, 3, 3))
ONE_NODE = RNNCell(("sigmoid",), ())


def refused(message: str):
    """A ValueError whose text contains `message`, word for word."""
    return pytest.raises(ValueError, match=re.escape(message))


# What a cell is


def test_parts_of_a_small_cell():
    assert CELL.num_blocks == 6
    assert CELL.nodes == (0, 1, 2, 3, 4, 5)
    assert CELL.edges == ((0, 1), (1, 2), (0, 3), (3, 4), (3, 5))
    assert CELL.parents == (0, 1, 0, 3, 3)
    assert CELL.loose_ends == (2, 4, 5)
    assert CELL.output_nodes == (2, 4, 5)


def test_output_nodes_of_cell_output_all():
    cell = RNNCell(CELL.activations, CELL.previous, cell_output="all")
    assert cell.output_nodes == (1, 2, 3, 4, 5)
    assert cell.loose_ends == CELL.loose_ends


@pytest.mark.parametrize("cell_output", ["loose_ends", "all"])
def test_a_lone_node_is_the_output(cell_output):
    assert RNNCell(("ReLU",), (), cell_output).output_nodes == (0,)


def test_output_nodes_are_labels_not_positions():
    cell = CELL.remove_node(1)
    assert cell.output_nodes == (2, 4, 5)
    assert RNNCell(cell.activations, cell.previous, "all", cell.nodes).output_nodes == (2, 3, 4, 5)


def test_parents_are_positions_not_labels():
    cell = RNNCell(("tanh",) * 4, (0, 3, 3), nodes=(0, 3, 5, 9))
    assert cell.edges == ((0, 3), (3, 5), (3, 9))
    assert cell.parents == (0, 1, 1)


@given(cells(gaps=True))
def test_every_node_is_read_or_loose(cell):
    assert set(cell.previous) | set(cell.loose_ends) == set(cell.nodes)
    assert not set(cell.previous) & set(cell.loose_ends)


@given(cells(gaps=True))
def test_parents_name_previous_nodes(cell):
    assert tuple(cell.nodes[position] for position in cell.parents) == cell.previous


@pytest.mark.parametrize("name", ["activations", "previous", "cell_output", "nodes"])
def test_a_cell_is_frozen(name):
    with pytest.raises(FrozenInstanceError):
        setattr(CELL, name, getattr(CELL, name))


@given(cells(gaps=True))
def test_lists_make_an_equal_cell_with_an_equal_hash(cell):
    twin = RNNCell(list(cell.activations), list(cell.previous), cell.cell_output, list(cell.nodes))
    assert twin == cell
    assert hash(twin) == hash(cell)


def test_every_part_tells_cells_apart():
    others = [
        CELL.replace_activations("sigmoid", 0),
        RNNCell(CELL.activations, (0, 1, 0, 3, 0)),
        RNNCell(CELL.activations, CELL.previous, "all"),
        RNNCell(CELL.activations, (0, 1, 0, 3, 3), nodes=(0, 1, 2, 3, 4, 7)),
    ]
    assert len({CELL, *others}) == 5


# What is not a cell


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (((), ()), "a cell needs at least one node"),
        ((("tanh", "relu"), (0,)), f"unknown activation 'relu'; known: {', '.join(ACTIVATIONS)}"),
        ((("tanh", ["tanh"]), (0,)), "unknown activation ['tanh']"),
        ((("tanh",) * 3, (0,)), "a cell of 3 nodes needs 2 previous nodes, not 1"),
        ((("tanh",) * 2, (0.0,)), "node labels and previous nodes must be integers"),
        ((("tanh",) * 2, (False,)), "node labels and previous nodes must be integers"),
        ((("tanh",) * 2, (0,), "all", (0, "1")), "node labels and previous nodes must be integers"),
        ((("tanh",) * 3, (0, 0), "all", (1, 2, 3)), "node labels must increase from 0, one a node; got [1, 2, 3]"),
        ((("tanh",) * 3, (0, 0), "all", (0, 1, 1)), "node labels must increase from 0, one a node; got [0, 1, 1]"),
        ((("tanh",) * 3, (0, 0), "all", (0, 1)), "node labels must increase from 0, one a node; got [0, 1]"),
        ((("tanh",) * 4, (0, 2, 0)), "node 2 reads node 2, which is not an earlier node of the cell"),
        ((("tanh",) * 4, (0, -1, 0)), "node 2 reads node -1, which is not an earlier node of the cell"),
        ((("tanh",) * 3, (0, 1), "all", (0, 2, 4)), "node 4 reads node 1, which is not an earlier node of the cell"),
        ((("tanh",), (), "mean"), "cell_output is 'mean'; it must be one of loose_ends, all"),
    ],
)
def test_what_is_not_a_cell(parts, message):
    with refused(message):
        RNNCell(*parts)


# Integers


def test_encoding_of_a_small_cell():
    assert CELL.encode() == (0, 0, 1, 1, 2, 0, 3, 3, 0, 3, 1)
    assert ONE_NODE.encode() == (3,)


@given(cells())
def test_decode_undoes_encode(cell):
    assert RNNCell.decode(cell.encode(), cell_output=cell.cell_output) == cell


@given(cells(), st.permutations([*ACTIVATIONS]))
def test_decode_undoes_encode_whatever_the_order_of_activations(cell, activations):
    decisions = cell.encode(activations)
    assert RNNCell.decode(decisions, activations, cell.cell_output) == cell


@given(st.data())
def test_encode_undoes_decode(data):
    num_blocks = data.draw(st.integers(1, 12))
    decisions = [data.draw(st.integers(0, 3))]
    for node in range(1, num_blocks):
        decisions += [data.draw(st.integers(0, node - 1)), data.draw(st.integers(0, 3))]
    cell = RNNCell.decode(decisions)
    assert cell.num_blocks == num_blocks
    assert cell.encode() == tuple(decisions)


def test_encode_refuses_what_the_integers_cannot_say():
    with refused("cannot encode identity, sigmoid: only tanh, ReLU are allowed"):
        CELL.encode(("tanh", "ReLU"))
    with refused("a cell with removed nodes has no encoding; renumber() it first"):
        CELL.remove_node(2).encode()


@pytest.mark.parametrize(
    ("decisions", "message"),
    [
        ([], "a cell is an odd number of integers, 2N-1 for N nodes; got 0"),
        ([0, 0], "a cell is an odd number of integers, 2N-1 for N nodes; got 2"),
        ([-1, 0, 0], "activation number -1 is not in 0 … 3"),
        ([0, 0, 4], "activation number 4 is not in 0 … 3"),
        ([0, 1, 0], "node 1 reads node 1, which is not an earlier node of the cell"),
        ([0.0], "a cell is a list of integers"),
    ],
)
def test_decode_refuses_what_is_not_a_cell(decisions, message):
    with refused(message):
        RNNCell.decode(decisions)


# JSON


def test_dictionary_of_a_cell_with_a_removed_node():
    cell = RNNCell(("tanh", "ReLU", "sigmoid"), (0, 1), "all").remove_node(1)
    assert cell.to_dict() == {
        "type": "rnn_cell",
        "num_blocks": 2,
        "nodes": [0, 2],
        "activations": ["tanh", "sigmoid"],
        "previous": [0],
        "cell_output": "all",
    }


@given(cells(gaps=True))
def test_from_dict_undoes_to_dict(cell):
    assert RNNCell.from_dict(cell.to_dict()) == cell


@given(cells(gaps=True))
def test_from_json_undoes_to_json(cell):
    text = cell.to_json()
    assert "\n" not in text
    assert json.loads(text) == cell.to_dict()
    assert RNNCell.from_json(text) == cell


@given(cells(gaps=True), st.data())
def test_json_cut_short_is_refused(cell, data):
    text = cell.to_json()
    end = data.draw(st.integers(0, len(text) - 1))
    with refused("not JSON: "):
        RNNCell.from_json(text[:end])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": None}, "nodes of a recurrent cell must be a list"),
        ({"activations": "tanh"}, "activations of a recurrent cell must be a list"),
        ({"previous": {"0": 1}}, "previous of a recurrent cell must be a list"),
        ({"previous": [0, 1, 0, 3, [3]]}, "node labels and previous nodes must be integers"),
        ({"num_blocks": 5}, "num_blocks is 5, but the others make it 6"),
        ({"num_blocks": None}, "num_blocks is None, but the others make it 6"),
        ({"nodes": []}, "nodes is [], but the others make it [0, 1, 2, 3, 4, 5]"),
        ({"type": "cnn_macro"}, "architecture type is 'cnn_macro', not 'rnn_cell'"),
        ({"type": ["rnn_cell"]}, "architecture type is ['rnn_cell'], not 'rnn_cell'"),
        ({"colour": "red"}, "found activations, cell_output, colour, nodes, num_blocks, previous, type"),
    ],
)
def test_json_that_is_not_a_cell(change, message):
    with refused(message):
        RNNCell.from_json(json.dumps(CELL.to_dict() | change))


@pytest.mark.parametrize(("data", "name"), [([1, 2], "list"), (None, "NoneType"), ({"type": "rnn_cell"}, "type")])
def test_json_without_the_keys(data, name):
    keys = "activations, cell_output, nodes, num_blocks, previous, type"
    with refused(f"a recurrent cell needs the keys {keys}; found {name}"):
        RNNCell.from_json(json.dumps(data))


# Files


@settings(deadline=None)  # a disk may be slow
@given(cells(gaps=True))
def test_load_reads_what_to_json_wrote(tmp_path_factory, cell):
    path = tmp_path_factory.mktemp("cells") / "cell.json"
    path.write_text(cell.to_json(), encoding="utf-8")
    assert RNNCell.load(path) == cell
    assert RNNCell.load(str(path)) == cell


@pytest.mark.parametrize("name", ["absent.json", "."])
def test_load_names_a_missing_file(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(FileNotFoundError, match=re.escape(f"{path}: no such file")):
        RNNCell.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON: "),
        (CELL.to_json()[:40].encode(), "not JSON: "),
        (b"\xff\xfe\x00", ""),
        (b"[]", "a recurrent cell needs the keys"),
        (b'{"type": "rnn_cell"}', "a recurrent cell needs the keys"),
        (CELL.to_json().replace("rnn_cell", "cnn_macro").encode(), "architecture type is 'cnn_macro', not 'rnn_cell'"),
        (CELL.to_json().replace("tanh", "swish").encode(), "unknown activation 'swish'"),
    ],
    ids=["empty", "truncated", "not text", "list", "keys", "type", "activation"],
)
def test_load_names_the_file_and_what_is_wrong_with_it(tmp_path, content, message):
    path = tmp_path / "cell.json"
    path.write_bytes(content)
    with refused(f"{path}: {message}"):
        RNNCell.load(path)


# Edited copies


@given(cells(gaps=True), st.sampled_from([*ACTIVATIONS]))
def test_replacing_every_activation(cell, activation):
    changed = cell.replace_activations(activation)
    assert changed.activations == (activation,) * cell.num_blocks
    assert _without_activations(changed) == _without_activations(cell)


@given(cells(gaps=True), st.sampled_from([*ACTIVATIONS]), st.data())
def test_replacing_one_activation(cell, activation, data):
    node = data.draw(st.sampled_from(cell.nodes))
    changed = cell.replace_activations(activation, node)
    assert _activation_by_node(changed) == _activation_by_node(cell) | {node: activation}
    assert _without_activations(changed) == _without_activations(cell)


def test_replacing_takes_a_label_not_a_position():
    cell = CELL.remove_node(1).replace_activations("sigmoid", 2)
    assert cell.activations == ("tanh", "sigmoid", "sigmoid", "tanh", "ReLU")
    assert cell.nodes == (0, 2, 3, 4, 5)


def test_replacing_leaves_the_original():
    before = CELL.to_json()
    CELL.replace_activations("sigmoid")
    assert CELL.to_json() == before


@pytest.mark.parametrize("node", [None, 0])
def test_replacing_by_an_unknown_activation_is_refused(node):
    with refused(f"unknown activation 'swish'; known: {', '.join(ACTIVATIONS)}"):
        CELL.replace_activations("swish", node)


def test_removing_an_inner_node_joins_its_readers_to_its_parent():
    cell = CELL.remove_node(3)
    assert cell.nodes == (0, 1, 2, 4, 5)
    assert cell.activations == ("tanh", "ReLU", "identity", "tanh", "ReLU")
    assert cell.edges == ((0, 1), (1, 2), (0, 4), (0, 5))
    assert cell.loose_ends == (2, 4, 5)


def test_removing_the_only_reader_of_a_node_leaves_that_node_loose():
    assert CELL.remove_node(2).loose_ends == (1, 4, 5)


def test_removing_one_of_several_readers_leaves_no_new_loose_end():
    assert CELL.remove_node(4).loose_ends == (2, 5)


@given(cells(min_blocks=2, gaps=True), st.data())
def test_removing_any_node(cell, data):
    node = data.draw(_removable(cell))
    smaller = cell.remove_node(node)
    parent = _parent_by_node(cell)
    expected = {child: parent[node] if reads == node else reads for child, reads in parent.items() if child != node}
    assert smaller.nodes == tuple(label for label in cell.nodes if label != node)
    assert _parent_by_node(smaller) == expected
    assert _activation_by_node(smaller).items() <= _activation_by_node(cell).items()
    assert smaller.cell_output == cell.cell_output


@given(cells(min_blocks=2, gaps=True), st.data())
def test_loose_ends_after_removing_any_node(cell, data):
    node = data.draw(_removable(cell))
    children = _children_by_node(cell)
    orphans = children.pop(node)
    for siblings in children.values():
        if node in siblings:
            siblings.remove(node)
            siblings.extend(orphans)
    assert cell.remove_node(node).loose_ends == _childless(children)


@given(cells(gaps=True), st.sampled_from([*ACTIVATIONS]), st.data())
def test_loose_ends_after_replacing_activations(cell, activation, data):
    node = data.draw(st.none() | st.sampled_from(cell.nodes))
    assert cell.replace_activations(activation, node).loose_ends == _childless(_children_by_node(cell))


@given(cells(max_blocks=8, min_blocks=2, gaps=True), st.data())
def test_edited_copies_are_cells_that_json_and_integers_can_hold(cell, data):
    for node in data.draw(st.lists(_removable(cell), unique=True)):
        cell = cell.remove_node(node).replace_activations(data.draw(st.sampled_from([*ACTIVATIONS])))
    assert RNNCell.from_json(cell.to_json()) == cell
    names = [*ACTIVATIONS]
    assert RNNCell.decode(cell.renumber().encode(names), names, cell.cell_output) == cell.renumber()


@given(cells(min_blocks=3), st.data())
def test_the_order_of_two_removals_is_of_no_account(cell, data):
    one, other = data.draw(st.lists(_removable(cell), min_size=2, max_size=2, unique=True))
    assert cell.remove_node(one).remove_node(other) == cell.remove_node(other).remove_node(one)


@given(cells(gaps=True))
def test_removing_all_but_the_root(cell):
    for node in cell.nodes[1:]:
        cell = cell.remove_node(node)
    assert cell.nodes == cell.output_nodes == (0,)


@given(cells(gaps=True))
def test_the_root_cannot_be_removed(cell):
    with refused("node 0 cannot be removed: only it reads the input and the previous state"):
        cell.remove_node(0)


@pytest.mark.parametrize("edit", [RNNCell.remove_node, lambda cell, node: cell.replace_activations("tanh", node)])
@pytest.mark.parametrize("node", [1, 6, -1])
def test_a_node_that_is_not_there_is_named(edit, node):
    with refused(f"the cell has no node {node}; its nodes are 0, 2, 3, 4, 5"):
        edit(CELL.remove_node(1), node)


def test_renumbering_after_a_removal():
    cell = CELL.remove_node(1).renumber()
    assert cell.nodes == (0, 1, 2, 3, 4)
    assert cell.previous == (0, 0, 2, 2)


@given(cells(gaps=True))
def test_renumbering_changes_labels_and_nothing_else(cell):
    renumbered = cell.renumber()
    assert renumbered.nodes == tuple(range(cell.num_blocks))
    assert renumbered.parents == cell.parents
    assert renumbered.activations == cell.activations
    assert renumbered.cell_output == cell.cell_output


@given(cells())
def test_renumbering_a_cell_without_gaps_changes_nothing(cell):
    assert cell.renumber() == cell


def _removable(cell: RNNCell) -> st.SearchStrategy[int]:
    return st.sampled_from(cell.nodes[1:])


def _without_activations(cell: RNNCell) -> tuple:
    return cell.nodes, cell.previous, cell.cell_output


def _parent_by_node(cell: RNNCell) -> dict[int, int]:
    return dict(zip(cell.nodes[1:], cell.previous, strict=True))


def _children_by_node(cell: RNNCell) -> dict[int, list[int]]:
    """The cell as a plain graph: for each node the nodes that read it."""
    children = {node: [] for node in cell.nodes}
    for node, parent in _parent_by_node(cell).items():
        children[parent].append(node)
    return children


def _childless(children: dict[int, list[int]]) -> tuple[int, ...]:
    return tuple(node for node, readers in children.items() if not readers)


def _activation_by_node(cell: RNNCell) -> dict[int, str]:
    return dict(zip(cell.nodes, cell.activations, strict=True))
