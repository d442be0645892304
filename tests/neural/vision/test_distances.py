"""Distances of feature sets against scipy, a closed form, brute force, and their own scatter over seeds."""

import numpy as np
import pytest
import scipy.linalg
from sklearn.neighbors import NearestNeighbors

from neural import frechet_distance
from neural.vision.distances import Distance, jackknife, moments, precision_recall

EXACT = 1e-9  # relative, float64 on both sides
SEEDS = 60


def published(x, y):
    """The formula as its published implementation computes it."""
    a, b = moments(x), moments(y)
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance).real
    return np.sum((a.mean - b.mean) ** 2) + np.trace(a.covariance + b.covariance - 2 * root)


def gaussian(seed, n, scales, shift=0.0):
    return np.random.default_rng(seed).normal(size=(n, len(scales))) * scales + shift


def test_frechet_distance_is_the_published_formula():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 20)) @ rng.normal(size=(20, 20)), rng.normal(size=(500, 20)) * 2 + 0.3
    assert frechet_distance(x, y) == pytest.approx(published(x, y), rel=EXACT)
    assert frechet_distance(moments(x), y) == pytest.approx(frechet_distance(x, y), rel=EXACT)


def test_few_images_give_the_same_by_either_root():
    x, y = gaussian(0, 12, np.ones(30)), gaussian(1, 20, np.linspace(0.1, 3, 30))
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(moments(x), moments(y)), rel=1e-6)


def test_known_distances():
    x = gaussian(0, 50, np.ones(4))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x + 2) == pytest.approx(16, rel=EXACT)
    # Scaling by 3 about the mean: tr C (1 - 3)².
    centre = x.mean(axis=0)
    expected = 4 * np.trace(moments(x).covariance)
    assert frechet_distance(x, centre + 3 * (x - centre)) == pytest.approx(expected, rel=EXACT)


def test_the_jackknife_knows_the_bias_and_the_scatter():
    """Student's t with nine degrees of freedom scatters by 1.13; the false-alarm rate of the bounds is below 1e-4."""
    scales = np.linspace(0.5, 2, 8)
    truth = 8 * 0.3**2 + np.sum((scales - 1) ** 2)
    found = [
        jackknife(frechet_distance, gaussian(2 * s, 400, scales, 0.3), gaussian(2 * s + 1, 400, np.ones(8)))
        for s in range(SEEDS)
    ]
    z = np.array([(d.corrected - truth) / d.stderr for d in found])
    assert abs(z.mean()) < 0.6
    assert 0.8 < z.std() < 1.6
    raw = np.array([d.value - truth for d in found])
    bias = np.array([d.bias for d in found])
    assert abs(raw.mean() - bias.mean()) < 4 * np.hypot(raw.std(), bias.std()) / np.sqrt(SEEDS)
    assert bias.mean() > 0.1


def brute_force(real, made, k):
    def radii(x):
        distances = np.linalg.norm(x[:, None] - x[None], axis=2)
        return np.sort(distances, axis=1)[:, k]

    across = np.linalg.norm(real[:, None] - made[None], axis=2)
    held = across <= radii(real)[:, None]
    return {
        "precision": held.any(axis=0).mean(),
        "recall": (across <= radii(made)[None]).any(axis=1).mean(),
        "density": held.sum() / k / len(made),
        "coverage": held.any(axis=1).mean(),
    }


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_and_recall_by_brute_force(k):
    real, made = gaussian(0, 90, np.ones(5)), gaussian(1, 70, 0.7 * np.ones(5), 0.8) + 1e4 * 0
    assert precision_recall(real, made, k) == pytest.approx(brute_force(real, made, k))
    # A common offset, far larger than the points' distances, changes nothing.
    assert precision_recall(real + 1e3, made + 1e3, k) == pytest.approx(brute_force(real, made, k))


def test_radii_are_those_of_nearest_neighbours_beyond_one_block():
    from neural.vision.distances import ROWS, _radii

    x = gaussian(0, ROWS + 50, np.ones(3))
    expected = NearestNeighbors(n_neighbors=4).fit(x).kneighbors(x)[0][:, 3]
    np.testing.assert_allclose(np.sqrt(_radii(x.astype(np.float32), 3)), expected, rtol=1e-3, atol=1e-4)


def test_the_same_law_is_covered_and_a_far_one_is_not():
    real, made = gaussian(0, 400, np.ones(3)), gaussian(1, 400, np.ones(3))
    found = precision_recall(real, made)
    assert min(found["precision"], found["recall"], found["coverage"]) > 0.85
    assert found["density"] == pytest.approx(1, abs=0.15)
    assert set(precision_recall(real, made + 50).values()) == {0.0}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: frechet_distance(x, x[:, :2]), "one dimension, got 3 and 2"),
        (lambda x: frechet_distance(x[:1], x), "n >= 2"),
        (lambda x: frechet_distance(x[0], x), "shape"),
        (lambda x: frechet_distance(x * np.nan, x), "finite"),
        (lambda x: precision_recall(x[:3], x), "n >= 4"),
        (lambda x: precision_recall(x, x[:, :2]), "one dimension"),
        (lambda x: jackknife(frechet_distance, x[:19], x), "n >= 20"),
    ],
)
def test_what_is_no_set_of_features_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(gaussian(0, 40, np.ones(3)))


def test_corrected_takes_the_bias_off():
    assert Distance(3.0, 0.5, 0.25).corrected == 2.75
