"""The command line: a table of commands. Each script runs one command."""

import os
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from enas import __version__
from enas.config import all_settings
from enas.data.download import ALIASES, CATALOGUE
from enas.errors import UserError, did_you_mean
from enas.guard import loaded
from enas.parser import Parser, add_settings, modules_to_use, parse_flags
from enas.search import own_code
from enas.search.formats import FORMATS
from enas.settings import Settings
from enas.studies.settings import EvaluationConfig, StrategiesConfig


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command: its one line of help, and its flags with their arguments of argparse's add_argument."""

    help: str
    action: str  # "module:function", loaded when it is called, and given the flags by name
    flags: dict[str, dict[str, Any]]
    settings: type[Settings] = Settings  # its settings are flags too
    is_run: bool = False  # whether all settings of a run are flags too
    mode: str = ""  # the only mode of its runs, if they have only one
    says: str = ""  # printed at the end, with the result instead of {}

    def act(self, argv: list[str], prog: str) -> None:
        """Carry out the command; UserError for a wrong or unknown flag, or from the action."""
        if not self.is_run and os.environ.get("WORLD_SIZE", "1") != "1":
            raise UserError(f"{prog} runs in one process; leave torchrun out")
        used = modules_to_use(argv)
        own_code.use(used)  # first of all: its settings are flags, its names choices
        parser = Parser(f"{self.help[0].upper()}{self.help[1:]}.", prog=prog)
        for name, arguments in self.flags.items():
            parser.add_argument(name, **arguments)
        own = fields(self.settings) if self.is_run else [all_settings()["use"]]
        add_settings(parser, {spec.name: spec for spec in own})
        given = parse_flags(parser, argv, self.mode) if self.is_run else parser.given(argv)
        given.pop("use", None)
        if self.is_run and used:
            given["use"] = used
        result = loaded(self.action)(**given)
        if self.says:
            print(self.says.format(result))


def _flag(help: str, **arguments: Any) -> dict[str, Any]:
    return {"help": help, **arguments}


LOG_DIR = _flag("folder of run folders (default: logs)", metavar="DIR")
MODE = _flag("score with a search's weights, or train each variant (default: derive)", metavar="{derive,train_scratch}")
BATCHES = _flag("minibatches of each split to score on, in mode derive (default: all)", type=int, metavar="N")
ABLATIONS = {
    "activation_replacement": "a cell's activations are",
    "operation_replacement": "a network's operations are",
    "node_removal": "the nodes of a cell, or the layers of a network, are",
}
_run = partial(Command, action="enas.runs.commands:execute", flags={}, is_run=True)
_tool = partial(Command, says="wrote {}")
COMMANDS = {
    "search": _run(help="search an architecture, or do what --mode says"),
    "derive": _run(help="derive an architecture from a search", mode="derive"),
    "test": _run(help="score the architecture of a run on the test split", mode="test"),
    "scratch": _run(help="train the architecture of a search from scratch", mode="train_scratch"),
    "single": _run(help="train the architecture in --dag_path from scratch", mode="single"),
    **{
        f"ablate {name}": _run(
            help=f"say what {what} worth",
            action=f"enas.studies.ablations:{name}",
            flags={"--mode": MODE, "--max_batches": BATCHES},
        )
        for name, what in ABLATIONS.items()
    },
    "evaluate": _run(
        help="compare searches with random choices",
        action="enas.studies.search_evaluation:evaluate",
        settings=EvaluationConfig,
    ),
    "strategies": _run(
        help="compare search strategies by equally many looks at a table, or at a run's shared weights",
        action="enas.studies.arena:compare",
        settings=StrategiesConfig,
    ),
    "export": _tool(
        help="write an architecture as a torch module of its own",
        action="enas.export.folder:export",
        flags={
            "--load_path": _flag("name or path of the run (default: the newest)", default="", metavar="RUN"),
            "--output": _flag("new folder for the module (required)", required=True, metavar="DIR"),
            "--dag_path": _flag("JSON file of another architecture, for the search's weights", metavar="FILE.json"),
            "--onnx": _flag("also write model.onnx; needs pip install 'enas[onnx]'", action="store_const", const=True),
            "--data_dir": _flag("where the data lie (default: as in the run)", metavar="DIR"),
            "--log_dir": LOG_DIR,
        },
    ),
    "report": _tool(
        help="make one page about runs, to look at in a browser",
        action="enas.report.page:report",
        flags={
            "--load_path": _flag("runs: names or paths (default: the newest)", default="", nargs="+", metavar="RUN"),
            "--output": _flag("file for the page (required)", required=True, metavar="FILE.html"),
            "--results_dir": _flag("folder of ablations and evaluations (default: analysis_results)", metavar="DIR"),
            "--log_dir": LOG_DIR,
        },
    ),
    "gif": _tool(
        help="make a GIF of a search from the pictures in its run folder",
        action="enas.report.animation:animate",
        flags={
            "--model_name": _flag("name or path of the run (default: the newest)", default="", metavar="RUN"),
            "--output": _flag("file for the GIF (required)", required=True, metavar="FILE.gif"),
            "--max_frame": _flag("largest number of frames, evenly spaced (default: 20)", type=int, metavar="N"),
            "--fps": _flag("frames a second (default: 1)", type=float, metavar="F"),
            "--log_dir": LOG_DIR,
        },
    ),
    "download": _tool(
        help="fetch a public dataset, check it, and install it whole or not at all",
        action="enas.data.download:install",
        flags={
            "dataset": _flag(f"dataset to install: {', '.join([*CATALOGUE, *ALIASES])}"),
            "--from": _flag("a copy of the archive, file or URL; for ptb any archive", dest="source", metavar="FILE"),
            "--data_dir": _flag("folder of all datasets (default: data)", metavar="DIR"),
        },
        says="{}",
    ),
    "convert": _tool(
        help="convert an architecture between published formats",
        action="enas.search.formats:convert",
        flags={
            "--from": _flag("format of STRING (required)", dest="source", required=True, choices=FORMATS),
            "--to": _flag("format to print (default: json)", dest="target", choices=FORMATS),
            "string": _flag(
                "the architecture, in one argument or several; - reads standard input; with --from json, a name that "
                "ends in .json reads that file",
                nargs="+",
                metavar="STRING",
            ),
        },
        says="{}",
    ),
}


def carry_out(words: list[str]) -> None:
    """Carry out the command that the first word names, for ablations the first two; UserError as `Command.act`."""
    group, kind = ("ablate ", "ablation") if words[:1] == ["ablate"] else ("", "command")
    word, *rest = words[bool(group) :] or ["--help"]
    known = {name: command for name, command in COMMANDS.items() if name.startswith(group)}
    if word == "--version":
        print(f"enas {__version__}")
    elif word in ("-h", "--help"):
        print(f"usage: enas {group}{kind.upper()} …; enas {group}{kind.upper()} --help lists its flags")
        for name, command in known.items():
            print(f"  {name:{max(map(len, known))}}  {command.help}")
    elif group + word in known:
        known[group + word].act(rest, f"enas {group}{word}")
    else:
        names = dict.fromkeys(name.removeprefix(group).split()[0] for name in known)
        raise UserError(f"{kind} {word!r} is unknown{did_you_mean(word, names)}; there are {', '.join(names)}")
