"""Partitions against enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmm import Partition
from gmm.partition import OUTSIDE, cell_log_posterior, partition_of, trivial_partition
from tests.refusals import check_refused

SUMS = 1e-13  # a sum of a handful of float64 numbers, taken in another order


@st.composite
def partitions(draw, size=8, outside=True):
    labels = draw(st.lists(st.integers(-1 if outside else 0, 3), min_size=size, max_size=size))
    cells = sorted(set(labels) - {OUTSIDE})
    if not cells:
        return Partition(np.zeros(size, int))
    return Partition([cells.index(c) if c >= 0 else OUTSIDE for c in labels])


def groups_of(partition):
    """The partition as a list of sets."""
    return [set(np.flatnonzero(partition.labels == cell).tolist()) for cell in range(partition.cells)]


@settings(deadline=None)
@given(partitions(), st.data())
def test_restriction_keeps_the_named_cells_in_their_new_order(partition, data):
    cells = data.draw(st.lists(st.integers(0, partition.cells - 1), min_size=1, unique=True))
    chosen = partition.restrict(cells)
    assert groups_of(chosen) == [groups_of(partition)[c] for c in cells]
    assert set(chosen.inside.tolist()) == set().union(*groups_of(chosen))


@settings(deadline=None)
@given(partitions(), st.data())
def test_coarsening_takes_unions_of_cells(partition, data):
    cut = data.draw(st.lists(st.integers(0, 2), min_size=partition.cells, max_size=partition.cells))
    groups = np.unique(cut, return_inverse=True)[1]
    coarse = partition.coarsen(groups)
    members = [
        set().union(*(groups_of(partition)[c] for c in np.flatnonzero(groups == g))) for g in set(groups)
    ]
    assert groups_of(coarse) == members
    assert partition.refines(coarse)
    assert trivial_partition(8).refines(coarse)


def test_coarsening_may_leave_cells_outside():
    partition = Partition([0, 1, 2, 2, -1]).coarsen([-1, 0, 1])
    np.testing.assert_array_equal(partition.labels, [-1, 0, 1, 1, -1])
    np.testing.assert_array_equal(partition.inside, [1, 2, 3])


def test_refinement_has_a_direction():
    fine, coarse, across = Partition([0, 1, 2, 2]), Partition([0, 0, 1, 1]), Partition([0, 1, 0, 1])
    assert fine.refines(coarse)
    assert not coarse.refines(fine)
    assert not across.refines(coarse)


@settings(max_examples=30, deadline=None)
@given(partitions(outside=False), st.integers(0, 2**16))
def test_cell_posteriors_are_sums_over_components(partition, seed):
    p = np.random.default_rng(seed).dirichlet(np.ones(8), size=(2, 3))
    cells = cell_log_posterior(jnp.log(p), jnp.asarray(partition.labels), partition.cells)
    exact = np.stack([p[..., sorted(group)].sum(-1) for group in groups_of(partition)], axis=-1)
    np.testing.assert_allclose(np.exp(cells), exact, rtol=SUMS)
    assert cells.shape == (2, 3, partition.cells)


def test_components_outside_belong_to_no_cell():
    p = np.array([[0.2, 0.5, 0.3]])
    cells = cell_log_posterior(jnp.log(p), np.array([0, -1, 1]), 2)
    np.testing.assert_allclose(np.exp(cells), [[0.2, 0.3]], rtol=SUMS)


@pytest.mark.lenient("a NaN comes in, and stays in its own cell")
def test_cell_posteriors_stay_in_the_log_domain():
    logs = jnp.array([[-2000.0, -2001.0, -5000.0, -jnp.inf], [-1.0, jnp.nan, -2.0, -3.0]])
    cells = np.asarray(cell_log_posterior(logs, np.array([0, 0, 1, 2]), 3))
    np.testing.assert_allclose(cells[0], [-2000 + np.log1p(np.exp(-1)), -5000, -np.inf], rtol=1e-15)
    assert np.isnan(cells[1, 0])
    np.testing.assert_allclose(cells[1, 1:], [-2, -3])


def test_impossible_cells_have_no_gradient_rather_than_none_at_all():
    logs = np.array([[-1.0, -2.0, -np.inf, -np.inf]])
    labels = np.array([0, 0, 1, 1])
    gradient = jax.grad(lambda logs: jnp.sum(jnp.exp(cell_log_posterior(logs, labels, 2))))(logs)
    np.testing.assert_allclose(gradient, [[np.exp(-1), np.exp(-2), 0, 0]], rtol=SUMS)


def test_labels_are_copied_and_fixed():
    labels = np.array([0, 1, 1])
    partition = Partition(labels)
    labels[0] = 7
    np.testing.assert_array_equal(partition.labels, [0, 1, 1])
    with pytest.raises(ValueError, match="read-only"):
        partition.labels[0] = 1
    np.testing.assert_array_equal(Partition(np.array([0, 1], np.uint8)).labels, [0, 1])
    np.testing.assert_array_equal(Partition(jnp.array([1, 0, OUTSIDE])).inside, [0, 1])


THREE = Partition([0, 1, 2, -1])
BAD = {
    "matrix": (lambda: Partition([[0, 1]]), r"labels must have shape \(K,\), got \(1, 2\)"),
    "empty": (lambda: Partition([]), r"labels must have shape \(K,\), got \(0,\)"),
    "floats": (lambda: Partition([0.0, 1.0]), "labels must be integers, got float64"),
    "gap": (
        lambda: Partition([0, 2]),
        r"labels must use every cell 0..C-1 .*got \[0 2\]; np.unique\(labels, ",
    ),
    "below": (lambda: Partition([0, -2]), r"labels must use every cell 0..C-1 .*got \[-2  0\]"),
    "nothing": (lambda: Partition([-1, -1]), r"labels must use every cell 0..C-1 .*got \[\]"),
    "unknown cell": (lambda: THREE.restrict([0, 3]), r"cells must be distinct numbers in 0..2, got \[0, 3\]"),
    "twice": (lambda: THREE.restrict([1, 1]), r"cells must be distinct numbers in 0..2, got \[1, 1\]"),
    "outside": (lambda: THREE.restrict([-1]), r"cells must be distinct numbers in 0..2, got \[-1\]"),
    "no cell": (lambda: THREE.restrict([]), r"cells must be distinct numbers in 0..2, got \[\]"),
    "half a cell": (lambda: THREE.restrict([0.5]), r"cells must be distinct numbers in 0..2, got \[0.5\]"),
    "groups": (
        lambda: THREE.coarsen([0, 1]),
        r"groups must have shape \(3,\), one for each cell, got \(2,\)",
    ),
    "group kind": (lambda: THREE.coarsen([0.5, 0, 1]), "groups must be integers, got float64"),
    "group gap": (lambda: THREE.coarsen([0, 0, 2]), r"groups must use every cell 0..C-1 .*got \[0 2\]"),
    "sizes": (
        lambda: THREE.refines(Partition([0, 1])),
        r"coarse.labels must have shape \(4,\) like labels, got",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_partitions_are_refused_by_name(case):
    check_refused(BAD[case])


def test_no_partition_is_the_trivial_one():
    np.testing.assert_array_equal(partition_of(3, None).labels, [0, 1, 2])
    given = Partition([0, 1, 1])
    assert partition_of(3, given, least=2) is given
    with pytest.raises(ValueError, match="one label for each of the 2 components, got 3"):
        partition_of(2, given)
    with pytest.raises(ValueError, match="at least two cells"):
        partition_of(1, None, least=2)
