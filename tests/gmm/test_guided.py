"""Guided paths of mixtures, judged by the deterministic answer for the pair and by exact conditional laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmm
from gmm import families
from theory import guided_curve, guided_pair, orthogonal_entropy

# Standard errors that a sampled number may be off: 54 comparisons, one false alarm in 8000 suites.
DEVIATIONS = 4.0
ENERGY = 100.0
TIMES = np.array([1.8, 2.4, 3.0])
PAIR = families.pair(100, reduced=True)
VP = gmm.vp()
STEPS, SAMPLES = 200, 16384
# One program serves all schedules that are functions of the level, one more each kind that is not.
SCHEDULES = {
    "plain": gmm.cfg(1.0),
    "cfg": gmm.cfg(4.0),
    "interval": gmm.limited_interval(3, 4, 15),
    "feedback": gmm.feedback(0.5),
    "power": gmm.power_law(1.0, 0.5),
}


def guided(mixture, schedule, times=TIMES, process=VP, **options):
    settings = {"target": 0, "key": jax.random.key(2), "samples": SAMPLES, "steps": STEPS} | options
    return gmm.guided_entropy(mixture, process, times, schedule, **settings)


def assert_close(value, stderr, exact):
    assert np.abs((np.asarray(value) - exact) / stderr).max() < DEVIATIONS


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in ("power", "interval") else n for n in SCHEDULES]
)
def test_sampling_meets_the_deterministic_answer(name):
    schedule = SCHEDULES[name]
    found = guided(PAIR, schedule)
    exact = guided_curve(VP, TIMES, ENERGY, schedule)
    assert_close(found.entropy, found.entropy_stderr, exact.entropy)
    assert_close(found.cross_entropy, found.cross_entropy_stderr, exact.cross_entropy)
    assert_close(found.rate, found.rate_stderr, exact.rate)
    weight = guided_pair(ENERGY, schedule, ENERGY * np.exp(-2 * TIMES)).weight
    np.testing.assert_allclose(found.metadata["mean_weight"], weight, rtol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("process", [gmm.edm(), gmm.flow()], ids=lambda p: p.name)
def test_other_processes_are_the_same_curve(process):
    log_snr = np.asarray(VP.log_snr(TIMES))
    times = np.asarray(process.time_at_log_snr(log_snr))
    found = guided(PAIR, gmm.cfg(4.0), times, process)
    exact = guided_curve(VP, TIMES, ENERGY, gmm.cfg(4.0))
    assert_close(found.entropy, found.entropy_stderr, exact.entropy)
    assert_close(found.cross_entropy, found.cross_entropy_stderr, exact.cross_entropy)


@pytest.mark.slow
def test_the_flow_meets_the_deterministic_answer():
    found = guided(PAIR, gmm.cfg(4.0), sampler="flow", steps=100)
    exact = guided_curve(VP, TIMES, ENERGY, gmm.cfg(4.0), sampler="flow")
    assert_close(found.entropy, found.entropy_stderr, exact.entropy)
    assert_close(found.cross_entropy, found.cross_entropy_stderr, exact.cross_entropy)
    assert_close(found.rate, found.rate_stderr, exact.rate)


def test_without_guidance_many_classes_have_their_class_entropy():
    mixture = families.orthogonal(5, 25, reduced=True)
    energy = 25 * 5 / 4
    times = np.array([1.0, 1.6])
    found = guided(gmm.reduce(mixture), gmm.unguided(), times, samples=4096, steps=60)
    rho = energy * np.exp(-2 * times)
    exact = orthogonal_entropy(5, rho)
    assert_close(found.entropy, found.entropy_stderr, exact)
    assert_close(found.cross_entropy, found.cross_entropy_stderr, exact)


def test_weight_one_changes_nothing_to_the_bit():
    plain = guided(PAIR, gmm.unguided())
    for same in (gmm.cfg(1.0), gmm.power_law(0.0)):
        found = guided(PAIR, same)
        for name in ("entropy", "cross_entropy", "rate", "entropy_stderr"):
            assert np.array_equal(getattr(found, name), getattr(plain, name)), (same, name)


def test_weight_one_walks_the_conditional_path_to_the_bit():
    times = np.linspace(3, 0.5, 12)
    x, _ = gmm.sample(gmm.diffuse(PAIR, 0.05, 1.0), jax.random.key(0), 64)
    key = jax.random.key(1)
    walk = gmm.reverse_sde(PAIR.take([1]), VP, times, x, jax.random.clone(key), component=0, kernel="exact")

    def path(schedule):
        found = gmm.guided_paths(PAIR, VP, times, x, schedule, target=1, key=jax.random.clone(key))
        return np.asarray(found)

    for plain in (gmm.unguided(), gmm.cfg(1.0), gmm.power_law(0.0)):
        np.testing.assert_array_equal(path(plain), np.asarray(walk))
    # Outside its interval a schedule is plain in the guided program too, where a product may be fused otherwise.
    np.testing.assert_allclose(path(gmm.limited_interval(5, 1e5, 1e6)), np.asarray(walk), rtol=1e-12)
    assert np.abs(path(gmm.cfg(2.0)) - np.asarray(walk)).max() > 0.01


@pytest.mark.slow
def test_a_million_dimensions_are_as_good_as_two():
    """The guidance vector lies in the span of the means: paths in full space, projected, have the reduced law."""
    mixture = families.simplex(3, 6)
    partition = gmm.Partition(np.array([0, 0, 1]))
    times = np.array([0.7, 1.4])
    settings = {"partition": partition, "samples": 8192, "steps": 60, "times": times}
    full = guided(mixture, gmm.cfg(2.0), **settings)
    reduced = guided(gmm.reduce(mixture), gmm.cfg(2.0), **settings, key=jax.random.key(9))
    for name in ("entropy", "cross_entropy", "rate"):
        a, b = getattr(full, name), getattr(reduced, name)
        spread = np.hypot(getattr(full, f"{name}_stderr"), getattr(reduced, f"{name}_stderr"))
        assert_close(a, spread, b)


@pytest.mark.slow
def test_dynamic_negative_guidance_samples_the_rest():
    """Exact negative guidance from a class is the law without it: entropies follow those of the other classes."""
    mixture = gmm.Mixture([0.3, 0.3, 0.4], [[3.0, 0.0], [-2.0, 2.0], [-2.0, -2.0]], gmm.Isotropic(0.5))
    times = np.linspace(2.5, 0.02, 160)
    x, _ = gmm.sample(gmm.diffuse(mixture.take([1, 2]), np.exp(-2.5), 1.0), jax.random.key(3), 4096)
    schedule = gmm.dynamic_negative(0.3, max_posterior=0.999)
    path = gmm.guided_paths(mixture, VP, times, x, schedule, target=0, key=jax.random.key(4))
    posterior = np.exp(np.asarray(gmm.log_posterior(mixture, path[-1])))
    assert posterior[:, 0].mean() < 0.01
    share = posterior[:, 2].mean()
    assert abs(share - 4 / 7) < DEVIATIONS * np.sqrt(share * (1 - share) / 4096) + 0.02


@pytest.mark.slow
def test_autoguidance_is_guided_by_another_mixture():
    worse = gmm.Mixture(PAIR.weights, PAIR.means, gmm.Isotropic(4.0))
    times = np.linspace(4, 0.01, 120)
    x, _ = gmm.sample(gmm.diffuse(PAIR.take([0]), np.exp(-4), 1.0), jax.random.key(3), 4096)

    def spread(w):
        settings = {"target": 0, "key": jax.random.key(5), "guide": worse}
        return np.asarray(gmm.guided_paths(PAIR, VP, times, x, gmm.autoguidance(w), **settings)[-1]).std()

    # Away from a wider copy of the same class the law narrows: standard errors are 0.011.
    assert abs(spread(1.0) - 1) < 0.05
    assert spread(2.0) < 0.9


@pytest.mark.slow
def test_the_start_may_be_asked_for():
    found = guided(PAIR, gmm.cfg(2.0), [1.0, 0.5], gmm.vp_linear(), samples=256, steps=20)
    assert found.metadata["first_log_snr"] == pytest.approx(float(gmm.vp_linear().log_snr(1.0)))
    assert np.isfinite(found.entropy).all()


def test_bad_input_is_refused_in_words():
    def walk(times, x):
        return gmm.guided_paths(PAIR, VP, times, x, gmm.cfg(2), target=0, key=jax.random.key(0))

    for words, call in (
        ("target must be a cell 0..1", lambda: guided(PAIR, gmm.cfg(2), target=2)),
        ("samples must be >= 2", lambda: guided(PAIR, gmm.cfg(2), samples=1)),
        ("steps must be|and steps", lambda: guided(PAIR, gmm.cfg(2), steps=0)),
        ("sampler must be one of", lambda: guided(PAIR, gmm.cfg(2), sampler="ode")),
        ("needs a second mixture", lambda: guided(PAIR, gmm.autoguidance(2))),
        ("takes no guide", lambda: guided(PAIR, gmm.cfg(2), guide=PAIR)),
        ("guide must have means", lambda: guided(PAIR, gmm.autoguidance(2), guide=families.pair(3))),
        (
            "probability of target 1 must be positive",
            lambda: guided(gmm.Mixture([1.0, 0.0], PAIR.means, PAIR.covariance), gmm.cfg(2), target=1),
        ),
        ("two cells", lambda: guided(PAIR.take([0]), gmm.cfg(2))),
        ("times must be", lambda: guided(PAIR, gmm.cfg(2), [-1.0])),
        (
            "one label for each",
            lambda: guided(PAIR, gmm.cfg(2), partition=gmm.Partition(np.array([0, 1, 2]))),
        ),
        ("fall", lambda: walk([1, 2], jnp.zeros((2, 1)))),
        ("x must have", lambda: walk([2, 1], jnp.zeros((2, 3)))),
    ):
        with pytest.raises(ValueError, match=words):
            call()
