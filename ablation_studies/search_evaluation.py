"""Does the search beat random? `--help` lists the flags."""

import sys

from enas.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("evaluate"))
