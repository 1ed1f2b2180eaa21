"""One recurrent cell of 6 nodes from scratch on pydoc by characters, in half a minute of a core: a budget."""

config = "cells4_final"
num_blocks = 6
text_unit = "character"
