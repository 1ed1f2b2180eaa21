"""How fast a step is, and how fast it could be: `python -m benchmarks.rnn`, `.cnn`, `.controller`; see RESULTS.md."""
