"""Who searches best with equally many looks? `--help` lists the flags."""

import sys

from enas.__main__ import main

if __name__ == "__main__":
    sys.exit(main("strategies"))
