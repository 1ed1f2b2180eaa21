"""The macro search space (paper section 2.3): whole convolutional networks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from enas.cnn.operation_names import MACRO_OPERATIONS
from enas.errors import UserError
from enas.search.architecture import MOST_NODES, check_encodable
from enas.search.graph import Graph
from enas.search.space import NamedSpace

# The label of the stem's output: no sampled network skips from it, but the authors' published one, in their code, does.
STEM = -1


@dataclass(frozen=True)
class MacroNetwork(Graph):
    """A chain of layers inside the large graph of the search space, with skip connections.

    Layer k applies its operation to the output of layer k−1; layer 0 applies it to the stem's. The outputs of the
    earlier layers that it skips from are concatenated "along their depth dimension and sent to layer k", says the
    paper, and leaves the rest open. As in the authors' code, they are concatenated with the operation's output, and a
    1×1 convolution with batch normalisation brings them back to the layer's number of filters. With no skip, the
    operation's output is the layer's, with no projection.

    When a layer is removed, the next one reads the one before it, no layer skips from it, and the reductions stay.
    """

    type_name: ClassVar = "cnn_macro"
    title: ClassVar = "a macro network"
    keys: ClassVar = ("num_layers", "layers", "operations", "skips")
    whole: ClassVar = "network"
    node_word: ClassVar = "layer"
    known_parts: ClassVar = MACRO_OPERATIONS
    root_reads: ClassVar = "the image"

    operations: tuple[str, ...]  # of each layer, from `MACRO_OPERATIONS`
    skips: tuple[tuple[int, ...], ...]  # for each layer, the labels whose outputs are joined to its own, increasing
    layers: tuple[int, ...] = ()  # labels in the large graph, which name shared weights: 0 … L−1 if none is removed
    num_layers: int = 0  # L, the layers of the large graph, which place the reductions; 0 is that of `operations`

    def __post_init__(self) -> None:
        operations, skips = tuple(self.operations), tuple(tuple(skips) for skips in self.skips)
        size = len(operations)
        self._complete(size, operations=operations, skips=skips, num_layers=self.num_layers or size)
        self._check_parts(operations)
        self._check_labels(size)
        last = self.layers[-1]
        if type(self.num_layers) is not int or not last < self.num_layers <= MOST_NODES:
            rule = f"but the network has a layer {last}; it must lie in [{last + 1}, {MOST_NODES}]"
            raise UserError(f"num_layers is {self.num_layers!r}, {rule}")
        if len(skips) != size:
            raise UserError(f"a network of {size} layers needs {size} lists of skips, not {len(skips)}")
        for position, (layer, labels) in enumerate(zip(self.layers, skips, strict=True)):
            earlier = (STEM, *self.layers[:position])
            if strange := [label for label in labels if type(label) is not int or label not in earlier]:
                where = "which is not an earlier layer of the network"
                raise UserError(f"layer {layer} skips from layer {strange[0]!r}, {where}")
            if list(labels) != sorted({*labels}):
                raise UserError(f"skips of layer {layer} must increase; got {list(labels)}")

    @property
    def reads_stem(self) -> bool:
        return any(STEM in skips for skips in self.skips)

    def encode(self, operations: Sequence[str] = MACRO_OPERATIONS) -> tuple[int, ...]:
        """Return the authors' L(L+1)/2 integers: for each layer its operation, then 0 or 1 for each earlier layer.

        UserError if an operation is not among `operations`, whose index encodes it, if layers were removed (the
        integers cannot say which), or if a layer skips from the stem.
        """
        if self.layers != tuple(range(self.num_layers)):
            raise UserError("a network with removed layers has no encoding")
        if self.reads_stem:
            raise UserError("a network that skips from the stem has no encoding")
        check_encodable(self.operations, operations)
        decisions = []
        for layer, operation, skips in zip(self.layers, self.operations, self.skips, strict=True):
            decisions += [operations.index(operation), *(int(earlier in skips) for earlier in range(layer))]
        return tuple(decisions)

    @classmethod
    def decode(cls, decisions: Sequence[int], operations: Sequence[str] = MACRO_OPERATIONS) -> "MacroNetwork":
        """Return the network that `encode` maps to `decisions`; UserError if the integers do not make one."""
        decisions = cls._integers(decisions)
        num_layers = (math.isqrt(8 * len(decisions) + 1) - 1) // 2
        if num_layers * (num_layers + 1) // 2 != len(decisions):
            raise UserError(f"a network is 1, 3, 6 … L(L+1)/2 integers for L layers; got {len(decisions)}")
        names, skips = [], []
        for layer in range(num_layers):
            start = layer * (layer + 1) // 2
            code, *bits = decisions[start : start + layer + 1]
            names.append(cls._named(code, operations, f" of layer {layer}"))
            if strange := [bit for bit in bits if bit not in (0, 1)]:
                raise UserError(f"a skip decision of layer {layer} is {strange[0]}; it must be 0 or 1")
            skips.append(tuple(earlier for earlier, bit in enumerate(bits) if bit))
        return cls(tuple(names), tuple(skips))

    def _bridged(self, node: int, position: int) -> dict[str, Any]:
        rest = self.skips[:position] + self.skips[position + 1 :]
        return {"skips": tuple(tuple(label for label in labels if label != node) for labels in rest)}


@dataclass(frozen=True)
class MacroSpace(NamedSpace[MacroNetwork]):
    """Networks of `num_layers` layers: for each its operation, then whether it skips from each earlier one."""

    size_field = "num_layers"

    num_layers: int
    operations: tuple[str, ...] = field(default_factory=lambda: tuple(MACRO_OPERATIONS))

    @property
    def choices(self) -> list[list[str]]:
        choices = []
        for layer in range(self.num_layers):
            choices.append([f"{layer} {name}" for name in self.operations])
            choices += [["", f"{layer} skips from {earlier}"] for earlier in range(layer)]
        return choices

    def decode(self, decisions: Sequence[int]) -> MacroNetwork:
        return MacroNetwork.decode(decisions, self.operations)
