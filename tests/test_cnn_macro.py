"""MacroNetwork: what is a network and what is not, its encodings, and edited copies of it."""

import json
import re

import pytest
from cnn_strategies import macro_networks
from hypothesis import given
from hypothesis import strategies as st

from enas.search_space import MACRO_OPERATIONS, MacroNetwork, reduction_layers
from enas.search_space.formats import FORMATS

NETWORK = MacroNetwork(("conv3x3", "max3x3", "sep5x5", "avg3x3"), ((), (), (0,), (0, 2)))
read_string, write_string = FORMATS["enas_macro"].read, FORMATS["enas_macro"].write


def refused(message: str):
    """A ValueError whose text contains `message`, word for word."""
    return pytest.raises(ValueError, match=re.escape(message))


# What a network is


def test_parts_of_a_small_network():
    assert NETWORK.layers == (0, 1, 2, 3)
    assert NETWORK.num_layers == 4
    assert MacroNetwork(list(NETWORK.operations), [list(skips) for skips in NETWORK.skips]) == NETWORK
    assert hash(MacroNetwork(list(NETWORK.operations), [[], [], [0], [0, 2]])) == hash(NETWORK)


@pytest.mark.parametrize(
    ("num_layers", "expected"), [(12, (3, 7)), (24, (7, 15)), (6, (1, 3)), (3, (0, 1)), (5, (0, 2)), (2, (0,)), (1, ())]
)
def test_reductions_are_after_one_and_two_thirds(num_layers, expected):
    assert reduction_layers(num_layers) == expected


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (((), ()), "a network needs at least one layer"),
        ((("conv7x7",), ((),)), "unknown operation 'conv7x7'; known: conv3x3, sep3x3, conv5x5, sep5x5, avg3x3, max3x3"),
        ((("identity",), ((),)), "unknown operation 'identity'"),
        ((("conv3x3",) * 2, ((),)), "a network of 2 layers needs 2 lists of skips, not 1"),
        ((("conv3x3",) * 2, ((), (1,))), "layer 1 skips from layer 1, which is not an earlier layer of the network"),
        ((("conv3x3",) * 2, ((), (-2,))), "layer 1 skips from layer -2"),
        ((("conv3x3",) * 2, ((), (False,))), "layer 1 skips from layer False"),
        ((("conv3x3",) * 3, ((), (), (1, 0))), "skips of layer 2 must increase; got [1, 0]"),
        ((("conv3x3",) * 3, ((), (), (1, 1))), "skips of layer 2 must increase; got [1, 1]"),
        ((("conv3x3",) * 2, ((), ()), (1, 2), 3), "layer labels must increase from 0, one a layer; got [1, 2]"),
        ((("conv3x3",) * 2, ((), ()), (0, 0), 3), "layer labels must increase from 0, one a layer; got [0, 0]"),
        ((("conv3x3",) * 2, ((), ()), (0,), 3), "layer labels must increase from 0, one a layer; got [0]"),
        ((("conv3x3",) * 2, ((), ()), (0, 1.0), 3), "layer labels must be integers"),
        ((("conv3x3",) * 2, ((), ()), (0, 2)), "num_layers is 2, but the network has a layer 2; it must be at least 3"),
        ((("conv3x3",) * 2, ((), ()), (), 1), "num_layers is 1, but the network has a layer 1"),
        ((("conv3x3",) * 2, ((), ()), (), "3"), "num_layers is '3'"),
        ((("conv3x3",) * 2, ((), (1,)), (0, 2), 3), "layer 2 skips from layer 1, which is not an earlier layer"),
    ],
)
def test_what_is_no_network(parts, message):
    with refused(message):
        MacroNetwork(*parts)


# Integers


def test_encoding_of_a_small_network():
    assert NETWORK.encode() == (0, 5, 0, 3, 1, 0, 4, 1, 0, 1)
    assert write_string(NETWORK) == "0 5 0 3 1 0 4 1 0 1"


@given(macro_networks())
def test_decode_undoes_encode(network):
    assert MacroNetwork.decode(network.encode()) == network
    assert read_string(write_string(network)) == network
    assert read_string(write_string(network).replace(" ", ", ")) == network


@given(macro_networks(), st.permutations(MACRO_OPERATIONS))
def test_decode_undoes_encode_whatever_the_order_of_operations(network, operations):
    assert MacroNetwork.decode(network.encode(operations), operations) == network


@given(st.data())
def test_encode_undoes_decode(data):
    decisions = []
    for layer in range(data.draw(st.integers(1, 8))):
        decisions += [data.draw(st.integers(0, 5)), *(data.draw(st.integers(0, 1)) for _ in range(layer))]
    assert MacroNetwork.decode(decisions).encode() == tuple(decisions)


@pytest.mark.parametrize(
    ("decisions", "message"),
    [
        ([], "a network needs at least one layer"),
        ([0, 0], "a network is 1, 3, 6 … L(L+1)/2 integers for L layers; got 2"),
        ([0, 0, 0, 0], "a network is 1, 3, 6 … L(L+1)/2 integers for L layers; got 4"),
        ([6], "operation number 6 of layer 0 is not in 0 … 5"),
        ([0, -1, 0], "operation number -1 of layer 1 is not in 0 … 5"),
        ([0, 0, 2], "a skip decision of layer 1 is 2; it must be 0 or 1"),
        ([0.0], "a network is a list of integers"),
    ],
)
def test_integers_that_are_no_network(decisions, message):
    with refused(message):
        MacroNetwork.decode(decisions)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one layer"),
        ("0 x 1", "'x' is not an integer"),
        ("0 1.0 1", "'1.0' is not an integer"),
        ("0 1", "got 2"),
    ],
)
def test_a_string_that_is_no_network(text, message):
    with refused(message):
        read_string(text)


def test_encode_refuses_what_the_integers_cannot_say():
    with refused("cannot encode avg3x3, sep5x5: only conv3x3, max3x3 are allowed"):
        NETWORK.encode(("conv3x3", "max3x3"))
    for layer in (1, 3):
        with refused("a network with removed layers has no encoding"):
            NETWORK.remove_node(layer).encode()


# JSON


def test_dictionary_of_a_network_with_a_removed_layer():
    assert NETWORK.remove_node(2).to_dict() == {
        "type": "cnn_macro",
        "num_layers": 4,
        "layers": [0, 1, 3],
        "operations": ["conv3x3", "max3x3", "avg3x3"],
        "skips": [[], [], [0]],
    }


@given(macro_networks(gaps=True))
def test_from_json_undoes_to_json(network):
    assert "\n" not in network.to_json()
    assert MacroNetwork.from_json(network.to_json()) == network


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "rnn_cell"}, "architecture type is 'rnn_cell', not 'cnn_macro'"),
        ({"colour": 1}, "a macro network needs the keys layers, num_layers, operations, skips, type; found colour, "),
        ({"skips": "0"}, "skips of a macro network must be a list"),
        ({"skips": [0, 1, 2, 3]}, "each item of skips of a macro network must be a list"),
        ({"layers": []}, "layers is [], but the others make it [0, 1, 2, 3]"),
        ({"num_layers": 0}, "num_layers is 0, but the others make it 4"),
        ({"num_layers": True}, "num_layers is True, but"),
        ({"num_layers": 3}, "num_layers is 3, but the network has a layer 3"),
        ({"operations": ["conv3x3", None, "conv3x3", "conv3x3"]}, "unknown operation None"),
    ],
)
def test_json_that_is_no_network(change, message):
    with refused(message):
        MacroNetwork.from_json(json.dumps(NETWORK.to_dict() | change))


def test_load_names_the_file(tmp_path):
    path = tmp_path / "network.json"
    path.write_text(NETWORK.to_json())
    assert MacroNetwork.load(path) == NETWORK
    path.write_text("{}")
    with refused(f"{path}: a macro network needs the keys"):
        MacroNetwork.load(path)


# Edited copies


@given(macro_networks(min_layers=2, gaps=True), st.data())
def test_removing_any_layer(network, data):
    layer = data.draw(st.sampled_from(network.layers[1:]))
    smaller = network.remove_node(layer)
    before = {k: (operation, skips) for k, operation, skips in _layers(network)}
    assert smaller.num_layers == network.num_layers
    assert smaller.layers == tuple(k for k in network.layers if k != layer)
    for k, operation, skips in _layers(smaller):
        assert operation == before[k][0]
        assert set(skips) == set(before[k][1]) - {layer}


@given(macro_networks(min_layers=3), st.data())
def test_the_order_of_two_removals_is_of_no_account(network, data):
    one, other = data.draw(st.lists(st.sampled_from(network.layers[1:]), min_size=2, max_size=2, unique=True))
    assert network.remove_node(one).remove_node(other) == network.remove_node(other).remove_node(one)


@given(macro_networks(gaps=True), st.sampled_from(MACRO_OPERATIONS), st.data())
def test_replacing_operations(network, operation, data):
    layer = data.draw(st.sampled_from(network.layers))
    changed = network.replace_operations(operation, layer)
    expected = [operation if k == layer else old for k, old, _ in _layers(network)]
    assert list(changed.operations) == expected
    assert (changed.skips, changed.layers, changed.num_layers) == (network.skips, network.layers, network.num_layers)
    assert set(network.replace_operations(operation).operations) == {operation}


def test_edits_that_are_refused():
    with refused("layer 0 cannot be removed: only it reads the image"):
        NETWORK.remove_node(0)
    for edit in (MacroNetwork.remove_node, lambda network, layer: network.replace_operations("conv3x3", layer)):
        with refused("the network has no layer 1; its layers are 0, 2, 3"):
            edit(NETWORK.remove_node(1), 1)
    with refused("unknown operation 'identity'"):
        NETWORK.replace_operations("identity", 1)


def _layers(network: MacroNetwork) -> list[tuple[int, str, tuple[int, ...]]]:
    return list(zip(network.layers, network.operations, network.skips, strict=True))
