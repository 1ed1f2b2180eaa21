"""A search of all 1,536 recurrent cells of 4 nodes on pydoc, in a minute of a core; `cells4_final` trains a cell.

The 1,536 cells are 752 different functions.
"""

config = "cells3"
num_blocks = 4
