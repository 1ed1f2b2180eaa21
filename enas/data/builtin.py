"""Datasets for a first run without a download: `pydoc`, English prose; `markov`, text whose perplexity floor is known;
and `shapes`, images.

Text is written as `{train,valid,test}.txt` and images as `{train,valid,test}/CLASS/*.png`, in a folder that appears
whole or not at all, with the same bytes whenever the seed is the same.
"""

import itertools
import random
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from enas.data.dataset_folder import SPLITS
from enas.data.shapes import SHAPES, render_shapes
from enas.errors import UserError
from enas.files import atomic_folder

# --- markov: a language whose entropy rate is known -------------------------------------------------------------------

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


# --- pydoc: prose of Python's language reference ----------------------------------------------------------------------


def make_pydoc(folder: str | Path) -> None:
    """Unpack prose of the language reference of Python 3.11 into `folder`; UserError for a folder in use."""
    with atomic_folder(Path(folder)) as made, zipfile.ZipFile(Path(__file__).with_name("pydoc.zip")) as texts:
        texts.extractall(made)


# --- shapes: images of ten classes ------------------------------------------------------------------------------------

SHAPES_IMAGES = {"train": 4000, "valid": 1000, "test": 1000}


def make_shapes(folder: str | Path, *, seed: int = 0, num_images: Mapping[str, int] = SHAPES_IMAGES) -> None:
    """Write `num_images` PNG pictures of `enas.data.shapes` a split, equally many of each class, into
    `folder/SPLIT/CLASS`; UserError for fewer images than classes, or a folder in use.
    """
    if (fewest := min(num_images[split] for split in SPLITS)) < len(SHAPES):
        raise UserError(f"num_images has a split of {fewest}; it must be at least {len(SHAPES)}")
    with atomic_folder(Path(folder)) as made:
        for (number, split), (label, name) in itertools.product(enumerate(SPLITS), enumerate(SHAPES)):
            (made / split / name).mkdir(parents=True)
            for i, one in enumerate(render_shapes(name, num_images[split] // len(SHAPES), seed=(seed, number, label))):
                Image.fromarray(one).save(made / split / name / f"{i:04}.png")


MAKERS: dict[str, Callable[[Path], None]] = {"pydoc": make_pydoc, "markov": make_markov}
IMAGE_MAKERS: dict[str, Callable[[Path], None]] = {"shapes": make_shapes}
