"""Search, derive: `--help` lists the flags, configs/config_ours.py gives their reasons."""

import sys

from enas.__main__ import main

if __name__ == "__main__":
    sys.exit(main("search"))
