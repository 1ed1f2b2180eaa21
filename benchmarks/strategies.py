"""Settings of REINFORCE on a table: each row changes some settings of the preset `small`.

python -m benchmarks.strategies --table cells4 --seeds 100 --jobs 2
python -m benchmarks.strategies --use examples/nas_bench.py --table nas_bench_macro --seeds 100 --jobs 2

Prints, for the LSTM (enas) and for independent logits, the mean and the standard deviation over seeds of the validation
score of the architecture that is chosen after 50, 100, 200 and 500 looks.
"""

import argparse
import json
import sys
import time
from typing import Any

from enas.config import read_preset
from enas.guard import guarded
from enas.search.own_code import use
from enas.studies.arena import READ, all_searches
from enas.studies.looks import open_table

LOOKS = (50, 100, 200, 500)
NAMES = ("enas", "logits")
ROWS: tuple[dict[str, Any], ...] = (
    {},
    *({"controller_lr": lr} for lr in (0.003, 0.02, 0.05, 0.1, 0.2)),
    *({"controller_num_aggregate": num} for num in (5, 20)),
    *({"controller_num_aggregate": 5, "controller_lr": lr} for lr in (0.02, 0.05, 0.1)),
    *({"controller_lr": 0.1, "entropy_coeff": weight} for weight in (0.0, 0.1, 0.3)),
    {"controller_num_aggregate": 5, "controller_lr": 0.05, "entropy_coeff": 0.1},
    {"controller_num_aggregate": 5, "controller_lr": 0.1, "entropy_coeff": 0.1},
    {"controller_num_aggregate": 5, "controller_lr": 0.05, "baseline": "ema"},
    {"controller_lr": 0.05, "baseline": "ema"},
    {"controller_lr": 0.05, "advantage_spread_decay": 0.0},
    {"entropy_mode": "reward", "entropy_coeff": 1e-4},
)


def main() -> None:
    """Print a line for each row and controller."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", required=True, help="table of a whole space, as for enas strategies")
    parser.add_argument("--use", default="", help="file that registers the table")
    parser.add_argument("--data_dir", default="data", help="folder of all data")
    parser.add_argument("--seeds", type=int, default=100, help="searches of each row")
    parser.add_argument("--jobs", type=int, default=1, help="searches side by side")
    asked = parser.parse_args()
    use([asked.use] if asked.use else [])
    looks = open_table(asked.table, asked.data_dir)
    small = {name: value for name, value in read_preset("small").items() if name in READ}
    decimals = looks.metric.decimals
    print(f"{asked.table}, {asked.seeds} seeds; base: {small}\n{'':72} {'':8}" + "".join(f"{num:>18}" for num in LOOKS))
    for row in ROWS:
        config = looks.config.replace(**{**small, **row, "data_dir": asked.data_dir})
        source = (json.dumps(config.to_dict()), asked.table, "", time.time_ns())
        for name, scores in all_searches(source, NAMES, asked.seeds, LOOKS, asked.jobs).items():
            first = scores[:, :, 0]
            cells = (
                f"{m:.{decimals}f} ± {s:.{decimals}f}" for m, s in zip(first.mean(0), first.std(0, ddof=1), strict=True)
            )
            what = ", ".join(f"{key} {value}" for key, value in row.items()) or "small"
            print(f"{what:72} {name:8}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


if __name__ == "__main__":
    sys.exit(guarded(main))
