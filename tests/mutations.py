"""Wrong versions of what matters most, each of which some test must catch.

python tests/mutations.py [NAME …]

Each is put into a copy of the project, in which the tests that are about it are run; `test_loss_sequences`, which
notices every change, is none of them. Prints a table; the exit status is 1 where one is not caught.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Mutation(NamedTuple):
    """A wrong version: in a file, one text in the place of another, and the tests about it."""

    name: str
    file: str
    right: str
    wrong: str
    tests: str


MUTATIONS = [
    Mutation("the policy gradient has the other sign", "search/reinforce.py",
             "return -(log_probs * advantage", "return (log_probs * advantage", "reinforce"),
    Mutation("advantages are not detached", "search/reinforce.py",
             "advantage.detach()", "advantage", "reinforce"),
    Mutation("rewards are not discounted", "search/reinforce.py",
             "total = discount * total", "total = total", "reinforce"),
    Mutation("leave one out leaves none out", "search/reinforce.py",
             " * len(returns) / max(1, len(returns) - 1)", "", "reinforce"),
    Mutation("entropy is pushed down", "search/trainer.py",
             "loss = loss - entropy_weight", "loss = loss + entropy_weight", "trainer"),
    Mutation("gradients of θ add up over updates", "search/trainer.py",
             "        self.controller_optimizer.zero_grad(set_to_none=True)\n", "", "trainer"),
    Mutation("gradients of ω add up over steps", "search/trainer.py",
             "parameter.grad = None  # the next", "pass  # the next", "trainer"),
    Mutation("ω's gradient is not clipped", "search/trainer.py",
             "self.shared_optim.max_norm)", "0.0)", "trainer config"),
    Mutation("random states are not restored", "search/trainer.py",
             '        restore_random_states(state["random"])\n', "", "resume"),
    Mutation("the test split chooses", "search/derive.py",
             'self.task.evaluate(one, "valid")', 'self.task.evaluate(one, "test")', "trainer"),
    Mutation("what is too large is derived", "search/derive.py",
             "if self.size.fits(one)", "if True", "size"),
    Mutation("the state carries a graph", "rnn/task.py",
             "self._state = output.last.detach()", "self._state = output.last", "language_task"),
    Mutation("rewards with dropout on", "rnn/task.py",
             "        self.model.eval()\n        inputs, targets, _ = next(self._valid)",
             "        self.model.train()\n        inputs, targets, _ = next(self._valid)", "language_task"),
    Mutation("targets are the inputs", "rnn/text.py",
             "return read[:-1], read[1:]", "return read[:-1], read[:-1]", "text"),
    Mutation("padding counts", "rnn/language_model.py",
             "nll = nll * mask.unsqueeze(1)", "nll = nll * 1", "shared_rnn language_task"),
    Mutation("the gate works the other way", "rnn/fast/sequence.py",
             "torch.lerp(parent, value, gate, out=out)", "torch.lerp(value, parent, gate, out=out)", "shared_rnn"),
    Mutation("loose ends are summed", "rnn/fast/sequence.py",
             "return 1 / len(outputs) if used", "return 1.0 if used", "shared_rnn"),
    Mutation("a node reads the parent of the one before it", "rnn/fast/sequence.py",
             "cell.parents[position - 1] if", "cell.parents[max(0, position - 2)] if", "shared_rnn"),
    Mutation("the norm bound has no gradient", "rnn/fast/sequence.py",
             "return scale * (grad - torch.where(scale < 1, along, 0) * bounded)", "return scale * grad", "shared_rnn"),
    Mutation("dropout does not scale", "rnn/dropout.py",
             "bernoulli_(1 - p) / (1 - p)\n    return part", "bernoulli_(1 - p)\n    return part", "dropout"),
    Mutation("the cross-entropy's gradient misses the target", "rnn/fast/cross_entropy.py",
             "chosen.shape, -1.0)", "chosen.shape, 0.0)", "cross_entropy"),
    Mutation("drop path does not scale", "cnn/operations.py",
             "return x * (kept / (1 - p))", "return x * kept", "cnn_operations"),
    Mutation("a cell's inputs are swapped", "cnn/model.py",
             "inputs = (older, previous)", "inputs = (previous, older)", "shared_cnn"),
    Mutation("accuracy counts the worst class", "cnn/task.py",
             "logits.argmax(1) == labels", "logits.argmin(1) == labels", "vision_task"),
]  # fmt: skip


def caught_by(mutation: Mutation, project: Path) -> str:
    """The first test that fails on it, or nothing."""
    path = project / "enas" / mutation.file
    right = path.read_text(encoding="utf-8")
    path.write_text(right.replace(mutation.right, mutation.wrong), encoding="utf-8")
    try:
        tests = [f"tests/test_{name}.py" for name in mutation.tests.split()]
        words = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        environment = {**os.environ, "PYTHONPATH": str(project)}
        out = subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True).stdout
    finally:
        path.write_text(right, encoding="utf-8")
    failed = re.search(r"^(?:FAILED|ERROR) tests/(\S+)", out, re.MULTILINE)
    return failed[1] if failed else ""


def _left_out(folder: str, names: list[str]) -> list[str]:
    """What a copy of the project does without."""
    is_top = Path(folder) == ROOT
    return [name for name in names if is_top and name in (".git", ".venv", "docs", "logs", "data")]


def main(names: list[str]) -> int:
    """Try those named, or all; prints a table."""
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        shutil.copytree(ROOT, project, ignore=_left_out)
        print("| wrong version | caught by |\n|---|---|")
        for mutation in MUTATIONS:
            if names and mutation.name not in names:
                continue
            caught = caught_by(mutation, project)
            survivors += not caught
            print(f"| {mutation.name} | {f'`{caught}`' if caught else '**nothing**'} |", flush=True)
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
