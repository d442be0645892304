"""Tokens of a small vocabulary by hand; the published one is in the parity tests."""

import json
import sys

import numpy as np
import pytest

from neural import load_sd15
from neural.checkpoints import CheckpointError
from neural.stable_diffusion.tokenizer import read_tokenizer
from neural.stable_diffusion.vocabulary import has_vocabulary
from tests.neural.stable_diffusion import folders, tiny


@pytest.fixture(scope="module")
def tokenizer(folder):
    return read_tokenizer(folder / "tokenizer")


@pytest.fixture(scope="module")
def words(folder):
    return json.loads((folder / "tokenizer" / "vocab.json").read_text())


def test_words_bytes_and_ends(tokenizer, words):
    found = tokenizer(["a CAT,\n dog's", "", "é🐱"])
    assert found.shape == (3, 77)
    assert found.dtype == np.int32
    expected = ["a</w>", "cat</w>", ",</w>", "dog</w>", "'", "s</w>"]
    assert list(found[0, 1:7]) == [words[word] for word in expected]
    assert (found[:, 0] == tiny.START).all()
    assert (found[0, 7:] == tiny.END).all()
    assert (found[1, 1:] == tiny.END).all()
    # "é" is two bytes of UTF-8, "🐱" four; each is a word.
    assert list(found[2, 1:7]) == [words[w] for w in ("Ã", "©</w>", "ð", "Ł", "Ĳ", "±</w>")]


def test_composed_and_decomposed_letters_are_the_same(tokenizer):
    np.testing.assert_array_equal(tokenizer("é"), tokenizer("e\u0301"))


def test_long_prompts_are_cut_and_said_to_be(tokenizer, words):
    with pytest.warns(UserWarning, match=r"prompt 'cat cat .*\.\.\.' has 90 tokens; CLIP reads the first 75"):
        (row,) = tokenizer("cat " * 90)
    assert (row[0], row[-1]) == (tiny.START, tiny.END)
    assert (row[1:-1] == words["cat</w>"]).all()
    (whole,) = tokenizer("cat " * 75)
    np.testing.assert_array_equal(whole, row)


def test_one_json_file_serves_too(tokenizer, folder, tmp_path):
    merges = [list(pair) for pair in tiny.MERGES]
    words = json.loads((folder / "tokenizer" / "vocab.json").read_text())
    for listed in (merges, [" ".join(pair) for pair in merges]):
        text = json.dumps({"model": {"vocab": words, "merges": listed}})
        (tmp_path / "tokenizer.json").write_text(text)
        assert has_vocabulary(tmp_path)
        np.testing.assert_array_equal(read_tokenizer(tmp_path)("a cat"), tokenizer("a cat"))


def test_equal_vocabularies_are_equal_tokenizers(tokenizer, folder, tmp_path):
    assert read_tokenizer(folder / "tokenizer") == tokenizer
    assert hash(read_tokenizer(folder / "tokenizer")) == hash(tokenizer)
    assert read_tokenizer(folders.write_tokenizer(tmp_path / "other", tiny.MERGES[:-1])) != tokenizer


def test_what_is_no_text_is_refused(tokenizer):
    with pytest.raises(ValueError, match="texts must be strings, got int"):
        tokenizer([3])


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("vocab.json", "[]", r"vocab\.json must hold a JSON object"),
        ("vocab.json", "{", r"vocab\.json is not JSON"),
        ("vocab.json", '{"a": "b"}', "must map words to whole numbers"),
        ("vocab.json", '{"a": 1, "b": 1}', "gives one number to two words"),
        ("vocab.json", '{"a": 1, "b": 2}', r"has no <\|startoftext\|>"),
        ("merges.txt", "a b c\n", "a merge must join two words"),
        ("merges.txt", "zq zq\n", "the merges do not fit the vocabulary"),
        ("merges.txt", None, "holds neither vocab.json with merges.txt nor tokenizer.json"),
    ],
)
def test_broken_files_are_one_line(file, text, message, tmp_path):
    folder = folders.write_tokenizer(tmp_path / "tokenizer")
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(text)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_tokenizer(folder)
    assert "\n" not in str(caught.value)


def test_without_the_library_only_strings_are_refused(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    missing = "prompts need the package tokenizers; run: python -m pip install tokenizers"
    mute = load_sd15(folder)
    np.testing.assert_array_equal(mute.encode([None]).states, mute.encode([""]).states)
    for ask in (
        lambda: mute.encode(["cat"]),
        lambda: read_tokenizer(folder / "tokenizer"),
        lambda: load_sd15(folder, tokenizer=folder / "tokenizer"),
    ):
        with pytest.raises(ValueError, match=missing):
            ask()
