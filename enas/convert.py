"""Convert a published architecture: `python -m enas.convert --from enas "0 0 0 1 1" --to darts`."""

import sys
from typing import Any

from enas.parser import Parser, guarded
from enas.rnn.formats import FORMATS, read_architecture, write_architecture
from enas.search.architecture import Architecture, load_architecture


def main(argv: list[str] | None = None) -> int:
    """Convert as the flags say; returns the exit status, as `enas.parser.guarded` does."""
    return guarded(lambda: print(_converted(_parser().given(argv))))


def _converted(given: dict[str, Any]) -> str:
    architecture = _read(" ".join(given["string"]), given["source"])
    return write_architecture(architecture, given.get("target", "json"))


def _read(text: str, format: str) -> Architecture:
    if text == "-":
        return read_architecture(sys.stdin.read(), format)
    if format == "json" and text.endswith(".json"):
        return load_architecture(text)
    return read_architecture(text, format)


def _parser() -> Parser:
    parser = Parser("Convert an architecture between published formats.", prog="python -m enas.convert")
    parser.add_argument("--from", dest="source", required=True, choices=FORMATS, help="the format of STRING")
    parser.add_argument("--to", dest="target", choices=FORMATS, help="what to print (default: json)")
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
