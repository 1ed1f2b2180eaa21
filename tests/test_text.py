"""Corpora from files, and the two ways of cutting them into batches."""

import io
import statistics
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from enas.data.builtin import SPLITS
from enas.errors import UserError
from enas.rnn.text import TrainingBatches, evaluation_batches, load_corpus, to_rows

PTB = Path(__file__).parent.parent / "data" / "ptb"


def write_corpus(data_dir, name="own", *, train="a b a\nc a\n", valid="a b\n", test="b a\n"):
    folder = data_dir / name
    folder.mkdir(parents=True)
    for split, content in {"train": train, "valid": valid, "test": test}.items():
        (folder / f"{split}.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def words(corpus, split):
    return [corpus.vocabulary[token] for token in getattr(corpus, split)]


BY_CHARACTER = {"text_unit": "character"}
TEXTS = {  # train, valid and test.txt, how they are read, and what the first two become (blanks as _)
    "lines end in <eos>": ("a  b\n\n\tb a \r\na b", "a\n", "b\n", {}, "a b <eos> <eos> b a <eos> a b <eos>", "a <eos>"),
    "an <eos> of its own is not doubled": (
        "a b <eos>\nb a <eos> \n<eos>\n", "a <eos> b\n", "b\n", {},
        "a b <eos> b a <eos> <eos>", "a <eos> b <eos>",
    ),
    "\\r before \\n": ("a b\r\nb a\r\r\nb\r", "a\n", "b\n", {}, "a b <eos> b a <eos> b <eos>", "a <eos>"),
    "characters": (
        "ab a\r\n\n日本 日本\n", "b日\n", "ba\n", {**BY_CHARACTER, "vocab_min_count": 1},
        "a b _ a <eos> <eos> 日 本 _ 日 本 <eos>", "b 日 <eos>",
    ),
    "rare characters": ("aab\n", "ab\n", "c\n", BY_CHARACTER, "a a <unk> <eos>", "a <unk> <eos>"),
    "rare words": (
        "a a rare\nb b scarce\n", "a rare new\n", "a b b\n", {},
        "a a <unk> <eos> b b <unk> <eos>", "a <unk> <unk> <eos>",
    ),
    "all words": ("a a b c\n", "a\n", "a\n", {"vocab_min_count": 1}, "a a b c <eos>", "a <eos>"),
    "frequent words": ("a a a b b\n", "a\n", "a\n", {"vocab_min_count": 3}, "a a a <unk> <unk> <eos>", "a <eos>"),
    "a word that training lacks": ("a a b b\n", "a new\n", "b\n", {}, "a a b b <eos>", "a <unk> <eos>"),
    "rare words beside an <unk>": (
        "a a rare <unk>\n", "rare <unk>\n", "a\n", {}, "a a rare <unk> <eos>", "rare <unk> <eos>",
    ),
    "a byte order mark": ("\ufeffa a\n", "a\n", "a\n", {}, "a a <eos>", "a <eos>"),
    "texts of a byte order mark each": ("\ufeffa a\n\ufeffa\n", "a\n", "a\n", {}, "a a <eos> a <eos>", "a <eos>"),
}  # fmt: skip


@pytest.mark.parametrize(("train", "valid", "test", "settings", "first", "second"), TEXTS.values(), ids=TEXTS)
def test_a_text_becomes_these_tokens(tmp_path, monkeypatch, train, valid, test, settings, first, second):
    """Texts are read and renumbered in pieces, which change nothing: here the pieces are tiny."""
    monkeypatch.setattr("enas.rnn.text.PIECE", 2)
    monkeypatch.setattr("enas.rnn.text.LINE_PIECE", 3)
    write_corpus(tmp_path, train=train, valid=valid, test=test)
    corpus = load_corpus("own", data_dir=tmp_path, **settings)
    assert [words(corpus, split) for split in ("train", "valid")] == [
        [token.replace("_", " ") for token in expected.split()] for expected in (first, second)
    ]
    assert set(corpus.vocabulary) == {*words(corpus, "train"), *words(corpus, "valid"), *words(corpus, "test")}
    assert corpus.train.dtype == torch.int32
    replaced = {split: 0 if "<unk>" in train else words(corpus, split).count("<unk>") for split in SPLITS}
    shares = [f"{number} of {len(getattr(corpus, split))} {split} tokens" for split, number in replaced.items()]
    assert not any(replaced.values()) or all(share in corpus.notes[-1] for share in shares)
    assert len(corpus.notes) == ("<eos>" in train) + any(replaced.values())


def test_notes_tell_of_own_eos_and_of_words_outside_the_vocabulary(tmp_path):
    write_corpus(tmp_path, train="a a b b <eos>\n", valid="a new\n")
    shares = "0 of 5 train tokens (0.0%), 1 of 3 valid tokens (33.3%), 0 of 3 test tokens (0.0%)"
    assert load_corpus("own", data_dir=tmp_path).notes == (
        "own: lines that end in an <eos> of their own get no second one",
        f"own: words outside the vocabulary became <unk>: {shares}",
    )


def test_vocabulary_goes_by_count_then_by_first_appearance(tmp_path):
    write_corpus(tmp_path, train="z y z x y z\nw w x\n", valid="v x\n", test="x\n")
    assert load_corpus("own", data_dir=tmp_path).vocabulary == ("z", "y", "x", "<eos>", "w", "<unk>")


@pytest.mark.parametrize("place", range(3, 12))
def test_a_carriage_return_is_found_wherever_a_long_line_is_cut(tmp_path, monkeypatch, place):
    monkeypatch.setattr("enas.rnn.text.LINE_PIECE", 4)
    line = list("a b a b a b a b")
    line[place] = "\r"
    write_corpus(tmp_path, train=("".join(line) + " \r\nb\n").encode())
    with pytest.raises(UserError, match=r"train\.txt, line 1: has a carriage return inside"):
        load_corpus("own", data_dir=tmp_path)


@pytest.mark.skipif(not PTB.is_dir(), reason="data/ptb is absent: python -m enas download ptb")
def test_penn_treebank_has_its_published_size():
    corpus = load_corpus("ptb", data_dir=PTB.parent)
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (929_589, 73_760, 82_430)
    assert len(corpus.vocabulary) == 10_000
    assert corpus.notes == ()


RETURN = "has a carriage return inside; save the file with line feeds alone"
CONTENTS = [  # a split, what its file holds, what is said of it
    ("train", "a b\nb a\n".encode("utf-16-le"), ", line 1: holds NUL characters, as UTF-16 read as UTF-8 does"),
    ("train", b"a b\rb a\ra\r", f", line 1: {RETURN}"),
    ("train", b"a b\nb a\n" * 9 + b"a\rb\r\n", f", line 19: {RETURN}"),
    (
        "train",
        b"ab" * 2**20,
        ", line 1: has a word of more than 1,048,576 letters; a text without blanks needs --te",
    ),
    ("train", b"a b\n" + b"ab" * 2**20 + b"\0" * 9, ", line 2: has a word of more than"),
    ("train", b"\0" * 2**21, ", line 1: holds NUL characters"),
    ("train", "日本語\n学校\n".encode(), ": every word is rarer than vocab_min_count 2; a text without blanks needs"),
    ("test", "a\nna\xefve\n".encode("latin-1"), ", line 2: byte 0xef is not UTF-8"),
    ("valid", b"", ": has no words"),
    ("train", b"\n \n", ": has no words"),
    *((split, None, ": no such file; for text of your own, put train.txt, valid.txt and test.t") for split in SPLITS),
    ("valid", "a folder", ": is no regular file"),
]
NAMES = [  # a dataset that is not there -> the end of what is said
    ("ptb", "get it with: python -m enas download ptb --data_dir {}"),
    ("wikitext", "get it with: python -m enas download wikitext --data_dir {}"),
    ("pbt", "did you mean ptb? (for text of your own, put train.txt, valid.txt and test.txt into {}/pbt)"),
    ("owm", "did you mean own? (for text of your own, put train.txt, valid.txt and test.txt into {}/owm)"),
    ("novel", "no such dataset; for text of your own, put train.txt, valid.txt and test.txt into {}/novel"),
    ("pydoc", "train.txt: no such file; remove the folder {}/pydoc; the next run makes it again"),
    ("shapes", "shapes holds images: add --network_type cnn"),
    ("file", "no such dataset, but a file; for text of your own, put train.txt, valid.txt and test.txt into {}/file"),
    *((name, f"dataset name {name!r} is not a plain name; give the name of a folder in {{}}") for name in (
        "", ".", "..", "../own", "a/b", "/own", "own/", "a\\b", "a\nb", "a\0b",
    )),
]  # fmt: skip


def refused(folder, name="own"):
    """The one line that refuses a text."""
    with pytest.raises(UserError) as caught:
        load_corpus(name, data_dir=folder)
    assert isinstance(caught.value, FileNotFoundError) == ("no such" in str(caught.value))
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_folder_of_images_is_no_text(tmp_path):
    (tmp_path / "own" / "train" / "cats").mkdir(parents=True)
    assert refused(tmp_path).endswith("own/train.txt: no such file; for folders of images give --config small_cnn")


@pytest.mark.parametrize(("split", "content", "says"), CONTENTS)
def test_texts_that_would_be_misread_are_refused(tmp_path, split, content, says):
    path = write_corpus(tmp_path) / f"{split}.txt"
    path.unlink()
    if content == "a folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    assert refused(tmp_path).startswith(f"{path}{says.format(tmp_path)}")


@pytest.mark.parametrize("space", [" ", "\t"])
def test_a_long_line_is_cut_at_white_space(tmp_path, monkeypatch, space):
    folder = write_corpus(tmp_path)
    (folder / "train.txt").write_text(space.join(["word", "and"] * 20) + "\n")
    expected = load_corpus("own", data_dir=tmp_path).train
    monkeypatch.setattr("enas.rnn.text.LINE_PIECE", 8)
    monkeypatch.setattr("enas.rnn.text.LONGEST_WORD", 12)
    assert torch.equal(load_corpus("own", data_dir=tmp_path).train, expected)


@pytest.mark.parametrize("size", [3, 4, 5, 7])
def test_a_line_without_end_is_read_in_pieces_of_whole_characters(tmp_path, monkeypatch, size):
    text = "日本é a\U0001f600" * 9
    folder = write_corpus(tmp_path)
    (folder / "train.txt").write_bytes(f"{text}\r\nb\r\n".encode())
    expected = load_corpus("own", data_dir=tmp_path, text_unit="character").train
    monkeypatch.setattr("enas.rnn.text.LINE_PIECE", size)
    assert torch.equal(load_corpus("own", data_dir=tmp_path, text_unit="character").train, expected)
    assert len(expected) == len(text) + 3
    (folder / "train.txt").write_bytes(f"{text}\rb\n".encode())
    with pytest.raises(UserError, match="line 1: has a carriage return inside"):
        load_corpus("own", data_dir=tmp_path, text_unit="character")


@pytest.mark.parametrize(("name", "says"), NAMES)
def test_texts_that_are_not_there_are_refused(tmp_path, name, says):
    write_corpus(tmp_path)
    (tmp_path / "pydoc").mkdir()
    (tmp_path / "file").touch()
    assert refused(tmp_path, name).endswith(says.format(tmp_path))
    assert refused("data", "wikitext").endswith("python -m enas download wikitext")  # the usual folder needs no flag


@pytest.mark.parametrize(("num_rows", "length"), [(12, 4), (13, 4), (9, 4), (3, 4), (5, 4)])
def test_only_whole_batches_are_read_if_the_text_has_one(num_rows, length):
    """The rest of a pass is passed over, and the text begins again."""
    rows = torch.arange(num_rows * 2).view(2, num_rows).t().contiguous()
    batches = TrainingBatches(rows, length, only_whole=True)
    seen = [next(batches) for _ in range(7)]
    whole = (num_rows - 1) // length
    assert {len(targets) for _, targets, _ in seen} == {min(length, num_rows - 1)}
    assert [start for _, _, start in seen] == [place % max(1, whole) == 0 for place in range(7)]
    assert all(torch.equal(inputs[1:], targets[:-1]) for inputs, targets, _ in seen)


def test_rows_are_contiguous_columns_without_the_remainder():
    assert to_rows(torch.arange(11), 3).tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]


@pytest.mark.parametrize("num", [0, 5, 7])
def test_a_text_too_short_for_its_batch_size_is_refused(num):
    with pytest.raises(UserError, match=rf"valid\.txt: {num} tokens are too few for batch size 4"):
        to_rows(torch.arange(num), 4, name="valid.txt")


@given(st.integers(2, 40), st.integers(1, 4), st.integers(1, 45), st.booleans())
def test_a_pass_has_each_row_but_the_first_as_target_once(num_steps, batch_size, length, random_length):
    torch.manual_seed(0)
    rows = to_rows(torch.arange(num_steps * batch_size), batch_size)
    batches = TrainingBatches(rows, length, random_length=random_length)
    for _ in range(2):
        one_pass = [next(batches)]
        while batches.cursor:
            one_pass.append(next(batches))
        inputs, targets, is_start = zip(*one_pass, strict=True)
        assert is_start == (True, *[False] * (len(one_pass) - 1))
        assert torch.equal(torch.cat(inputs), rows[:-1]) and torch.equal(torch.cat(targets), rows[1:])
        assert all(len(each) >= min(5, length) if random_length else len(each) == length for each in inputs[:-1])


@given(st.integers(1, 80), st.integers(1, 90), st.integers(1, 50), st.integers(0, 90))
def test_columns_run_on_from_batch_to_batch_after_the_tokens_before_them(num_tokens, batch_size, length, warm_up):
    """Each token counts once, as the target after the token before it."""
    batches = list(evaluation_batches(torch.arange(num_tokens), batch_size, length, warm_up=warm_up))
    for inputs, targets, mask in batches:
        assert inputs.shape == targets.shape == mask.shape
        assert 1 <= len(inputs) <= length and inputs.shape[1] == min(batch_size, num_tokens)
        assert torch.equal(inputs[mask], (targets[mask] - 1) % num_tokens)
        assert inputs.max() < num_tokens and targets.max() < num_tokens
    targets, mask = torch.cat([batch[1] for batch in batches]), torch.cat([batch[2] for batch in batches])
    columns = []
    for column, column_mask in zip(targets.t().tolist(), mask.t().tolist(), strict=True):
        first, num_own = column_mask.index(True), sum(column_mask)
        assert all(column_mask[first : first + num_own]), "a column's own tokens follow one another"
        assert first == min(warm_up, column[first]), "as many tokens as there are before the column"
        assert column[: first + num_own] == list(range(column[0], column[0] + first + num_own))
        columns.append(column[first : first + num_own])
    assert [token for column in columns for token in column] == list(range(num_tokens))
    assert max(map(len, columns)) - min(map(len, columns)) <= 1


def test_a_long_evaluation_shows_a_bar_on_a_terminal(monkeypatch):
    monkeypatch.setattr("enas.rnn.text.BAR_AFTER", 0)
    for is_terminal in (False, True):
        terminal = io.StringIO()
        terminal.isatty = lambda answer=is_terminal: answer
        monkeypatch.setattr("sys.stderr", terminal)
        list(evaluation_batches(torch.arange(50), 2, 5))
        assert ("evaluating" in terminal.getvalue()) == is_terminal


def test_random_lengths_are_those_of_the_paper():
    """Merity et al. 2017, section 4.1: normal around the length, one time in twenty around half of it."""
    torch.manual_seed(0)
    batches = TrainingBatches(torch.zeros(400_000, 1, dtype=torch.int64), 70, random_length=True)
    lengths = [len(next(batches)[0]) for _ in range(4000)]
    long = [length for length in lengths if length > 52]
    short = [length for length in lengths if length <= 52]
    assert abs(len(short) / len(lengths) - 0.05) < 0.015
    # int() rounds down, half a token on average.
    assert statistics.mean(long) == pytest.approx(69.5, abs=0.4) and statistics.stdev(long) == pytest.approx(5, abs=0.4)
    assert statistics.mean(short) == pytest.approx(34.5, abs=1.5)
