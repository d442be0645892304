"""Points of a data set as states of a network."""

import numpy as np
import pytest

from gmm.datasets import LabelledData, load_data
from neural.states import StateMap


def test_folding_puts_each_patch_into_the_channels_of_one_pixel():
    image = np.arange(4 * 6, dtype=float).reshape(4, 6)
    states = StateMap((4, 6), 0.0, 1.0, patch=2).to_states(image.reshape(1, -1))
    assert states.shape == (1, 2, 3, 4)
    for row in range(2):
        for column in range(3):
            patch = image[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            np.testing.assert_array_equal(states[0, row, column], patch.ravel())


@pytest.mark.parametrize(
    ("shape", "patch", "state"),
    [((5,), 1, (5,)), ((4, 6), 1, (4, 6, 1)), ((4, 6), 2, (2, 3, 4)), ((4, 4, 3), 2, (2, 2, 12))],
)
def test_there_and_back(shape, patch, state):
    points = np.random.default_rng(0).normal(3.0, 2.0, (7, int(np.prod(shape))))
    mapping = StateMap(shape, shift=3.0, scale=2.0, patch=patch)
    assert mapping.state_shape == state
    states = mapping.to_states(points)
    assert states.shape == (7, *state)
    # float32 states.
    np.testing.assert_allclose(mapping.to_points(states), points, rtol=1e-5, atol=1e-5)
    assert StateMap.from_dict(mapping.as_dict()) == mapping


def test_fitted_states_have_the_scale_of_standardised_data():
    data = load_data("digits")
    states = StateMap.fitted(data, 2).in_states(data)
    assert abs(states.x.mean()) < 1e-6
    distances = lambda x: np.square(x[:50, None] - x[None, 50:100]).sum(-1)
    # A shift and a permutation: distances are those of the standardised points, to float32.
    np.testing.assert_allclose(distances(states.x), distances(data.standardised().x), rtol=1e-4)


def test_data_of_another_shape_are_refused_with_both():
    data = load_data("digits")
    with pytest.raises(ValueError, match=r"points of shape \(28, 28\).*got \(8, 8\)"):
        StateMap((28, 28), 0.0, 1.0, 1).in_states(data)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shape": (4, 6), "patch": 4}, "patch must divide the sides"),
        ({"shape": (4, 6), "patch": 0}, "patch >= 1"),
        ({"shape": (), "patch": 1}, "shape must be"),
        ({"shape": (4,), "scale": 0.0}, "scale positive"),
        ({"shape": (4,), "shift": float("nan")}, "shift must be finite"),
    ],
)
def test_what_cannot_be(fields, message):
    with pytest.raises(ValueError, match=message):
        StateMap(**{"shift": 0.0, "scale": 1.0, "patch": 1, **fields})


def test_a_map_from_a_file_that_is_none():
    with pytest.raises(ValueError, match="shift is missing"):
        StateMap.from_dict({"shape": [4]})


def test_points_that_are_all_the_same_have_no_scale():
    data = LabelledData("flat", np.ones((3, 2), np.float32), np.zeros(3, np.int32), ("0",), (2,))
    with pytest.raises(ValueError, match="must hold points that differ"):
        StateMap.fitted(data)
