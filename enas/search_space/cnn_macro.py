"""The macro search space (paper section 2.3): what a whole convolutional network is."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from enas.errors import UserError
from enas.search_space.architecture import Architecture, as_integers, check_encodable
from enas.search_space.operations import MACRO_OPERATIONS

# The label of the stem, for networks that skip from it; the search space has none.
STEM = -1


def reduction_layers(num_layers: int) -> tuple[int, ...]:
    """Labels of the layers after which height and width are halved: at one third and two thirds of the depth.

    12 layers: after layers 3 and 7. One layer has no such place, and two have one.
    """
    return tuple(count - 1 for count in (num_layers // 3, 2 * num_layers // 3) if count > 0)


@dataclass(frozen=True)
class MacroNetwork(Architecture):
    """A chain of layers inside the large graph of the search space, with skip connections.

    Layer k applies its operation to the output of layer k−1; layer 0 applies it to the stem's. "Up to k−1 mutually
    distinct previous indices are sampled, leading to 2^{k−1} possible decisions at layer k", says the paper, counting
    from 1; their outputs are concatenated "along their depth dimension and sent to layer k". What it leaves open is
    read here as the authors' code has it: the operation's own output and those of the skipped-from layers are
    concatenated, and a 1×1 convolution with batch normalisation brings them back to the layer's number of filters.
    That is the output of layer k. With no skip, the operation's output is, with no projection. The layer just before
    is one of the earlier layers: skipping from it joins its output to what the operation made of it.

    Attributes:
        operations: the operation of each layer, names from `MACRO_OPERATIONS`.
        skips: for each layer the labels of the earlier layers whose outputs are joined to its own, increasing.
            `STEM` among them is the stem's output: no network that is sampled skips from it, but the authors'
            published one does, as their code reads it.
        layers: the label of each layer in the large graph, which names its shared weights.
            Labels increase and start at 0. They are 0 … L−1 unless layers were removed.
        num_layers: the number of layers L of the large graph, so that the reductions of `reduction_layers` stay
            where they are when a layer is removed. The number of `operations` when left at 0.

    Raises:
        UserError: when the parts do not form a network.
    """

    type_name: ClassVar = "cnn_macro"
    title: ClassVar = "a macro network"
    keys: ClassVar = ("num_layers", "layers", "operations", "skips")
    node_word: ClassVar = "layer"
    part_word: ClassVar = "operation"
    known_operations: ClassVar = MACRO_OPERATIONS

    operations: tuple[str, ...]
    skips: tuple[tuple[int, ...], ...]
    layers: tuple[int, ...] = ()
    num_layers: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "operations", tuple(self.operations))
        object.__setattr__(self, "skips", tuple(tuple(skips) for skips in self.skips))
        object.__setattr__(self, "layers", tuple(self.layers) or tuple(range(len(self.operations))))
        object.__setattr__(self, "num_layers", self.num_layers or len(self.operations))
        self.validate()

    def validate(self) -> None:
        """Raise UserError, naming the part that is wrong, unless this is a network."""
        if not self.operations:
            raise UserError("a network needs at least one layer")
        for operation in self.operations:
            if operation not in MACRO_OPERATIONS:
                raise UserError(f"unknown operation {operation!r}; known: {', '.join(MACRO_OPERATIONS)}")
        self._validate_labels()
        if len(self.skips) != len(self.layers):
            raise UserError(
                f"a network of {len(self.layers)} layers needs {len(self.layers)} lists of skips, not {len(self.skips)}"
            )
        for position, (layer, skips) in enumerate(zip(self.layers, self.skips, strict=True)):
            self._validate_skips(layer, skips, self.layers[:position])

    def _validate_labels(self) -> None:
        if any(type(label) is not int for label in self.layers):
            raise UserError("layer labels must be integers")
        if len(self.layers) != len(self.operations) or self.layers[0] != 0 or not _increase(self.layers):
            raise UserError(f"layer labels must increase from 0, one a layer; got {list(self.layers)}")
        if type(self.num_layers) is not int or self.num_layers <= self.layers[-1]:
            raise UserError(
                f"num_layers is {self.num_layers!r}, but the network has a layer {self.layers[-1]}; "
                f"it must be at least {self.layers[-1] + 1}"
            )

    def _validate_skips(self, layer: int, skips: tuple[int, ...], earlier: tuple[int, ...]) -> None:
        for label in skips:
            if type(label) is not int or label not in (STEM, *earlier):
                raise UserError(
                    f"layer {layer} skips from layer {label!r}, which is not an earlier layer of the network"
                )
        if not _increase(skips):
            raise UserError(f"skips of layer {layer} must increase; got {list(skips)}")

    @property
    def nodes(self) -> tuple[int, ...]:
        """The labels of the layers, which are this graph's nodes."""
        return self.layers

    @property
    def reads_stem(self) -> bool:
        """Whether a layer skips from the stem."""
        return any(STEM in skips for skips in self.skips)

    def encode(self, operations: Sequence[str] = MACRO_OPERATIONS) -> tuple[int, ...]:
        """The controller's decisions: for each layer its operation, then 0 or 1 for each earlier layer.

        These are the authors' integers.

        Args:
            operations: the names that the operation integers index.

        Returns:
            L(L+1)/2 integers.

        Raises:
            UserError: when an operation is not among `operations`, layers were removed (the integers cannot say
                which), or a layer skips from the stem.
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
        """The network that `encode` maps to `decisions` (L(L+1)/2 integers).

        Raises:
            UserError: when the integers do not make a network.
        """
        decisions = as_integers(decisions, "a network")
        num_layers = (math.isqrt(8 * len(decisions) + 1) - 1) // 2
        if num_layers * (num_layers + 1) // 2 != len(decisions):
            raise UserError(f"a network is 1, 3, 6 … L(L+1)/2 integers for L layers; got {len(decisions)}")
        names, skips = [], []
        for layer in range(num_layers):
            start = layer * (layer + 1) // 2
            code, *bits = decisions[start : start + layer + 1]
            if not 0 <= code < len(operations):
                raise UserError(f"operation number {code} of layer {layer} is not in 0 … {len(operations) - 1}")
            for bit in bits:
                if bit not in (0, 1):
                    raise UserError(f"a skip decision of layer {layer} is {bit}; it must be 0 or 1")
            names.append(operations[code])
            skips.append(tuple(earlier for earlier, bit in enumerate(bits) if bit))
        return cls(tuple(names), tuple(skips))

    def replace_operations(self, operation: str, layer: int | None = None) -> "MacroNetwork":
        """A copy with the operation of `layer` (a label), or of every layer, replaced.

        Raises:
            UserError: for an unknown operation or a layer that the network does not have.
        """
        if layer is None:
            return replace(self, operations=(operation,) * len(self.operations))
        position = self._position(layer)
        return replace(self, operations=(*self.operations[:position], operation, *self.operations[position + 1 :]))

    def remove_node(self, layer: int) -> "MacroNetwork":
        """A copy without `layer` (a label): the next layer reads the one before it, and no layer skips from it.

        The other labels stay, and so do the reductions.

        Raises:
            UserError: for layer 0, the only one that reads the image, or a layer the network does not have.
        """
        position = self._position(layer)
        if position == 0:
            raise UserError("layer 0 cannot be removed: only it reads the image")
        skips = self.skips[:position] + self.skips[position + 1 :]
        return replace(
            self,
            operations=self.operations[:position] + self.operations[position + 1 :],
            skips=tuple(tuple(label for label in labels if label != layer) for labels in skips),
            layers=self.layers[:position] + self.layers[position + 1 :],
        )

    def _position(self, layer: int) -> int:
        if type(layer) is not int or layer not in self.layers:
            raise UserError(f"the network has no layer {layer}; its layers are {', '.join(map(str, self.layers))}")
        return self.layers.index(layer)


def _increase(labels: Sequence[int]) -> bool:
    return all(a < b for a, b in itertools.pairwise(labels))
