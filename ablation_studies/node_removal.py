"""What the nodes of a derived cell, or the layers of a derived network, are worth: `--help` lists the flags."""

import sys

from enas.studies.ablations import main, node_removal

if __name__ == "__main__":
    sys.exit(main(node_removal))
