"""The cases of each kind, with the entry points at which they are tried."""

from benchmarks.faults.cases import bounds, helpers, others, paths, ranks, read_back, signals

TRIALS = [trial for module in (read_back, helpers, signals, paths, bounds, ranks, others) for trial in module.TRIALS]
