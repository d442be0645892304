"""Places on curves without sampling, and their numerical errors."""

import math

import numpy as np
import pytest

import gmm
import theory
from paper_figures.studies.exact_laws import exact_law, exact_times
from theory.landmarks import fastest_of, half_entropy_of

NOISE = np.linspace(-1.5, 3.0, 19)
# An obtuse triangle has no simpler route than the cluster expansion.
OBTUSE = gmm.Mixture([0.5, 0.3, 0.2], [[0.0, 0.0], [6.0, 0.6], [12.0, 0.0]], gmm.Isotropic(1.0))
PAIR = gmm.Mixture([0.7, 0.3], [[0.0, 0.0], [9.0, 0.0]], gmm.Isotropic([1.0, 0.5]))
PLACES = [lambda curve, find=find: find(curve, gmm.vp(), NOISE) for find in (fastest_of, half_entropy_of)]
FINE = 1e-9


def test_the_stated_error_covers_that_of_the_cluster_expansion():
    exact, coarse = exact_law(OBTUSE, gmm.vp())
    assert coarse is not None
    fine = exact_times(
        PLACES, gmm.vp(), lambda times: theory.exact_curve(OBTUSE, gmm.vp(), times, tolerance=FINE)
    )
    for found, reference in zip(exact_times(PLACES, gmm.vp(), exact, coarse), fine, strict=True):
        assert 0 < found.stderr < 1e-3
        assert abs(found.value - reference.value) <= found.stderr


def test_routes_without_a_tolerance_have_no_error():
    exact, coarse = exact_law(PAIR, gmm.vp())
    assert coarse is None
    assert [time.stderr for time in exact_times(PLACES, gmm.vp(), exact)] == [0, 0]


def test_a_place_that_is_not_there_has_no_error_either():
    exact, coarse = exact_law(OBTUSE, gmm.vp())
    (nowhere,) = exact_times([lambda curve: math.nan], gmm.vp(), exact, coarse)
    assert math.isnan(nowhere.value)
    assert math.isnan(nowhere.stderr)


@pytest.mark.parametrize("coarse", [0.02, math.nan])
def test_the_error_is_the_distance_of_two_places(coarse):
    places = iter([0.0, coarse])
    (found,) = exact_times([lambda curve: next(places)], gmm.edm(), lambda t: None, lambda t: None)
    assert found.value == pytest.approx(1.0)
    assert found.stderr == pytest.approx(math.expm1(coarse), nan_ok=True)
