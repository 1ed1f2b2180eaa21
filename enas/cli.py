"""The command line: a table of commands. Each script runs one of them.

enas search --dataset ptb
enas export --load_path RUN --output my_cell
"""

import pkgutil
import sys
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any

from enas.data.download import ALIASES, CATALOGUE
from enas.errors import UserError, did_you_mean
from enas.parser import Parser, add_settings, guarded, parse_flags
from enas.search.formats import FORMATS
from enas.settings import Settings
from enas.studies.settings import EvaluationConfig

Flag = tuple[str, dict[str, Any]]  # its name, and the arguments of argparse's add_argument


def _flag(name: str, help: str, **arguments: Any) -> Flag:
    return name, {"help": help, **arguments}


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command.

    Attributes:
        help: a line.
        action: the function that carries it out, given the flags by name: "module:function", loaded when it is called.
        flags: its own.
        settings: a `Settings` class whose settings are flags too.
        is_run: whether all settings of a run are flags too.
        first: what stands in front of the user's words.
        says: what is printed at the end, with the result in place of {}; nothing unless given.
    """

    help: str
    action: str
    flags: tuple[Flag, ...] = ()
    settings: type[Settings] = Settings
    is_run: bool = False
    first: tuple[str, ...] = ()
    says: str = ""

    def _add(self, parser: Parser) -> None:
        for name, arguments in self.flags:
            parser.add_argument(name, **arguments)
        add_settings(parser, {spec.name: spec for spec in fields(self.settings)})

    def act(self, argv: list[str], prog: str | None) -> None:
        """Carry it out; UserError for a wrong or unknown flag, or what the action raises."""
        description = f"{self.help[0].upper()}{self.help[1:]}."
        if self.is_run:
            given = parse_flags([*self.first, *argv], description, self._add, prog)
        else:
            parser = Parser(description, prog=prog)
            self._add(parser)
            given = parser.given(argv)
        result = pkgutil.resolve_name(self.action)(**given)
        if self.says:
            print(self.says.format(result))


LOG_DIR = _flag("--log_dir", "where run folders lie (default: logs)", metavar="DIR")
BATCHES = _flag(
    "--max_batches", "minibatches of each split to score on, in mode derive (default: all)", type=int, metavar="N"
)
DATASETS = ", ".join([*CATALOGUE, *ALIASES])
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
            help=f"say what {what} worth", action=f"enas.studies.ablations:{name}", is_run=True, flags=(BATCHES,)
        )
        for name, what in ABLATIONS.items()
    },
    "evaluate": Command(
        help="compare searches with random choices",
        action="enas.studies.search_evaluation:evaluate",
        is_run=True,
        settings=EvaluationConfig,
    ),
    "export": Command(
        help="write an architecture as a torch module of its own",
        action="enas.export.folder:export",
        flags=(
            _flag(
                "--load_path", "the run, of a search or from scratch: its name or path", required=True, metavar="RUN"
            ),
            _flag("--output", "the folder to make", required=True, metavar="DIR"),
            _flag("--dag_path", "another architecture, with the weights of the search", metavar="FILE.json"),
            _flag("--onnx", "write model.onnx too; needs pip install 'enas[onnx]'", action="store_const", const=True),
            LOG_DIR,
        ),
        says="wrote {}",
    ),
    "report": Command(
        help="make one page about runs, to look at in a browser",
        action="enas.report.page:report",
        flags=(
            _flag("--load_path", "the runs: their names or paths", required=True, nargs="+", metavar="RUN"),
            _flag("--output", "where the page goes", required=True, metavar="FILE.html"),
            _flag("--results_dir", "where ablations and evaluations lie (default: analysis_results)", metavar="DIR"),
            LOG_DIR,
        ),
        says="wrote {}",
    ),
    "gif": Command(
        help="make a GIF of a search out of the pictures that its run left",
        action="enas.report.animation:animate",
        flags=(
            _flag("--model_name", "the run: its name in log_dir, or its path", required=True, metavar="RUN"),
            _flag("--output", "where the GIF goes", required=True, metavar="FILE.gif"),
            _flag("--max_frame", "most frames, evenly spaced (default: 20)", type=int, metavar="N"),
            _flag("--title", "a line above every frame (default: none)", metavar="TEXT"),
            _flag("--fps", "frames a second (default: 1)", type=float, metavar="F"),
            LOG_DIR,
        ),
        says="wrote {}",
    ),
    "download": Command(
        help="fetch a public dataset, check it, and install it whole or not at all",
        action="enas.data.download:install",
        flags=(
            _flag("dataset", f"the dataset to install: {DATASETS}"),
            _flag(
                "--from",
                "a .tar, .tar.gz, .tar.xz or .zip archive to use instead of the published place",
                dest="source",
                metavar="FILE_OR_URL",
            ),
            _flag("--data_dir", "the folder of all datasets (default: data)", metavar="DIR"),
        ),
        says="{}",
    ),
    "convert": Command(
        help="convert an architecture between published formats",
        action="enas.search.formats:convert",
        flags=(
            _flag("--from", "the format of STRING", dest="source", required=True, choices=FORMATS),
            _flag("--to", "what to print (default: json)", dest="target", choices=FORMATS),
            _flag(
                "string",
                "the architecture, in one argument or several; - reads it from standard input, and a name that ends in "
                ".json from that file (with --from json)",
                nargs="+",
                metavar="STRING",
            ),
        ),
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
        ablation, *rest = rest or ["--help"]
        if ablation in ("-h", "--help"):
            print(usage())
            return 0
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
