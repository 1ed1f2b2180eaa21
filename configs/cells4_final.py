"""One recurrent cell of 4 nodes from scratch on pydoc, in 18 seconds of a core: the budget of `tables/cells4.json`."""

config = "cells3_final"
num_blocks = 4
shared_max_step = 70
max_epoch = 9  # three rungs of successive halving: 1, 3, 9
