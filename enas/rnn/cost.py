"""The cost of language models, per token."""

from __future__ import annotations

from bisect import bisect_left

from enas.search.cost import Cost


def num_parameters(vocab_size: int, embed: int, hidden: int, tie_weights: bool) -> int:
    """The number of parameters of an `LSTMModel`."""
    embeddings = vocab_size * embed + (0 if tie_weights else vocab_size * hidden) + vocab_size
    return embeddings + 4 * hidden * (embed + hidden) + 8 * hidden


def lstm_cost(vocab_size: int, embed: int, hidden: int, tie_weights: bool) -> Cost:
    """The cost of an `LSTMModel`, per token."""
    products = 4 * hidden * (embed + hidden) + vocab_size * hidden
    return Cost(num_parameters(vocab_size, embed, hidden, tie_weights), products)


def nearest_hidden(num_wanted: int, vocab_size: int, embed: int, tie_weights: bool) -> int:
    """H of the `LSTMModel` whose number of parameters is nearest to `num_wanted`; with tied weights E follows H."""

    def count(hidden: int) -> int:
        return num_parameters(vocab_size, hidden if tie_weights else embed, hidden, tie_weights)

    above = bisect_left(range(num_wanted), num_wanted, lo=1, key=count)
    return min(max(1, above - 1), above, key=lambda hidden: abs(count(hidden) - num_wanted))


def cell_cost(num_nodes: int, vocab_size: int, embed: int, hidden: int, tie_weights: bool) -> Cost:
    """The cost of a language model with a recurrent cell of so many nodes; each but the first has one edge."""
    cell = 2 * hidden * (embed + num_nodes * hidden)  # input, state, edges; gates and values
    decoder = vocab_size * hidden
    embedding = vocab_size * embed + (0 if tie_weights else decoder)
    return Cost(embedding + vocab_size + cell, cell + decoder)
