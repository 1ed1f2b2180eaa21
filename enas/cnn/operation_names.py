"""The operations of both convolutional search spaces: their names, and how drawings show them."""

# The name in a box of drawings, and its colour: a hue of the Okabe-Ito palette, darker for the larger window.
OPERATIONS = {
    "conv3x3": ("conv 3x3", "#F6C9AF"),
    "conv5x5": ("conv 5x5", "#E08A5B"),
    "sep3x3": ("sep 3x3", "#C3E3F8"),
    "sep5x5": ("sep 5x5", "#7CC0EE"),
    "avg3x3": ("avg 3x3", "#FFF0B8"),
    "max3x3": ("max 3x3", "#FFD24D"),
    "identity": ("identity", "#F5F5F5"),
}

# The operations of each space, in the order of the authors' integers; `register_operation` appends to both lists.
MACRO_OPERATIONS = ["conv3x3", "sep3x3", "conv5x5", "sep5x5", "avg3x3", "max3x3"]
MICRO_OPERATIONS = ["sep3x3", "sep5x5", "avg3x3", "max3x3", "identity"]
