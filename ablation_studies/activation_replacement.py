"""What a derived cell's activations are worth: `--help` lists the flags."""

import sys

from enas.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("ablate activation_replacement"))
