"""Replace a derived cell's activations and score the results: `--help` lists the flags."""

import sys

from enas.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("ablate activation_replacement"))
