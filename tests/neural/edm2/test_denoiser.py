"""The denoiser's interface: labels, shapes, types, refusals, shared classes, lowering for accelerators."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neural.edm2 import from_tensors
from neural.edm2.denoiser import _denoise

# Sums in another order, float64.
FLOAT64 = 1e-12
# The stored float64 value of another library's cosine.
LOGVAR64 = 1e-13


@pytest.fixture
def model(network):
    return network("tiny", "float64")


@pytest.fixture
def x():
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 4)))


def test_no_class_is_the_zero_label(model, x):
    none = model.denoise(x, 1.0)
    np.testing.assert_array_equal(none, model.denoise(x, 1.0, -1))
    np.testing.assert_array_equal(none, model.denoise(x, jnp.ones(2), jnp.array([-1, -1])))
    mixed = model.denoise(x, 1.0, jnp.array([3, -1]))
    np.testing.assert_allclose(mixed[1], none[1], atol=FLOAT64)
    assert np.abs(mixed[0] - none[0]).max() > 1e-2


def test_a_scalar_time_or_class_serves_the_whole_batch(model, x):
    np.testing.assert_array_equal(model.denoise(x, 2, 3), model.denoise(x, np.array([2.0, 2.0]), [3, 3]))


def test_samples_of_a_batch_do_not_see_each_other(model, x):
    together = model.denoise(x, jnp.array([0.1, 20.0]), jnp.array([1, 8]))
    alone = model.denoise(x[1:], 20.0, 8)
    np.testing.assert_allclose(together[1:], alone, atol=FLOAT64)


def test_classes_of_one_state_agree_with_one_evaluation_each(model, x):
    t, classes = jnp.array([0.3, 9.0]), jnp.array([4, -1, 7])
    together = model.denoise_classes(x, t, classes)
    assert together.shape == (2, 3, 16, 16, 4)
    for index, label in enumerate(classes):
        np.testing.assert_allclose(together[:, index], model.denoise(x, t, label), atol=FLOAT64)


def test_classes_of_one_state_share_work(model, x):
    def flops(rows: int) -> float:
        label = jnp.zeros(6, int)
        arguments = (model.weights, x[:1].repeat(rows, 0), jnp.ones(rows), label)
        lowered = _denoise.lower(*arguments, config=model.config, dtype=model.dtype)
        return lowered.cost_analysis()["flops"]

    # Six classes of one state: the input convolution, the first convolution of the first block, and the
    # last block's share of the input convolution's skip are computed once.
    saved = 5 * 2 * 256 * 9 * (5 * 32 + 32 * 32 + 32 * 32)
    assert flops(6) - flops(1) == pytest.approx(saved, rel=0.2)


def test_denoised_images_keep_the_type_of_the_state(network, x):
    single = network("tiny")
    assert single.denoise(x.astype(jnp.float32), 1.0).dtype == jnp.float32
    assert single.denoise(x.astype(jnp.bfloat16), 1.0).dtype == jnp.float32
    assert single.denoise(x, 1.0).dtype == jnp.float64


def test_uncertainty_of_any_shape(model, golden):
    for case in golden("tiny")["cases"]:
        sigma = golden("tiny")[f"{case}/sigma"].astype(float)
        expected = golden("tiny")[f"{case}/logvar_f64"].ravel()
        np.testing.assert_allclose(model.uncertainty(sigma), expected, atol=LOGVAR64)
        np.testing.assert_allclose(model.uncertainty(sigma[None]), expected[None], atol=LOGVAR64)
    assert model.uncertainty(1.0).shape == ()


def test_uncertainty_does_not_round_in_half_precision(network):
    sigma = jnp.geomspace(0.002, 80, 9, dtype=jnp.float32)
    np.testing.assert_array_equal(
        network("tiny", "bfloat16").uncertainty(sigma), network("tiny").uncertainty(sigma)
    )


def test_derivatives_are_those_of_the_function(model, x):
    def loss(x):
        return jnp.sum(model.denoise(x, 1.0, 3) ** 2)

    direction, step = jnp.asarray(np.random.default_rng(1).normal(size=x.shape)), 1e-5
    numeric = (loss(x + step * direction) - loss(x - step * direction)) / (2 * step)
    # Central differences: error of order step², and rounding 1e-16/step.
    assert float(jax.jvp(loss, (x,), (direction,))[1]) == pytest.approx(float(numeric), rel=1e-7)


def test_describes_itself(model, network):
    assert repr(model) == "EDM2(16x16x4, classes=10, channels=(32, 64), float64)"
    assert model.process.describe() == "edm()"
    assert model.conditions == tuple(range(10))
    assert model.state_shape == (16, 16, 4)
    assert network("tiny-uncond").conditions == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"x": np.zeros((2, 4, 16, 16))},
            r"x must have shape \(n, 16, 16, 4\), got .* transpose \(n, C, H, W\)",
        ),
        ({"x": np.zeros((16, 16, 4))}, r"x must have shape \(n, 16, 16, 4\), got \(16, 16, 4\)$"),
        ({"t": np.ones(3)}, r"t must have shape \(\) or \(2,\), got \(3,\)"),
        ({"t": 0.0}, "t must be a positive noise standard deviation, got 0.0"),
        ({"t": np.inf}, "t must be a positive noise standard deviation"),
        ({"condition": 10}, r"condition must be a class index 0\.\.9 or -1 for no class, got 10"),
        ({"condition": -2}, "condition must be a class index"),
        ({"condition": 1.0}, "condition must be integers"),
        ({"condition": np.zeros((2, 10), int)}, r"condition must have shape \(\) or \(2,\), got \(2, 10\)"),
    ],
)
def test_refusals(model, change, message):
    arguments = {"x": np.zeros((2, 16, 16, 4)), "t": 1.0, "condition": None} | change
    with pytest.raises(ValueError, match=message):
        model.denoise(**arguments)


def test_refusals_of_class_lists(model, x):
    with pytest.raises(ValueError, match=r"conditions must have shape \(K,\), K >= 1, got \(\)"):
        model.denoise_classes(x, 1.0, 3)
    with pytest.raises(ValueError, match="conditions must be a class index"):
        model.denoise_classes(x, 1.0, [3, 12])


def test_an_unconditional_network_takes_no_class(network, x):
    with pytest.raises(ValueError, match="condition must be -1: this network has no classes, got 3"):
        network("tiny-uncond").denoise(x, 1.0, 3)


def test_an_unconditional_network_belongs_to_images_of_the_same_shape(model, network):
    guide = network("tiny-uncond", "float64")
    assert model.with_unconditional(guide).unconditional is guide
    other = dataclasses.replace(guide, config=dataclasses.replace(guide.config, img_channels=3))
    with pytest.raises(ValueError, match=r"unconditional must work on images of shape \(16, 16, 4\), got"):
        model.with_unconditional(other)


def test_only_types_that_the_network_computes_in(tensors):
    with pytest.raises(
        ValueError, match="dtype must be one of float32, bfloat16, float16, float64; got 'int8'"
    ):
        from_tensors(tensors("tiny"), dtype=jnp.int8)
    with jax.enable_x64(False), pytest.raises(ValueError, match="float32, bfloat16, float16; got 'float64'"):
        from_tensors(tensors("tiny"), dtype="float64")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.usefixtures("x32")
def test_lowers_for_every_platform(network, dtype):
    model = network("tiny", dtype)

    @jax.jit
    def denoise(x, t, label):
        return model.denoise(x, t, label)

    shapes = [
        jax.ShapeDtypeStruct(*spec)
        for spec in [((2, 16, 16, 4), "float32"), ((2,), "float32"), ((2,), "int32")]
    ]
    exported = jax.export.export(denoise, platforms=["cpu", "cuda", "tpu"])(*shapes)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert [(a.shape, a.dtype) for a in exported.out_avals] == [((2, 16, 16, 4), jnp.float32)]
    # Convolutions are in the type asked for, and float32 is not left to an accelerator's default precision.
    convolutions = [line for line in exported.mlir_module().splitlines() if "stablehlo.convolution" in line]
    result = {"float32": "xf32> loc", "bfloat16": "xbf16> loc"}[dtype]
    assert convolutions
    assert all(result in line.rsplit("->", 1)[1] for line in convolutions)
    assert all(("HIGHEST" in line) == (dtype == "float32") for line in convolutions)
