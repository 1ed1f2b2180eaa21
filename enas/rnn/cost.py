"""The cost of language models, per token."""

from bisect import bisect_left

from enas.rnn.cell import RNNCell
from enas.rnn.lstm import LSTMBaseline
from enas.search.cost import Cost
from enas.settings import ConfigLike


def cost(config: ConfigLike, vocab_size: int, architecture: RNNCell | LSTMBaseline) -> Cost:
    """Return the cost of the language model that a run from scratch trains of an architecture."""
    embed, hidden = config.shared_embed, config.shared_hid
    if isinstance(architecture, LSTMBaseline):
        embed, hidden = architecture.embed(config), architecture.hidden
        products, biases = 4 * hidden * (embed + hidden), 8 * hidden
    else:  # gates and values, of the input, the state and the edges
        products, biases = 2 * hidden * (embed + architecture.num_blocks * hidden), 0
    embedding, decoder = vocab_size * embed, vocab_size * hidden
    tied = embedding if config.tie_weights else embedding + decoder
    return Cost(products + biases + tied + vocab_size, products + decoder)


def nearest_lstm(config: ConfigLike, vocab_size: int, num_wanted: int) -> LSTMBaseline:
    """Return the LSTM whose language model has a number of parameters nearest to `num_wanted`."""

    def count(hidden: int) -> int:
        return cost(config, vocab_size, LSTMBaseline(hidden)).parameters

    above = bisect_left(range(num_wanted), num_wanted, lo=1, key=count)
    return LSTMBaseline(min(max(1, above - 1), above, key=lambda hidden: abs(count(hidden) - num_wanted)))
