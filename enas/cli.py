"""The command line of `main.py` and the train script: what a mode asks for."""

from enas.parser import guarded


def main(argv: list[str] | None = None) -> int:
    """Search, derive, test, or train one architecture, as the flags say. Returns the exit status."""
    from enas.runs.commands import execute, parse_flags  # load torch, which not every command needs

    return guarded(lambda: execute(parse_flags(argv, "Efficient Neural Architecture Search.")))
