"""Image quality over weight and interval, end to end on tiny networks: its numbers by a second route, what is kept."""

import json
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from gmm.curve import load_dataset
from neural import image_quality, load_judge
from neural.vision.distances import moments
from neural.vision.reference import image_files, read_images
from paper_figures.drawing.style import paper_style
from paper_figures.drawing.view import View
from paper_figures.figures.registry import FIGURES
from paper_figures.figures.settings import ExperimentSettings
from paper_figures.studies import image_quality as study
from paper_figures.studies.guidance_optima import numbers, overlap
from tests.neural.stable_diffusion import folders
from tests.paper_figures.asked import run

EDM2 = Path(__file__).parents[2] / "neural" / "data" / "edm2"
VISION = EDM2.parent / "vision"
NAME, COUNT, CHUNK, STEPS, SIDE = "edm2-quality", 24, 16, 4, 32
SCHEDULES = ("cfg:2", "entropy:2")
# Sums in another order.
RELATIVE = 1e-5


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(study, "CHUNK", CHUNK)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with an autoencoder, real images of its size, and statistics of their features."""
    folder = tmp_path_factory.mktemp("quality")
    folders.write_folder(folder / "sd")
    (folder / "real").mkdir()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (COUNT, SIDE, SIDE, 3), dtype=np.uint8)
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / "real" / f"{number:02d}.png")
    mean, covariance, count = moments(load_judge(VISION / "dinov2").features(images, batch=COUNT))
    np.savez(folder / "statistics.npz", mu=mean, sigma=covariance)
    published = {"fd_dinov2": {"mu": mean, "sigma": covariance}, "num_images": count}
    for name in ("statistics.pkl", "img64.pkl"):
        (folder / name).write_bytes(pickle.dumps(published))
    return folder


def asked(
    tiny,
    *more,
    network=EDM2 / "tiny.pkl",
    vae="sd/vae",
    judges=("dinov2",),
    images=COUNT,
    schedules=SCHEDULES,
    reference=("real",),
):
    weights = ["--weights", network, tiny / vae, *(VISION / judge for judge in judges)]
    sizes = ["--paths", 16, "--steps", STEPS, "--images", images, "--classes", 1, 2]
    chosen = ["--reference", *(tiny / name for name in reference)] if reference else []
    return ["figures", "--only", NAME, *weights, *sizes, "--schedules", *schedules, *chosen, *more]


def features_by_hand(tiny, folder, schedule, capsys):
    """Of the images that `sample` writes under a schedule."""
    words = ["sample", "--model", EDM2 / "tiny.pkl", "--vae", tiny / "sd" / "vae", "--for-metrics"]
    words += ["--count", COUNT, "--sampler", "ancestral", "--steps", STEPS, "--schedule", schedule]
    run(capsys, *words, "--batch", CHUNK, "--out", folder)
    (images,) = read_images(image_files(folder), COUNT)
    return load_judge(VISION / "dinov2").features(images, batch=COUNT)


@pytest.mark.slow
def test_numbers_are_those_of_images_that_sample_writes(tiny, tmp_path, capsys):
    said = run(capsys, *asked(tiny), "--out", tmp_path / "out")
    assert f"{COUNT} generated images are fewer than the 32 dimensions" in said
    found = load_dataset(tmp_path / "out" / f"{NAME}.nc")
    assert list(found.schedule.values) == ["none", *SCHEDULES]
    (real,) = read_images(image_files(tiny / "real"), COUNT)
    made = features_by_hand(tiny, tmp_path / "by-hand", "cfg:2", capsys)
    expected = image_quality(made, load_judge(VISION / "dinov2").features(real, batch=COUNT))
    part = found.sel(schedule="cfg:2", judge="FD-DINOv2")
    for field in ("value", "stderr", "bias"):
        values = {name: getattr(one, field) for name, one in expected.neighbours.items()}
        for name, value in {"frechet": getattr(expected.frechet, field), **values}.items():
            assert float(part[field].sel(measure=name)) == pytest.approx(value, rel=RELATIVE, abs=1e-9)
    kernel = part.value.sel(measure="kernel")
    assert float(kernel) == pytest.approx(float(expected.kernel.value), rel=RELATIVE)
    manifest = json.loads((tmp_path / "out" / f"{NAME}.rows" / "manifest.json").read_text())
    asked_for, forms = ([one[name] for one in manifest["images"]] for name in ("schedule", "as"))
    assert asked_for == list(found.schedule.values)
    assert manifest["images"][0]["seeds"] == [0, COUNT]
    # The interval that is the measured window.
    low, high = (float(found[f"window_{end}"]) for end in ("low", "high"))
    assert forms[-1] == f"interval:2:{low:.4g}..{high:.4g}"
    with paper_style():
        picture = FIGURES[NAME].draw(found, View())
    assert [bool(ax.lines) for ax in picture.axes] == [True] * 4


@pytest.mark.slow
def test_what_is_finished_stays(tiny, tmp_path, capsys, monkeypatch):
    made, states_of = [], study.states_of

    def counted(model, settings, some, size, progress):
        if made == [("none", 0), ("none", CHUNK)]:
            raise KeyboardInterrupt
        made.append((settings.schedule, some[0].seed))
        return states_of(model, settings, some, size, progress)

    monkeypatch.setattr(study, "states_of", counted)
    first = asked(tiny, schedules=["cfg:2"])
    run(capsys, *first, "--out", tmp_path, code=130)
    assert made == [("none", 0), ("none", CHUNK)]

    def again(*words):
        made[:] = [None]
        run(capsys, *words, "--out", tmp_path)
        return made[1:]

    assert again(*first) == [("cfg:2", 0), ("cfg:2", CHUNK)]
    assert again(*first) == []
    # More images, another schedule, a damaged file: what is the same is not made again.
    assert again(*asked(tiny, schedules=["cfg:2"], images=2 * CHUNK)) == [("none", CHUNK), ("cfg:2", CHUNK)]
    (tmp_path / f"{NAME}.nc").unlink()
    rows = tmp_path / f"{NAME}.rows"
    for file in rows.glob("quality-*"):
        file.unlink()
    damaged = sorted((rows / "features").glob("images-*-0000000-16*"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="damaged"):
        assert len(again(*first)) == 1


@pytest.mark.parametrize(
    "reference",
    [
        pytest.param(["statistics.npz"], marks=pytest.mark.slow),
        pytest.param(["statistics.pkl"], marks=pytest.mark.slow),
        ["statistics.pkl", "real"],
    ],
)
def test_published_statistics_and_real_images(tiny, tmp_path, capsys, reference):
    run(capsys, *asked(tiny, schedules=["none"], reference=reference), "--out", tmp_path)
    found = load_dataset(tmp_path / f"{NAME}.nc").isel(schedule=0, judge=0)
    made = study_features(tiny, tmp_path)
    (real,) = read_images(image_files(tiny / "real"), COUNT)
    judge = load_judge(VISION / "dinov2")
    expected = image_quality(made, judge.features(real, batch=COUNT))
    assert float(found.value.sel(measure="frechet")) == pytest.approx(expected.frechet.value, rel=RELATIVE)
    precision = found.value.sel(measure="precision")
    assert bool(np.isnan(precision)) == (len(reference) == 1)


def study_features(tiny, folder):
    """The features that a run kept."""
    from neural.checkpoints import read_kept

    files = sorted((folder / f"{NAME}.rows" / "features").glob("images-*"))
    return np.concatenate([read_kept(file).tensors["FD-DINOv2"] for file in files])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"judges": ()}, "--weights must name a network, its autoencoder and one judge or more"),
        ({"judges": ("dinov2", "dinov2-swiglu")}, "one of Inception, DINOv2, CLIP each"),
        ({"reference": ()}, "give --reference"),
        ({"reference": ("img64.pkl",)}, f"of images of 64 pixels; the network makes images of {SIDE}"),
        ({"judges": ("clip",), "reference": ("statistics.npz",)}, "statistics of 16 features of clip for FD-CLIP"),
        ({"reference": ("sd",)}, "holds no images"),
        ({"reference": ("nowhere",)}, "nowhere"),
        ({"network": VISION / "dinov2"}, "dinov2"),
        ({"network": "zoo:digits"}, "of kind edm2, got zoo:digits: trained"),
        ({"vae": "real"}, "real"),
        ({"judges": (EDM2 / "tiny.pkl",)}, "none of DINOv2, CLIP's image tower and Inception-v3"),
        ({"images": 19}, "--images must be at least 20, the least for error bars, got 19"),
        ({"schedules": ("entropy:2:profile",)}, "entropy:2:profile is no interval"),
        ({"schedules": ("auto:2",)}, "auto:2 needs a second model"),
    ],
)  # fmt: skip
def test_refusals(tiny, tmp_path, capsys, change, message):
    assert message in run(capsys, *asked(tiny, **change), "--out", tmp_path, code=2)


def test_real_images_of_another_size_or_too_few(tiny, tmp_path, capsys):
    few = tmp_path / "few"
    few.mkdir()
    for number in range(2):
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(few / f"{number}.png")
    words = asked(tiny, reference=())
    few_said = run(capsys, *words, "--reference", few, "--out", tmp_path / "out", code=2)
    assert "must hold at least 20 images, the least for error bars, got 2" in few_said
    for number in range(20):
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(few / f"{number}.png")
    said = run(capsys, *words, "--reference", few, "--out", tmp_path / "out", code=2)
    assert "holds images of 16 x 16 pixels; the network makes images of 32 x 32" in said


def test_a_plan_counts_every_image(monkeypatch, tmp_path):
    monkeypatch.setenv("SPECIATION_CACHE", str(tmp_path))
    figure = FIGURES[NAME]
    plan = figure.plan(ExperimentSettings(weights=figure.weights))
    # The plain dynamics, and four weights at all noise levels, in four intervals, in the window; two networks each.
    images = 50_000 * 64 * (1 + 2 * 4 * 6)
    windows = 3 * 304 * 64 * 2
    assert plan.evaluations == images + windows
    assert "come on top" in plan.besides


@pytest.mark.parametrize(("window", "share"), [((1.0, 4.0), 1.0), ((2.0, 8.0), 1 / 3), ((4.0, 9.0), 0.0)])
def test_overlap_counts_noise_in_logarithms(window, share):
    assert overlap((1.0, 4.0), window) == pytest.approx(share)


def test_the_interval_nearest_to_the_window_is_compared_with_the_best():
    names = ["none", "cfg:2", "interval:2:1..4", "interval:3:1..4", "interval:2:8..16"]
    low, high = [0, 0, 1, 1, 8], [np.inf, np.inf, 4, 4, 16]
    value = np.array([9.0, 8.0, 5.0, 4.0, 3.0])
    measured = {"value": value, "stderr": np.full(5, 0.3)}
    data = {name: (("schedule", "judge", "measure"), part[:, None, None]) for name, part in measured.items()}
    ends = {"low": 1.5, "median": 2, "high": 5}
    ends = {f"window_{name}{kind}": v for name, v in ends.items() for kind in ("", "_stderr")}
    limits = {"low": ("schedule", low), "high": ("schedule", high)}
    coords = {"schedule": names, "judge": ["FID"], "measure": ["frechet"]}
    found = {one.label: one for one in numbers(xr.Dataset({**data, **limits, **ends}, coords))}
    # The best interval shares nothing with the window; the nearest one is the better of two weights.
    assert found["FID: overlap of the window with the best interval, interval:2:8..16"].value == 0
    nearest = found["FID: interval:3:1..4, nearest to the window, less the best"]
    assert nearest.value == pytest.approx(1.0)
    assert nearest.stderr == pytest.approx(np.hypot(0.3, 0.3))


# Programs of two processes are compiled apart, and their sums in float32 may run in another order.
FLOAT32 = 2e-5
COMMAND = "import sys; from paper_figures import cli; sys.exit(cli.run(sys.argv[1:]))"


@pytest.mark.slow
def test_two_processes_give_the_same_numbers(tiny, tmp_path, capsys):
    # The U-turns take one judge, as the quality does here.
    words = asked(tiny, schedules=["none"])
    words[2:3] = ["edm2-classes", "edm2-u-turn", NAME]
    run(capsys, *words, "--out", tmp_path / "one")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    given = [*map(str, words), "--out", str(tmp_path / "two")]
    processes = [
        subprocess.Popen([sys.executable, "-c", COMMAND, *given, "--distributed", f"{address},2,{number}"])
        for number in range(2)
    ]
    assert [process.wait(timeout=900) for process in processes] == [0, 0]
    for name in words[2:5]:
        one, two = (load_dataset(tmp_path / folder / f"{name}.nc") for folder in ("one", "two"))
        for field in one.data_vars:
            if one[field].dtype.kind == "f":
                np.testing.assert_allclose(two[field], one[field], rtol=FLOAT32, atol=1e-6, err_msg=field)
        # Of the quality, features lie in other groups: the small ones are those of this process alone.
        kept = [sorted(rows(tmp_path / folder / f"{name}.rows")) for folder in ("one", "two")]
        assert kept[0] == kept[1]


def rows(folder):
    return [path.name for path in folder.glob("*.nc")]


def test_several_processes_divide_experiments_alone(tmp_path, capsys):
    words = ["figures", "--only", "log-time-vp", "--distributed", "127.0.0.1:1,2,0", "--out", tmp_path]
    assert "leave log-time-vp out, or --distributed" in run(capsys, *words, code=2)
