"""A search in a minute on one core, on text that ships with Python: what `make search` runs."""

config = "cells3"
num_blocks = 6
