"""The user's own code: modules that register search spaces, operations and activations, and its part of an export."""

import ast
import importlib
import inspect
import os
import pkgutil
import shlex
import sys
from collections.abc import Collection, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from enas.errors import NotFoundError, UserError
from enas.settings import ConfigLike, place

LOADED: dict[str, str] = {}  # module -> the name that `use` was given, which workers load too; "" if a file named it
OWNERS: dict[tuple[str, str], None] = {}  # the name of what was registered, and the module that did so


def use(names: Collection[str]) -> None:
    """Import modules, each once, by name or by the path of a .py file; UserError if there is no such module."""
    names = [place(name, "use") if name.endswith(".py") else name for name in names]
    for name in names:
        module, is_file = _module(name), name.endswith(".py")
        first = next(one for one in names if _module(one) == module)
        if is_file and first.endswith(".py") and Path(first).resolve() != Path(name).resolve():
            raise UserError(f"use {name}: {first} is a module {module} too; rename one of the files")
        if module in (*LOADED, _main()):
            continue
        sys.path.insert(0, str(Path(name).resolve().parent if is_file else Path.cwd()))
        try:
            found = importlib.import_module(module)
        except SystemExit:
            raise UserError(f"use {name}: it ends the program; let it do so if __name__ == '__main__' alone") from None
        except ModuleNotFoundError as error:
            if not f"{module}.".startswith(f"{error.name}."):  # a module that the user's own imports
                raise
            raise NotFoundError(f"use {name}: no such module; give its name, or the path of its .py file") from None
        if is_file and Path(found.__file__ or "").resolve() != Path(name).resolve():
            raise UserError(f"use {name}: another module {module} is loaded already; rename the file")
        LOADED[module] = name


def names_for_workers() -> list[str]:
    """Return the names by which `use` loads, in another process, all own code that registered something in this one."""
    others = {module: None for _, module in OWNERS if not module.startswith(("enas.", "__"))}
    return [*filter(None, LOADED.values()), *(name for name in others if PathFinder.find_spec(name.split(".")[0]))]


def check_used(given: object, source: str) -> None:
    """Raise UserError unless the modules that a file names are loaded: no file can load one."""
    names = [str(name) for name in given] if isinstance(given, list | tuple) else []
    if any(_module(name) not in (*LOADED, *sys.modules, _main()) for name in names):
        source_name = f"run {Path(source).parent}" if source.endswith("params.json") else source
        raise UserError(f"{source_name} uses {', '.join(names)}: give --use {shlex.quote(','.join(names))}")
    for name in names:
        LOADED.setdefault(_module(name), "")


def note_owner(name: str) -> None:
    """Note the module that calls a function which registers `name`: other processes load it by --use."""
    OWNERS[name, sys._getframe(2).f_globals.get("__name__", "__main__")] = None


def own_modules(config: ConfigLike) -> tuple[str, ...]:
    """Return the names that load a run's own code: those given, or else the modules of all that it takes.

    A script that registers the parts of a space is left out: it may do more than that when it is loaded.
    """
    space, found = config.space, dict[str, None]()
    parts = (*(space.parts(config) if space.parts is not None else ()), config.train_type, config.reward)
    owners = (module for name, module in OWNERS if name in parts and module != "__main__")
    for name in (space.architecture.__module__, *sorted(owners)):
        path = getattr(sys.modules.get(name), "__file__", None)  # a notebook has none
        if not name.startswith("enas.") and path is not None:
            found[os.path.relpath(path) if name == "__main__" else name] = None
    return config.use or tuple(found)


def _module(name: str) -> str:
    return (Path(name).stem if name.endswith(".py") else name).strip(".") or "-"  # which is no name of a module


def _main() -> str:
    path = getattr(sys.modules["__main__"], "__file__", None)  # a notebook has none
    return _module(path) if path else ""


def exportable(kind: str, things: Mapping[str, Any], *public: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the dotted names by which an export finds functions and classes, and the files that it needs for them.

    Those of the `public` modules need no file. A file own_KEY.py has another's definition, and all that it reads.
    UserError, with its `kind` and key, for a thing that has no name in a file.
    """
    places, files = {}, {}
    for key, given in things.items():
        thing: Any = pkgutil.resolve_name(given) if isinstance(given, str) else given
        name, module = getattr(thing, "__name__", ""), sys.modules.get(str(getattr(thing, "__module__", "")))
        home = next((home for home in public if getattr(sys.modules[home], name, None) is thing), "")
        if isinstance(given, str) and given.startswith("torch."):
            home, _, name = given.rpartition(".")
        elif not home:
            if getattr(module, name, None) is not thing or not hasattr(module, "__file__"):
                right = f"a function at the top of a .py file, def {key}(…): …"
                raise UserError(f"{kind} {key} is {thing!r:.80}, which cannot be exported; register {right}")
            home = f"own_{key}"
            files[f"{home}.py"] = _definitions(module, name)
        places[key] = f"{home}.{name}"
    return places, files


def _definitions(module: Any, name: str) -> str:
    """Return a module's statements that define a name, and all that they read; UserError for imports beyond torch."""
    body, kept, wanted = ast.parse(inspect.getsource(module)).body, [], ["annotations", "*", name]  # of __future__
    statements = [one for one in body if not ast.unparse(one).startswith("if __name__ == ")]
    for one in wanted:  # grows while it is read
        kinds = (ast.Name,) if inspect.ismodule(vars(module).get(one)) else (ast.Name, ast.Attribute, ast.Subscript)
        new = [each for each in statements if each not in kept and one in _defined(each, kinds)]
        kept += new
        wanted += [node.id for statement in new for node in ast.walk(statement) if isinstance(node, ast.Name)]
    for node in (node for one in kept for node in ast.walk(one) if isinstance(node, ast.Import | ast.ImportFrom)):
        sources = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            sources = ["* of " * (sources == ["*"]) + "." * node.level + (node.module or sources[0])]
        for source in sources:
            if source.partition(".")[0] not in ("torch", *sys.stdlib_module_names):
                reason = f"{name} reads {source}, and an export has torch alone; write it out in this file"
                raise UserError(f"{module.__file__}, line {node.lineno}: {reason}")
    return "\n\n\n".join(ast.unparse(statement) for statement in statements if statement in kept) + "\n"


def _defined(statement: ast.stmt, kinds: Any) -> list[str]:
    nodes = [statement] if isinstance(statement, ast.FunctionDef | ast.ClassDef) else [*ast.walk(statement)]
    targets = [ast.unparse(node) for node in nodes if isinstance(node, kinds) and not isinstance(node.ctx, ast.Load)]
    calls = [node.value.func for node in nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    targets += [ast.unparse(one) for one in calls if isinstance(one, ast.Attribute) and isinstance(one, kinds)]
    stored = [target.replace("[", ".").partition(".")[0] for target in targets]  # A of A["x"].y = 2 too
    stored += [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return stored + [(node.asname or node.name).partition(".")[0] for node in nodes if isinstance(node, ast.alias)]
