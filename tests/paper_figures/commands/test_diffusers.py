"""Pipelines of diffusers by name in every command that takes a model: tiny ones with random weights."""

import warnings

import pytest
from matplotlib.image import imread

import gmm
from gmm.curve import load_dataset
from paper_figures import cli

pytest.importorskip("diffusers")
pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.slow]

if True:  # after the imports that may skip
    from tests.neural import tiny_pipelines as tiny

PROMPTS = ["--prompts", "a cat", "a dog"]
BUILT = {
    "sd": (tiny.stable_diffusion, PROMPTS),
    "sdxl": (tiny.sdxl, PROMPTS),
    "sd3": (tiny.sd3, PROMPTS),
    "flux": (tiny.flux, PROMPTS),
    "pixart": (tiny.pixart, PROMPTS),
    "dit": (tiny.dit, ["--classes", "2", "7"]),
}


@pytest.fixture(autouse=True)
def _their_warnings():
    """diffusers and transformers warn of their own deprecations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module", params=BUILT)
def asked(request, tmp_path_factory):
    """A model and what it decides between, as options."""
    folder = tmp_path_factory.mktemp(request.param)
    build, decision = BUILT[request.param]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tiny.made(build, folder).save_pretrained(folder / "pipe")
    # Flux has no size of its own below a million pixels.
    size = f"@{2 * tiny.SIZE}x{2 * tiny.SIZE}" if request.param == "flux" else ""
    return ["--model", f"diffusers:{folder / 'pipe'}{size}", *decision]


def run(capsys, *arguments, codes=(0,)):
    code = cli.run([*map(str, arguments)])
    captured = capsys.readouterr()
    assert code in codes, captured.err
    assert "Loading" not in captured.err  # the progress bars of loading are left out
    return captured.out + captured.err


SIZE = ["--samples", 4, "--steps", 5]


def test_compare(asked, tmp_path, capsys):
    run(capsys, "compare", *asked, *SIZE, "--out", tmp_path)
    found = load_dataset(tmp_path / "compare.nc")
    assert list(found.source.values) == ["trained, online", "trained, gap"]


def test_window(asked, tmp_path, capsys):
    """Random weights may decide between their own noise or not; what is written is whole, and a refusal says why."""
    line = ["window", *asked, *SIZE, "--out", tmp_path]
    printed = run(capsys, *line, codes=(0, 2))
    if "decided: " not in printed:
        assert "makes no whole decision" in printed
        printed = run(capsys, *line, "--allow-partial", codes=(0, 2))
    if "decided: " in printed:
        assert gmm.load_window(tmp_path / "window.json").decided is not None
    else:  # an end of the window is nowhere on the curve
        assert "curve must hold the window's" in printed


def test_guidance(asked, tmp_path, capsys):
    run(capsys, "guidance", *asked, *SIZE, "--schedules", "cfg:2", "--out", tmp_path)
    assert set(gmm.load_guidance(tmp_path / "guidance.json")) == {"none", "cfg:2"}


def test_sample(asked, tmp_path, capsys):
    run(capsys, "sample", *asked, "--steps", 3, "--guidance-scale", 2, "--out", tmp_path)
    made = sorted(tmp_path.glob("*seed0.png"))
    assert len(made) == 2
    # Pictures of the autoencoder: two pixels along each side of a latent one.
    assert imread(made[0]).shape[:2] == (2 * tiny.SIZE, 2 * tiny.SIZE)


def test_check_fails_on_random_weights(asked, capsys):
    asked = [word for word in asked if word not in ("--classes", "2", "7")]
    printed = run(capsys, "check", *asked, "--samples", 8, codes=(0, 1))
    assert "much noise" in printed
