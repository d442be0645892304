"""The table of test mixtures is itself tested: every tag is true of just the problems that carry it."""

import numpy as np
import pytest
from scipy import stats

from gmm.distances import DIRECT_DIM
from tests.gmm.problems import KINDS, PROBLEMS, TAGS, tagged, untagged

# scipy's float64 densities, against which the oracle itself is checked at ordinary places.
FLOAT64_DENSITY = 1e-12


def distances(problem):
    """(K, K) distances between means."""
    return np.linalg.norm(problem.means[:, None] - problem.means[None], axis=-1)


def spectra(problem):
    """(K, d) eigenvalues of the covariances, from the dense matrices."""
    return problem.variances() if problem.diagonal else np.linalg.eigvalsh(problem.dense())


def differs(values):
    return not np.allclose(values, values[:1])


def twins(problem):
    same = (distances(problem) == 0) & ~np.eye(problem.components, dtype=bool)
    return same.any() and not differs(spectra(problem))


CLAIMS = {
    "symmetric": lambda p: p.components == 2 and not p.means.sum(0).any() and p.weights[0] == p.weights[1],
    "unequal-weights": lambda p: p.weights.max() > 10 * p.weights.min(),
    "zero-weight": lambda p: p.weights.min() == 0,
    "vanishing-weight": lambda p: 0 < p.weights.min() < np.finfo(np.float32).tiny,
    "single": lambda p: p.components == 1,
    "overlapping": lambda p: 0 < distances(p).max() < np.sqrt(spectra(p).min()),
    "coincident": twins,
    "anisotropic": lambda p: differs(spectra(p).T),
    "per-component": lambda p: not p.shared,
    "points": lambda p: not spectra(p).any(),
    "tiny-variance": lambda p: 0 < np.sqrt(spectra(p).min()) < 1e-3 * distances(p).max(),
    "huge-variance": lambda p: spectra(p).max() > 1e6,
    "offset": lambda p: np.linalg.norm(p.means, axis=1).min() > 100 * max(1, np.sqrt(spectra(p).max())),
    "many-classes": lambda p: p.components >= 1000,
    "high-dimension": lambda p: p.dim >= 10_000,
    "matrix-products": lambda p: p.dim > DIRECT_DIM,
}


@pytest.mark.parametrize("slug", PROBLEMS)
def test_tags_are_true(slug):
    problem = PROBLEMS[slug]
    for tag, claim in CLAIMS.items():
        assert claim(problem) == (tag in problem.tags), tag


def test_every_tag_has_a_meaning_a_claim_and_a_problem():
    assert set(TAGS) == set(CLAIMS)
    used = set().union(*(problem.tags for problem in PROBLEMS.values()))
    assert used == set(TAGS)
    assert set(tagged("offset")) | set(untagged("offset")) == set(PROBLEMS)


def test_every_kind_of_covariance_stands_on_both_sides_of_direct_summation():
    slugs = {f"{kind.replace(' ', '-')}-{dim}d" for kind in KINDS for dim in (3, 24)}
    assert slugs <= set(PROBLEMS)
    assert 3 <= DIRECT_DIM < 24
    for slug in slugs:
        assert PROBLEMS[slug].shared == ("each" not in slug)


@pytest.mark.parametrize("slug", PROBLEMS)
def test_shapes_fit_and_weights_sum_to_one(slug):
    problem = PROBLEMS[slug]
    assert problem.slug == slug
    assert problem.weights.shape == (problem.components,)
    assert problem.weights.sum() == pytest.approx(1, abs=1e-12)
    mixture = problem.mixture()
    assert (mixture.components, mixture.dim) == problem.means.shape
    assert type(mixture.covariance) is problem.kind
    assert mixture.covariance.shared == problem.shared


@pytest.mark.parametrize("slug", ["diagonal-each-3d", "low-rank-each-24d", "full-24d"])
def test_the_oracle_agrees_with_scipy(slug):
    problem = PROBLEMS[slug]
    alpha, sigma = 0.6, 0.8
    x = problem.points(alpha, sigma)
    noisy = alpha**2 * problem.dense() + sigma**2 * np.eye(problem.dim)
    laws = [stats.multivariate_normal(alpha * m, c) for m, c in zip(problem.means, noisy, strict=True)]
    expected = np.log(problem.weights) + np.stack([law.logpdf(x) for law in laws], axis=-1)
    np.testing.assert_allclose(
        problem.log_joint(x, alpha, sigma).astype(float), expected, rtol=FLOAT64_DENSITY
    )


@pytest.mark.parametrize("slug", tagged("tiny-variance"))
def test_points_reach_fifteen_standard_deviations(slug):
    problem = PROBLEMS[slug]
    assert problem.log_joint(problem.points(1, 0), 1, 0).max(-1).min() < -(15**2) / 2
