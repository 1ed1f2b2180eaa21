"""From flags to the functions of `enas.runs.run`."""

import io
import os
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from enas.config import Config, all_settings
from enas.runs import run
from enas.runs.folder import find_run, run_of_launch, saved_config
from enas.search.ranks import join, launched
from enas.settings import SEARCHES, checked


def execute(**given: Any) -> dict[str, Any]:
    """Begin a new run, or go on with the named (or the newest fitting) one, as flags say; return its results.json."""
    mode = checked(all_settings()["mode"], given.get("mode", "train"))
    with nullcontext() if launched().is_first else redirect_stdout(io.StringIO()):
        # torchrun begins all processes once more after one of them ended too early.
        if launched().size > 1 and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
            config = Config(**{name: given[name] for name in ("log_dir", "num_gpu", "rank_timeout") if name in given})
            ranks = join(config.num_gpu, config.rank_timeout)
            # A run from scratch lies beside its search, unless log_dir says where.
            home = find_run(given).parent if given.get("load_path") and "log_dir" not in given else Path(config.log_dir)
            begun = ranks.from_first(lambda: str(run_of_launch(home) or ""))
            # A baseline, which the same command trains first, has a name of its own.
            if begun and (saved := saved_config(Path(begun))).name == given.get("name", ""):
                # Named, because torchrun sets OMP_NUM_THREADS, which would count instead.
                return run.resume(begun, stop_epoch=saved.stop_epoch, num_threads=saved.num_threads)
        load_path = given.get("load_path", "")
        changes = {name: value for name, value in given.items() if name not in ("load_path", "mode")}
        if mode in ("derive", "test"):
            return (run.derive if mode == "derive" else run.test)(load_path, **changes)
        if mode == "train_scratch":
            # Without a load_path, take the newest search, not the newest run from scratch.
            folder = find_run(given, (*SEARCHES, mode) if load_path else SEARCHES)
            return (run.resume if saved_config(folder).mode == mode else run.train_scratch)(folder, **changes)
        if load_path:
            return run.resume(find_run(given, (mode,)), **changes)
        return run.train(Config(**given), given=given)
