"""`python -m enas COMMAND …` is `enas COMMAND …`."""

import sys

from enas.cli import main

if __name__ == "__main__":
    sys.exit(main())
