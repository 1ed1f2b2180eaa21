"""Convolutional networks: against plain ones, search against final, and what a shared model promises of its weights.

Shapes: B batch, C channels, H and W height and width.
"""

import collections
from contextlib import ExitStack
from functools import cache
from types import SimpleNamespace

import pytest
import tiny
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from strategies import macro_networks, micro_cells
from torch import nn
from torch.nn import functional as F

from enas.cnn.layout import Sliced, remembering
from enas.cnn.macro import STEM, MacroNetwork
from enas.cnn.micro import MicroCell, MicroNetwork
from enas.cnn.model import MacroCNN, MicroCNN, SharedMacroCNN, SharedMicroCNN
from enas.cnn.network import reduction_layers
from enas.cnn.operation_names import MACRO_OPERATIONS
from enas.cnn.operations import register_operation
from enas.cnn.settings import MacroConfig, MicroCNNConfig, MicroConfig, ScratchCNNConfig
from enas.cnn.task import VisionTask

CLASSES, BATCH, CHANNELS, LAYERS, BLOCKS = 4, 3, 2, 6, 2
CHAIN = MacroNetwork(tuple(MACRO_OPERATIONS), ((),) * LAYERS)
DENSE = MacroNetwork(MACRO_OPERATIONS[::-1], tuple(tuple(range(layer)) for layer in range(LAYERS)))
PAIR = MicroNetwork(
    MicroCell(((0, 1), (2, 1)), (("sep3x3", "identity"), ("max3x3", "sep5x5"))),
    MicroCell(((1, 1), (0, 0)), (("avg3x3", "sep5x5"), ("identity", "identity"))),
)
EXAMPLES = pytest.mark.parametrize("network", [CHAIN, DENSE, PAIR], ids=["chain", "dense", "pair"])


@st.composite
def networks(draw) -> MacroNetwork | MicroNetwork:
    """Networks of either space, one in two with a layer or a node removed."""
    cells = micro_cells(min_blocks=BLOCKS, max_blocks=BLOCKS)
    pairs = st.builds(MicroNetwork, cells, cells)
    network = draw(st.one_of(macro_networks(min_layers=LAYERS, max_layers=LAYERS), pairs))
    return network.remove_node(draw(st.sampled_from(network.nodes[1:]))) if draw(st.booleans()) else network


# The networks are small already: to shrink one that fails would run thousands of others.
unshrunk = settings(phases=(Phase.generate,))


def new_shared(network: MacroNetwork | MicroNetwork) -> nn.Module:
    """A shared model of the network's space."""
    torch.manual_seed(0)
    if isinstance(network, MacroNetwork):
        config = MacroConfig(cnn_num_layers=LAYERS, cnn_hid=CHANNELS, cnn_dropout=0)
        return tiny.randomised(SharedMacroCNN(CLASSES, config))
    config = MicroConfig(cnn_num_layers=3, cnn_hid=CHANNELS, cnn_num_blocks=BLOCKS, cnn_dropout=0)
    return tiny.randomised(SharedMicroCNN(CLASSES, config))


# Building one takes longer than running it; a test that changes weights makes a new one.
macro_model, micro_model = cache(lambda: new_shared(CHAIN)), cache(lambda: new_shared(PAIR))


def shared_model(network: MacroNetwork | MicroNetwork) -> nn.Module:
    model = macro_model() if isinstance(network, MacroNetwork) else micro_model()
    model.zero_grad()
    return model


SMALL = {"scratch_cnn_hid": CHANNELS, "scratch_cnn_dropout": 0.0}


class EvenConfig(ScratchCNNConfig):
    """The channels stay at reductions, as in a shared model."""

    @property
    def widths(self):
        return [self.channels] * 3


def scratch_model(network: MacroNetwork | MicroNetwork, **settings) -> nn.Module:
    torch.manual_seed(2)
    if isinstance(network, MacroNetwork):
        return tiny.randomised(MacroCNN(network, CLASSES, EvenConfig(**{**SMALL, **settings})))
    config = MicroCNNConfig(**{**SMALL, "scratch_cnn_num_layers": 3, "scratch_cnn_drop_path": 0.0, **settings})
    return tiny.randomised(MicroCNN(network, CLASSES, config))


def images(height: int = 8, width: int = 7, batch: int = BATCH) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, height, width, dtype=torch.float64, generator=generator)


def loss_of(logits: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, torch.arange(len(logits)) % CLASSES)


def with_gradient(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None}


def assert_equal(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


# Plain networks, written out


def plain_join(join: nn.Module, maps: dict[int, torch.Tensor]) -> torch.Tensor:
    return join.norm(sum(F.conv2d(x, join.slices[str(label)]) for label, x in maps.items()))


def plain_macro(model: SharedMacroCNN, x: torch.Tensor, network: MacroNetwork) -> torch.Tensor:
    """Logits of a macro network; every earlier output is reduced, whether it is read again or not."""
    x = model.stem(x)
    outputs = {STEM: x}
    for layer in range(LAYERS):
        if layer in network.layers:
            position = network.layers.index(layer)
            module = model.layers[str(layer)]
            x = module.operations[network.operations[position]](x)
            if network.skips[position]:
                joined = {label: outputs[label] for label in network.skips[position]}
                x = plain_join(module.join, joined | {layer: x}).clamp(min=0)
            outputs[layer] = x
        if layer in reduction_layers(LAYERS):
            halves = -(-x.shape[2] // 2), -(-x.shape[3] // 2)
            reduce = model.reductions[str(layer)]
            outputs = {label: reduce[str(label)](y) for label, y in outputs.items() if str(label) in reduce}
            x = list(outputs.values())[-1]
            assert x.shape[2:] == halves
    return model.classifier(x)


def plain_micro(model: SharedMicroCNN, x: torch.Tensor, network: MicroNetwork) -> torch.Tensor:
    """Logits of a micro network: normal, reduction, normal, reduction, normal."""
    older = previous = {-1: model.stem(x)}
    pattern = (network.normal, network.reduction, network.normal, network.reduction, network.normal)
    for module, cell in zip(model.cells, pattern, strict=True):
        maps = {
            int(label): plain_input(module.calibrations[label], output)
            for label, output in (("0", older), ("1", previous))
        }
        for node, inputs, operations in zip(cell.nodes, cell.inputs, cell.operations, strict=True):
            first, second = (
                module.edges[f"{node}_{slot}_{inputs[slot]}_{operations[slot]}"](maps[inputs[slot]]) for slot in (0, 1)
            )
            maps[node] = first + second
        read = {label for pair in cell.inputs for label in pair}
        ends = [node for node in cell.nodes if cell.cell_output == "all" or node not in read]
        older, previous = previous, {node: maps[node] for node in ends}
    return plain_classifier(model.classifier, previous)


def plain_input(module: nn.Module, maps: dict[int, torch.Tensor]) -> torch.Tensor:
    """ReLU, a 1×1 convolution of what is concatenated, normalisation; every second pixel, by two paths, to halve."""
    paths = []
    for start, path in enumerate(module.paths):
        total = 0
        for label, x in maps.items():
            x = x.clamp(min=0)
            if len(module.paths) == 2:
                x = F.pad(x, (0, 1, 0, 1))[:, :, start::2, start::2][:, :, : -(-x.shape[2] // 2), : -(-x.shape[3] // 2)]
            total = total + F.conv2d(x, path.slices[str(label)])
        paths.append(total)
    return module.norm(torch.cat(paths, dim=1))


def plain_classifier(module: nn.Module, maps: dict[int, torch.Tensor]) -> torch.Tensor:
    pooled = {label: module.norms[str(label)](x).clamp(min=0).mean((2, 3)) for label, x in maps.items()}
    return module.bias + sum(x @ module.slices[str(label)].t() for label, x in pooled.items())


def plain_logits(model: nn.Module, x: torch.Tensor, network: MacroNetwork | MicroNetwork) -> torch.Tensor:
    return (plain_macro if isinstance(network, MacroNetwork) else plain_micro)(model, x, network)


@unshrunk
@given(networks())
def test_shared_models_equal_plain_ones(network):
    model = shared_model(network)
    assert_equal(model(images(), network), plain_logits(model, images(), network))


@unshrunk
@given(networks())
def test_search_and_final_network_are_equal_with_equal_weights(network):
    shared, scratch = shared_model(network), scratch_model(network)
    weights = shared.state_dict()
    names = own_names(scratch)
    missing, _ = scratch.load_state_dict({name: weights[name] for name in names}, strict=False)
    assert not names & set(missing)
    assert_equal(scratch(images()), shared(images(), network))


def test_a_final_network_can_skip_from_the_stem():
    """Before the reductions, between them, and after both, as the authors' published network does."""
    network = MacroNetwork(MACRO_OPERATIONS, ((), (STEM,), (), (STEM, 1), (), (STEM, 0, 2)))
    model = scratch_model(network)
    assert_equal(model(images()), plain_macro(model, images(), network))
    loss_of(model(images())).backward()
    assert with_gradient(model) == own_names(model)
    without = MacroNetwork(MACRO_OPERATIONS, ((), (), (), (STEM, 1), (), (STEM, 0, 2)))
    assert not scratch_model(without)(images()).allclose(model(images()))


# Each choice has its own weights


def own_names(model: nn.Module) -> set[str]:
    """The parameters on the way from images to logits."""
    return {name for name, _ in model.named_parameters() if not name.startswith("auxiliary_head")}


@unshrunk
@given(networks())
def test_only_weights_in_use_get_a_gradient(network):
    """In a shared model and in the final network, which has only the weights of its choices."""
    model, scratch = shared_model(network), scratch_model(network)
    loss_of(model(images(), network)).backward()
    loss_of(scratch(images())).backward()
    assert with_gradient(model) == with_gradient(scratch) <= own_names(scratch)
    cells = () if isinstance(network, MacroNetwork) else (network.normal, network.reduction)
    if all(any(1 in pair for pair in cell.inputs) for cell in cells):  # else some cells may be read by no other one
        assert with_gradient(scratch) == own_names(scratch)


@EXAMPLES
def test_only_layers_in_use_are_computed(network):
    model = shared_model(network)
    ran = set()
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)}
    with ExitStack() as hooks:
        for name, module in layers.items():
            hooks.enter_context(module.register_forward_hook(lambda *_, name=name: ran.add(f"{name}.weight")))
        model(images(), network)
    assert ran == own_names(scratch_model(network)) & {f"{name}.weight" for name in layers}


@pytest.mark.parametrize(("network", "other"), [(CHAIN, DENSE), (PAIR, MicroNetwork(PAIR.reduction, PAIR.normal))])
def test_unused_weights_stay_as_they_are_under_decay_and_momentum(network, other):
    model = new_shared(network)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1)
    for chosen in (other, network):  # the first step leaves momentum behind
        before = {name: weight.clone() for name, weight in model.state_dict().items()}
        optimizer.zero_grad()
        loss_of(model(images(), chosen)).backward()
        optimizer.step()
        changed = {name for name, weight in model.state_dict().items() if not weight.equal(before[name])}
        assert changed == own_names(scratch_model(chosen))


# Many networks on the same images


@pytest.mark.parametrize("several", [[CHAIN, DENSE, CHAIN], [PAIR, MicroNetwork(PAIR.reduction, PAIR.normal)]])
def test_networks_compute_their_common_parts_once(several):
    model, calls = shared_model(several[0]), collections.Counter()
    apart = [model(images(), network) for network in several]
    with ExitStack() as hooks, remembering(*model.common):
        for module in (module for module in model.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)):
            hooks.enter_context(module.register_forward_hook(lambda module, *_: calls.update([module])))
        together = [model(images(), network) for network in several]
    assert all(torch.equal(found, expected) for found, expected in zip(together, apart, strict=True))
    of_the_stem = [*model.stem]
    if several[0] is PAIR:
        of_the_stem += [model.cells[0].calibrations["0"].norm, model.cells[1].calibrations["0"].norm]
        assert calls[model.cells[1].calibrations["1"].norm] == 2
    assert [calls[module] for module in of_the_stem] == [1] * len(of_the_stem)
    assert not model(images() + 1, several[0]).allclose(apart[0])  # it is forgotten afterwards


# Batch statistics


@EXAMPLES
def test_searching_uses_batch_statistics_in_evaluation_too(network):
    model = new_shared(network)
    assert model.eval()(images(), network).equal(model.train()(images(), network))
    assert not model.eval()(images(), network)[:2].allclose(model(images()[:2], network))


@EXAMPLES
def test_a_final_network_averages_its_statistics_and_reads_each_image_by_itself_in_evaluation(network):
    model = scratch_model(network)
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.momentum = 1.0  # the average is the last batch
    many = images(batch=64)
    expected = model(many)
    found = model.eval()(many)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)
    assert_equal(model(many[:1]), found[:1])


# Sizes


@EXAMPLES
@pytest.mark.parametrize(("size", "last"), [((8, 8), (2, 2)), ((7, 7), (2, 2)), ((9, 5), (3, 2)), ((1, 1), (1, 1))])
def test_every_pixel_of_an_image_has_an_influence_and_two_reductions_quarter_its_sides(network, size, last):
    network = network.replace_part(network.operations[0] if network is CHAIN else "avg3x3")
    model = scratch_model(network).eval()  # batch statistics would spread any influence
    with torch.no_grad():
        for weight in model.parameters():
            weight.abs_()  # else a ReLU of so few channels may be dead
    shapes = []
    pool = next(module for module in model.classifier.modules() if isinstance(module, nn.AdaptiveAvgPool2d))
    pool.register_forward_hook(lambda module, inputs, output: shapes.append(inputs[0].shape[2:]))
    x = images(*size).abs().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x)[:, 0].sum(), x)
    assert (gradient.abs().sum((0, 1)) > 0).all()
    assert shapes == [last]


def test_channels_stay_while_searching_and_double_at_the_reductions_of_a_final_network():
    final = MacroCNN(DENSE, CLASSES, ScratchCNNConfig(scratch_cnn_hid=4))
    for model, widths in ((macro_model(), [2, 2, 2]), (final, [4, 8, 16])):
        assert [model.layers[str(layer)].join.norm.num_features for layer in (1, 3, 5)] == widths
        assert model.classifier[-1].in_features == widths[-1]
    model = MicroCNN(PAIR, CLASSES, MicroCNNConfig(scratch_cnn_num_layers=6, scratch_cnn_hid=4))
    assert [cell.calibrations["1"].norm.num_features for cell in model.cells] == [4, 4, 8, 8, 8, 16, 16, 16]
    assert [stride for _, _, stride, _ in model.places] == [1, 1, 2, 1, 1, 2, 1, 1]


def test_one_layer_is_a_network():
    model = SharedMacroCNN(CLASSES, MacroConfig(cnn_num_layers=1, cnn_hid=2)).double()
    assert model(images(), MacroNetwork(("conv3x3",), ((),))).shape == (BATCH, CLASSES)


# Regularisers of the final network


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_drop_path_drops_as_often_as_depth_and_progress_say(progress):
    model = scratch_model(PAIR, scratch_cnn_drop_path=0.5)
    pool = PAIR.normal.edges[2]  # which leaves ones alone
    labels = torch.tensor([3, 0, 2])
    expected, _ = scratch_model(PAIR).loss(images(), labels, progress)
    assert model.loss(images(), labels, progress)[0].equal(expected) == (progress == 0)
    for depth in (2, 4):
        result = model.cells[depth].result(pool, torch.ones(4000, 4, 3, 3))
        rate = 0.1 * (depth + 1) * progress  # at the end of training 0.5 in the last of five cells
        assert (result[:, 0, 0, 0] == 0).double().mean().item() == pytest.approx(rate, abs=0.03)
        torch.testing.assert_close(result.max().item(), 1 / (1 - rate))


def test_drop_path_spares_identities_and_evaluation():
    labels = torch.tensor([3, 0, 2])
    model, identities = (
        scratch_model(pair, scratch_cnn_drop_path=0.5) for pair in (PAIR, PAIR.replace_part("identity"))
    )
    one, two, same, as_well = (each.loss(images(), labels, 1.0)[1] for each in (model, model, identities, identities))
    assert not one.allclose(two) and same.equal(as_well)
    model.eval()
    assert model(images()).equal(model(images()))


def test_the_auxiliary_head_reads_the_second_reduction_and_adds_its_weighted_loss():
    model = scratch_model(PAIR, scratch_cnn_auxiliary_weight=0.25)
    labels = torch.tensor([3, 0, 2])
    logits, reduced = model.compute(images(), PAIR)
    auxiliary = model.auxiliary_head(torch.cat([*reduced.values()], dim=1))
    expected = F.cross_entropy(logits, labels) + 0.25 * F.cross_entropy(auxiliary, labels)
    assert_equal(model.loss(images(), labels, 1.0)[0], expected)
    assert_equal(logits, model(images()))
    loss_of(auxiliary).backward()
    trained = {int(name.split(".")[1]) for name in with_gradient(model) if name.startswith("cells.")}
    assert trained == {0, 1, 2, 3}


# Bad input


def test_networks_that_do_not_fit_the_shared_model_are_refused():
    with tiny.refused("the network has 3 layers, but the shared model has 6"):
        macro_model()(images(), MacroNetwork(("conv3x3",) * 3, ((),) * 3))
    larger = MicroCell(((0, 1),) * 3, (("identity", "identity"),) * 3)
    for name in ("normal", "reduction"):
        with tiny.refused(f"the {name} cell has node 4, but the shared model has nodes 2 … 3"):
            micro_model()(images(), MicroNetwork(**{**PAIR.cells, name: larger}))


def test_networks_with_parts_that_the_shared_model_lacks_are_refused():
    def logits(model, network):
        return VisionTask.logits(SimpleNamespace(model=model), images(), network)

    config = {"cnn_num_layers": 3, "cnn_hid": 4, "cnn_operations": ("conv3x3",)}
    few = SharedMacroCNN(3, MacroConfig(**config)).double()
    with tiny.refused("the network has a part, 'sep3x3', that the shared model lacks"):
        logits(few, MacroNetwork(("conv3x3", "sep3x3", "conv3x3"), ((), (), ())))
    for skips in (((-1,), (), ()), ((), (-1,), ())):
        with tiny.refused("that the shared model lacks"):
            logits(few, MacroNetwork(("conv3x3",) * 3, skips))
    micro = SharedMicroCNN(
        3, MicroConfig(cnn_num_layers=3, cnn_hid=4, cnn_num_blocks=2, cnn_operations=("sep3x3",))
    ).double()
    cell = MicroCell(((0, 1),) * 2, (("sep3x3", "identity"),) * 2)
    with tiny.refused("that the shared model lacks"):
        logits(micro, MicroNetwork(cell, cell))


# --- the start --------------------------------------------------------------------------------------------------------


def test_a_macro_join_starts_as_the_sum_and_squeezes_as_the_identity():
    model = SharedMacroCNN(10, MacroConfig(cnn_num_layers=4, cnn_hid=4))
    maps = {label: torch.randn(2, 4, 6, 6) for label in (0, 2, 3)}
    expected = F.batch_norm(sum(maps.values()), None, None, training=True)
    torch.testing.assert_close(model.layers["3"].join(maps), expected)
    for operation in model.layers["3"].operations.values():
        torch.testing.assert_close(operation[0](maps[0]), maps[0])
    first, *others = (reduce(maps[0]) for reduce in model.reductions["1"].values())
    assert len(others) == 1 and torch.equal(others[0], first)


def test_a_cell_input_starts_as_a_sum_of_the_nodes_it_reads():
    model = SharedMicroCNN(10, MicroConfig(cnn_num_layers=6, cnn_hid=4, cnn_num_blocks=2))
    maps = {label: torch.randn(2, 8, 6, 6) for label in (2, 3)}
    expected = F.batch_norm(sum(x.clamp(min=0) for x in maps.values()), None, None, training=True)
    torch.testing.assert_close(model.cells[4].calibrations["1"](maps), expected)
    for sliced in (module for module in model.modules() if isinstance(module, Sliced)):
        first, *others = sliced.slices.values()
        assert all(torch.equal(weight, first) for weight in others)


def test_a_micro_operation_starts_alike_on_every_edge_and_mixes_no_channels():
    model = SharedMicroCNN(10, MicroConfig(cnn_num_layers=3, cnn_hid=4, cnn_num_blocks=2))
    for cell, channels in zip(model.cells, (4, 8, 8, 16, 16), strict=True):
        x, changed = torch.randn(2, channels, 6, 6), torch.randn(2, channels, 6, 6)
        changed[:, 1] = x[:, 1]
        for name in ("sep3x3", "sep5x5"):
            outputs = [cell.edges[f"{node}_{slot}_1_{name}"](x) for node in (2, 3) for slot in (0, 1)]
            assert all(torch.equal(output, outputs[0]) for output in outputs)
            torch.testing.assert_close(cell.edges[f"2_0_1_{name}"](changed)[:, 1], outputs[0][:, 1])


def test_an_operation_of_ones_own_starts_as_it_is_made():
    def mean(channels: int, stride: int) -> nn.Module:
        layers = nn.Conv2d(channels, channels, 3, stride, 1), nn.Conv2d(channels, channels, 1)
        for layer in layers:
            nn.init.constant_(layer.weight, 0.25)
        return nn.Sequential(*layers)

    with tiny.registering():
        register_operation("mean", mean)
        model = SharedMicroCNN(10, MicroConfig(cnn_num_layers=3, cnn_hid=4, cnn_num_blocks=2))
    edges = [edge for cell in model.cells for name, edge in cell.edges.items() if name.endswith("_mean")]
    layers = [layer for edge in edges for layer in edge.modules() if isinstance(layer, nn.Conv2d)]
    assert layers and all((layer.weight == 0.25).all() for layer in layers)
