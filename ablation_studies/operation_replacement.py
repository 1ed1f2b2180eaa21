"""Replace a derived network's operations and score the results: `--help` lists the flags."""

import sys

from enas.__main__ import main

if __name__ == "__main__":
    sys.exit(main("ablate", "operation_replacement"))
