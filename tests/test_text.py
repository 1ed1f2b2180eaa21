"""Corpora from files, and the two ways of cutting them into batches."""

import math
import re
import statistics
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from enas.data import builtin
from enas.data.text import TrainingBatches, evaluation_batches, load_corpus, to_rows
from enas.errors import UserError

PTB = Path(__file__).parent.parent / "data" / "ptb"


def write_corpus(data_dir, name="own", *, train="a b a\nc a\n", valid="a b\n", test="b a\n"):
    folder = data_dir / name
    folder.mkdir(parents=True)
    for split, content in {"train": train, "valid": valid, "test": test}.items():
        (folder / f"{split}.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def words(corpus, split):
    return [corpus.vocabulary[token] for token in getattr(corpus, split)]


# --- load_corpus ------------------------------------------------------------------------------------------------------


def test_every_line_is_its_words_and_eos(tmp_path):
    write_corpus(tmp_path, train="a  b\n\n\tb a \r\na b", valid="a\n", test="b\n")
    corpus = load_corpus("own", data_dir=tmp_path)
    assert words(corpus, "train") == ["a", "b", "<eos>", "<eos>", "b", "a", "<eos>", "a", "b", "<eos>"]
    assert words(corpus, "valid") == ["a", "<eos>"]
    assert corpus.train.dtype == torch.int32
    assert corpus.vocabulary[corpus.eos] == "<eos>"


def test_an_eos_of_the_texts_own_is_not_doubled_and_said(tmp_path):
    write_corpus(tmp_path, train="a b <eos>\nb a <eos> \n<eos>\n", valid="a <eos> b\n", test="b\n")
    corpus = load_corpus("own", data_dir=tmp_path)
    assert words(corpus, "train") == ["a", "b", "<eos>", "b", "a", "<eos>", "<eos>"]
    assert words(corpus, "valid") == ["a", "<eos>", "b", "<eos>"]
    assert corpus.notes == ("own: lines that end in an <eos> of their own get no second one",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            "a b\nb a\n".encode("utf-16-le"),
            "line 1: holds NUL characters, as UTF-16 read as UTF-8 does; save the file as",
        ),
        (b"a b\rb a\ra\r", "line 1: has a carriage return inside; save the file with line feeds alone"),
        (b"a b\rb a\ra\n", "line 1: has a carriage return inside; save the file with line feeds alone"),
        (b"\na b\rb a\ra", "line 2: has a carriage return inside; save the file with line feeds alone"),
        (b"a b\nb a\n" * 9 + b"a\rb\r\n", "line 19: has a carriage return inside; save the file with line feeds alone"),
        (
            b"\r".join([b"a b"] * 300) + b"\n",
            "line 1: has a carriage return inside; save the file with line feeds alone",
        ),
        (
            "日本語\n学校\n".encode(),
            "every word is rarer than vocab_min_count 2; a text without blanks needs --text_unit",
        ),
    ],
)
def test_texts_that_would_be_misread(tmp_path, content, reason):
    write_corpus(tmp_path, train=content)
    with pytest.raises(UserError, match=re.escape(reason)) as error:
        load_corpus("own", data_dir=tmp_path)
    assert "train.txt" in str(error.value)


@pytest.mark.parametrize("place", range(3, 12))
def test_a_carriage_return_is_found_wherever_a_long_line_is_cut(tmp_path, monkeypatch, place):
    monkeypatch.setattr("enas.data.words.PIECE", 4)
    line = list("a b a b a b a b")
    line[place] = "\r"
    write_corpus(tmp_path, train=("".join(line) + " \r\nb\n").encode())
    with pytest.raises(UserError, match=r"train\.txt, line 1: has a carriage return inside"):
        load_corpus("own", data_dir=tmp_path)


def test_carriage_returns_before_a_line_feed_are_a_part_of_it(tmp_path):
    write_corpus(tmp_path, train=b"a b\r\nb a\r\r\nb\r")
    assert words(load_corpus("own", data_dir=tmp_path), "train") == ["a", "b", "<eos>", "b", "a", "<eos>", "b", "<eos>"]


def test_every_line_is_its_characters_and_eos(tmp_path):
    write_corpus(tmp_path, train="ab a\r\n\n日本 日本\n", valid="ba\n", test="b日\n")
    corpus = load_corpus("own", data_dir=tmp_path, text_unit="character", vocab_min_count=1)
    expected = ["a", "b", " ", "a", "<eos>", "<eos>", "日", "本", " ", "日", "本", "<eos>"]
    assert words(corpus, "train") == expected
    assert words(corpus, "test") == ["b", "日", "<eos>"]
    assert corpus.notes == ()


def test_rare_characters_become_unknown(tmp_path):
    write_corpus(tmp_path, train="aab\n", valid="ab\n", test="c\n")
    corpus = load_corpus("own", data_dir=tmp_path, text_unit="character")
    assert words(corpus, "train") == ["a", "a", "<unk>", "<eos>"]
    assert corpus.unknown == {"train": 1, "valid": 1, "test": 1}


def test_vocabulary_goes_by_count_then_by_first_appearance(tmp_path):
    write_corpus(tmp_path, train="z y z x y z\nw w x\n", valid="x\n", test="x\n")
    assert load_corpus("own", data_dir=tmp_path).vocabulary == ("z", "y", "x", "<eos>", "w")


def test_rare_words_become_unknown_and_are_reported(tmp_path):
    write_corpus(tmp_path, train="a a rare\nb b scarce\n", valid="a rare new\n", test="a b b\n")
    corpus = load_corpus("own", data_dir=tmp_path)
    assert words(corpus, "train") == ["a", "a", "<unk>", "<eos>", "b", "b", "<unk>", "<eos>"]
    assert words(corpus, "valid") == ["a", "<unk>", "<unk>", "<eos>"]
    assert corpus.unknown == {"train": 2, "valid": 2, "test": 0}
    (report,) = corpus.notes
    assert "2 of 4 valid tokens (50.0%)" in report and "0 of 4 test tokens (0.0%)" in report
    assert len(report.splitlines()) == 1


def test_min_count_sets_which_words_are_rare(tmp_path):
    write_corpus(tmp_path, train="a a a b b c\n", valid="a\n", test="a\n")
    assert set(load_corpus("own", data_dir=tmp_path, vocab_min_count=1).vocabulary) == {"a", "b", "c", "<eos>"}
    assert set(load_corpus("own", data_dir=tmp_path, vocab_min_count=3).vocabulary) == {"a", "<unk>", "<eos>"}


def test_new_word_is_unknown_even_where_training_replaced_none(tmp_path):
    write_corpus(tmp_path, train="a a b b\n", valid="a new\n", test="b\n")
    corpus = load_corpus("own", data_dir=tmp_path)
    assert words(corpus, "valid") == ["a", "<unk>", "<eos>"]
    assert corpus.vocabulary[-1] == "<unk>"


def test_text_with_its_own_unknown_keeps_its_rare_words(tmp_path):
    write_corpus(tmp_path, train="a a rare <unk>\n", valid="rare <unk>\n", test="a\n")
    corpus = load_corpus("own", data_dir=tmp_path)
    assert words(corpus, "train") == ["a", "a", "rare", "<unk>", "<eos>"]
    assert corpus.notes == ()


def test_byte_order_mark_is_no_part_of_the_first_word(tmp_path):
    write_corpus(tmp_path, train="\ufeffa a\n".encode(), valid="a\n", test="a\n")
    assert load_corpus("own", data_dir=tmp_path).vocabulary == ("a", "<eos>")


@pytest.mark.skipif(not PTB.is_dir(), reason="data/ptb is absent: python -m enas.data.download ptb")
def test_penn_treebank_has_its_published_size():
    corpus = load_corpus("ptb", data_dir=PTB.parent)
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (929_589, 73_760, 82_430)
    assert len(corpus.vocabulary) == 10_000
    assert corpus.notes == ()


def test_built_in_corpus_is_made_on_first_use_and_then_read(tmp_path, monkeypatch):
    calls = []

    def make_tiny(folder):
        calls.append(folder)
        write_corpus(folder.parent, folder.name)

    monkeypatch.setitem(builtin.MAKERS, "markov", make_tiny)
    first, second = (load_corpus("markov", data_dir=tmp_path / "data") for _ in range(2))
    assert calls == [tmp_path / "data" / "markov"]
    assert torch.equal(first.train, second.train)


# --- load_corpus, given bad input -------------------------------------------------------------------------------------


def refused(error, name="own", **settings):
    with pytest.raises(error) as caught:
        load_corpus(name, **settings)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize("name", ["ptb", "wikitext"])
def test_missing_download_names_the_command(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(FileNotFoundError, name).endswith(f"get it with: python -m enas.data.download {name}")
    elsewhere = refused(FileNotFoundError, name, data_dir=tmp_path / "other")
    assert elsewhere.endswith(f"{name} --data_dir {tmp_path / 'other'}")


def test_missing_own_text_says_which_files_to_put_where(tmp_path):
    message = refused(FileNotFoundError, data_dir=tmp_path)
    assert f"put train.txt, valid.txt and test.txt into {tmp_path / 'own'}" in message


@pytest.mark.parametrize("typo, meant", [("pbt", "ptb"), ("pydocs", "pydoc"), ("novel", "novels")])
def test_missing_folder_names_the_nearest_known_one(typo, meant, tmp_path):
    write_corpus(tmp_path, "novels")
    assert f"did you mean {meant}?" in refused(FileNotFoundError, typo, data_dir=tmp_path)


@pytest.mark.parametrize("name", ["", ".", "..", "../own", "a/b", "/own", "own/", "a\\b", "a\nb", "a\0b"])
def test_name_must_be_plain(name, tmp_path):
    assert "is not a plain name" in refused(ValueError, name, data_dir=tmp_path)


@pytest.mark.parametrize(("num_rows", "length"), [(12, 4), (13, 4), (9, 4), (3, 4), (5, 4)])
def test_only_whole_batches(num_rows, length):
    """Where the text has one at all: what is left of a pass is passed over, and the text begins again."""
    rows = torch.arange(num_rows * 2).view(2, num_rows).t().contiguous()
    batches = TrainingBatches(rows, length, only_whole=True)
    seen = [next(batches) for _ in range(7)]
    whole = (num_rows - 1) // length
    assert {len(targets) for _, targets, _ in seen} == {min(length, num_rows - 1)}
    assert [start for _, _, start in seen] == [place % max(1, whole) == 0 for place in range(7)]
    assert all(torch.equal(inputs[1:], targets[:-1]) for inputs, targets, _ in seen)


def test_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "own").write_text("a b\n")
    assert f"{tmp_path / 'own'}: is a file" in refused(ValueError, data_dir=tmp_path)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_missing_split(split, tmp_path):
    path = write_corpus(tmp_path) / f"{split}.txt"
    path.unlink()
    assert refused(FileNotFoundError, data_dir=tmp_path).startswith(f"{path}: no such file; ")


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_split_without_words(content, tmp_path):
    folder = write_corpus(tmp_path, valid=content)
    assert refused(ValueError, data_dir=tmp_path).startswith(f"{folder / 'valid.txt'}: has no words")


def test_bytes_that_are_not_utf8_are_located(tmp_path):
    folder = write_corpus(tmp_path, test="a\nna\xefve\n".encode("latin-1"))
    message = refused(ValueError, data_dir=tmp_path)
    assert message.startswith(f"{folder / 'test.txt'}, line 2: byte 0xef is not UTF-8")


def test_file_that_cannot_be_read(tmp_path):
    path = write_corpus(tmp_path) / "valid.txt"
    path.unlink()
    path.mkdir()
    assert refused(ValueError, data_dir=tmp_path).startswith(f"{path}: cannot be read (")


def test_min_count_below_one_is_refused(tmp_path):
    write_corpus(tmp_path)
    assert "at least 1" in refused(ValueError, data_dir=tmp_path, vocab_min_count=0)


# --- training batches -------------------------------------------------------------------------------------------------


def test_rows_are_contiguous_columns_without_the_remainder():
    assert to_rows(torch.arange(11), 3).tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]


@pytest.mark.parametrize("num_tokens", [0, 5, 7])
def test_text_shorter_than_one_batch_is_refused(num_tokens):
    with pytest.raises(ValueError, match=r"valid\.txt: .* takes at least 8"):
        to_rows(torch.arange(num_tokens), 4, name="valid.txt")
    assert to_rows(torch.arange(8), 4).shape == (2, 4)


def test_sizes_below_one_are_refused():
    tokens = torch.arange(8)
    for call in (
        lambda: to_rows(tokens, 0),
        lambda: TrainingBatches(to_rows(tokens, 2), 0),
        lambda: evaluation_batches(tokens, 0, 2),
        lambda: evaluation_batches(tokens, 2, 0),
        lambda: evaluation_batches(tokens[:0], 2, 2),
        lambda: TrainingBatches(tokens[:1].view(1, 1), 2),
    ):
        with pytest.raises(ValueError):
            call()


@given(num_steps=st.integers(2, 40), batch_size=st.integers(1, 4), length=st.integers(1, 45))
def test_a_pass_has_each_row_but_the_first_as_target_once(num_steps, batch_size, length):
    rows = to_rows(torch.arange(num_steps * batch_size), batch_size)
    batches = TrainingBatches(rows, length)
    for _ in range(2):
        one_pass = [next(batches) for _ in range(batches.batches_per_pass)]
        assert [is_start for *_, is_start in one_pass] == [True] + [False] * (len(one_pass) - 1)
        assert torch.equal(torch.cat([inputs for inputs, _, _ in one_pass]), rows[:-1])
        assert torch.equal(torch.cat([targets for _, targets, _ in one_pass]), rows[1:])
        assert all(len(inputs) == length for inputs, _, _ in one_pass[:-1])


@given(num_read=st.integers(0, 12), length=st.integers(1, 9))
def test_restored_cursor_gives_the_same_next_batches(num_read, length):
    rows = to_rows(torch.arange(60), 3)
    batches, restored = TrainingBatches(rows, length), TrainingBatches(rows, length)
    for _ in range(num_read):
        next(batches)
    state = batches.state_dict()
    assert all(type(value) is int for value in state.values())
    restored.load_state_dict(state)
    for _ in range(5):
        (inputs, targets, is_start), (inputs2, targets2, is_start2) = next(batches), next(restored)
        assert torch.equal(inputs, inputs2) and torch.equal(targets, targets2) and is_start == is_start2


def test_cursor_of_another_text_is_refused():
    state = TrainingBatches(to_rows(torch.arange(60), 3), 7).state_dict()
    with pytest.raises(ValueError, match="20 steps at batch size 3, not of 15 at 4"):
        TrainingBatches(to_rows(torch.arange(60), 4), 7).load_state_dict(state)
    with pytest.raises(ValueError, match="cursor 19"):
        TrainingBatches(to_rows(torch.arange(60), 3), 7).load_state_dict(state | {"cursor": 19})


# --- evaluation batches -----------------------------------------------------------------------------------------------

sizes = {"num_tokens": st.integers(1, 80), "batch_size": st.integers(1, 90), "length": st.integers(1, 50)}


@given(**sizes, warm_up=st.integers(0, 90))
def test_each_token_counts_once_after_the_token_before_it(num_tokens, batch_size, length, warm_up):
    stream = torch.arange(num_tokens)
    seen = []
    for inputs, targets, mask in evaluation_batches(stream, batch_size, length, warm_up=warm_up):
        assert inputs.shape == targets.shape == mask.shape
        assert 1 <= len(inputs) <= length and inputs.shape[1] == min(batch_size, num_tokens)
        assert torch.equal(inputs[mask], (targets[mask] - 1) % num_tokens)
        assert inputs.max() < num_tokens and targets.max() < num_tokens
        seen += targets[mask].tolist()
    assert sorted(seen) == list(range(num_tokens))


@given(**sizes)
def test_columns_run_on_from_batch_to_batch(num_tokens, batch_size, length):
    batches = list(evaluation_batches(torch.arange(num_tokens), batch_size, length))
    targets, mask = torch.cat([batch[1] for batch in batches]), torch.cat([batch[2] for batch in batches])
    columns = [column[column_mask].tolist() for column, column_mask in zip(targets.t(), mask.t(), strict=True)]
    assert [token for column in columns for token in column] == list(range(num_tokens))
    assert max(map(len, columns)) - min(map(len, columns)) <= 1
    assert not (mask[1:] & ~mask[:-1]).any(), "padding may only follow a column's tokens"


@given(**sizes, warm_up=st.integers(0, 90))
def test_each_column_first_reads_the_tokens_before_its_own(num_tokens, batch_size, length, warm_up):
    batches = list(evaluation_batches(torch.arange(num_tokens), batch_size, length, warm_up=warm_up))
    targets, mask = torch.cat([batch[1] for batch in batches]), torch.cat([batch[2] for batch in batches])
    for column, column_mask in zip(targets.t().tolist(), mask.t().tolist(), strict=True):
        first, num_own = column_mask.index(True), sum(column_mask)
        read = column[: first + num_own]
        assert all(column_mask[first : first + num_own]), "a column's own tokens follow one another"
        assert read == list(range(read[0], read[0] + len(read)))
        assert first == min(warm_up, column[first]), "as many tokens as there are before the column"


@given(**sizes)
def test_uniform_model_has_the_vocabulary_size_as_perplexity(num_tokens, batch_size, length):
    vocabulary_size = 17
    tokens = torch.arange(num_tokens) % vocabulary_size
    log_probs = torch.full((vocabulary_size,), -math.log(vocabulary_size), dtype=torch.float64)
    total, count = 0.0, 0
    for _, targets, mask in evaluation_batches(tokens, batch_size, length):
        total += float(-(log_probs[targets] * mask).sum())
        count += int(mask.sum())
    assert math.exp(total / count) == pytest.approx(vocabulary_size)
    assert count == num_tokens


def test_first_token_follows_eos(tmp_path):
    write_corpus(tmp_path)
    corpus = load_corpus("own", data_dir=tmp_path)
    inputs, _, _ = next(iter(evaluation_batches(corpus.valid, 2, 5)))
    assert inputs[0, 0] == corpus.eos


# --- random lengths ---------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("length", [1, 3, 6])
def test_a_random_length_is_never_tiny(length):
    torch.manual_seed(0)
    batches = TrainingBatches(torch.zeros(10_000, 1, dtype=torch.int64), length, random_length=True)
    assert min(len(next(batches)[0]) for _ in range(300)) == min(5, length)


def test_random_lengths_read_every_row_in_order():
    rows = torch.arange(101).unsqueeze(1)
    batches = TrainingBatches(rows, 10, random_length=True)
    for _ in range(3):
        seen, is_first = [], True
        while is_first or batches.cursor != 0:
            inputs, targets, is_start = next(batches)
            assert is_start == is_first and torch.equal(targets, inputs + 1)
            seen += inputs.flatten().tolist()
            is_first = False
        assert seen == list(range(100))


def test_images_asked_for_as_text_are_named_as_such(tmp_path):
    with pytest.raises(FileNotFoundError, match="shapes holds images: add --network_type cnn"):
        load_corpus("shapes", data_dir=tmp_path)
