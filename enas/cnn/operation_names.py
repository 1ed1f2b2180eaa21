"""The operations of both convolutional search spaces: their names, and how drawings show them."""

from typing import NamedTuple


class Operation(NamedTuple):
    """How an operation is drawn: the name in its box, and the colour of the box."""

    label: str
    colour: str


# A hue for each kind of operation, of the Okabe-Ito palette; the larger window is the darker one.
OPERATIONS = {
    "conv3x3": Operation("conv 3x3", "#F6C9AF"),
    "conv5x5": Operation("conv 5x5", "#E08A5B"),
    "sep3x3": Operation("sep 3x3", "#C3E3F8"),
    "sep5x5": Operation("sep 5x5", "#7CC0EE"),
    "avg3x3": Operation("avg 3x3", "#FFF0B8"),
    "max3x3": Operation("max 3x3", "#FFD24D"),
    "identity": Operation("identity", "#F5F5F5"),
}

# The operations of each space, in the order of the authors' integers; `register_operation` appends to both lists.
MACRO_OPERATIONS = ["conv3x3", "sep3x3", "conv5x5", "sep5x5", "avg3x3", "max3x3"]
MICRO_OPERATIONS = ["sep3x3", "sep5x5", "avg3x3", "max3x3", "identity"]
