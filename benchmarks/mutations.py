"""Do tests notice mistakes? Each entry is a wrong version of something important, and some test must catch it.

python -m benchmarks.mutations --only "leave one out,drop path"

Each is put into a copy of the project, in which the tests that are about it are run. `test_loss_sequences`, which
notices every change, is not among these tests. Prints a table; the exit status is 1 when a wrong version is not caught.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from enas.errors import UserError
from enas.guard import guarded
from enas.parser import Parser

ROOT = Path(__file__).resolve().parent.parent


class Mutation(NamedTuple):
    """A wrong version of one function, and the tests that are about the function.

    Attributes:
        place: module and qualified name.
        right, wrong: expressions, or statements; `_a`, `_b` … stand for any expression. The function has `right` once.
        tests: names of files, without `test_`.
    """

    name: str
    place: str
    right: str
    wrong: str
    tests: str


MUTATIONS = [
    Mutation("the policy gradient has the other sign", "search.reinforce policy_loss",
             "-_a", "_a", "reinforce"),
    Mutation("advantages are not detached", "search.reinforce policy_loss", "_a.detach()", "_a", "reinforce"),
    Mutation("rewards are not discounted", "search.reinforce returns", "discount * _a", "_a", "reinforce"),
    Mutation("leave one out leaves none out", "search.reinforce Baseline.advantage",
             "_a * len(returns) / _b", "_a", "reinforce"),
    Mutation("entropy is pushed down", "search.controllers Controller.learn",
             "_a - config.entropy_coeff * _b", "_a + config.entropy_coeff * _b", "trainer"),
    Mutation("gradients of θ add up over updates", "search.reinforce Reinforce.step",
             "_a.zero_grad(set_to_none=True)", "None", "trainer"),
    Mutation("gradients of ω add up over steps", "search.training Training.shared_step",
             "_a.grad = None", "pass", "trainer"),
    Mutation("ω's gradient is not clipped", "search.training Training.shared_step",
             "clip_grad_norm_(_a, _b)", "clip_grad_norm_(_a, math.inf)", "trainer config"),
    Mutation("random states are not restored", "search.training Training.load_state_dict",
             "restore_random_states(_a)", "None", "resume"),
    Mutation("the test split chooses", "search.derive Deriver._evaluate", "'valid'", "'test'", "trainer"),
    Mutation("what is too large is derived", "search.derive Deriver._candidates",
             "filter(self.size.fits, dict.fromkeys(sampled))", "dict.fromkeys(sampled)", "size"),
    Mutation("the state carries a graph", "rnn.task LanguageTask.shared_loss",
             "output.last.detach()", "output.last", "language_task"),
    Mutation("rewards with dropout on", "rnn.task LanguageTask.rewards",
             "self._begin(training=False)", "self._begin(training=True)", "language_task"),
    Mutation("targets are the inputs", "rnn.text TrainingBatches.__next__", "_a[1:]", "_a[:-1]", "text"),
    Mutation("padding counts", "rnn.language_model LanguageModel.score",
             "_a * mask.unsqueeze(1)", "_a", "shared_rnn language_task"),
    Mutation("the gate works the other way", "rnn.fast.sequence _highway",
             "torch.lerp(_a, _b, gate, out=out)", "torch.lerp(_b, _a, gate, out=out)", "shared_rnn"),
    Mutation("loose ends are summed", "rnn.fast.sequence _shares", "1 / len(_a)", "1.0", "shared_rnn"),
    Mutation("a node reads the parent of the one before it", "rnn.fast.sequence Plan.of",
             "_a.parents", "_a.parents[:1] + _a.parents[:-1]", "shared_rnn"),
    Mutation("the norm bound has no gradient", "rnn.fast.sequence _norm_bound_backward",
             "_a - torch.where(_b, _c, 0) * bounded", "_a", "shared_rnn"),
    Mutation("dropout does not scale", "rnn.language_model dropout_mask", "_a / (1 - p)", "_a", "dropout"),
    Mutation("the cross-entropy's gradient misses the target", "rnn.fast.cross_entropy _MeanNLL.forward",
             "_a.new_full(_b, -1.0)", "_a.new_full(_b, 0.0)", "cross_entropy"),
    Mutation("drop path does not scale", "cnn.operations drop_path", "_a / (1 - p)", "_a", "cnn_operations"),
    Mutation("a cell's inputs are swapped", "cnn.model Cell.forward",
             "(older, previous)", "(previous, older)", "shared_cnn"),
    Mutation("accuracy counts the worst class", "cnn.task _correct", "_a.argmax(1)", "_a.argmin(1)", "vision_task"),
]  # fmt: skip


def mutated(source: str, mutation: Mutation) -> str:
    """Return the source of the module with the mutation; UserError unless its place is there, once."""
    tree, name = ast.parse(source), mutation.place.split()[1]
    scope: ast.AST = tree
    for part in name.split("."):
        found = [node for node in getattr(scope, "body", ()) if getattr(node, "name", "") == part]
        if not found:
            raise UserError(f"{mutation.name}: there is no {mutation.place}")
        scope = found[-1]
    change = _Change(mutation)
    change.visit(scope)
    if change.count != 1:
        raise UserError(f"{mutation.name}: {mutation.place} has {change.count} places like {mutation.right}, not one")
    return ast.unparse(ast.fix_missing_locations(tree))


def _parsed(text: str) -> ast.AST:
    (statement,) = ast.parse(text).body
    return statement.value if isinstance(statement, ast.Expr) else statement


def _is_free(node: object) -> bool:
    return isinstance(node, ast.Name) and re.fullmatch("_[a-z]", node.id) is not None


class _Change(ast.NodeTransformer):
    """Puts `wrong` wherever `right` is, and counts how often."""

    def __init__(self, mutation: Mutation):
        self.mutation, self.count = mutation, 0

    def visit(self, node: ast.AST) -> ast.AST:
        bound: dict[str, ast.AST] = {}
        if not _fits(_parsed(self.mutation.right), node, bound):
            return self.generic_visit(node)
        self.count += 1
        filling = ast.NodeTransformer()
        filling.visit_Name = lambda name: bound.get(name.id, name)
        return filling.visit(_parsed(self.mutation.wrong))


def _fits(pattern: object, node: object, bound: dict[str, ast.AST]) -> bool:
    """Whether `node` is like `pattern`; what its free names stand for is written into `bound`."""
    if _is_free(pattern):
        return isinstance(node, ast.expr) and ast.dump(bound.setdefault(pattern.id, node)) == ast.dump(node)
    if isinstance(pattern, list):
        same = isinstance(node, list) and len(node) == len(pattern)
        return same and all(_fits(one, other, bound) for one, other in zip(pattern, node, strict=True))
    if isinstance(pattern, ast.AST):
        names = [name for name in pattern._fields if name not in ("ctx", "type_comment")]
        return type(pattern) is type(node) and all(
            _fits(getattr(pattern, name), getattr(node, name), bound) for name in names
        )
    return pattern == node


def caught_by(mutation: Mutation, project: Path) -> str:
    """Return the first test that fails on it, or ""."""
    path = project / "enas" / f"{mutation.place.split()[0].replace('.', '/')}.py"
    right = path.read_text(encoding="utf-8")
    path.write_text(mutated(right, mutation), encoding="utf-8")
    try:
        tests = [f"tests/test_{name}.py" for name in mutation.tests.split()]
        words = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        environment = {**os.environ, "PYTHONPATH": str(project)}
        out = subprocess.run(words, check=False, cwd=project, env=environment, capture_output=True, text=True).stdout
    finally:
        path.write_text(right, encoding="utf-8")
    failed = re.search(r"^(?:FAILED|ERROR) tests/(\S+)", out, re.MULTILINE)
    return failed[1] if failed else ""


def _left_out(folder: str, names: list[str]) -> list[str]:
    """Return the names that a copy of the project leaves out."""
    return [name for name in names if Path(folder) == ROOT and name in (".git", ".venv", "docs", "logs", "data")]


def main(argv: list[str] | None = None) -> int:
    """Try those whose names contain a text of --only, or all; returns the exit status."""
    parser = Parser("Put wrong versions into a copy of the project, and see which tests catch them.",
                    prog="python -m benchmarks.mutations")  # fmt: skip
    parser.add_argument("--only", default="", help="texts separated by commas: mutations whose names contain one")
    survivors: list[str] = []
    status = guarded(lambda: survivors.extend(_try(**parser.given(argv))))
    return status or int(bool(survivors))


def _try(only: str) -> list[str]:
    chosen = [one for one in MUTATIONS if any(text in one.name for text in only.split(","))]
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        shutil.copytree(ROOT, project, ignore=_left_out)
        print("| wrong version | caught by |\n|---|---|")
        for mutation in chosen:
            caught = caught_by(mutation, project)
            survivors += [] if caught else [mutation.name]
            print(f"| {mutation.name} | {f'`{caught}`' if caught else '**nothing**'} |", flush=True)
    return survivors


if __name__ == "__main__":
    sys.exit(main())
