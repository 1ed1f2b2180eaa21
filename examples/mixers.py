"""Layers choose how steps of a sequence mix, on tasks whose right answer is known: attention, recurrence, convolution.

    OMP_NUM_THREADS=1 python examples/mixers.py --seeds 10 --jobs 1

Two residual layers choose each among attention, a minimal gated unit (Zhou et al. 2016), a recurrent cell that
a search found on a text, a causal convolution, and none.

| task | the right mixer | because |
|---|---|---|
| recall: the value beside a key | attention | it compares the query with all keys; a state this small forgets |
| parity of all bits so far | recurrence | it keeps one bit; a weighted mean of the past does not |
| copying: the token of DELAY steps ago | convolution or recurrence | attention has no positions here |

For each seed the search says what it chose, and its choice is trained from scratch. Each mixer is also trained alone.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from statistics import mean

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import enas
from enas.choice.space import ModuleChoices
from enas.rnn.export import functions
from enas.rnn.reference import Cell
from enas.runs import run

WIDTH, BATCH, TOKENS, IGNORED = 32, 64, 8, -100
PAIRS, BITS, LENGTH, DELAY = 8, 12, 12, 3  # of recall, parity and copying
MIXERS = ("attention", "mgu", "cell", "conv", "none")
RIGHT = {"recall": ("attention",), "parity": ("mgu", "cell"), "copying": ("conv", "mgu", "cell")}
# Found by enas.train(Config(config="small", dataset="pydoc", num_blocks=4, max_epoch=4, random_seed=1)).
FOUND = enas.RNNCell(("identity", "sigmoid", "tanh", "sigmoid"), (0, 0, 0))


class Attention(nn.Module):
    """Causal attention with one head and without positions: [B, T, H] to the same."""

    def __init__(self):
        super().__init__()
        self.project, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.scaled_dot_product_attention(*self.project(x).chunk(3, dim=-1), is_causal=True))


class MinimalGatedUnit(nn.Module):
    """f = σ(W_f x + U_f h), h ← (1 − f) ⊙ h + f ⊙ tanh(W x + U (f ⊙ h)) (Zhou et al. 2016)."""

    def __init__(self):
        super().__init__()
        self.inputs = nn.Linear(WIDTH, 2 * WIDTH)
        self.gate, self.value = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        state, states = torch.zeros_like(x[:, 0]), []
        for gate, value in (both.chunk(2, dim=-1) for both in self.inputs(x).unbind(1)):
            forget = torch.sigmoid(gate + self.gate(state))
            state = torch.lerp(state, torch.tanh(value + self.value(forget * state)), forget)
            states.append(state)
        return torch.stack(states, dim=1)


class SearchedCell(nn.Module):
    """The module of an exported recurrent cell, without its last state."""

    def __init__(self):
        super().__init__()
        found = {"architecture": FOUND.to_dict(), "activations": functions(FOUND)[0], "norm_bound": 25.0}
        self.cell = Cell(WIDTH, WIDTH, batch_first=True, **found)

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(x)[0]


class CausalConvolution(nn.Module):
    """A convolution over this step and the DELAY before it."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv1d(WIDTH, WIDTH, DELAY + 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(F.pad(x.mT, (DELAY, 0))).mT


class Nothing(nn.Module):
    """No mixing: each step is on its own."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Layer(nn.Module):
    """A chosen mixer and a network for each step, both residual."""

    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)])
        self.mixer = enas.Choice(
            attention=Attention(), mgu=MinimalGatedUnit(), cell=SearchedCell(), conv=CausalConvolution(), none=Nothing()
        )
        self.network = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixer(self.norms[0](x))
        return x + self.network(self.norms[1](x))


class Mixers(nn.Module):
    """Pairs of tokens [B, T, 2] to the logits of a token at each step, [B, T, TOKENS]."""

    def __init__(self):
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(TOKENS + 1, WIDTH), nn.Embedding(TOKENS + 1, WIDTH)])
        self.layers = nn.Sequential(Layer(), Layer())
        self.out = nn.Linear(WIDTH, TOKENS)

    def forward(self, pairs: Tensor) -> Tensor:
        first, second = (table(tokens) for table, tokens in zip(self.tables, pairs.unbind(-1), strict=True))
        return self.out(self.layers(first + second))


def examples(task: str, num: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return `num` sequences of a task, pairs of tokens [num, T, 2], and their targets [num, T]."""
    draw = torch.Generator().manual_seed(seed)
    if task == "recall":  # keys in any order, each with a value; then one key without its value
        keys = torch.rand(num, PAIRS, generator=draw).argsort(1)
        values = torch.randint(TOKENS, (num, PAIRS), generator=draw)
        asked = torch.randint(PAIRS, (num, 1), generator=draw)
        query = torch.stack([keys.gather(1, asked), torch.full_like(asked, TOKENS)], dim=-1)
        targets = torch.full((num, PAIRS + 1), IGNORED)
        targets[:, -1:] = values.gather(1, asked)
        return torch.cat([torch.stack([keys, values], dim=-1), query], dim=1), targets
    is_parity = task == "parity"
    tokens = torch.randint(2 if is_parity else TOKENS, (num, BITS if is_parity else LENGTH), generator=draw)
    targets = tokens.cumsum(1) % 2 if is_parity else tokens.roll(DELAY, dims=1)
    if not is_parity:
        targets[:, :DELAY] = IGNORED
    return torch.stack([tokens, torch.full_like(tokens, TOKENS)], dim=-1), targets


def batches(task: str, num: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Return `num` minibatches."""
    return [*zip(*(part.split(BATCH) for part in examples(task, num * BATCH, seed)), strict=True)]


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy, in nats, of the steps that have a target."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


def accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the share of right tokens among the steps that have a target."""
    return (logits.argmax(-1) == targets)[targets != IGNORED].float().mean()


def search(task: str, epochs: int, log_dir: str, seed: int) -> dict[str, object]:
    """Search with one seed; return the chosen mixers, and test accuracies of the choice and of each mixer alone."""
    data = {"train": batches(task, 100, 3 * seed), "valid": batches(task, 8, 3 * seed + 1)}
    data["test"] = batches(task, 8, 3 * seed + 2)
    places = {"log_dir": f"{log_dir}/{task}-{seed}", "num_gpu": 0, "num_threads": 1, "quiet": True}
    places["dataset"] = f"{task}-{seed}"  # a process knows the data of each seed by a name of their own
    sizes = {"max_epoch": epochs, "save_epoch": epochs, "random_seed": seed}
    found = enas.search_module(Mixers, **data, loss=loss, score=accuracy, **places, **sizes)
    chosen = [one.split("=")[1] for one in found.architecture.chosen]
    scores = {"found": found.train_scratch(quiet=True)["test_score"]}
    for mixer in MIXERS if seed == 0 else ():
        alone = ModuleChoices(tuple(f"{one.split('=')[0]}={mixer}" for one in found.architecture.chosen))
        config = enas.Config(**{**found_settings(found), "mode": "train_scratch"})
        scores[mixer] = run.train(config, alone, quiet=True)["test_score"]
    return {"task": task, "seed": seed, "chosen": chosen, "scores": scores}


def found_settings(found: enas.Run) -> dict[str, object]:
    """Return the settings of a run, for another run from scratch."""
    return json.loads((found.folder / "params.json").read_text(encoding="utf-8"))


def main() -> None:
    """Print a line for each search, and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=[*RIGHT], choices=[*RIGHT])
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each task, from 0")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of 100 steps")
    parser.add_argument("--jobs", type=int, default=1, help="searches at once")
    parser.add_argument("--log_dir", default="logs/mixers")
    asked = parser.parse_args()
    if min(asked.seeds, asked.epochs, asked.jobs) < 1:
        parser.error("seeds, epochs and jobs must be at least 1")
    rows = []
    with ProcessPoolExecutor(asked.jobs) as pool:
        for task in asked.tasks:
            work = partial(search, task, asked.epochs, asked.log_dir)
            for row in pool.map(work, range(asked.seeds)):
                print(json.dumps(row), flush=True)
                rows.append(row)
    print(f"\n| task | right | taken by | found | {' | '.join(MIXERS)} |\n|---|---|---|---|{'---|' * len(MIXERS)}")
    for task in asked.tasks:
        some = [row for row in rows if row["task"] == task]
        hits = sum(any(one in RIGHT[task] for one in row["chosen"]) for row in some)
        alone = " | ".join(f"{some[0]['scores'][mixer]:.3f}" for mixer in MIXERS)
        scores = mean(row["scores"]["found"] for row in some)
        print(f"| {task} | {' or '.join(RIGHT[task])} | {hits} of {len(some)} | {scores:.3f} | {alone} |")


if __name__ == "__main__":
    main()
