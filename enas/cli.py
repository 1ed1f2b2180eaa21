"""The command line: a table of commands, of which each script is one.

enas search --dataset ptb
enas export --load_path RUN --output my_cell
"""

import pkgutil
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from enas.data.download import ALIASES, CATALOGUE
from enas.errors import UserError, did_you_mean
from enas.parser import Parser, add_settings, guarded, parse_flags
from enas.search.formats import FORMATS
from enas.studies.settings import EvaluationConfig

Flags = Mapping[str, Mapping[str, Any]]  # by name, the arguments of argparse's add_argument


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command.

    Attributes:
        help: a line.
        action: the function that carries it out, given the flags by name: "module:function", loaded when it is called.
        flags: its own.
        add: adds flags that a table cannot say.
        is_run: whether all settings of a run are flags too.
        first: what stands in front of the user's words.
        says: what is printed at the end, with the result in place of {}; nothing unless given.
    """

    help: str
    action: str
    flags: Flags = field(default_factory=dict)
    add: Callable[[Parser], None] = lambda parser: None
    is_run: bool = False
    first: tuple[str, ...] = ()
    says: str = ""

    def given(self, argv: list[str], prog: str | None) -> dict[str, Any]:
        """The values of the flags in `argv`; UserError for a wrong or unknown one."""

        def add(parser: Parser) -> None:
            for name, arguments in self.flags.items():
                parser.add_argument(name, **arguments)
            self.add(parser)

        description = f"{self.help[0].upper()}{self.help[1:]}."
        if self.is_run:
            return parse_flags([*self.first, *argv], description, add, prog)
        parser = Parser(description, prog=prog)
        add(parser)
        return parser.given(argv)

    def act(self, argv: list[str], prog: str | None) -> None:
        """Carry it out."""
        given = self.given(argv, prog)
        result = pkgutil.resolve_name(self.action)(**given)
        if self.says:
            print(self.says.format(result))


def _add_evaluation(parser: Parser) -> None:
    add_settings(parser, {spec.name: spec for spec in fields(EvaluationConfig)})


LOG_DIR = {"metavar": "DIR", "help": "where run folders lie (default: logs)"}
MAX_BATCHES: Flags = {
    "--max_batches": {
        "type": int,
        "metavar": "N",
        "help": "minibatches of each split to score on, in mode derive (default: all)",
    }
}
ABLATIONS = {
    "activation_replacement": "a cell's activations are",
    "operation_replacement": "a network's operations are",
    "node_removal": "the nodes of a cell, or the layers of a network, are",
}
COMMANDS = {
    "search": Command(
        help="search an architecture, or do what --mode says", action="enas.runs.commands:execute", is_run=True
    ),
    "derive": Command(
        help="derive an architecture from a search",
        action="enas.runs.commands:execute",
        is_run=True,
        first=("--mode", "derive"),
    ),
    **{
        f"ablate {name}": Command(
            help=f"say what {what} worth", action=f"enas.studies.ablations:{name}", is_run=True, flags=MAX_BATCHES
        )
        for name, what in ABLATIONS.items()
    },
    "evaluate": Command(
        help="compare searches with random choices",
        action="enas.studies.search_evaluation:evaluate",
        is_run=True,
        add=_add_evaluation,
    ),
    "export": Command(
        help="write an architecture as a torch module of its own",
        action="enas.export.folder:export",
        flags={
            "--load_path": {
                "required": True,
                "metavar": "RUN",
                "help": "the run, a search or one from scratch: its name or path",
            },
            "--output": {"required": True, "metavar": "DIR", "help": "the folder to make"},
            "--dag_path": {
                "metavar": "FILE.json",
                "help": "another architecture of that search space, with the search's weights",
            },
            "--onnx": {
                "action": "store_const",
                "const": True,
                "help": "write model.onnx too; needs pip install 'enas[onnx]'",
            },
            "--log_dir": LOG_DIR,
        },
        says="wrote {}",
    ),
    "report": Command(
        help="make one page about runs, to look at in a browser",
        action="enas.report.page:report",
        flags={
            "--load_path": {"required": True, "nargs": "+", "metavar": "RUN", "help": "the runs: their names or paths"},
            "--output": {"required": True, "metavar": "FILE.html", "help": "where the page goes"},
            "--log_dir": LOG_DIR,
            "--results_dir": {
                "metavar": "DIR",
                "help": "where ablations and evaluations lie (default: analysis_results)",
            },
        },
        says="wrote {}",
    ),
    "gif": Command(
        help="make a GIF of a search out of the pictures that its run left",
        action="enas.report.animation:animate",
        flags={
            "--model_name": {
                "required": True,
                "metavar": "RUN",
                "help": "the run: its name in log_dir, or its path",
            },
            "--output": {"required": True, "metavar": "FILE.gif", "help": "where the GIF goes"},
            "--max_frame": {"type": int, "metavar": "N", "help": "most frames, evenly spaced (default: 20)"},
            "--title": {"metavar": "TEXT", "help": "a line above every frame (default: none)"},
            "--fps": {"type": float, "metavar": "F", "help": "frames a second (default: 2)"},
            "--log_dir": LOG_DIR,
        },
        says="wrote {}",
    ),
    "download": Command(
        help="fetch a public dataset, check it, and install it whole or not at all",
        action="enas.data.download:install",
        flags={
            "dataset": {"help": f"the dataset to install: {', '.join([*CATALOGUE, *ALIASES])}"},
            "--from": {
                "dest": "source",
                "metavar": "FILE_OR_URL",
                "help": "a .tar, .tar.gz, .tar.xz or .zip archive to use instead of the published place",
            },
            "--data_dir": {"metavar": "DIR", "help": "the folder of all datasets (default: data)"},
        },
        says="{}",
    ),
    "convert": Command(
        help="convert an architecture between published formats",
        action="enas.search.formats:convert",
        flags={
            "--from": {"dest": "source", "required": True, "choices": FORMATS, "help": "the format of STRING"},
            "--to": {"dest": "target", "choices": FORMATS, "help": "what to print (default: json)"},
            "string": {
                "nargs": "+",
                "metavar": "STRING",
                "help": "the architecture, in one argument or several; - reads it from standard input, and a name that "
                "ends in .json from that file (with --from json)",
            },
        },
        says="{}",
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Carry out the command that the first word names, of ablations the first two; returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0
    name, *rest = words
    if name == "ablate":
        ablation, *rest = rest or [""]
        if ablation not in ABLATIONS:
            return guarded(lambda: _refuse("ablation", ablation, ABLATIONS))
        name = f"ablate {ablation}"
    if name not in COMMANDS:
        return guarded(lambda: _refuse("command", name, dict.fromkeys(command.split()[0] for command in COMMANDS)))
    return run_command(name, rest, f"enas {name}")


def run_command(name: str, argv: list[str] | None = None, prog: str | None = None) -> int:
    """Carry out a command of `COMMANDS`; returns the exit status, as `enas.parser.guarded` does.

    Args:
        name: of the command.
        argv: its flags; those of the command line by default.
        prog: what --help calls the program; by default the script.
    """
    words = sys.argv[1:] if argv is None else argv
    return guarded(lambda: COMMANDS[name].act(words, prog))


def usage() -> str:
    """What `enas --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: enas COMMAND …; enas COMMAND --help lists its flags", *lines])


def _refuse(kind: str, name: str, known: Collection[str]) -> None:
    raise UserError(f"{kind} {name!r} is unknown{did_you_mean(name, known)}; there are {', '.join(known)}")
