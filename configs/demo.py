"""A search in a minute on one core, on a text in the package: what `make search` runs."""

config = "cells3"
num_blocks = 6
