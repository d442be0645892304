"""The networks that ship: what they promise, measured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.datasets

import gmm
from neural import checkpoints, zoo
from neural.families import MEANS, FamilySpec
from neural.models import load_model
from neural.samplers import edm_times, heun
from neural.training import level_losses, mixture_optimum, nearest_class

# Loss above the optimum that the tree's network may have at any noise level.
FLOOR = 0.02
# Share of samples that must be judged to be of the class that was asked for.
RECOGNISED = 0.9


@pytest.mark.parametrize("name", zoo.ZOO)
def test_each_has_its_files_and_its_card_tells_how_it_was_made(name):
    path = zoo.path(name)
    assert path.stat().st_size < 2e6
    card = path.with_suffix(".md").read_text()
    assert "`speciation train " in card
    assert f"--out {name}`" in card
    assert path.with_name(f"{name}-samples.png").exists()
    assert path.with_name(f"{name}-training.png").exists()


def test_unknown_name():
    with pytest.raises(ValueError, match="zoo has tree"):
        zoo.path("cats")


@pytest.mark.parametrize("name", zoo.ZOO)
def test_each_is_a_model_by_name(name):
    model = load_model(f"zoo:{name}")
    x = jnp.ones((2, *model.shape), jnp.float32)
    found = model.denoiser.denoise(x, 1.0, 0)
    assert found.shape == x.shape
    assert np.isfinite(found).all()
    # The null condition is trained: it is another prediction, and the one that guidance uses.
    null = model.unconditional.denoise(x, 1.0, None)
    assert np.isfinite(null).all()
    assert np.abs(np.asarray(null - found)).max() > 1e-3
    assert len(model.names) == len(model.conditions)


def test_the_tree_is_close_to_the_optimum_at_every_noise_level():
    model = load_model("zoo:tree")
    x0, labels = gmm.sample(model.mixture, jax.random.key(0), 4096)
    sigmas = np.geomspace(0.002, 160, 12)
    optimum = mixture_optimum(model.mixture)
    losses = level_losses(model.denoiser, x0, labels, sigmas, key=jax.random.key(1), optimum=optimum)
    assert losses.gap.max() < FLOOR
    assert [len(set(p.labels)) for p in model.levels.values()] == [2, 4, 8]


def test_the_law_of_the_tree_is_the_one_in_its_file():
    """The means that it was trained on have the inner products of its family, in coordinates of their own."""
    model, held = load_model("zoo:tree"), checkpoints.read(zoo.path("tree")).tensors[MEANS]
    np.testing.assert_array_equal(model.mixture.means, held)
    own = FamilySpec.from_dict(model.facts["family"]).mixture().means
    grams = [np.asarray(means, float) @ np.asarray(means, float).T for means in (held, own)]
    # Both sides were rounded to float32 before they were multiplied: norms of 16.
    np.testing.assert_allclose(*grams, atol=1e-4)


def test_a_file_without_the_means_gives_a_network_without_an_exact_law(tmp_path):
    held, path = checkpoints.read(zoo.path("tree")), tmp_path / "old.safetensors"
    checkpoints.write_safetensors(
        path, {k: v for k, v in held.tensors.items() if k != MEANS}, held.attributes
    )
    with pytest.warns(UserWarning, match="does not hold the class means"):
        model = load_model(path)
    assert model.mixture is None
    assert len(model.levels) == 3


def test_a_file_with_means_of_another_shape_is_refused(tmp_path):
    held, path = checkpoints.read(zoo.path("tree")), tmp_path / "bad.safetensors"
    checkpoints.write_safetensors(
        path, {**held.tensors, MEANS: np.zeros((8, 63), np.float32)}, held.attributes
    )
    with pytest.raises(ValueError, match=r"means must have shape \(classes, dim\), got \(8, 63\)"):
        load_model(path)


def test_digits_come_with_their_data_in_the_networks_coordinates():
    model = load_model("zoo:digits")
    data = model.data()
    assert data.shape == model.shape
    assert data.classes == model.names
    assert np.isclose(np.mean(np.var(data.x, axis=0)), 1.0, atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "weight"), [("digits", 1.0), ("fashion", 2.0)])
def test_samples_are_of_the_class_that_was_asked_for(name, weight):
    """Fashion-MNIST under guidance: the judge finds the class of 86% of held-out photographs only."""
    model = load_model(f"zoo:{name}")
    try:
        data = model.data()
    except ValueError as error:  # Fashion-MNIST is no part of the project
        pytest.skip(str(error))
    labels = np.repeat(np.arange(10), 20)
    noise = jax.random.normal(jax.random.key(3), (len(labels), *model.shape), jnp.float32)
    times = edm_times(model.process, 18, sigma_min=0.02)
    samples = heun(model.denoiser, noise, jnp.asarray(labels), times=times, guidance_scale=weight)
    judged = nearest_class(np.asarray(samples).reshape(len(labels), -1), data.x, data.y)
    assert np.mean(judged == labels) >= RECOGNISED


def test_states_of_images_become_pictures_of_the_data():
    model = load_model("zoo:digits")
    states = model.data()
    pictures = model.pictures(states.x.reshape(-1, *model.shape))
    assert pictures.shape == (len(states.x), 8, 8, 1)
    # scikit-learn's digits are whole numbers 0..16, read here without the project.
    ink = np.round(pictures / 255 * 16).reshape(-1, 64)
    np.testing.assert_array_equal(ink, sklearn.datasets.load_digits().data)
    assert load_model("zoo:tree").pictures is None
