"""From a file to numbers: the golden vectors through every door."""

import numpy as np
import pytest

from neural import CheckpointError, load_edm2
from neural.checkpoints import presets, read, write_safetensors
from neural.edm2 import Config, tensor_shapes
from tests.neural.checkpoints import forge

# ORIGIN.md: D_x of another float32 implementation, max |a - b| / max |b|.
FLOAT32_LIMIT = 1e-5


def assert_golden(model, golden, case="batch", key="D_x", limit=FLOAT32_LIMIT):
    x, sigma, labels = golden.inputs(case)
    expected = golden[f"{case}/{key}"]
    assert np.abs(model.denoise(x, sigma, labels) - expected).max() <= limit * np.abs(expected).max()


@pytest.fixture
def case(golden):
    return str(golden("tiny")["cases"][0])


@pytest.fixture
def tiny_options(data):
    return read(data / "tiny.pkl")


@pytest.mark.parametrize("suffix", [".pkl", ".safetensors"])
@pytest.mark.parametrize("name", ["tiny", "tiny-uncond"])
def test_every_format_gives_the_published_numbers(name, suffix, data, golden, case):
    assert_golden(load_edm2(data / f"{name}{suffix}"), golden(name), case)


def test_a_converted_file_is_the_same_network(data, tmp_path):
    path = tmp_path / "converted.safetensors"
    checkpoint = read(data / "tiny.pkl")
    write_safetensors(path, checkpoint.tensors, checkpoint.attributes)
    ours, original = load_edm2(path), load_edm2(data / "tiny.pkl")
    assert ours.config == original.config
    for key, weight in original.weights.items():
        np.testing.assert_array_equal(ours.weights[key], weight)


def test_as_published_rounds_gains_as_the_official_code_does(data, golden, case):
    assert_golden(load_edm2(data / "tiny.pkl", as_published=True), golden("tiny"), case, "D_x_as_loaded")


def test_the_unconditional_network_comes_along(data, golden, case):
    model = load_edm2(str(data / "tiny.pkl"))
    assert model.config.label_dim == 10
    assert model.unconditional is not None
    assert_golden(model.unconditional, golden("tiny-uncond"), case)
    assert load_edm2(data / "tiny.pkl", unconditional=None).unconditional is None
    assert load_edm2(data / "tiny-uncond.pkl").unconditional is None
    other = load_edm2(data / "tiny.pkl", unconditional=data / "tiny-uncond.safetensors")
    assert other.unconditional is not None


def test_a_preset_is_the_pair_in_the_cache(data, golden, case, tmp_path, monkeypatch):
    monkeypatch.setenv(presets.CACHE_VARIABLE, str(tmp_path))
    with pytest.raises(
        CheckpointError, match="is not on this machine; run `speciation weights fetch edm2-xs`"
    ):
        load_edm2("edm2-xs")
    for file, name in zip(presets.PRESETS["edm2-xs"].files, ("tiny", "tiny-uncond"), strict=True):
        file.path.write_bytes((data / f"{name}.pkl").read_bytes())
    model = load_edm2("edm2-xs")
    assert_golden(model, golden("tiny"), case)
    assert_golden(model.unconditional, golden("tiny-uncond"), case)
    first = presets.PRESETS["edm2-xs"].files[0].path
    first.with_name(f"{first.name}.sha256").write_text(f"{'0' * 64}  {first.name}\n")
    with pytest.raises(CheckpointError, match="has changed since it was fetched"):
        load_edm2("edm2-xs")


def remade(tmp_path, checkpoint, options=None, **changes):
    """The checkpoint with some tensors changed (None: left out), as an official pickle."""
    tensors = {**checkpoint.tensors, **{name.replace("__", "."): value for name, value in changes.items()}}
    kept = {name: value for name, value in tensors.items() if value is not None}
    path = tmp_path / "remade.pkl"
    path.write_bytes(forge.dump(forge.network(kept, options or {})))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unet__out_gain": None}, r"1 tensor\(s\) missing: unet.out_gain"),
        (
            {"unet__extra__weight": np.zeros((2, 2), np.float16)},
            "that this network does not have: unet.extra.weight",
        ),
        (
            {"unet__out_conv__weight": np.zeros((4, 32, 1, 1), np.float16)},
            r"tensor unet.out_conv.weight must have shape \(4, 32, 3, 3\), got \(4, 32, 1, 1\)",
        ),
        (
            {"unet__emb_noise__weight": np.zeros((0, 32), np.float16)},
            r"emb_noise.weight is of shape \(0, 32\)",
        ),
        ({"unet__out_gain": np.array(1)}, "tensor unet.out_gain must hold floating-point numbers, got int64"),
        ({"options": {"label_dim": 1000}}, "label_dim is 1000, but the tensors say 10"),
        ({"options": {"sigma_data": [0.5]}}, r"sigma_data must be a positive number, got \[0.5\]"),
        ({"options": {"rotary": 1}}, "unknown network option rotary=1"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_by_name(changes, message, tiny_options, tmp_path):
    path = remade(tmp_path, tiny_options, **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_edm2(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_network_put_together_anew_is_the_same(tiny_options, tmp_path, golden, case):
    assert_golden(load_edm2(remade(tmp_path, tiny_options)), golden("tiny"), case)


@pytest.mark.parametrize("label_dim", [10, 0])
@pytest.mark.parametrize("channels", [4, 3], ids=["img512", "img64"])
def test_pickles_of_every_family(channels, label_dim, tmp_path):
    """The published structure, four levels of three blocks, with narrow layers: sizes are read off the file."""
    sizes = Config(64, channels, label_dim, (8, 16, 24, 32), 3, (16, 8), 8, 32, 16, channels_per_head=8)
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(size=s).astype(np.float16) for name, s in tensor_shapes(sizes).items()}
    options = {
        "img_resolution": 64, "img_channels": channels, "label_dim": label_dim, "use_fp16": True, "dropout": 0.1,
        "model_channels": 8, "logvar_channels": 16, "channels_per_head": 8,
    }  # fmt: skip
    path = tmp_path / "family.pkl"
    path.write_bytes(forge.dump(forge.network(tensors, options)))
    model = load_edm2(path)
    assert model.config == sizes
    assert model.conditions == tuple(range(label_dim))
    # One layer by hand: the first convolution's rows over their root mean square, times 1/√fan_in.
    rows = tensors[f"{sizes.input_conv}.weight"].astype(float)
    rms = np.sqrt((rows**2).mean(axis=(1, 2, 3), keepdims=True))
    expected = (rows / (rms + 1e-4) / np.sqrt(9 * (channels + 1))).transpose(2, 3, 1, 0)
    np.testing.assert_allclose(model.weights[f"{sizes.input_conv}.weight"], expected, rtol=1e-5)


def test_options_of_another_kind_are_refused(data, tmp_path):
    path = tmp_path / "a.safetensors"
    write_safetensors(path, read(data / "tiny.pkl").tensors, {"init_kwargs": [1]})
    with pytest.raises(CheckpointError, match="init_kwargs must be a dictionary, got list"):
        load_edm2(path)


def test_another_dtype_is_refused(data):
    with pytest.raises(ValueError, match="dtype must be one of float32, bfloat16, float16"):
        load_edm2(data / "tiny.pkl", dtype="int32")
