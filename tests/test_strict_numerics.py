"""Valid calls under JAX's strict modes: no NaN, no infinity and no implicit promotion stops them, no number changes."""

import contextlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmm
import neural
import theory
from gmm.dynamics import reverse_kernel

EDM2 = pathlib.Path(__file__).parent / "neural/data/edm2/tiny.pkl"
KINDS = ("float32", "float64")
# Compiled programs are the same in both modes; a step that is not compiled may round once more.
ROUNDING = {"float32": 1e-5, "float64": 1e-12}
# Standard errors between two runs: 8 comparisons, one false alarm in 2000 suites.
DEVIATIONS = 4.0


@contextlib.contextmanager
def strict():
    with jax.debug_nans(True), jax.debug_infs(True), jax.numpy_dtype_promotion("strict"):
        yield


def key():
    return jax.random.key(0)


def points(own=False):
    """Three classes on a line, the first of weight zero."""
    variance = [1.0, 0.5, 2.0] if own else 1.0
    return gmm.Mixture([0.0, 0.5, 0.5], [[0.0], [1.0], [2.0]], gmm.Isotropic(variance))


def tracked(**options):
    simplex = gmm.families.simplex(classes=3, dim=8)
    denoiser = neural.mixture_denoiser(simplex, gmm.edm())
    return neural.online_entropy(denoiser, [0, 1, 2], key=key(), samples=16, steps=8, **options)


def gap(classes=(0, 1, 2)):
    denoiser = neural.mixture_denoiser(gmm.families.simplex(classes=3, dim=8), gmm.edm())
    return neural.gap_entropy(denoiser, list(classes), key=key(), samples=16, steps=8)


def sampled(mixture=None, **options):
    return gmm.class_entropy(mixture or points(), gmm.vp(), [0.5, 100.0], key=key(), samples=64, **options)


def guided(own=False, **options):
    schedule = options.pop("schedule", gmm.cfg(2.0))
    settings = {"target": 1, "key": key(), "samples": 32, "steps": 8} | options
    return gmm.guided_entropy(points(own), gmm.edm(), [0.5, 1.0], schedule, **settings)


def curve_fields(curve):
    return curve.entropy, curve.rate


CALLS = {
    "sampled": lambda: (*curve_fields(sampled()), sampled().per_cell),
    "own variances": lambda: curve_fields(sampled(points(own=True))),
    "a cell of weight zero": lambda: curve_fields(sampled(partition=gmm.Partition([0, 1, 1]))),
    "a cell with a part of weight zero": lambda: curve_fields(sampled(partition=gmm.Partition([0, 0, 1]))),
    "posterior": lambda: gmm.log_posterior(points(), np.zeros((2, 1), points().dtype)),
    "points of more digits": lambda: gmm.score(points(), np.zeros((2, 1), np.float64)),
    "reverse kernel at the ends": lambda: reverse_kernel(gmm.flow(), 1.0, 0.0),
    "denoised": lambda: gmm.denoise(points(), gmm.edm(), np.zeros((2, 1), points().dtype), 1.0),
    "taken": lambda: points().take([0, 1]).log_weights,
    "U-turn": lambda: gmm.u_turn(points(), gmm.vp(), [0.5], key=key(), samples=32, steps=8),
    "guided": lambda: curve_fields(guided()),
    "guided, own variances": lambda: curve_fields(guided(own=True)),
    "guided flow": lambda: curve_fields(guided(sampler="flow")),
    "feedback": lambda: curve_fields(guided(schedule=gmm.feedback(0.5))),
    "quadrature": lambda: theory.entropy_curve(gmm.edm(), [0.1, 1.0, 1e10], energy=8.0, classes=3).entropy,
    "guided pair": lambda: theory.guided_pair(16.0, gmm.cfg(2.0), [1.0, 4.0]).entropy,
    "gap": lambda: curve_fields(gap()),
    "classes": lambda: curve_fields(tracked()),
    "unconditional": lambda: curve_fields(tracked(tracker="unconditional")),
    "share": lambda: curve_fields(tracked(tracker="share", drive="mixture")),
    "guided network": lambda: curve_fields(tracked(guidance=gmm.cfg(2.0))),
    "EDM2 in half precision": lambda: neural.load_edm2(EDM2, dtype="bfloat16").denoise(
        np.zeros((1, 16, 16, 4), np.float32), 1.0, np.array([1])
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CALLS)
def test_strict_modes_change_nothing(name, kind):
    with jax.enable_x64(kind == "float64"):
        expected = CALLS[name]()
        with strict():
            found = CALLS[name]()
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=ROUNDING[kind], atol=ROUNDING[kind])


@pytest.mark.parametrize("sampler", ["sde", "flow"])
def test_a_class_of_weight_zero_changes_no_rate_of_guidance(sampler):
    options = {"samples": 1024, "steps": 64, "sampler": sampler}
    without = gmm.Mixture([0.5, 0.5], [[1.0], [2.0]], gmm.Isotropic(1.0))
    expected = gmm.guided_entropy(
        without, gmm.edm(), [0.5, 1.0], gmm.cfg(2.0), target=0, key=key(), **options
    )
    found = guided(**options)
    for name in ("entropy", "rate"):
        error = np.hypot(getattr(found, f"{name}_stderr"), getattr(expected, f"{name}_stderr"))
        assert np.abs(getattr(found, name) - getattr(expected, name)).max() < DEVIATIONS * error.min()


def test_a_nan_of_the_caller_still_stops():
    with strict(), pytest.raises(FloatingPointError):
        jnp.log(-jnp.ones(()))


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_bad_input_is_refused_by_name_as_without_the_modes(value):
    with strict(), pytest.raises(ValueError, match="factor must be finite"):
        gmm.LowRank([[value]], 1.0)


def test_whole_numbers_are_states_and_times():
    with strict():
        assert gmm.edm().sigma(2) == 2
        assert np.isfinite(gmm.log_prob(points(), np.array([[1], [2]]))).all()
