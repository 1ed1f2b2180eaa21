"""Who searches best with equally many looks? `--help` lists the flags."""

import sys

from enas.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("strategies"))
