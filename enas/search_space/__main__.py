"""Convert a published architecture: `python -m enas.search_space --from enas "0 0 0 1 1" --to darts`.

It stands apart from `enas.cli`, which loads torch: a converter should answer at once.
"""

import argparse
import sys

from enas.search_space.architecture import Architecture
from enas.search_space.formats import FORMATS, load_architecture, read_architecture, write_architecture

BAD_INPUT = 2


def main(argv: list[str] | None = None) -> int:
    """Convert as the flags say; returns the exit status: 0, or 2 after an error told in one line."""
    try:
        options = _parser().parse_args(argv)
        print(write_architecture(_read(" ".join(options.string), options.source), options.target))
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    return 0


def _read(text: str, format: str) -> Architecture:
    if text == "-":
        return read_architecture(sys.stdin.read(), format)
    if format == "json" and text.endswith(".json"):
        return load_architecture(text)
    return read_architecture(text, format)


class _Parser(argparse.ArgumentParser):
    """Raises ValueError where argparse would print its usage and exit."""

    def error(self, message: str):
        raise ValueError(f"{message}; --help lists the flags")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m enas.search_space",
        description="Convert an architecture between published formats.",
        allow_abbrev=False,
    )
    parser.add_argument("--from", dest="source", required=True, choices=FORMATS, help="the format of STRING")
    parser.add_argument("--to", dest="target", default="json", choices=FORMATS, help="what to print (default: json)")
    parser.add_argument(
        "string",
        nargs="+",
        metavar="STRING",
        help="the architecture, in one argument or several; - reads it from standard input, "
        "and a name that ends in .json from that file (with --from json)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
