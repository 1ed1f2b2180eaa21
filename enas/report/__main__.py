"""Make a page about runs: `python -m enas.report --load_path RUN [RUN …] --output report.html`."""

import sys
from typing import Any

from enas.parser import Parser, guarded
from enas.report.page import report


def main(argv: list[str] | None = None) -> int:
    """Write the page that the flags ask for; returns the exit status, 0 or 2."""
    return guarded(lambda: print(f"wrote {report(**_given(argv))}"))


def _given(argv: list[str] | None) -> dict[str, Any]:
    parser = Parser("Make one page, which needs no network, about one run or several.", prog="python -m enas.report")
    parser.add_argument("--load_path", required=True, nargs="+", metavar="RUN", help="the runs: their names or paths")
    parser.add_argument("--output", required=True, metavar="FILE.html", help="where the page goes")
    parser.add_argument("--log_dir", metavar="DIR", help="where run folders lie (default: logs)")
    parser.add_argument(
        "--results_dir", metavar="DIR", help="where ablations and evaluations lie (default: analysis_results)"
    )
    return parser.given(argv)


if __name__ == "__main__":
    sys.exit(main())
