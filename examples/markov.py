"""A language of your own whose lowest perplexity is known; `--dataset markov` is the one of the default settings.

python examples/markov.py --output data/tiny --seed 1 --num_tokens 20000 --num_words 20
python main.py --config small --dataset tiny
"""

import itertools
import math
import random
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from enas.data.dataset_folder import SPLITS
from enas.errors import UserError
from enas.files import atomic_folder
from enas.guard import guarded

MARKOV_WORDS = 100
_NUM_TOPICS = 3
_SYLLABLES = ["".join(pair) for pair in itertools.product("bdfgklmnprstvz", "aeiou")]


@dataclass(frozen=True, eq=False)
class MarkovLanguage:
    """A language of sentences, each word drawn from a distribution that the words before it in the sentence fix.

    A state is a pair (topic, last word). Some words name a topic, which holds until another is named or the sentence
    ends; after some words the topic decides what may follow, after the others only the word does. So the sentence so
    far gives the state, and the entropy rate is the mean entropy of the next word over the stationary distribution.
    """

    words: tuple[str, ...]  # the vocabulary, W words; the last is `<eos>`
    probabilities: np.ndarray  # float64 [S, W], each state's distribution of the next word
    next_state: np.ndarray  # int [S, W], the state that the word leads to; state 0 begins every sentence

    def stationary(self) -> np.ndarray:
        """Return the share of the text's tokens that are drawn in each state, float64 [S]."""
        # Every sentence starts in state 0, so the expected visits within one sentence give the shares. They solve
        # visits = [state 0] + visits · (transitions inside the sentence).
        start = np.eye(len(self.probabilities))
        inside = np.zeros_like(start)
        np.add.at(inside, (np.arange(len(start))[:, None], self.next_state[:, :-1]), self.probabilities[:, :-1])
        visits = np.linalg.solve((start - inside).T, start[0])
        return visits / visits.sum()

    def entropy_rate(self) -> float:
        """Return the entropy of the next token given all before it, in nats; its exp is the lowest perplexity."""
        p = self.probabilities
        row_entropy = -(p * np.log(p, out=np.zeros_like(p), where=p > 0)).sum(axis=1)  # [S]
        return float(self.stationary() @ row_entropy)

    def sentences(self, num_tokens: int, rng: random.Random) -> Iterator[list[str]]:
        """Sample whole sentences, `<eos>` left out, until they hold at least `num_tokens` tokens, `<eos>` counted."""
        cumulative, next_state = np.cumsum(self.probabilities, axis=1).tolist(), self.next_state.tolist()
        choices, end = range(len(self.words)), len(self.words) - 1
        while num_tokens > 0:
            sentence, state = [], 0
            while (word := rng.choices(choices, cum_weights=cumulative[state])[0]) != end:
                sentence.append(self.words[word])
                state = next_state[state][word]
            yield sentence
            num_tokens -= len(sentence) + 1


def markov_language(*, seed: int = 0, num_words: int = MARKOV_WORDS) -> MarkovLanguage:
    """Return the language of `seed`, with `num_words` words besides `<eos>`: see MarkovLanguage.

    Every fifth word names a topic, and every third lets the topic choose its successors. A state has 4 to 16
    successors, in proportion to 1, 1/2, 1/3, …, and ends the sentence with probability 0.02 to 0.18.
    """
    if not 2 <= num_words <= len(_SYLLABLES) ** 2:
        raise UserError(f"num_words is {num_words}; it must be between 2 and {len(_SYLLABLES) ** 2}")
    rng = random.Random(f"language {seed}")
    spellings = rng.sample(["".join(pair) for pair in itertools.product(_SYLLABLES, repeat=2)], num_words)
    states = [(0, num_words)] + [(topic, word) for word in range(num_words) for topic in range(_NUM_TOPICS)]
    index = {state: i for i, state in enumerate(states)}

    probabilities = np.zeros((len(states), num_words + 1))
    next_state = np.zeros((len(states), num_words + 1), dtype=np.int64)
    for i, (topic, word) in enumerate(states):
        # The states of one word are adjacent; unless the word listens to the topic, they share the first's row.
        if topic == 0 or word % 3 == 1:
            probabilities[i, -1] = rng.uniform(0.02, 0.18) if i > 0 else 0.0  # no sentence is empty
            successors = rng.sample(range(num_words), min(rng.randint(4, 16), num_words))
            weights = 1 / np.arange(1, len(successors) + 1)
            probabilities[i, successors] = (1 - probabilities[i, -1]) * weights / weights.sum()
        else:
            probabilities[i] = probabilities[i - 1]
        for successor in range(num_words):
            next_topic = successor // 5 % _NUM_TOPICS if successor % 5 == 0 else topic
            next_state[i, successor] = index[next_topic, successor]
    return MarkovLanguage((*spellings, "<eos>"), probabilities, next_state)


def make_markov(folder: str | Path, *, seed: int = 0, num_tokens: int = 400_000, num_words: int = MARKOV_WORDS) -> None:
    """Write text of `markov_language(seed, num_words)` into `folder`: `num_tokens` for training, a tenth to validate
    and a tenth to test, each rounded up to a whole sentence. UserError for an impossible size, or a folder in use.
    """
    if num_tokens < 10:
        raise UserError(f"num_tokens is {num_tokens}; it must be at least 10, so that each split has a sentence")
    language = markov_language(seed=seed, num_words=num_words)
    with atomic_folder(Path(folder)) as made:
        for split, size in zip(SPLITS, (num_tokens, num_tokens // 10, num_tokens // 10), strict=True):
            sentences = language.sentences(size, random.Random(f"{split} {seed}"))
            (made / f"{split}.txt").write_bytes("".join(f"{' '.join(words)}\n" for words in sentences).encode())


def main() -> None:
    """Make a language's texts, and print the lowest perplexity that a model can have in the long run."""
    parser = ArgumentParser(description=__doc__.partition(";")[0])
    parser.add_argument("--output", required=True, help="new folder of the dataset")
    parser.add_argument("--seed", type=int, default=0, help="seed of the language and its texts")
    parser.add_argument(
        "--num_tokens", type=int, default=400_000, help="tokens of train.txt; the other two files have a tenth each"
    )
    parser.add_argument("--num_words", type=int, default=MARKOV_WORDS, help="words of the language")
    asked = vars(parser.parse_args())
    make_markov(asked.pop("output"), **asked)
    floor = math.exp(markov_language(seed=asked["seed"], num_words=asked["num_words"]).entropy_rate())
    print(f"no model has a perplexity below {floor:.2f} in the long run")


if __name__ == "__main__":
    raise SystemExit(guarded(main))
