"""Names of ImageNet's classes against what others print beside the same indices."""

import ast
import importlib.util
import itertools
from pathlib import Path

import pytest

from neural import imagenet
from neural.imagenet import build

# Indices and names as other projects publish them (torchvision's categories, the ADM and DiT demos, Imagenette).
KNOWN = {
    0: "tench", 1: "goldfish", 88: "macaw", 207: "golden retriever", 217: "English springer", 250: "Siberian husky",
    279: "Arctic fox", 281: "tabby", 291: "lion", 360: "otter", 387: "lesser panda", 388: "giant panda",
    417: "balloon", 482: "cassette player", 497: "church", 571: "gas pump", 701: "parachute", 817: "sports car",
    933: "cheeseburger", 963: "pizza", 972: "cliff", 974: "geyser", 979: "valley", 980: "volcano",
    985: "daisy", 999: "toilet tissue",
}  # fmt: skip

# Spans that others list for the same groups (superclasses of Engstrom et al.'s robustness library and of
# Tsipras et al.; the counts of dogs and birds of Russakovsky et al. 2015).
GROUPS = {
    "dog": range(151, 269), "domestic cat": range(281, 286), "snake": range(52, 69), "insect": range(300, 327),
    "animal": range(398), "primate": range(365, 385), "reptile": range(33, 69), "wolf": range(269, 273),
    "bird": [*range(7, 25), *range(80, 101), *range(127, 147)], "fish": [*range(7), *range(389, 398)],
}  # fmt: skip


def test_thousand_classes_in_the_order_of_their_identifiers():
    classes = imagenet.classes()
    assert len(classes) == imagenet.CLASSES
    wnids = [one.wnid for one in classes]
    assert wnids == sorted(set(wnids))
    assert len({name.casefold() for name in imagenet.names()}) == imagenet.CLASSES
    assert all(one.spellings and all(one.spellings) for one in classes)


def test_known_names():
    assert {index: imagenet.names()[index] for index in KNOWN} == KNOWN


def test_names_that_two_classes_share_are_told_apart():
    names = imagenet.names()
    assert (names[134], names[517]) == ("crane (animal)", "crane (artifact)")
    assert (names[264], names[474]) == ("Cardigan (animal)", "cardigan (artifact)")
    assert (names[638], names[639]) == ("maillot", "maillot (tank suit)")
    assert imagenet.aliases()["crane (animal)"] == ("crane", "n02012849")


@pytest.mark.parametrize("name", GROUPS)
def test_groups(name):
    assert imagenet.groups()[name] == tuple(GROUPS[name])


def test_groups_are_nested_as_they_are_named():
    groups = {name: set(members) for name, members in imagenet.groups().items()}
    for chain in (
        ("entity", "animal", "vertebrate", "mammal", "carnivore", "canine", "dog", "hunting dog", "terrier"),
        ("artifact", "vehicle", "wheeled vehicle", "motor vehicle", "truck"),
    ):
        for wide, narrow in itertools.pairwise(chain):
            assert groups[narrow] < groups[wide]


def test_spans_and_back():
    assert imagenet.spans([3, 1, 2, 7]) == "1-3,7"
    assert imagenet.indices("1-3,7") == (1, 2, 3, 7)


def test_wordnet_files_are_read_by_their_documented_format(tmp_path):
    # wndb(5WN): offset, lexicographer file, part of speech, hexadecimal count of words, words with their
    # numbers, decimal count of pointers, pointers of four fields, gloss.
    text = (
        "  1 the licence\n"
        "00000010 03 n 01 entity 0 000 | that which is\n"
        "00000020 05 n 02 cat 0 true_cat 1 001 @ 00000010 n 0000 | a feline\n"
        "00000030 05 n 01 Tom 0 002 @i 00000020 n 0000 ~ 00000020 n 0000 | a cat\n"
    )
    path = tmp_path / "data.noun"
    path.write_text(text)
    nouns = build.read_nouns(path)
    assert nouns[20] == build.Synset(("cat", "true cat"), "animal", (10,))
    assert build.ancestors(nouns, 30) == {10, 20}
    assert build.group_rows(nouns, [20, 30]) == [
        ("n00000010", "entity", "0-1"),
        ("n00000020", "cat", "0-1"),
    ]
    assert build.class_names([nouns[20], nouns[20]._replace(domain="artifact")]) == [
        "cat (animal)",
        "cat (artifact)",
    ]


@pytest.mark.parity
def test_names_and_order_are_torchvisions_and_timms():
    # Their files are read, not imported: neither package is needed for anything but its list.
    listed = package("timm", "data/_info/imagenet_synsets.txt").read_text().split()
    assert [one.wnid for one in imagenet.classes()] == listed
    source = ast.parse(package("torchvision", "models/_meta.py").read_text())
    theirs = next(
        ast.literal_eval(node.value)
        for node in source.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_IMAGENET_CATEGORIES"
    )
    # Theirs differ where they tell two classes apart ("crane bird").
    pairs = zip(imagenet.classes(), theirs, strict=True)
    assert [name for one, name in pairs if not any(map(name.startswith, one.spellings))] == []


def package(name, file):
    found = importlib.util.find_spec(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return Path(found.origin).parent / file
