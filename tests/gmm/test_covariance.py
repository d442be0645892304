"""Every covariance type against the dense matrix that its numbers define."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmm import Diagonal, Full, Isotropic, LowRank
from gmm.distances import DIRECT_DIM, squared_distances
from tests.gmm.problems import KINDS, PROBLEMS
from tests.refusals import check_refused

# Two float64 routes to one number of order one to a hundred.
TWO_ROUTES = 1e-11
CASES = [f"{kind.replace(' ', '-')}-24d" for kind in KINDS]
of_every_kind = pytest.mark.parametrize("slug", CASES)
shared_only = pytest.mark.parametrize("slug", [slug for slug in CASES if "each" not in slug])


def close(actual, desired, tolerance=TWO_ROUTES):
    np.testing.assert_allclose(actual, desired, rtol=tolerance, atol=tolerance)


@of_every_kind
def test_dense_form_and_spectrum_are_those_of_the_definition(slug):
    problem = PROBLEMS[slug]
    operator, dense, dim = problem.covariance(), problem.dense(), problem.dim
    assert operator.components == (None if problem.shared else 4)
    assert operator.dim == (None if problem.kind is Isotropic else dim)
    close(np.broadcast_to(operator.dense(dim), dense.shape), dense)
    values = np.broadcast_to(operator.eigenvalues(dim), (4, dim))
    close(np.sort(values), np.linalg.eigvalsh(dense))
    close(np.broadcast_to(operator.log_det(dim), 4), np.linalg.slogdet(dense)[1])


@of_every_kind
def test_maps_act_on_eigenvalues_alone(slug):
    problem = PROBLEMS[slug]
    operator, dense, dim = problem.covariance(), problem.dense(), problem.dim
    form = lambda op: np.broadcast_to(op.dense(dim), dense.shape)
    close(form(operator.map(jnp.reciprocal)), np.linalg.inv(dense))
    root = form(operator.map(jnp.sqrt))
    close(root @ root, dense)
    close(form(operator.diffused(0.6, 0.8)), 0.36 * dense + 0.64 * np.eye(dim))
    gain = operator.map(lambda value: value / (0.36 * value + 0.64))
    close(form(gain), dense @ np.linalg.inv(0.36 * dense + 0.64 * np.eye(dim)))
    if problem.kind in (LowRank, Full):  # decomposed once, when it was made
        assert operator.diffused(0.6, 0.8).basis is operator.basis


@pytest.mark.parametrize("slug", CASES + [slug.replace("24d", "3d") for slug in CASES])
def test_quadratic_forms_by_direct_sums_and_by_matrix_products(slug):
    problem = PROBLEMS[slug]
    x = np.random.default_rng(0).normal(size=(5, problem.dim))
    gap = x[:, None] - problem.means[None]
    exact = np.einsum("nki,kij,nkj->nk", gap, problem.dense(), gap)
    close(problem.covariance().quadratic(x, problem.means), exact)


@shared_only
def test_alignment_is_the_quadratic_form_without_its_term_in_x(slug):
    problem = PROBLEMS[slug]
    x = np.random.default_rng(0).normal(size=(5, problem.dim))
    matrix = problem.dense()[0]
    inner = x @ matrix @ problem.means.T
    norms = np.einsum("ki,ij,kj->k", problem.means, matrix, problem.means)
    found = problem.covariance().alignment(jnp.asarray(x), jnp.asarray(problem.means))
    close(found, inner - norms / 2)


@of_every_kind
def test_products_with_vectors(slug):
    problem = PROBLEMS[slug]
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(5, problem.dim)), rng.random((5, 4))
    component = np.array([0, 3, 1, 1, 2])
    operator, dense = problem.covariance(), problem.dense()
    close(operator.apply(x, component), np.einsum("nij,nj->ni", dense[component], x))
    if problem.shared:
        close(operator.apply(x), x @ dense[0])
    pull = np.einsum("nk,kij,nkj->ni", weights, dense, problem.means[None] - x[:, None])
    close(operator.weighted_apply(weights, x, problem.means), pull)


@of_every_kind
def test_components_are_taken_by_index(slug):
    problem = PROBLEMS[slug]
    taken = problem.covariance().take(np.array([2, 0]))
    close(np.broadcast_to(taken.dense(problem.dim), (2, *problem.dense().shape[1:])), problem.dense()[[2, 0]])


@pytest.mark.parametrize("slug", ["diagonal-each-24d", "low-rank-24d", "full-each-24d"])
def test_float32_stays_float32(slug):
    problem = PROBLEMS[slug]
    operator = problem.covariance(np.float32)
    x, weights = np.ones((2, problem.dim), np.float32), np.ones((2, 4), np.float32)
    means = problem.means.astype(np.float32)
    values = [
        operator.dense(problem.dim),
        operator.log_det(problem.dim),
        operator.quadratic(x, means),
        operator.weighted_apply(weights, x, means),
        operator.apply(x, np.array([0, 1])),
    ]
    assert {value.dtype for value in values} == {np.dtype(np.float32)}


# ------------------------------------------------------------------------------------------------ squared distances


@pytest.mark.parametrize("dim", [DIRECT_DIM, DIRECT_DIM + 1])
def test_squared_distances_do_not_cancel_near_a_point(dim):
    """1e-7 away from a point of norm 1e3: float64 keeps 9 digits of the square, ‖x‖²-2xy+‖y‖² none."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(3, dim)) * 1e3 / np.sqrt(dim)
    x = y[1:2] + 1e-7 * rng.normal(size=(1, dim))
    exact = ((x - y[1]) ** 2).sum()
    np.testing.assert_allclose(squared_distances(jnp.asarray(x), jnp.asarray(y))[0, 1], exact, rtol=1e-5)
    naive = (x**2).sum() - 2 * x @ y[1] + (y[1] ** 2).sum()
    assert abs(naive - exact) > exact / 2


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**16), st.sampled_from([2, 20]), st.floats(-4, 4))
def test_squared_distances_are_those_of_definition(seed, dim, scale):
    rng = np.random.default_rng(seed)
    x, y = 10**scale * rng.normal(size=(4, dim)), 10**scale * rng.normal(size=(6, dim))
    exact = ((x[:, None] - y[None]) ** 2).sum(-1)
    np.testing.assert_allclose(squared_distances(jnp.asarray(x), jnp.asarray(y)), exact, rtol=TWO_ROUTES)


# -------------------------------------------------------------------------------------------------- special shapes


def test_low_rank_with_one_variance_a_component_shares_its_factor():
    factor, var = np.random.default_rng(0).normal(size=(5, 2)), np.array([0.5, 2.0, 0.0])
    operator = LowRank(factor, var)
    assert operator.components == 3
    close(operator.dense(5), factor @ factor.T + var[:, None, None] * np.eye(5))
    close(
        operator.diffused(0.5, 1.0).log_det(5),
        np.linalg.slogdet(np.asarray(operator.dense(5)) / 4 + np.eye(5))[1],
    )


@pytest.mark.parametrize("rank", [0, 1, 4, 7])
def test_low_rank_of_any_rank(rank):
    factor = np.random.default_rng(0).normal(size=(4, rank))
    operator = LowRank(factor, 0.5)
    dense = factor @ factor.T + 0.5 * np.eye(4)
    close(operator.dense(4), dense)
    close(operator.log_det(4), np.linalg.slogdet(dense)[1])
    x = np.random.default_rng(1).normal(size=(3, 4))
    close(operator.map(jnp.reciprocal).apply(x), x @ np.linalg.inv(dense))
    close(operator.map(jnp.sqrt).apply(operator.map(jnp.sqrt).apply(x)), x @ dense)


def test_a_million_dimensions_in_low_rank():
    dim = 10**6
    factor = np.zeros((dim, 2))
    factor[0, 0], factor[1, 1] = 3.0, 4.0
    operator = LowRank(factor, 1.0).diffused(1.0, 1.0)
    assert float(operator.log_det(dim)) == pytest.approx(
        np.log(11) + np.log(18) + (dim - 2) * np.log(2), rel=1e-12
    )
    x = np.ones((1, dim))
    # Eigenvalues 11, 18 and 2.
    assert float(operator.map(jnp.reciprocal).quadratic(x, 0 * x)[0, 0]) == pytest.approx(
        1 / 11 + 1 / 18 + (dim - 2) / 2, rel=1e-12
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rank_deficient_sample_covariances_are_accepted(dtype):
    """Twenty points in 64 dimensions: 44 eigenvalues are zero up to rounding, some of them negative."""
    x = np.random.default_rng(0).normal(size=(20, 64)).astype(dtype)
    cov = np.cov(x.T, dtype=dtype)
    assert np.linalg.eigvalsh(cov).min() < 0
    operator = Full(cov)
    assert float(operator.eigenvalues(64).min()) >= 0
    close(operator.dense(64), cov, 1e3 * np.finfo(dtype).eps)


def test_zero_variance_is_allowed_in_every_type():
    for operator in (
        Isotropic(0),
        Diagonal(np.zeros(3)),
        LowRank(np.zeros((3, 1)), 0),
        Full(np.zeros((3, 3))),
    ):
        np.testing.assert_allclose(
            operator.diffused(0.6, 0.8).dense(3), 0.64 * np.eye(3), rtol=1e-14, atol=1e-16
        )


@pytest.mark.parametrize("make", [Full, lambda cov: LowRank(jnp.linalg.cholesky(cov), 0.0)])
def test_gradients_reach_through_decompositions_unless_eigenvalues_repeat(make):
    form = lambda cov: make(cov).map(jnp.reciprocal).quadratic(jnp.ones((1, 3)), jnp.zeros((1, 3)))[0, 0]
    cov = np.diag([1.0, 2.0, 4.0]) + 0.3
    pulled = np.linalg.solve(cov, np.ones(3))
    gradient = np.asarray(jax.grad(form)(cov))
    # d(1ᵀC⁻¹1) = -(C⁻¹1)ᵀ dC (C⁻¹1); how it is shared between C_ij and C_ji is convention.
    close(gradient + gradient.T, -2 * np.outer(pulled, pulled))
    # The stated limit: eigenvectors of repeated eigenvalues have no derivative.
    assert np.isnan(jax.grad(form)(np.eye(3))).any()


@pytest.mark.parametrize("make", [Full, lambda cov: LowRank(np.linalg.cholesky(cov), 0.0)])
def test_the_basis_of_equal_eigenvalues_follows_the_coordinate_axes(make):
    """Eigenvectors of diag(2, 1, 1, 3, 2) in any frame that the library chooses become the axes themselves."""
    spectrum = np.array([2.0, 1.0, 1.0, 3.0, 2.0])
    operator = make(np.diag(spectrum))
    np.testing.assert_allclose(np.asarray(operator.basis).sum(axis=0), 1, rtol=1e-14)
    np.testing.assert_allclose(
        np.asarray(operator.values), spectrum[np.asarray(operator.basis).argmax(axis=0)]
    )


def test_a_factor_without_full_rank_is_completed():
    operator = LowRank(np.outer([1.0, 2.0, 2.0], [3.0, 4.0, 0.0]), 0.5)
    basis = np.asarray(operator.basis)
    np.testing.assert_allclose(basis.T @ basis, np.eye(3), atol=1e-14)
    close(operator.dense(3), 25 * np.outer([1, 2, 2], [1, 2, 2]) + 0.5 * np.eye(3))


# ------------------------------------------------------------------------------------------------------- bad input

SQUARE = np.eye(2)
BAD = {
    "isotropic negative": (lambda: Isotropic(-1.0), "var must be a variance >= 0, got -1.0"),
    "isotropic NaN": (lambda: Isotropic([1.0, np.nan]), "var must be finite, got 1 value.* like nan"),
    "isotropic matrix": (lambda: Isotropic(SQUARE), r"var must have shape \(\) or \(K,\), got \(2, 2\)"),
    "diagonal negative": (lambda: Diagonal([1.0, -2.0]), "var must be a variance >= 0, got -2.0"),
    "diagonal number": (lambda: Diagonal(1.0), r"var must have shape \(d,\) or \(K, d\), got \(\)"),
    "factor vector": (
        lambda: LowRank([1.0], 1.0),
        r"factor must have shape \(d, r\) or \(K, d, r\), got \(1,\)",
    ),
    "factor inf": (lambda: LowRank([[np.inf]], 1.0), "factor must be finite"),
    "low-rank var": (
        lambda: LowRank(np.ones((3, 2, 1)), [1.0, 2.0]),
        r"var must have shape .*K as in factor",
    ),
    "low-rank matrix": (lambda: LowRank(np.ones((2, 1)), SQUARE), r"var must have shape \(\) or \(K,\)"),
    "low-rank negative": (lambda: LowRank(np.ones((2, 1)), -0.1), "var must be a variance >= 0, got -0.1"),
    "full vector": (lambda: Full([1.0, 1.0]), r"cov must have shape \(d, d\) or \(K, d, d\), got \(2,\)"),
    "full oblong": (
        lambda: Full(np.ones((2, 3))),
        r"cov must have shape \(d, d\) or \(K, d, d\), got \(2, 3\)",
    ),
    "full skew": (lambda: Full([[1.0, 0.5], [0.0, 1.0]]), "asymmetry of cov must be below 1e-12 of its norm"),
    "full indefinite": (
        lambda: Full([[1.0, 2.0], [2.0, 1.0]]),
        "smallest eigenvalue of cov must be non-negative",
    ),
    "full NaN": (lambda: Full([[1.0, np.nan], [np.nan, 1.0]]), "cov must be finite"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_covariances_are_refused_by_name(case):
    check_refused(BAD[case])


@pytest.mark.lenient("a NaN passes where values are unknown")
def test_under_jit_values_are_not_checked():
    assert np.isnan(jax.jit(lambda v: Isotropic(v).diffused(0.5, 1.0).var)(np.nan))
    assert jax.jit(lambda c: Full(c).log_det(2))(np.diag([2.0, 3.0])) == pytest.approx(np.log(6))
