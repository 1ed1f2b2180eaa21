"""Text as token streams: reading a corpus, and cutting it into batches for training and for evaluation.

Shapes: S steps in the whole split, T steps in a batch, B columns read side by side.
"""

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from io import TextIOWrapper
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from enas.data.builtin import IMAGE_MAKERS, MAKERS, SPLITS
from enas.data.dataset_folder import Kind
from enas.data.download import TEXTS as DOWNLOADS
from enas.data.identity import Identity, digest_of_tensors
from enas.errors import NotFoundError, UserError
from enas.files import opened
from enas.terminal import progress_bar

CIFAR = ("cifar", "cifar10", "cifar100")
OTHERS = {one: f"{one} holds images: add --network_type cnn" for one in (*IMAGE_MAKERS, *CIFAR)}
TEXTS = Kind("for text of your own, put train.txt, valid.txt and test.txt", "train.txt", DOWNLOADS, MAKERS, OTHERS)
EOS, UNKNOWN = "<eos>", "<unk>"
LINE_PIECE = LONGEST_WORD = 2**20  # letters: of a line that are read at once, and of a word
NO_UTF_8 = re.compile("[\udc80-\udcff]")  # bytes as Python's "surrogateescape" shows them
PIECE = 2**16  # tokens that are renumbered at once
BAR_AFTER = 5  # seconds of reading, or of an evaluation


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text dataset, its words replaced by their indices in the vocabulary."""

    name: str
    vocabulary: tuple[str, ...]  # the most frequent word of the training split first, ties by first appearance
    train: Tensor  # int32 [tokens], as the other splits: each line's words followed by `<eos>`
    valid: Tensor
    test: Tensor
    notes: tuple[str, ...] = ()  # remarks for the log

    @property
    def identity(self) -> Identity:
        """The digests that another reading of the text must have in common with this one."""
        splits = {split: digest_of_tensors(getattr(self, split)) for split in SPLITS}
        return Identity("vocabulary", self.vocabulary, splits)


def load_corpus(name: str, *, data_dir: str | Path, vocab_min_count: int = 2, text_unit: str = "word") -> Corpus:
    """Read `data_dir/name/{train,valid,test}.txt`; a built-in corpus is made there on first use.

    White space separates words, and every line, a blank one too, ends in one `<eos>`. With `text_unit` "character"
    every character of a line, blanks included, is a word. Words that the training split lacks become `<unk>`. If it has
    no `<unk>` of its own, its words seen fewer than `vocab_min_count` times become `<unk>` too, so that a model can
    learn it. UserError if `name` or a file is missing or unusable.
    """
    folder = TEXTS.find(name, data_dir)
    files = {split: folder / f"{split}.txt" for split in SPLITS}
    for path in files.values():
        if not path.exists():
            images = "; for folders of images give --config small_cnn" if path.with_suffix("").is_dir() else ""
            raise NotFoundError(f"{path}: no such file{images or TEXTS.how_to_get(name, folder.parent)}")
    numbers: defaultdict[str, int] = defaultdict()  # in the order of first appearance
    numbers.default_factory = numbers.__len__
    texts, counts, brings_eos = {}, {}, False
    for split, path in files.items():
        texts[split], counts[split], has_own = _read(path, text_unit, numbers)
        brings_eos |= has_own
    kept: Counter[str] = Counter()
    for word, count in counts["train"].items():  # a text with an <unk> of its own has its vocabulary already
        is_kept = count >= vocab_min_count or word == EOS or UNKNOWN in counts["train"]
        kept[word if is_kept else UNKNOWN] += count
    vocabulary = tuple(word for word, _ in kept.most_common())  # ties in the order of first appearance
    if not set(vocabulary) - {EOS, UNKNOWN}:
        advice = "a text without blanks needs --text_unit character, a short one --vocab_min_count 1"
        raise UserError(f"{files['train']}: every word is rarer than vocab_min_count {vocab_min_count}; {advice}")
    notes = [f"{name}: lines that end in an {EOS} of their own get no second one"] if brings_eos else []
    known = set(vocabulary)
    unknown = {split: sum(found[word] for word in found.keys() - known) for split, found in counts.items()}
    if any(unknown.values()):
        rows = [(num, len(texts[split]), split) for split, num in unknown.items()]
        shares = [f"{num:,} of {total:,} {split} tokens ({num / total:.1%})" for num, total, split in rows]
        notes.append(f"{name}: words outside the vocabulary became {UNKNOWN}: {', '.join(shares)}")
        vocabulary = vocabulary if UNKNOWN in known else (*vocabulary, UNKNOWN)
    index = {word: i for i, word in enumerate(vocabulary)}
    table = torch.tensor([index.get(word, index.get(UNKNOWN, -1)) for word in numbers], dtype=torch.int32)
    for tokens in texts.values():
        for piece in tokens.split(PIECE):
            piece.copy_(table.index_select(0, piece))
    return Corpus(name, vocabulary, **texts, notes=tuple(notes))


def _read(path: Path, unit: str, numbers: defaultdict[str, int]) -> tuple[Tensor, Counter[str], bool]:
    """Read a split: its tokens' numbers, int32 [tokens], each token's count, and whether a line brings its `<eos>`."""
    found, last, brings_eos = array("i"), "", False  # `last` is the last token of the line so far
    for text, ends_line in _pieces(path, unit):
        tokens = text.split() if unit == "word" else list(text.rstrip("\r\n"))
        last = tokens[-1] if tokens else last
        if ends_line:
            has_own = unit == "word" and last == EOS
            brings_eos |= has_own
            tokens += [] if has_own else [EOS]
            last = ""
        found.fromlist([numbers[token] for token in tokens])
    numbered = torch.from_numpy(np.asarray(found))
    occurrences = torch.bincount(numbered, minlength=len(numbers)).tolist()
    counts = Counter({word: num for word, num in zip(numbers, occurrences, strict=True) if num})
    if not counts.keys() - {EOS}:
        raise UserError(f"{path}: has no words; it must be a text of at least one word")
    return numbered, counts, brings_eos


def _pieces(path: Path, unit: str) -> Iterator[tuple[str, bool]]:
    """Yield the lines of a file, long ones in pieces of whole units, each with whether the line ends there."""
    number, kept, ends_line = 1, "", True  # of the line: its number, and its word that a piece cuts
    name, size = f"{path.parent.name}: reading {path.stem}", path.stat().st_size
    with (
        opened(path) as file,
        TextIOWrapper(file, "utf-8", "surrogateescape", newline="\n") as lines,
        progress_bar(None, name, size, unit="B", unit_scale=True, delay=BAR_AFTER) as bar,
    ):
        while read := lines.readline(LINE_PIECE):
            bar.update(file.tell() - bar.n)
            # Some editors put a byte order mark in front of a text's first word, which may be in the middle of a file.
            piece = (kept + read).removeprefix("\ufeff")
            ends_line, place = read.endswith("\n"), f"{path}, line {number}"
            if "\0" in read:
                raise UserError(f"{place}: holds NUL characters, as UTF-16 read as UTF-8 does; save the file as UTF-8")
            if odd := NO_UTF_8.search(read):
                raise UserError(f"{place}: byte 0x{ord(odd[0]) - 0xDC00:02x} is not UTF-8; save the file as UTF-8")
            if "\r" in piece.rstrip("\r\n"):
                raise UserError(f"{place}: has a carriage return inside; save the file with line feeds alone")
            end = len(piece.rstrip("\r")) if ends_line or unit == "character" else max(map(piece.rfind, " \t")) + 1
            if not end and len(piece) >= LONGEST_WORD:
                right = "a text without blanks needs --text_unit character"
                raise UserError(f"{place}: has a word of more than {LONGEST_WORD:,} letters; {right}")
            yield piece[:end], ends_line
            kept = piece[end:]
            number += ends_line
    if not ends_line:
        yield kept, True


def to_rows(tokens: Tensor, batch_size: int, *, name: str = "the text") -> Tensor:
    """Lay [tokens] out as [S, B], column b the b-th contiguous piece, without the remainder; UserError if S < 2."""
    num_steps = len(tokens) // batch_size
    if num_steps < 2:
        rule = f"which takes at least {2 * batch_size:,}; use more text or a smaller batch size"
        raise UserError(f"{name}: {len(tokens):,} tokens are too few for batch size {batch_size}, {rule}")
    return tokens[: num_steps * batch_size].view(batch_size, num_steps).t()  # [S, B], a view


@dataclass(eq=False)
class TrainingBatches(Iterator[tuple[Tensor, Tensor, bool]]):
    """Endless minibatches for truncated back-propagation, reading the rows from top to bottom, again and again.

    Each item is `(inputs, targets, is_start)`: two int64 tensors [T, B], the targets one step ahead of the inputs, and
    whether this batch begins the text, so that the state must be zero. T is `length`, except that the last batch of a
    pass takes the rows that are left; so every row but the first is a target once a pass.
    """

    rows: Tensor  # [S, B] with S ≥ 2, from `to_rows`
    length: int
    _: KW_ONLY
    random_length: bool = False  # draw T around `length` (Merity et al. 2017, 4.1): words change places in each pass
    # Skip a shorter end of a pass, unless it is the whole text: a few steps from the zero state score differently.
    only_whole: bool = False
    cursor: int = 0  # the row at which the next batch's inputs begin; the only state to save

    def __next__(self) -> tuple[Tensor, Tensor, bool]:
        start, last_target = self.cursor, len(self.rows) - 1
        if self.only_whole and last_target - start < self.length:
            start = 0
        length = self.length
        if self.random_length:
            mean = length if float(torch.rand(())) < 0.95 else length / 2
            length = max(min(5, length), int(torch.normal(torch.tensor(float(mean)), 5.0)))
        stop = min(start + length, last_target)
        self.cursor = stop if stop < last_target else 0
        read = self.rows[start : stop + 1].long().contiguous()
        return read[:-1], read[1:], start == 0


def evaluation_batches(
    tokens: Tensor, batch_size: int, length: int, *, warm_up: int = 0
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield `(inputs, targets, mask)`, each [T, B], that count every token as a target exactly once.

    The text is cut into B contiguous columns whose lengths differ by at most one, or a column a token if it is shorter.
    The state starts at zero and is carried from batch to batch. Each column first reads the `warm_up` tokens before its
    own, or as many as there are, for its state. The input of a token is the token before it in the text; the input of
    the first is the last token, which in a split of a Corpus is `<eos>`. The mask (bool) is False while a column warms
    up and where a shorter column is padded. T is `length`, or less in the last batch.
    """
    num_columns = min(batch_size, len(tokens))
    shortest, num_longer = divmod(len(tokens), num_columns)
    column = torch.arange(num_columns, device=tokens.device)  # [B]
    first = column * shortest + column.clamp(max=num_longer)  # [B]
    end = first + shortest + (column < num_longer)  # [B]
    start = (first - warm_up).clamp(min=0)  # [B]
    num_steps = int((end - start).max())
    for begin in progress_bar(range(0, num_steps, length), "evaluating", delay=BAR_AFTER):
        step = torch.arange(begin, min(begin + length, num_steps), device=tokens.device).unsqueeze(1)  # [T, 1]
        position = start + step  # [T, B]
        mask = (position >= first) & (position < end)  # [T, B]
        # A padded step reads the next column, whose tokens suit batch statistics as well as any.
        targets = tokens[position.clamp(max=len(tokens) - 1)].long()
        yield tokens[position - 1].long(), targets, mask  # the first token's input is the last token
