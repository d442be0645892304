"""Decisions from words and files, those that ship included."""

import itertools
import json

import numpy as np
import pytest

import gmm
from neural import imagenet
from neural.decisions import FORMAT, Decision, by_classes, by_prompts, every_class, read_partition, shipped
from neural.models import Grid, Model

DIGITS = tuple("0123456789")
VOCABULARIES = {
    "imagenet": {"names": imagenet.names(), "aliases": imagenet.aliases(), "groups": imagenet.groups()},
    "digits": {"names": DIGITS},
    "fashion": {"names": tuple(f"article {i}" for i in range(10))},
}


def model(of="digits", **more):
    fields = VOCABULARIES[of] | {"classes_of": of} | more
    return Model(f"m-{of}", "test", None, (2,), tuple(range(len(fields["names"]))), grid=Grid(), **fields)


PROMPTED = Model("prompted", "test", None, (2,), None, (), Grid())


@pytest.mark.parametrize("name", shipped())
def test_partitions_that_ship(name):
    held = shipped()[name]
    assert held.about
    found = read_partition(name, PROMPTED if held.kind == "prompts" else model(held.classes_of))
    assert found.source
    assert len(set(found.conditions)) == len(found.conditions)
    for level in found.levels:
        counts = np.bincount(level.partition.labels, minlength=len(level.cells))
        assert (counts > 0).all()
        assert counts.sum() == len(found.conditions)
    for coarse, fine in itertools.pairwise(found.levels):
        assert fine.partition.refines(coarse.partition)


@pytest.mark.parametrize(
    ("name", "cell", "some", "none"),
    [
        ("animal-object", "animal", ["tench", "pug", "robin", "tarantula"], ["minivan", "pizza"]),
        ("animal-object", "object", ["minivan", "teapot", "church"], ["daisy", "cliff", "pizza"]),
        ("mammal-bird-fish-reptile", "fish", ["goldfish", "great white shark", "eel"], ["killer whale", "axolotl"]),
        ("mammal-bird-fish-reptile", "mammal", ["killer whale", "platypus", "beagle"], ["ostrich"]),
        ("mammal-bird-fish-reptile", "reptile", ["triceratops", "box turtle"], ["bullfrog"]),
        ("dog-cat", "dog", ["pug", "Mexican hairless"], ["dingo", "timber wolf"]),
        ("dog-cat", "cat", ["tabby", "Egyptian cat"], ["lynx", "tiger", "cougar"]),
        ("dog-breeds", "terrier", ["Airedale", "Scotch terrier"], ["beagle"]),
        ("dog-breeds", "sporting dog", ["golden retriever", "vizsla"], ["pug"]),
        ("vehicles", "air", ["airliner", "warplane"], ["speedboat"]),
        ("vehicles", "water", ["gondola", "aircraft carrier"], ["fire engine"]),
    ],
)  # fmt: skip
def test_cells_hold_what_their_names_say(name, cell, some, none):
    found = read_partition(name, model("imagenet")).as_dict()["levels"][0]["cells"][cell]
    assert set(some) <= set(found)
    assert not set(none) & set(found)


def test_dogs_and_cats_by_known_indices():
    found = read_partition("dog-cat", model("imagenet"))
    assert found.conditions == (*range(151, 269), *range(281, 286))
    np.testing.assert_allclose(found.prior("cells")[[0, -1]], [0.5 / 118, 0.5 / 5])
    np.testing.assert_allclose(found.prior().sum(), 1)


def test_words():
    found = by_classes(model("imagenet"), ["golden retriever", "tabby"])
    assert found.conditions == (207, 281)
    assert found.levels[0].cells == ("golden retriever", "tabby")
    grouped = by_classes(model("imagenet"), ["dog", "281-285", "group:wolf"])
    assert grouped.levels[0].cells == ("dog", "281-285", "group:wolf")
    np.testing.assert_array_equal(np.bincount(grouped.levels[0].partition.labels), [118, 5, 4])
    assert by_classes(model(), ["3", "8"]).names == ("3", "8")
    assert by_prompts(PROMPTED, ["a cat", "a dog"]).conditions == ("a cat", "a dog")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["golden retreiver", "tabby"], "has no class 'golden retreiver'; did you mean 'golden retriever'"),
        (
            ["dog", "golden retriever"],
            "must not overlap: 'golden retriever' is in 'dog' and 'golden retriever'",
        ),
        (["tabby", "tabby cat"], "classes must differ, got 'tabby' twice"),
        (["tabby"], "must have two cells or more to decide between, got 1"),
        (["crane", "dog"], r"'crane' may be any of 'crane \(animal\)' \(134\)"),
        (["group:dogs", "tabby"], "has no group 'dogs'; did you mean 'dog'"),
        (["990-1000", "tabby"], r"span '990-1000' must rise within 0\.\.999"),
        (["1000", "tabby"], "has no class '1000'"),
    ],
)
def test_words_that_make_no_decision(words, message):
    with pytest.raises(ValueError, match=message):
        by_classes(model("imagenet"), words)


def test_classes_and_prompts_are_not_taken_for_each_other():
    with pytest.raises(ValueError, match="prompted has no classes: it takes `prompts`"):
        by_classes(PROMPTED, ["a", "b"])
    with pytest.raises(ValueError, match="m-digits has classes and takes no prompts"):
        by_prompts(model(), ["a", "b"])
    with pytest.raises(ValueError, match="prompts must differ"):
        by_prompts(PROMPTED, ["a", "a"])
    with pytest.raises(ValueError, match="name them by `prompts`"):
        every_class(PROMPTED)


def test_every_class_at_the_levels_that_a_model_knows():
    assert every_class(model()).conditions == tuple(range(10))
    coarse, leaves = gmm.families.tree_partitions([2, 3])
    tree = model("digits", names=tuple("abcdef"), levels={"family": coarse, "leaf": leaves})
    found = every_class(tree)
    assert [level.name for level in found.levels] == ["family", "classes"]
    np.testing.assert_array_equal(found.levels[0].partition.labels, coarse.labels)
    assert found.levels[1].cells == tuple("abcdef")
    with pytest.raises(ValueError, match="has 1000 classes: name some by `classes`"):
        every_class(model("imagenet"))


def test_thinning_asks_the_same_question_of_fewer():
    whole = read_partition("dog-cat", model("imagenet"))
    few = whole.thinned(3, seed=0)
    assert np.bincount(few.levels[0].partition.labels).tolist() == [3, 3]
    assert set(few.conditions) < set(whole.conditions)
    assert few.thinned(3, seed=1).conditions == few.conditions
    assert whole.thinned(3, seed=1).conditions != few.conditions
    loops = read_partition("digits-loops", model()).thinned(1, seed=0)
    assert sorted(loops.conditions) == [d for d in range(10) if d != 4]  # the finest cells are single digits
    with pytest.raises(ValueError, match="most must be >= 1"):
        whole.thinned(0, 0)


def test_levels_place_the_same_conditions():
    with pytest.raises(ValueError, match="levels must place the same conditions; some leaves out '2'"):
        Decision.from_cells("d", [("some", {"a": [0], "b": [1]}), ("all", {"a": [0, 1], "c": [2]})])


# ------------------------------------------------------------------------------------------------------- files


def write(path, **fields):
    path.write_text(json.dumps({"format": FORMAT, **fields}))
    return str(path)


def test_toml_and_json_say_the_same(tmp_path):
    toml = tmp_path / "a.toml"
    toml.write_text(
        f'format = "{FORMAT}"\n[[level]]\nname = "size"\ncells.small = [0, "1"]\ncells.large = ["8-9"]\n'
        '[[level]]\nname = "digit"\ncells = "each"\n'
    )
    levels = [
        {"name": "size", "cells": {"small": [0, "1"], "large": ["8-9"]}},
        {"name": "digit", "cells": "each"},
    ]
    found = [
        read_partition(path, model()).as_dict() | {"name": ""}
        for path in (str(toml), write(tmp_path / "b.json", level=levels))
    ]
    assert found[0] == found[1]
    assert found[0]["conditions"] == [0, 1, 8, 9]


def test_prompts_are_templates_times_words(tmp_path):
    path = write(
        tmp_path / "p.json",
        kind="prompts",
        templates=["a photo of a {}", "a drawing of a {}"],
        level=[{"name": "kind", "cells": {"cat": ["cat"], "dog": ["dog", "puppy"]}}, {"cells": "each"}],
    )
    found = read_partition(path, PROMPTED)
    assert found.conditions[:3] == ("a photo of a cat", "a drawing of a cat", "a photo of a dog")
    assert [len(level.cells) for level in found.levels] == [2, 6]
    with pytest.raises(ValueError, match="m-digits has classes and takes no prompts"):
        read_partition(path, model())


CELLS = {"a": [0], "b": [1]}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "x"}, "format must be 'speciation-partition/1', got 'x'"),
        ({}, "level is missing"),
        ({"level": []}, "level must have 1 or more entries"),
        ({"level": [{"cells": CELLS}], "levels": []}, "levels is no field"),
        ({"level": [{"cells": CELLS, "cell": 1}]}, "level.0.cell is no field"),
        ({"level": [{"cells": {"a": 0, "b": [1]}}]}, "level.0.cells must be names of cells with lists"),
        ({"level": [{"cells": {"a": [0.5], "b": [1]}}]}, "level.0.cells must be names of cells with lists"),
        ({"level": [{"cells": "all"}]}, "level.0.cells must be names of cells with lists"),
        ({"level": [{"cells": "each"}]}, "level 0 cannot be 'each'"),
        ({"level": [{"cells": {"a": [], "b": [1]}}]}, "cell 'a' of level 1 is empty"),
        ({"level": [{"cells": {"a": [0]}}]}, "must have two cells or more"),
        ({"level": [{"name": "n", "cells": {"a": [0, 1], "b": [1]}}]}, "must not overlap: '1' is in 'a' and 'b'"),
        ({"level": [{"cells": {"a": [0, 0], "b": [1]}}]}, "'0' is twice in cell 'a'"),
        ({"level": [{"cells": {"a": ["zebra"], "b": [1]}}]}, "has no class 'zebra'"),
        ({"level": [{"cells": {"a": [10], "b": [1]}}]}, "has no class '10'"),
        ({"level": [{"cells": CELLS}], "kind": "words"}, "kind must be 'classes' or 'prompts'"),
        ({"level": [{"cells": CELLS}], "templates": ["a"]}, "templates must have one {} each"),
        ({"level": [{"cells": CELLS}], "about": 3}, "about must be text, got 3"),
        ({"level": [{"cells": CELLS}], "classes_of": "imagenet"}, "it lists classes of imagenet; m-digits has"),
    ],
)  # fmt: skip
def test_files_that_are_refused(fields, message, tmp_path):
    path = write(tmp_path / "a.json", **fields)
    with pytest.raises(ValueError, match=message) as caught:
        read_partition(path, model())
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "text", [b"\xff\xfe", b"[[level", b"a = 1\na = 2", b"[" * 3000], ids=["bytes", "cut", "twice", "deep"]
)
def test_text_that_is_no_toml(text, tmp_path):
    for name in ("a.toml", "a.json"):
        path = tmp_path / name
        path.write_bytes(text)
        with pytest.raises(ValueError, match=name):
            read_partition(str(path), model())


def test_huge_files_are_not_read(tmp_path):
    path = tmp_path / "a.toml"
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(ValueError, match="at most 1048576 bytes"):
        read_partition(str(path), model())


def test_unknown_partitions():
    with pytest.raises(ValueError, match=r"partition must be a file, or one of .*dog-cat.*; got 'dogcat'"):
        read_partition("dogcat", model())


def test_decisions_need_levels():
    with pytest.raises(ValueError, match="must have at least one level"):
        Decision.from_cells("x", [])
