"""Make a GIF of a search out of the pictures that its run left: `--help` lists the flags."""

import sys

from enas.__main__ import main

if __name__ == "__main__":
    sys.exit(main("gif"))
