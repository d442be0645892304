"""Names and paths become models, or a line that says what to do."""

import shutil

import numpy as np
import pytest

from gmm.process import ddpm, edm, scaled_linear_betas, vp
from neural.checkpoints import presets, write_safetensors
from neural.decisions import read_partition
from neural.models import KINDS, Grid, Kind, Model, load_model, model_names, register
from neural.samplers import edm_times
from tests.neural.stable_diffusion import folders


@pytest.fixture(scope="module")
def data(request):
    return request.config.rootpath / "tests" / "neural" / "data" / "edm2"


@pytest.fixture(scope="module")
def tiny(data):
    return load_model(data / "tiny.safetensors")


def test_a_file_becomes_a_model(tiny, data):
    assert tiny.kind == "edm2"
    assert tiny.shape == (16, 16, 4)
    assert tiny.conditions == tuple(range(10))
    assert tiny.names == tuple("0123456789")
    assert tiny.unconditional is tiny.denoiser.unconditional
    assert tiny.unconditional is not None
    assert tiny.process == edm()
    assert not tiny.free_text


def test_the_preset_is_read_from_the_cache_by_the_same_code(data, tmp_path, monkeypatch):
    monkeypatch.setenv(presets.CACHE_VARIABLE, str(tmp_path))
    with pytest.raises(ValueError, match="run `speciation weights fetch edm2-xs`"):
        load_model("edm2-xs")
    for file, own in zip(presets.PRESETS["edm2-xs"].files, ("tiny", "tiny-uncond"), strict=True):
        shutil.copy(data / f"{own}.pkl", tmp_path / file.name)
    model = load_model("edm2-xs")
    assert model.name == "edm2-xs"
    assert model.unconditional is not None
    assert [path.name for path in model.files] == [file.name for file in presets.PRESETS["edm2-xs"].files]


def test_an_unconditional_network_decides_nothing(data):
    with pytest.raises(ValueError, match="is an unconditional network"):
        load_model(data / "tiny-uncond.safetensors")


def test_unknown_names_and_files(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'edm2-xs'"):
        load_model("edm2-sx")
    assert "edm2-xs" in model_names()
    with pytest.raises(ValueError, match="holds no model of a known kind"):
        load_model(tmp_path)
    other = tmp_path / "other.safetensors"
    write_safetensors(other, {"w": np.zeros(3, np.float32)}, {})
    with pytest.raises(ValueError, match="holds no model of a known kind"):
        load_model(other)
    damaged = tmp_path / "damaged.pkl"
    damaged.write_bytes(b"\x80\x02not a pickle")
    with pytest.raises(ValueError, match=r"damaged\.pkl"):
        load_model(damaged)


@pytest.mark.parametrize(
    ("name", "classes", "dim", "process"),
    [
        ("mixture:simplex:10:64", 10, 64, "edm"),
        ("mixture:orthogonal:3:1e6:flow", 3, 3, "flow"),
        ("mixture:tree:2x3:64:vp", 6, 64, "vp"),
    ],
)
def test_mixtures_are_models_that_have_learnt_everything(name, classes, dim, process):
    model = load_model(name, dtype="float64")
    assert model.conditions == tuple(range(classes))
    assert model.shape == (dim,)
    assert model.process.name == process
    assert model.mixture is model.denoiser.mixture
    assert model.unconditional is not None
    # Where the grid starts, a class mean is lost in the noise as far as the process goes.
    assert model.grid.times(model.process, 8)[0] <= model.process.t_max
    levels = list(model.levels.values())
    assert [level.cells for level in levels] == ([2, 6] if "tree" in name else [])


@pytest.mark.parametrize(
    "name",
    ["mixture:simplex:10", "mixture:cube:2:4", "mixture:pair:2:4:vq", "mixture:simplex:2x2:9", "mixture:pair:2:4:vp:1",
     "mixture:pair:2:x", "mixture:pair:-2:4", "mixture:pair:2:1.5", "mixture:"],
)  # fmt: skip
def test_names_of_no_mixture(name):
    with pytest.raises(ValueError, match="model must be mixture:FAMILY:CLASSES:DIM"):
        load_model(name)


def test_mixtures_that_cannot_be():
    with pytest.raises(ValueError, match="sizes must be two classes for a pair, got"):
        load_model("mixture:pair:3:4")
    with pytest.raises(ValueError, match="simplex"):
        load_model("mixture:simplex:10:4")


def test_whoever_adds_a_kind_registers_it(tmp_path, tiny):
    path = tmp_path / "folder"
    path.mkdir()
    kind = Kind("own", {"own:a": "a test"}, lambda source, dtype: tiny, lambda c: c.path == path)
    register(kind)
    try:
        assert load_model("own:a") is tiny
        assert load_model(path) is tiny
        assert "own:a" in model_names()
    finally:
        del KINDS["own"]


def birds(**more):
    names = ("crane (animal)", "crane (artifact)", "Cardigan (corgi)", "cardigan (artifact)", "house finch")
    aliases = {names[0]: ["crane"], names[1]: ["crane"], names[2]: ["Cardigan"], names[3]: ["cardigan"]}
    return Model("m", "test", None, (2,), tuple(range(5)), names, Grid(), aliases=aliases, **more)


@pytest.mark.parametrize(
    ("word", "index"),
    [
        ("crane (animal)", 0),
        ("3", 3),
        ("Cardigan", 2),
        ("cardigan", 3),
        ("HOUSE FINCH", 4),
        ("House finch", 4),
    ],
)
def test_conditions_by_name_index_and_alias(word, index):
    assert birds().find(word) == index


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("crane", r"'crane' may be any of 'crane \(animal\)' \(0\), 'crane \(artifact\)' \(1\)"),
        ("CARDIGAN", "'CARDIGAN' may be any of"),
        ("hous finch", "m has no class 'hous finch'; did you mean 'house finch'"),
        ("finch", "did you mean 'house finch'"),
        ("5", r"indices 0\.\.4 work too"),
        ("zebra", "names are crane"),
    ],
)
def test_words_that_name_no_one_condition(word, message):
    with pytest.raises(ValueError, match=message):
        birds().find(word)


def test_the_edm_grid_is_the_samplers_and_its_published_levels():
    grid = Grid("edm")
    np.testing.assert_array_equal(grid.times(edm(), 64), edm_times(edm(), 64))
    # Indices of a grid of 64 and their levels, as published with feedback guidance.
    np.testing.assert_allclose(
        grid.times(edm(), 64)[[24, 28, 32, 36, 40]], [6.781, 4.066, 2.342, 1.287, 0.668], atol=5e-4
    )


@pytest.mark.parametrize("process", [edm(), vp(), ddpm(scaled_linear_betas())], ids=lambda p: p.name)
@pytest.mark.parametrize("spacing", ["edm", "log-snr", "time"])
def test_indices_invert_times(process, spacing):
    grid = Grid(spacing, steps=20, sigma_min=0.05, sigma_max=10.0)
    times = grid.times(process)
    assert (np.diff(times) < 0).all()
    log_snr = np.asarray(process.log_snr(times), float)
    # Ends are rounded when they are turned into times and back.
    np.testing.assert_allclose(grid.index(process, log_snr[1:-1]), np.arange(1, 19), atol=1e-6)
    between = grid.index(process, 0.5 * (log_snr[3] + log_snr[4]))
    np.testing.assert_allclose(between, 3.5, atol=1e-6)
    assert np.isnan(grid.index(process, [log_snr[0] - 1, log_snr[-1] + 1])).all()


def test_a_grid_needs_two_steps():
    with pytest.raises(ValueError, match="steps must be >= 2, got 1"):
        Grid().times(edm(), 1)


def test_a_folder_of_prompts(tmp_path):
    folder = folders.write_folder(tmp_path / "tiny-sd")
    model = load_model(folder)
    assert (model.kind, model.shape, model.free_text) == ("sd15", (8, 8, 4), True)
    assert model.unconditional is not None
    times = model.grid.times(model.process, 5)
    np.testing.assert_allclose(times, np.linspace(999, 0, 5))
    found = read_partition("prompts-animal-vehicle", model)
    assert [len(level.cells) for level in found.levels] == [2, 4, 8]
    assert "a photo of a cat" in found.conditions
    assert "sd15" in model_names()
