"""The published JSON Schemas: what they accept the readers accept, and the other way round.

Rules that no JSON Schema can state are listed here, by the words with which a reader refuses.

``python -m tests.hardening.test_schemas`` writes the files anew.
"""

import copy
import json
import random
import tomllib
from pathlib import Path

import jsonschema
import pytest

from gmm import guidance_specs, schema, window_file
from gmm.guidance_specs import GuidanceFile, load_guidance
from gmm.window_file import WindowFile, load_window
from neural.decisions import files
from neural.decisions.files import PartitionFile

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"
KINDS = {"window": WindowFile, "guidance": GuidanceFile, "partition": PartitionFile}
READERS = {
    "window": load_window,
    "guidance": load_guidance,
    "partition": lambda path: files.parse(Path(path)),
}
# Between fields: that noise levels agree, rise or fall, that names differ, that schedules are within their ranges.
BETWEEN_FIELDS = (
    "must agree with its log_snr", "must rise from low", "sigmas must", "inside must be two", "a name of its own",
    "schedule '",
)  # fmt: skip
MUTANTS = 1_000

PLACE = {"sigma": 1.0, "log_snr": 0.0, "t": 0.5, "stderr": None, "interval": [0.5, 2]}
GOOD = {
    "window": {
        "format": window_file.FORMAT, "model": "a", "question": "b", "cells": {"x": [1], "y": ["p", 2]},
        "process": "vp",
        "share": 0.8, "prior_entropy": 0.7, "facts": {"seed": 1},
        "window": {
            "low": PLACE | {"sigma": 1.0, "log_snr": 0.0},
            "median": PLACE | {"sigma": 2.718281828459045, "log_snr": -2.0},
            "high": PLACE | {"sigma": 7.38905609893065, "log_snr": -4.0},
        },
        "samplers": [
            {"sampler": "edm", "steps": 3, "sigmas": [9, 3, 1], "first": 0.5, "median": 1, "last": None,
             "inside": [1, 2]}
        ],
    },
    "guidance": {
        "format": guidance_specs.FORMAT,
        "schedules": [
            {"name": "a", "kind": "none"},
            {"name": "b", "kind": "cfg", "w": 2},
            {"name": "c", "kind": "interval", "w": 2, "low": 0.1, "high": None},
            {"name": "d", "kind": "profile", "log_level": [0, 1, 2], "w": [1, 2, 1]},
            {"name": "e", "kind": "feedback", "pi": 0.9},
        ],
    },
    "partition": {
        "format": files.FORMAT, "name": "a", "about": "b", "source": "c", "kind": "prompts", "templates": ["a {}"],
        "level": [{"name": "x", "cells": {"a": ["cat", 1], "b": ["dog"]}}, {"cells": "each"}],
    },
}  # fmt: skip
VALUES = (
    None, True, 0, 1, -1, 2, 0.5, -3.5, "", "a", "{}", "a {} b", "{}{}", "each", "cfg", "none", [], {}, [1], ["a"],
    [[1]], {"a": [1]}, {"a": ["b"], "c": [2]}, [1, 2], [2, 1],
)  # fmt: skip


def places(value, path=()):
    """Every place inside a JSON value."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield from places(part, (*path, key))


def mutated(value, rng):
    """A copy with one thing changed, dropped or added."""
    made = copy.deepcopy(value)
    *way, last = rng.choice([place for place in places(made) if place])
    owner = made
    for key in way:
        owner = owner[key]
    match rng.randrange(4):
        case 0:
            del owner[last]
        case 1 if isinstance(owner, dict):
            owner[rng.choice(["more", "name", "w", "high", "inside", "cells"])] = rng.choice(VALUES)
        case _:
            owner[last] = copy.deepcopy(rng.choice(VALUES))
    return made


@pytest.mark.parametrize("name", KINDS)
def test_published_schemas_are_those_of_the_readers(name):
    published = json.loads((FOLDER / f"{name}.json").read_text())
    assert published == json.loads(json.dumps(schema.json_schema(KINDS[name])))
    jsonschema.Draft202012Validator.check_schema(published)


@pytest.mark.parametrize("name", KINDS)
def test_readers_accept_what_the_schemas_accept(name, tmp_path, held):
    validator = jsonschema.Draft202012Validator(schema.json_schema(KINDS[name]))
    path, rng, accepted = tmp_path / "a.json", random.Random(name), 0
    for number in range(MUTANTS):
        value = mutated(GOOD[name], rng) if number else GOOD[name]
        path.write_text(json.dumps(value))
        error = None
        try:
            READERS[name](path)
        except ValueError as raised:
            error = str(raised)
            assert "\n" not in error
        by_schema = validator.is_valid(value)
        if error is None:
            accepted += 1
            assert by_schema, value
        elif by_schema:
            assert any(words in error for words in BETWEEN_FIELDS), (value, error)
    assert accepted > MUTANTS / 50
    held("files against their schemas", MUTANTS)


def test_shipped_partitions_are_valid():
    validator = jsonschema.Draft202012Validator(schema.json_schema(PartitionFile))
    for path in files.FOLDER.glob("*.toml"):
        validator.validate(tomllib.loads(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, kind in KINDS.items():
        (FOLDER / f"{name}.json").write_text(
            json.dumps(schema.json_schema(kind), indent=2, ensure_ascii=False) + "\n"
        )
