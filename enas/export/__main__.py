"""Export the architecture of a run: `python -m enas.export --load_path RUN --output DIR`."""

import argparse
import sys
from typing import Any

from enas.export.folder import export
from enas.parser import Parser, guarded


def main(argv: list[str] | None = None) -> int:
    """Export as the flags say; returns the exit status, 0 or 2."""
    return guarded(lambda: print(f"wrote {export(**_given(argv))}"))


def _given(argv: list[str] | None) -> dict[str, Any]:
    parser = Parser("Export the architecture of a run as a torch module of its own.", prog="python -m enas.export")
    parser.add_argument(
        "--load_path", required=True, metavar="RUN", help="the run, a search or one from scratch: its name or path"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="the folder to make")
    parser.add_argument(
        "--dag_path", metavar="FILE.json", help="another architecture of that search space, with the search's weights"
    )
    parser.add_argument(
        "--onnx",
        action="store_true",
        default=argparse.SUPPRESS,
        help="write model.onnx too; needs pip install 'enas[onnx]'",
    )
    parser.add_argument("--log_dir", metavar="DIR", help="where run folders lie (default: logs)")
    return parser.given(argv)


if __name__ == "__main__":
    sys.exit(main())
