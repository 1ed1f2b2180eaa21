"""What a derived cell's activations are worth: `--help` lists the flags."""

import sys

from enas.studies.ablations import activation_replacement, main

if __name__ == "__main__":
    sys.exit(main(activation_replacement))
