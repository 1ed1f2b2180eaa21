"""`python -m enas COMMAND …` is `enas COMMAND …`."""

import sys

from enas.guard import guarded, loaded


def main(*words: str) -> int:
    """Carry out the command of `words` and of the process's flags; return the exit status."""
    return guarded(lambda: loaded("enas.cli:carry_out")([*words, *sys.argv[1:]]))


if __name__ == "__main__":
    sys.exit(main())
