"""What the nodes of a derived cell, or the layers of a derived network, are worth: `--help` lists the flags."""

import sys

from enas.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("ablate node_removal"))
