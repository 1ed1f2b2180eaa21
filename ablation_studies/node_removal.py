"""Remove each node of a derived cell, or layer of a network, and score the results: `--help` lists the flags."""

import sys

from enas.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("ablate node_removal"))
