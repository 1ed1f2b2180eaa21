"""The cost of language models, per token."""

from bisect import bisect_left

from enas.search.cost import Cost
from enas.settings import ConfigLike


def lstm_cost(config: ConfigLike, vocab_size: int, hidden: int) -> Cost:
    """The cost of an `LSTMModel`; with tied weights E is H, whatever shared_embed says."""
    embed = hidden if config.tie_weights else config.shared_embed
    products = 4 * hidden * (embed + hidden)
    return Cost(products + 8 * hidden, products) + _decoded(vocab_size, embed, hidden, config.tie_weights)


def cell_cost(config: ConfigLike, vocab_size: int, num_nodes: int) -> Cost:
    """The cost of a language model with a recurrent cell of so many nodes; each but the first has one edge."""
    embed, hidden = config.shared_embed, config.shared_hid
    cell = 2 * hidden * (embed + num_nodes * hidden)  # input, state, edges; gates and values
    return Cost(cell, cell) + _decoded(vocab_size, embed, hidden, config.tie_weights)


def _decoded(vocab_size: int, embed: int, hidden: int, tie_weights: bool) -> Cost:
    """The cost of the parts of a `LanguageModel`: embedding, decoder and its bias."""
    decoder = vocab_size * hidden
    return Cost(vocab_size * embed + (0 if tie_weights else decoder) + vocab_size, decoder)


def nearest_hidden(config: ConfigLike, vocab_size: int, num_wanted: int) -> int:
    """H of the `LSTMModel` whose number of parameters is nearest to `num_wanted`."""

    def count(hidden: int) -> int:
        return lstm_cost(config, vocab_size, hidden).parameters

    above = bisect_left(range(num_wanted), num_wanted, lo=1, key=count)
    return min(max(1, above - 1), above, key=lambda hidden: abs(count(hidden) - num_wanted))
