"""Search, derive: `--help` lists the flags, configs/config_ours.py gives their reasons."""

import sys

from enas.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("search"))
