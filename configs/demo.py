"""A search in a minute on one core, on a text in the package: what `make search` runs."""

config = "cells3"
num_blocks = 6
shared_uniform = 0.0  # five searches do not show that uniform samples help in a space this large
derive_uniform = False
