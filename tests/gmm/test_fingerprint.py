"""Fingerprints: SHA-256 of the stated bytes, and different wherever what they stand for is."""

import hashlib
import itertools
import json

import jax
import numpy as np

from gmm.fingerprint import fingerprint, tree_fingerprint


def test_a_fingerprint_is_the_hash_of_facts_and_bytes():
    facts, array = {"b": 1, "a": [2, None]}, np.arange(6.0).reshape(2, 3).T
    contents = json.dumps(facts, sort_keys=True).encode() + np.arange(6.0).reshape(2, 3).T.tobytes()
    assert fingerprint(facts, array) == hashlib.sha256(contents).hexdigest()


def test_pytrees_differ_by_type_shape_bytes_key_and_words():
    zeros = np.zeros(4, np.float32)
    trees = [
        zeros, zeros.reshape(2, 2), zeros.astype(np.int32), zeros + 1, [zeros, zeros], np.zeros((), np.float32),
        jax.random.key(0), jax.random.key(1), "0", 0, 0.0, False,
    ]  # fmt: skip
    for one, other in itertools.combinations(trees, 2):
        assert tree_fingerprint(one) != tree_fingerprint(other)
    assert tree_fingerprint(jax.numpy.zeros(4, "float32")) == tree_fingerprint(zeros)
