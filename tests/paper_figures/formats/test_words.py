"""Lists of values as people type them, and words as they read them."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from paper_figures.formats.words import duration, integers, numbers, shortened, slug, tree_shape, words


@given(st.lists(st.integers(-(10**18), 10**18), min_size=1))
def test_integers_survive_in_any_grouping_by_commas(values):
    text = [str(value) for value in values]
    assert integers("classes", text) == values
    assert integers("classes", [",".join(text)]) == values


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0), min_size=1))
def test_numbers_keep_their_order(values):
    assert numbers("dims", [repr(value) for value in values]) == values


def test_scientific_notation_is_a_whole_number_where_it_is_one():
    assert integers("classes", ["1e3,2", "1e12"]) == [1000, 2, 10**12]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: numbers("dims", ["1e3,ten"]), "dims must list finite numbers.*got 'ten'"),
        (lambda: numbers("dims", ["inf"]), "dims must list finite numbers.*got 'inf'"),
        (lambda: integers("classes", ["2.5"]), "classes must list whole numbers.*got '2.5'"),
        (lambda: words("only", ["a,,b"]), "only must list names, got an empty one in 'a,,b'"),
        (
            lambda: words("only", ["fuor"], ["four", "two"]),
            "only must list known names, got 'fuor'; did you mean 'four'\\? known: four, two",
        ),
        (
            lambda: words("only", ["zzz"], ["four", "two"]),
            "only must list known names, got 'zzz'; known: four, two",
        ),
    ],
)
def test_errors_name_the_argument_and_what_came(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_words_come_once_unless_told_otherwise():
    assert words("only", ["b,a", "b"]) == ["b", "a"]
    assert words("only", ["b,a", "b"], unique=False) == ["b", "a", "b"]


def test_shapes_of_trees():
    assert tree_shape("branching", "2x5x10") == (2, 5, 10)
    assert tree_shape("branching", "1x2", least=1) == (1, 2)
    for wrong in ("2x", "1x2", "2.5", ""):
        with pytest.raises(ValueError, match=f"branching must list shapes such as 2x5x10.*got '{wrong}'"):
            tree_shape("branching", wrong)


def test_long_lists_and_other_signs_are_shortened():
    assert shortened(["a", "b"]) == "a, b"
    assert shortened(list("abcd"), most=2) == "a, b, and 2 more"
    assert slug("cfg:2 of σ/α") == "cfg-2-of"
    assert slug("σ", "data") == "data"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.3, "less than a second"),
        (42, "42 s"),
        (600, "10 min"),
        (3 * 3600, "3.0 h"),
        (5 * 86400, "5.0 days"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
