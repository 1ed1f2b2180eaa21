"""Remove each node of a derived cell, or layer of a network, and score the results: `--help` lists the flags."""

import sys

from enas.__main__ import main

if __name__ == "__main__":
    sys.exit(main("ablate", "node_removal"))
