"""Text as token streams: reading a corpus, and cutting it into batches for training and for evaluation.

Shapes: S steps in the whole split, T steps in a batch, B rows (columns of the tensors) read side by side.
Time comes first, so that `batch[t]` is what the recurrent cell sees at step t.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from enas.data import builtin
from enas.data.builtin import SPLITS
from enas.data.dataset_folder import Kind
from enas.data.download import CATALOGUE
from enas.data.identity import Identity, digest_of_tensors
from enas.errors import NotFoundError, UserError
from enas.rnn.words import EOS, UNKNOWN, read_tokens

TEXTS = Kind(
    own="for text of your own, put train.txt, valid.txt and test.txt",
    example="train.txt",
    downloads=[name for name, dataset in CATALOGUE.items() if dataset.files[0].installed == "train.txt"],
    makers=builtin.MAKERS,
    others={name: f"{name} holds images: add --network_type cnn" for name in builtin.IMAGE_MAKERS},
)
PIECE = 2**16  # tokens that are renumbered at once
BAR_AFTER = 5  # seconds of an evaluation


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text dataset, its words replaced by their indices in the vocabulary.

    Attributes:
        vocabulary: index -> word, the most frequent of the training split first, ties by first appearance.
        train, valid, test: int32 [tokens], each line's words followed by `<eos>`.
        unknown: split -> number of its tokens that stand outside the vocabulary and were replaced by `<unk>`.
        brings_eos: whether lines end in an `<eos>` of their own, which then get no second one.
    """

    name: str
    vocabulary: tuple[str, ...]
    train: Tensor
    valid: Tensor
    test: Tensor
    unknown: dict[str, int]
    brings_eos: bool = False

    @property
    def identity(self) -> Identity:
        """What another reading of the text must have in common with this one."""
        splits = {split: digest_of_tensors(getattr(self, split)) for split in SPLITS}
        return Identity("vocabulary", self.vocabulary, splits)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of the text: how many tokens became `<unk>`, and that it brings its own `<eos>`."""
        notes = []
        if self.brings_eos:
            notes.append(f"{self.name}: lines that end in an {EOS} of their own get no second one")
        if any(self.unknown.values()):
            counts = [(self.unknown[split], len(getattr(self, split)), split) for split in SPLITS]
            shares = [f"{num:,} of {total:,} {split} tokens ({num / total:.1%})" for num, total, split in counts]
            notes.append(f"{self.name}: words outside the vocabulary became {UNKNOWN}: {', '.join(shares)}")
        return tuple(notes)


def load_corpus(
    name: str, *, data_dir: str | Path = "data", vocab_min_count: int = 2, text_unit: str = "word"
) -> Corpus:
    """Read `data_dir/name/{train,valid,test}.txt`; a built-in corpus is made there on first use.

    Words are what white space separates, and every line, a blank one too, ends in `<eos>`. With `text_unit` "character"
    every character of a line, blanks included, is a word. The vocabulary is that of the training split. Other words
    become `<unk>`; where the training text has no `<unk>` of its own, its words seen fewer than `vocab_min_count` times
    become `<unk>` too, so that a model can learn it. UserError when `name` or a file is missing or unusable.
    """
    folder = TEXTS.find(name, Path(data_dir))
    files = {split: folder / f"{split}.txt" for split in SPLITS}
    for path in files.values():
        if not path.exists():
            raise NotFoundError(f"{path}: no such file{TEXTS.how_to_get(name, folder.parent)}")
    numbers: defaultdict[str, int] = defaultdict()  # in the order of first appearance
    numbers.default_factory = numbers.__len__
    texts, counts, brings_eos = {}, {}, False
    for split, path in files.items():
        texts[split], counts[split], has_own = _read(path, text_unit, numbers)
        brings_eos |= has_own
    vocabulary = _build_vocabulary(counts["train"], vocab_min_count)
    if not set(vocabulary) - {EOS, UNKNOWN}:
        raise UserError(
            f"{files['train']}: every word is rarer than vocab_min_count {vocab_min_count}; a text "
            "without blanks needs --text_unit character, a short one --vocab_min_count 1"
        )
    known = set(vocabulary)
    unknown = {split: sum(found[word] for word in found.keys() - known) for split, found in counts.items()}
    if any(unknown.values()) and UNKNOWN not in known:
        vocabulary = (*vocabulary, UNKNOWN)
    index = {word: i for i, word in enumerate(vocabulary)}
    table = torch.tensor([index.get(word, index.get(UNKNOWN, -1)) for word in numbers], dtype=torch.int32)
    for tokens in texts.values():
        for piece in tokens.split(PIECE):
            piece.copy_(table.index_select(0, piece))
    return Corpus(name, vocabulary, **texts, unknown=unknown, brings_eos=brings_eos)


def _read(path: Path, unit: str, numbers: defaultdict[str, int]) -> tuple[Tensor, Counter[str], bool]:
    """A split: its tokens' numbers, int32 [tokens], how often each token occurs, and `Corpus.brings_eos`."""
    found, brings_eos = array("i"), False
    for tokens, has_own in read_tokens(path, unit):
        found.fromlist([numbers[token] for token in tokens])
        brings_eos |= has_own
    tokens = torch.from_numpy(np.asarray(found))
    occurrences = torch.bincount(tokens, minlength=len(numbers)).tolist()
    counts = Counter({word: num for word, num in zip(numbers, occurrences, strict=True) if num})
    if not counts.keys() - {EOS}:
        raise UserError(f"{path}: has no words; it must be a text of at least one word")
    return tokens, counts, brings_eos


def _build_vocabulary(counts: Counter[str], min_count: int) -> tuple[str, ...]:
    # A text with an <unk> of its own has had its vocabulary chosen already.
    threshold = 1 if UNKNOWN in counts else min_count
    kept: Counter[str] = Counter()
    for word, count in counts.items():
        kept[word if count >= threshold or word == EOS else UNKNOWN] += count
    # Counters keep the order of first appearance and sorting is stable, which settles the ties.
    return tuple(sorted(kept, key=kept.__getitem__, reverse=True))


def to_rows(tokens: Tensor, batch_size: int, *, name: str = "the text") -> Tensor:
    """Lay [tokens] out as [S, B]: column b is the b-th contiguous piece of the text, and the remainder is dropped.

    `name` says in an error which text was too short: UserError unless each column has an input and a target.
    """
    num_steps = len(tokens) // batch_size
    if num_steps < 2:
        raise UserError(
            f"{name}: {len(tokens):,} tokens are too few for batch size {batch_size}, which takes at least "
            f"{2 * batch_size:,}; use more text or a smaller batch size"
        )
    return tokens[: num_steps * batch_size].view(batch_size, num_steps).t()  # [S, B], a view


class TrainingBatches(Iterator[tuple[Tensor, Tensor, bool]]):
    """Endless minibatches for truncated back-propagation, reading the rows from top to bottom, again and again.

    Each item is `(inputs, targets, is_start)`: two int64 tensors [T, B], the targets one step ahead of the inputs, and
    whether this batch begins the text, so that the state carried from the batch before must be zeroed. T is `length`,
    except for the last batch of a pass, which takes what is left; so every row but the first is a target once a pass.

    Args:
        rows: [S, B] with S ≥ 2, from `to_rows`.
        random_length: draw T for each batch (Merity et al. 2017, section 4.1), so that words do not stand at the same
            places pass after pass: from a normal distribution of standard deviation 5 around `length`, one time in
            twenty around half of it; never below 5, or `length` when smaller.
        only_whole: pass over the end of a pass that is shorter than `length`, unless it is the whole text: scores of
            single batches are compared, and a few steps from the zero state score otherwise.

    Attributes:
        cursor: the row at which the next batch's inputs begin. It outlives epochs, and is all there is to save.
    """

    def __init__(self, rows: Tensor, length: int, *, random_length: bool = False, only_whole: bool = False) -> None:
        self.rows = rows
        self.length = length
        self.random_length = random_length
        self.only_whole = only_whole
        self.cursor = 0

    def __next__(self) -> tuple[Tensor, Tensor, bool]:
        start, last_target = self.cursor, len(self.rows) - 1
        if self.only_whole and last_target - start < self.length:
            start = 0
        stop = min(start + self._next_length(), last_target)
        self.cursor = stop if stop < last_target else 0
        read = self.rows[start : stop + 1].long().contiguous()
        return read[:-1], read[1:], start == 0

    def _next_length(self) -> int:
        if not self.random_length:
            return self.length
        mean = self.length if float(torch.rand(())) < 0.95 else self.length / 2
        return max(min(5, self.length), int(torch.normal(torch.tensor(float(mean)), 5.0)))


def evaluation_batches(
    tokens: Tensor, batch_size: int, length: int, *, warm_up: int = 0
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches `(inputs, targets, mask)`, each [T, B], that count every token as a target exactly once.

    The stream is cut into B contiguous columns whose lengths differ by at most one. State starts at zero and is carried
    from batch to batch. Each column first reads the `warm_up` tokens before its own, as many as there are, so that its
    state knows them. The input of a token is the token before it in the stream, across columns too; that of the
    very first is the stream's last token, which in a split of a Corpus is `<eos>`. The mask (bool) is False where a
    column warms up, and where a shorter column is padded. T is `length` but for a shorter last batch; a text of fewer
    than `batch_size` tokens is read in one column a token.
    """
    num_columns = min(batch_size, len(tokens))
    shortest, num_longer = divmod(len(tokens), num_columns)
    column = torch.arange(num_columns, device=tokens.device)  # [B]
    first = column * shortest + column.clamp(max=num_longer)  # [B]
    end = first + shortest + (column < num_longer)  # [B]
    start = (first - warm_up).clamp(min=0)  # [B]
    num_steps = int((end - start).max())
    begins = range(0, num_steps, length)
    for begin in tqdm(begins, desc="evaluating", delay=BAR_AFTER, disable=None, leave=False):
        step = torch.arange(begin, min(begin + length, num_steps), device=tokens.device).unsqueeze(1)  # [T, 1]
        position = start + step  # [T, B]
        mask = (position >= first) & (position < end)  # [T, B]
        # A padded step goes on into the next column, whose tokens are as lifelike as any to batch statistics.
        targets = tokens[position.clamp(max=len(tokens) - 1)].long()
        yield tokens[position - 1].long(), targets, mask  # the first token's input is the last token
