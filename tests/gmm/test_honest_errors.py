"""Standard errors of sampled numbers: z scores over many keys have unit variance, or the error is unknown (NaN).

Oracles are quadratures that share no code with the samplers: the channel of two classes with any priors, of orthogonal
classes, and one-dimensional integrals by scipy. Keys are fixed. With normal z scores the variance over n keys leaves
the interval of `allowed(n)` once in a million tests, and |z| > 5 is seen once in 1.7 million numbers: redrawing all
keys, this file would fail once in about 2000 runs, as far as z scores are normal. 60 keys tell a variance to a factor
of two and 200 to a third, so that the quick part finds errors that are wrong by half, the slow part by a sixth.
"""

import jax
import numpy as np
import pytest
from scipy import stats

import gmm
import theory
from tests.gmm.two_classes import surprise

KEYS, MANY_KEYS, SAMPLES = 60, 200, 1024
ENERGY = 64.0  # ‖m‖²
FIVE_SIGMA = 5.0
# Of strata with few effective draws: Student's t of some 40 degrees of freedom and the skewness of positive draws.
SMALL_SAMPLE = 1.1


def allowed(keys):
    """Bounds of the variance of `keys` normal numbers, passed with a probability of 1e-6."""
    low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], keys) / keys
    return low, high * SMALL_SAMPLE


def curves(mixture, t, keys, samples=SAMPLES, **options):
    """Single-point curves, one for each key."""
    return [
        gmm.class_entropy(mixture, gmm.edm(), [t], key=jax.random.key(k), samples=samples, **options)
        for k in range(keys)
    ]


def check(values, errors, exact):
    """Every error is known, no |z| is above five, and their variance is one."""
    z = (np.asarray(values) - exact) / np.asarray(errors)
    assert np.isfinite(z).all()
    assert np.abs(z).max() < FIVE_SIGMA
    low, high = allowed(len(z))
    assert low < np.mean(z**2) < high


def check_curves(found, exact):
    """`check` of the named fields, of cells where the name is a number."""
    for name, value in exact.items():
        at = (0, name) if isinstance(name, int) else 0
        field = "per_cell" if isinstance(name, int) else name
        check(
            [getattr(c, field)[at] for c in found], [getattr(c, f"{field}_stderr")[at] for c in found], value
        )


def rare_pair(prior, rho):
    """Two classes, the second of probability `prior`; time; exact H, dH/dt, agreement and both surprises."""
    mixture = gmm.families.pair(1, weights=[1 - prior, prior], separation=ENERGY**0.5)
    t = np.sqrt(ENERGY / rho - 1)
    per_rho = float(theory.binary_entropy_rate(rho, prior))
    exact = {
        "entropy": float(theory.binary_entropy(rho, prior)),
        "rate": -per_rho * 2 * t * ENERGY / (1 + t**2) ** 2,
        "clone_agreement": float(theory.binary_clone_agreement(rho, prior)),
        0: surprise(rho, 1 - prior, prior),
        1: surprise(rho, prior, 1 - prior),
    }
    return mixture, t, exact


def near_pair(classes, distance, t=0.1):
    """Equally likely classes of which two are near and all others far, so that these two carry all of H."""
    means = 60.0 * np.eye(classes, classes - 1)
    means[-2:] = 0
    means[-2:, -1] = [distance / 2, -distance / 2]
    rho = distance**2 / (4 * (1 + t**2))
    entropy = float(theory.binary_entropy(rho))
    per_t = rho * 2 * t / (1 + t**2)
    exact = {
        "entropy": 2 / classes * entropy,
        "rate": -2 / classes * float(theory.binary_entropy_rate(rho)) * per_t,
        classes - 1: entropy,
    }
    return gmm.Mixture(np.full(classes, 1 / classes), means, gmm.Isotropic(1.0)), t, exact


def orthogonal(weights, rho):
    """Orthogonal classes of equal energy and any priors."""
    mixture = gmm.Mixture(weights, ENERGY**0.5 * np.eye(len(weights)), gmm.Isotropic(1.0))
    exact = float(theory.unequal_entropy(weights, np.full(len(weights), rho)))
    return mixture, np.sqrt(ENERGY / rho - 1), {"entropy": exact}


@pytest.mark.parametrize("rho", [1.0, 8.0, 30.0])
@pytest.mark.parametrize("prior", [0.5, 1e-2, 1e-6])
def test_rare_classes(prior, rho):
    mixture, t, exact = rare_pair(prior, rho)
    check_curves(curves(mixture, t, KEYS), exact)


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.1, 1.0, 4.0, 8.0, 16.0, 30.0])
@pytest.mark.parametrize("prior", [0.5, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
def test_rare_classes_over_many_keys(prior, rho):
    mixture, t, exact = rare_pair(prior, rho)
    check_curves(curves(mixture, t, MANY_KEYS), exact)


@pytest.mark.parametrize(("classes", "distance"), [(10, 8.0), (100, 5.0)])
def test_one_near_pair_among_many_classes(classes, distance):
    mixture, t, exact = near_pair(classes, distance)
    check_curves(curves(mixture, t, KEYS), exact)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "distance"), [(100, 8.0), (500, 4.0), (500, 8.0), (500, 12.0), (1000, 8.0)]
)
def test_one_near_pair_among_very_many_classes(classes, distance):
    mixture, t, exact = near_pair(classes, distance)
    check_curves(curves(mixture, t, MANY_KEYS), exact)


UNEQUAL = {
    "one very rare": [0.5 - 5e-7, 0.5 - 5e-7, 1e-6],
    "two rare": [*[(1 - 1e-4) / 18] * 18, 5e-5, 5e-5],
    "many rare": [0.4995, 0.4995, *[0.001 / 48] * 48],
}


@pytest.mark.parametrize("name", UNEQUAL)
def test_rare_classes_among_common_ones(name):
    mixture, t, exact = orthogonal(np.array(UNEQUAL[name]), 12.0)
    check_curves(curves(mixture, t, KEYS), exact)


@pytest.mark.slow
@pytest.mark.parametrize("rho", [4.0, 16.0, 36.0])
@pytest.mark.parametrize("name", UNEQUAL)
def test_rare_classes_among_common_ones_over_many_keys(name, rho):
    mixture, t, exact = orthogonal(np.array(UNEQUAL[name]), rho)
    check_curves(curves(mixture, t, MANY_KEYS), exact)


def test_cells_of_many_classes_are_right_or_of_unknown_error():
    """1024 points are ten a class: where each is decided alone they cannot tell, and say so."""
    classes = 100
    for rho, some_known in ((1.0, True), (9.0, False), (36.0, False)):
        mixture, t, _ = orthogonal(np.full(classes, 1 / classes), rho)
        found = curves(mixture, t, 12)
        exact = float(theory.orthogonal_entropy(classes, rho))
        z = np.array([(c.per_cell[0] - exact) / c.per_cell_stderr[0] for c in found])
        assert np.isfinite(z).any() == some_known
        assert np.nanmax(np.abs(z), initial=0) < FIVE_SIGMA
        check_curves(found, {"entropy": exact})


def test_few_samples_are_right_or_of_unknown_error():
    """The rate at 128 points."""
    for prior, rho in ((0.5, 1.0), (0.5, 16.0), (0.1, 4.0), (1e-3, 8.0)):
        mixture, t, exact = rare_pair(prior, rho)
        for name in ("entropy", "rate"):
            found = curves(mixture, t, KEYS, samples=128)
            z = np.array(
                [(getattr(c, name)[0] - exact[name]) / getattr(c, f"{name}_stderr")[0] for c in found]
            )
            assert np.nanmax(np.abs(z), initial=0) < FIVE_SIGMA
            assert np.nanmean(z**2) < allowed(np.isfinite(z).sum())[1]


@pytest.mark.parametrize(
    "covariance", [gmm.Isotropic(1.0), gmm.Isotropic([1.0, 1.0])], ids=["shared", "each"]
)
def test_what_plain_sampling_cannot_see_has_no_known_error(covariance):
    means = np.array([[ENERGY**0.5], [-(ENERGY**0.5)]])
    mixture = gmm.Mixture([0.5, 0.5], means, covariance)
    for rho, known in ((1.0, True), (4.0, True), (24.0, False)):
        t = np.sqrt(ENERGY / rho - 1)
        exact = float(theory.binary_entropy(rho))
        found = curves(mixture, t, 20, boundary=False, exact=False)
        z = [(c.entropy[0] - exact) / c.entropy_stderr[0] for c in found]
        assert np.isfinite(z).any() == known
        assert np.nanmax(np.abs(z), initial=0) < FIVE_SIGMA


def test_a_rare_class_of_its_own_covariance_is_drawn():
    """No boundary points, yet each cell has its share of the points: the surprise of the rare one is known."""
    prior, rho = 1e-4, 2.0
    shared, t, exact = rare_pair(prior, rho)
    mixture = gmm.Mixture(shared.weights, shared.means, gmm.Isotropic([1.0, 1.0]))
    check_curves(curves(mixture, t, KEYS, exact=False), {"entropy": exact["entropy"], 1: exact[1]})


def test_classes_that_coincide_and_classes_of_probability_zero():
    """Two of three means are one point: H is that of the pair, and log 2 for the two that are the same."""
    means = np.array([[8.0], [-8.0], [-8.0], [0.0]])
    weights = np.array([0.5, 0.25, 0.25, 0.0])
    rho = 16.0
    t = np.sqrt(ENERGY / rho - 1)
    exact = float(theory.binary_entropy(rho)) + 0.5 * np.log(2)
    for found in curves(gmm.Mixture(weights, means, gmm.Isotropic(1.0)), t, 5):
        assert abs(found.entropy[0] - exact) < FIVE_SIGMA * found.entropy_stderr[0] + 1e-12
        assert np.isnan(found.per_cell[0, 3])
    alone = gmm.class_entropy(
        gmm.Mixture([1.0, 0.0], means[:2], gmm.Isotropic(1.0)),
        gmm.edm(),
        [1.0],
        key=jax.random.key(0),
        samples=64,
    )
    assert alone.entropy[0] == alone.entropy_stderr[0] == 0


def test_cells_of_several_components():
    """A rare cell of two components beside a common one of two, against the same by 128 times the points."""
    means = np.array([[4.0, 0.0], [4.0, 3.0], [-4.0, 0.0], [-4.0, 1.0]])
    mixture = gmm.Mixture([0.499, 0.5, 6e-4, 4e-4], means, gmm.Diagonal([1.0, 0.5]))
    options = {"partition": gmm.Partition(np.array([0, 0, 1, 1]))}
    reference = curves(mixture, 0.5, 1, samples=2**17, **options)[0]
    found = curves(mixture, 0.5, KEYS, **options)
    check_curves(
        found, {"entropy": reference.entropy[0], "rate": reference.rate[0], 1: reference.per_cell[0, 1]}
    )


def exact_pair_curve(times, prior=0.5, energy=16.0):
    rho = energy / (1 + times**2)
    per_rho = theory.binary_entropy_rate(rho, prior)
    return gmm.EntropyCurve(
        t=times, log_snr=-2 * np.log(times), log_snr_slope=-2 / times, entropy=theory.binary_entropy(rho, prior),
        entropy_stderr=0 * times, rate=-per_rho * 2 * times * rho / (1 + times**2), rate_stderr=0 * times,
        prior_entropy=float(theory.binary_entropy(0.0, prior)),
    )  # fmt: skip


@pytest.mark.parametrize("prior", [0.5, 0.1])
def test_ends_of_a_window(prior):
    exact = gmm.window(exact_pair_curve(np.geomspace(0.3, 120, 400), prior))
    mixture = gmm.families.pair(1, weights=[1 - prior, prior], separation=4.0)
    times = np.geomspace(0.3, 120, 20)
    found = [
        gmm.window(gmm.class_entropy(mixture, gmm.edm(), times, key=jax.random.key(k), samples=SAMPLES))
        for k in range(KEYS)
    ]
    for name in ("low", "median", "high"):
        values, errors = ([getattr(w, n) for w in found] for n in (name, f"{name}_stderr"))
        check(values, errors, getattr(exact, name))


@pytest.mark.slow
@pytest.mark.parametrize("samples", [500, 2000])
def test_whitened_paths_know_their_error_or_say_that_they_do_not(samples):
    rho = np.array([0.2, 2.0, 8.0, 32.0])
    exact = theory.guided_pair(16.0, gmm.cfg(3.0), rho / 2, refine=2)
    found = [
        gmm.guided_whitened(2, rho, 3.0, key=jax.random.key(k), samples=samples, steps=100) for k in range(30)
    ]
    for values, truth in (("entropy", exact.entropy), ("surprise", exact.cross_entropy)):
        z = np.array([(getattr(w, values).value - truth) / getattr(w, values).stderr for w in found])
        assert np.isnan(z[:, -1]).all()
        assert np.nanmax(np.abs(z)) < FIVE_SIGMA
        assert (np.nanmean(z[:, :2] ** 2, axis=0) < allowed(30)[1]).all()
