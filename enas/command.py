"""The command `enas`: what the scripts do, wherever the package is installed.

enas search --dataset ptb
enas export --load_path RUN --output my_cell
"""

import pkgutil
import sys
from collections.abc import Collection
from dataclasses import dataclass

from enas.errors import UserError, did_you_mean
from enas.parser import guarded


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        function: where the function is that carries it out, given the arguments.
        help: a line.
        first: arguments in front of the user's.
    """

    function: str
    help: str
    first: tuple[str, ...] = ()


COMMANDS = {
    "search": Command("enas.cli:main", "search an architecture, or do what --mode says; as main.py"),
    "derive": Command("enas.cli:main", "derive an architecture from a search", ("--mode", "derive")),
    "ablate": Command("enas.command:ablate", "study what an architecture's parts are worth: ablate ABLATION …"),
    "evaluate": Command("enas.studies.search_evaluation:main", "compare searches with random choices"),
    "export": Command("enas.export.__main__:main", "write an architecture as a torch module of its own"),
    "report": Command("enas.report.__main__:main", "make one page about runs, to look at in a browser"),
    "gif": Command("enas.report.animation:main", "make a GIF of a search"),
    "download": Command("enas.data.download:main", "fetch a public dataset"),
}
ABLATIONS = ("activation_replacement", "operation_replacement", "node_removal")


def main(argv: list[str] | None = None) -> int:
    """Carry out the command that the first argument names; returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0
    name, *rest = words
    if name not in COMMANDS:
        return guarded(lambda: _refuse("command", name, COMMANDS))
    command = COMMANDS[name]
    return pkgutil.resolve_name(command.function)([*command.first, *rest])


def usage() -> str:
    """What `enas --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: enas COMMAND …; enas COMMAND --help lists its flags", *lines])


def ablate(argv: list[str]) -> int:
    """Carry out the ablation that the first argument names."""
    if not argv or argv[0] not in ABLATIONS:
        return guarded(lambda: _refuse("ablation", argv[0] if argv else "", ABLATIONS))
    from enas.studies import ablations  # loads torch, which not every command needs

    return ablations.main(getattr(ablations, argv[0]), argv[1:])


def _refuse(kind: str, name: str, known: Collection[str]) -> None:
    raise UserError(f"{kind} {name!r} is unknown{did_you_mean(name, known)}; there are {', '.join(known)}")


if __name__ == "__main__":
    sys.exit(main())
