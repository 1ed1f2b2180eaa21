"""Make a GIF of a search out of the pictures that its run left: `--help` lists the flags."""

import sys

from enas.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("gif"))
