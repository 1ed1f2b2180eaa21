"""The corpora that need no download: the known entropy of `markov`, and the bytes of `pydoc`."""

import hashlib
import json
import math
import random
from functools import partial
from unittest.mock import Mock

import numpy as np
import pytest
import tiny

from enas.data.builtin import MAKERS, SPLITS, make_shapes
from enas.errors import UserError
from enas.rnn.text import load_corpus
from examples.markov import MarkovLanguage, make_markov, markov_language


def read_lines(folder):
    return {split: (folder / f"{split}.txt").read_text(encoding="utf-8").splitlines() for split in SPLITS}


@pytest.fixture(scope="module")
def language():
    return markov_language()


def costs_of(language, sentences):
    """The negative log-probability of each sentence in nats, and its number of tokens, `<eos>` counted."""
    index, found = {word: i for i, word in enumerate(language.words)}, []
    for sentence in sentences:
        state, cost = 0, 0.0
        for word in (*map(index.__getitem__, sentence), len(language.words) - 1):
            cost -= math.log(language.probabilities[state, word])
            state = language.next_state[state, word]
        found.append((cost, len(sentence) + 1))
    return np.array(found).T


def test_entropy_rate_by_hand():
    # "a" follows <eos> always; after "a", "a" or <eos> with probability 1/2: of three tokens, two are such coin flips.
    coin = MarkovLanguage(("a", "<eos>"), np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[1, 0], [1, 0]]))
    assert coin.stationary() == pytest.approx([1 / 3, 2 / 3])
    assert coin.entropy_rate() == pytest.approx(2 / 3 * math.log(2), abs=1e-15)


def test_entropy_rate_is_the_conditional_entropy_of_enumerated_blocks():
    """H(X1..Xn) - H(X1..Xn-1), over all strings of a tiny language, falls to the rate as n grows."""
    few = markov_language(num_words=3, seed=5)

    def extensions(belief):
        for word in range(len(few.words)):
            longer = np.zeros_like(belief)
            np.add.at(longer, few.next_state[:, word], belief * few.probabilities[:, word])
            if longer.sum() > 0:
                yield longer

    # One belief per string: the joint probability of the string and the state after it.
    beliefs, entropies = [few.stationary()], []
    for _ in range(8):
        entropies.append(-sum(belief.sum() * math.log(belief.sum()) for belief in beliefs))
        beliefs = [longer for belief in beliefs for longer in extensions(belief)]
    conditional = np.diff(entropies)
    assert (np.diff(conditional) < 1e-12).all()
    assert conditional[-1] >= few.entropy_rate() - 1e-12
    assert conditional[-1] == pytest.approx(few.entropy_rate(), rel=2e-3)


def test_text_costs_its_entropy_rate_within_sampling_error(language):
    costs, lengths = costs_of(language, language.sentences(40_000, random.Random("a text of its own")))
    mean = costs.sum() / lengths.sum()
    # Sentences are independent, so this is the standard error of a ratio of two means.
    error = np.sqrt(((costs - mean * lengths) ** 2).sum()) / lengths.sum()
    assert 0 < error < 0.01
    assert abs(mean - language.entropy_rate()) < 4 * error


def test_floor_asks_for_memory_but_not_much(language):
    """A perfect bigram model, which forgets the topic, stays 15 to 30 % above the floor."""
    assert np.allclose(language.probabilities.sum(axis=1), 1, atol=1e-12) and not language.next_state[:, -1].any()
    last_word = [len(language.words) - 1] + [i // 3 for i in range(len(language.probabilities) - 1)]
    pairs = np.zeros((len(language.words), len(language.words)))
    np.add.at(pairs, last_word, language.stationary()[:, None] * language.probabilities)
    conditional = pairs / pairs.sum(axis=1, keepdims=True)
    bigram_entropy = -(pairs * np.log(conditional, out=np.zeros_like(pairs), where=pairs > 0)).sum()
    floor = math.exp(markov_language().entropy_rate())
    assert floor == pytest.approx(math.exp(language.entropy_rate())) and 5 < floor < 12
    assert 1.15 < math.exp(bigram_entropy) / floor < 1.3


def test_markov_splits_have_their_sizes_and_differ(tmp_path):
    make_markov(tmp_path / "markov", num_tokens=5_000, num_words=20)
    lines = read_lines(tmp_path / "markov")
    for split, size in {"train": 5_000, "valid": 500, "test": 500}.items():
        num_tokens = sum(len(line.split()) + 1 for line in lines[split])
        assert size <= num_tokens < size + 200
    assert len({tuple(lines[split][:20]) for split in SPLITS}) == 3
    costs, lengths = costs_of(markov_language(num_words=20), map(str.split, lines["train"]))
    assert costs.sum() / lengths.sum() < math.log(20)


def test_markov_is_the_language_of_the_example(tmp_path):
    MAKERS["markov"](tmp_path / "markov")
    make_markov(tmp_path / "made")
    assert tiny.tree(tmp_path / "markov") == tiny.tree(tmp_path / "made")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (partial(make_markov, num_tokens=9), "num_tokens is 9; it must be at least 10"),
        (partial(make_markov, num_words=1), "num_words is 1; it must be between 2 and"),
        (partial(make_markov, num_words=10_000), "num_words is 10000; it must be between 2 and"),
    ],
)
def test_impossible_sizes_are_refused(make, says, tmp_path):
    refused(make, tmp_path / "made", says)


SMALL = {
    "markov": partial(make_markov, num_tokens=500, num_words=20),
    "shapes": partial(make_shapes, num_images=dict.fromkeys(SPLITS, 10)),
}


def refused(make, folder, says):
    """`make` is refused, and nothing changes."""
    before = tiny.tree(folder.parent)
    with pytest.raises(UserError, match=says):
        make(folder)
    assert tiny.tree(folder.parent) == before


@pytest.mark.parametrize("make", SMALL.values(), ids=SMALL)
def test_folders_are_made_whole_or_left_alone(make, tmp_path, monkeypatch):
    make(tmp_path / "made")
    before = tiny.tree(tmp_path)
    make(tmp_path / "made")
    assert tiny.tree(tmp_path) == before, "a maker that comes second finds the same, and is content"
    refused(partial(make, seed=9), tmp_path / "made", "made: exists and holds other data; remove it")
    (tmp_path / "made" / "mine.txt").touch()
    refused(make, tmp_path / "made", "made: exists and holds other data; remove it")
    (tmp_path / "file").touch()
    refused(make, tmp_path / "file", "file: exists and holds other data; remove it")
    with pytest.raises(UserError, match=r"shut: cannot be written \(File exists\); make room, or choose"):
        make(tmp_path / "file" / "shut")
    before = tiny.tree(tmp_path)
    monkeypatch.setattr("os.replace", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "interrupted")
    assert tiny.tree(tmp_path) == before


TEXTS = {
    "train.txt": "78696435bd46bbc8f3840c4b852aa077ba492cd899e9fb949919083bc2aa9a58",
    "valid.txt": "baf942d835206498984ca7c2d1e7021a20ed1e6a7d48f50d239e2c93835686da",
    "test.txt": "c3e1ca730aebbdb45ef3a30877522fbf6f277cc1190e75f60fb4e80cc7e2a406",
}


def test_pydoc_is_the_text_of_the_published_tables(tmp_path):
    MAKERS["pydoc"](tmp_path / "pydoc")
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "pydoc").iterdir()}
    assert found == TEXTS
    for table in ("cells3.json", "cells4.json"):
        data = json.loads((tiny.ROOT / "ablation_studies" / "tables" / table).read_text())["data"]
        assert load_corpus("pydoc", data_dir=tmp_path).identity.short() == data
