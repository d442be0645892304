"""Image quality from features, and vision networks as judges of a class."""

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg

from neural import image_quality, load_judge
from neural.vision.classes import class_judge, prompt_judge
from neural.vision.distances import moments
from tests.neural.vision import rule

DATA = Path(__file__).parents[1] / "data" / "vision"


def gaussian(seed, n, shift=0.0, dim=6):
    return shift + np.random.default_rng(seed).normal(size=(n, dim)) * np.linspace(0.5, 1.5, dim)


def test_quality_of_the_same_law_and_of_another():
    real = gaussian(0, 600)
    same, other = image_quality(gaussian(1, 600), real), image_quality(gaussian(2, 600, shift=1.0), real)
    # Squared distance of the means; covariances are equal.
    assert abs(other.frechet.corrected - 6.0) < 4 * other.frechet.stderr
    assert abs(same.frechet.corrected) < 4 * same.frechet.stderr
    assert abs(same.kernel.value) < 4 * same.kernel.stderr
    assert other.kernel.value > 5 * other.kernel.stderr
    assert other.neighbours["precision"].value < same.neighbours["precision"].value
    assert set(same.neighbours) == {"precision", "recall", "density", "coverage"}
    assert (same.made, same.real, same.dimensions, same.caveats) == (600, 600, 6, [])


def test_published_statistics_stand_for_real_images():
    real, made = gaussian(0, 4000), gaussian(1, 400, shift=0.5)
    found = image_quality(made, moments(real))
    mean, cov = made.mean(0), np.cov(made.T)
    root = scipy.linalg.sqrtm(cov @ np.cov(real.T)).real
    expected = np.sum((mean - real.mean(0)) ** 2) + np.trace(cov + np.cov(real.T) - 2 * root)
    assert found.frechet.value == pytest.approx(expected, rel=1e-9)
    assert found.kernel is None
    assert not found.neighbours
    assert found.real == 4000


def test_the_order_of_files_changes_nothing_but_the_error_bars():
    real, made = gaussian(0, 300), gaussian(1, 300)
    one, other = (image_quality(rows, real) for rows in (made, np.sort(made, axis=0)[::-1]))
    shuffled = image_quality(made[np.random.default_rng(5).permutation(300)], real)
    assert shuffled.frechet.value == pytest.approx(one.frechet.value, rel=1e-9)
    assert other.frechet.value != one.frechet.value


def test_too_few_images_are_said():
    found = image_quality(gaussian(0, 30, dim=50), gaussian(1, 300, dim=50))
    assert len(found.caveats) == 1
    assert "30 generated images are fewer than the 50 dimensions" in found.caveats[0]
    with pytest.raises(ValueError, match="n >= 20"):
        image_quality(gaussian(0, 19), gaussian(1, 300))


def test_a_class_judge_is_the_softmax_of_the_heads_logits():
    judge, images = load_judge(DATA / "dinov2"), rule.images("small", 3, 32, 32, 3)
    logits = judge.logits(images).astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = np.exp(np.asarray(class_judge(judge, lambda x: images[: len(x)], [1, 0])(np.zeros((3, 4)))))
    np.testing.assert_allclose(found[:, :2], p[:, [1, 0]], rtol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    # At once, before anything is sampled.
    with pytest.raises(ValueError, match="classes must be below 10, the judge's own"):
        class_judge(judge, lambda x: images, [10])
    with pytest.raises(ValueError, match="no classes of its own; load it with its linear head"):
        class_judge(load_judge(DATA / "dinov2-swiglu"), lambda x: images, [0])
    with pytest.raises(ValueError, match="no classes of its own; ask CLIP"):
        class_judge(load_judge(DATA / "clip"), lambda x: images, [0])


def test_a_prompt_judge_adds_up_the_other_prompts(monkeypatch):
    judge = load_judge(DATA / "clip")
    scores = np.log([[0.5, 0.2, 0.3], [0.1, 0.1, 0.8]])
    monkeypatch.setattr(type(judge), "text_features", lambda self, prompts: np.ones((len(prompts), 1)))
    monkeypatch.setattr(type(judge), "scaled_cosines", lambda self, images, texts: scores + 7)
    grey = np.zeros((2, 8, 8, 1), np.uint8)
    found = prompt_judge(judge, lambda x: grey, ["a cat"], ["a dog", "a car"])(np.zeros(2))
    np.testing.assert_allclose(np.exp(found), [[0.5, 0.5], [0.1, 0.9]], rtol=1e-5)
