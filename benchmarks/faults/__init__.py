"""Trials of kinds of trouble (`cases`), crossed with entry points of the program (`entries`).

`python -m benchmarks.faults --help` says how to run them.
"""
