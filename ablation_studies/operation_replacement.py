"""What a derived network's operations are worth: `--help` lists the flags."""

import sys

from enas.studies.ablations import main, operation_replacement

if __name__ == "__main__":
    sys.exit(main(operation_replacement))
