"""Quality of samples of a model: by hand, and on exact denoisers where every answer is known."""

import jax
import numpy as np
import pytest

import gmm
from neural import mixture_denoiser
from neural.quality import judge_of, quality_of, sample_quality
from theory import orthogonal_clone_agreement

STDERRS = 4
CLASSES, ENERGY = 4, 6.0


def law():
    return gmm.families.from_gram(ENERGY * np.eye(CLASSES))


def test_samples_of_the_law_itself():
    """Accuracy is the agreement of clones on clean data, distance zero, diversity one."""
    mixture = law()
    x, y = map(np.asarray, gmm.sample(mixture, jax.random.key(1), 4000))
    made, asked = map(np.asarray, gmm.sample(mixture, jax.random.key(2), 2000))
    found = quality_of(made, asked, (x, y), judge_of(mixture))
    agreement = float(orthogonal_clone_agreement(CLASSES, ENERGY))
    assert abs(found.accuracy.value - agreement) < STDERRS * found.accuracy.stderr
    assert abs(found.distance.value) < STDERRS * found.distance.stderr
    assert abs(found.diversity.value - 1) < STDERRS * np.hypot(found.diversity.stderr, 0.02)


def test_guidance_commits_and_distorts():
    mixture = law()
    data = gmm.sample(mixture, jax.random.key(1), 2000)
    call = {"data": data, "judge": judge_of(mixture), "samples": 64}
    times = gmm.time_grid(gmm.edm(), 80.0, 0.02, 63)
    model = mixture_denoiser(mixture, gmm.edm())
    plain, guided = (
        sample_quality(model, gmm.cfg(w), key=jax.random.key(3), times=times, guide=model, **call)
        for w in (1.0, 4.0)
    )
    agreement = float(orthogonal_clone_agreement(CLASSES, ENERGY))
    # A chain that has only the denoiser misses some of the variance of its steps: 0.03 at 64 steps.
    assert abs(plain.accuracy.value - agreement) < STDERRS * plain.accuracy.stderr + 0.03
    assert guided.accuracy.value > plain.accuracy.value + STDERRS * plain.accuracy.stderr
    assert guided.distance.value > plain.distance.value + STDERRS * plain.distance.stderr
    assert guided.diversity.value < plain.diversity.value


def test_points_judge_by_the_nearest():
    points = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    mixture, partition = gmm.families.empirical(points, np.array([0, 0, 1]))
    log_p = np.asarray(judge_of(mixture, partition, level=0.3)(np.array([[3.9, 0.1], [0.1, 3.0]])))
    np.testing.assert_allclose(np.exp(log_p), [[1, 0], [0, 1]], atol=1e-6)


def test_too_few_samples_of_a_class():
    mixture = law()
    x, y = map(np.asarray, gmm.sample(mixture, jax.random.key(1), 400))
    with pytest.raises(ValueError, match="n >= 16"):
        quality_of(x[:8], y[:8], (x, y), judge_of(mixture))
