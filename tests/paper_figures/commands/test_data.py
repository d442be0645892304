"""The study of a labelled data set: its curves and times against other routes, its files against interruption."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import cdist

import gmm
from gmm.curve import load_dataset
from gmm.datasets import LabelledData
from paper_figures import cli
from paper_figures.formats.curves import unstack
from paper_figures.studies.data import (
    CLASS,
    GAUSSIAN,
    POINT,
    ROUND,
    StudySettings,
    check,
    nearest_distance2,
    study,
)
from theory import speciation_time

FIVE_SIGMA = 5.0
SMALL = StudySettings(levels=16, samples=1024, dtype="float64")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def blobs(classes=3, points=40, dim=6, separation=4.0):
    rng = np.random.default_rng(0)
    y = np.arange(points) % classes
    x = rng.normal(size=(points, dim)) + separation * rng.normal(size=(classes, dim))[y]
    names = tuple("abcdefgh"[:classes])
    return LabelledData("blobs", x.astype(np.float32), y.astype(np.int32), names, (2, dim // 2))


@pytest.fixture(scope="module")
def found():
    return study(blobs(), SMALL)


def test_exact_curves_are_those_of_the_empirical_mixture(found):
    data = blobs().standardised()
    curves = dict(zip(found.curve.values.tolist(), unstack(found, "curve"), strict=True))
    mixture, labels = gmm.families.empirical(data.x.astype(float), data.y)
    for name, partition in ((CLASS, labels), (POINT, None)):
        options = {"partition": partition, "key": jax.random.key(7), "samples": SMALL.samples}
        wanted = gmm.class_entropy(mixture, gmm.vp(), curves[name].t, boundary=False, **options)
        error = np.hypot(curves[name].entropy_stderr, wanted.entropy_stderr) + 1e-9
        # Where hardly any noisy point is undecided, a sample cannot say its own error: there it is NaN.
        known = np.isfinite(error)
        assert known[wanted.entropy > 0.05 * wanted.prior_entropy].all()
        assert (np.abs(curves[name].entropy - wanted.entropy)[known] < FIVE_SIGMA * error[known]).all()
        assert curves[name].prior_entropy == pytest.approx(wanted.prior_entropy)
    # A point knows its class.
    assert (curves[CLASS].entropy < curves[POINT].entropy + 1e-9).all()
    assert curves[POINT].entropy[0] < 0.1 < 0.95 < curves[CLASS].entropy[-1] / np.log(3)


def test_spectra_are_those_of_the_points(found):
    data = blobs().standardised()
    # Ledoit and Wolf's shrinkage keeps the trace, and moves eigenvalues by less than this.
    assert found.covariance.sum().item() == pytest.approx(data.x.shape[1], rel=1e-5)
    np.testing.assert_allclose(
        found.covariance, np.linalg.eigvalsh(np.cov(data.x.T, bias=True))[::-1], atol=0.1
    )
    means = np.stack([data.x[data.y == c].mean(0) for c in range(3)])
    prior = np.bincount(data.y) / len(data.y)
    centred = means - prior @ means
    np.testing.assert_allclose(found.gram, centred @ centred.T, atol=1e-5)
    wanted = np.linalg.eigvalsh((prior[:, None] * centred).T @ centred)[::-1][:2]
    np.testing.assert_allclose(found.between[:2], wanted, rtol=1e-5)


def test_times_are_those_of_each_criterion(found):
    top = found.covariance[0].item()
    wanted = speciation_time(gmm.vp(), top - 0.5, variance=0.5, family="pair", criterion="covariance")
    time = found.time.sel(source="covariance", criterion="covariance").item()
    assert time == pytest.approx(float(wanted))
    assert time == pytest.approx(0.5 * np.log(top), abs=0.5 * np.exp(-2 * time))
    curvature = found.time.sel(source=GAUSSIAN, criterion="curvature").item()
    assert curvature == pytest.approx(found.direction_time[0].item())
    assert np.isfinite(found.time.sel(source=ROUND, criterion="sde-instability").item())
    for source in (CLASS, GAUSSIAN, ROUND):
        for criterion in ("entropy-rate", "half-entropy", "cloning"):
            at = found.time.sel(source=source, criterion=criterion)
            assert found.t.min() < at < found.t.max()
            error = found.time_stderr.sel(source=source, criterion=criterion)
            assert (0 < error < 0.5) if source == CLASS else error == 0
    classes = found.sel(curve=CLASS)
    half = found.time.sel(source=CLASS, criterion="half-entropy").item()
    assert half == pytest.approx(np.interp(0.5 * np.log(3), classes.entropy, classes.t), rel=0.05)
    assert np.isnan(found.time.sel(source=POINT, criterion="covariance").item())


@pytest.mark.parametrize("classes", [2, 3, pytest.param(4, marks=pytest.mark.slow)])
def test_surrogates_of_few_classes_are_exact(classes):
    """Against samples of the same classes (|z| < 5 at 16 levels), and times where the curve says so."""
    data = blobs(classes, points=20 * classes, separation=1.0)
    found = study(data, SMALL)
    routes = dict(zip(found.curve.values.tolist(), found.route.values.tolist(), strict=True))
    assert routes[CLASS] == routes[POINT] == "sampled"
    # Three means of one variance may be orthogonal ones, but for a common vector.
    allowed = {2: {"pair"}, 3: {"cluster", "orthogonal"}, 4: {"cluster"}}[classes]
    assert {routes[GAUSSIAN], routes[ROUND]} <= allowed
    scaled = data.standardised()
    mixture, partition = gmm.families.fitted(scaled.x.astype(float), scaled.y, covariance="shared")
    curve = found.sel(curve=GAUSSIAN)
    sampled = gmm.class_entropy(
        mixture, gmm.vp(), curve.t.values, partition=partition, key=jax.random.key(3), samples=2048
    )
    assert (np.abs(curve.entropy - sampled.entropy) < FIVE_SIGMA * sampled.entropy_stderr + 1e-6).all()
    chance = float(found.prior @ found.prior)
    agreement = curve.clone_agreement.values
    level = 0.5 * (agreement[np.argmin(curve.t.values)] + chance)
    for criterion, field, value in (
        ("half-entropy", "entropy", 0.5 * float(curve.prior_entropy)),
        ("cloning", "clone_agreement", level),
    ):
        time = found.time.sel(source=GAUSSIAN, criterion=criterion)
        order = np.argsort(curve.t.values)
        near = np.interp(float(time), curve.t.values[order], curve[field].values[order])
        assert near == pytest.approx(value, rel=0.05)  # straight lines between 16 points
        error = float(found.time_stderr.sel(source=GAUSSIAN, criterion=criterion))
        # The cluster expansion is computed to a tolerance, the others to rounding.
        assert 0 < error < 1e-3 if routes[GAUSSIAN] == "cluster" else error == 0


def test_nearest_distances_are_those_of_all_pairs():
    x = blobs().x
    distances = cdist(x, x, "sqeuclidean") + np.diag(np.full(len(x), np.inf))
    assert nearest_distance2(x) == pytest.approx(np.median(distances.min(1)), rel=1e-4)


def test_a_stopped_study_goes_on_with_the_same_numbers(tmp_path, monkeypatch, found):
    out, count, original = tmp_path / "a.nc", [], gmm.class_entropy

    def stops(*arguments, **options):
        count.append(None)
        if len(count) == 6:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(gmm, "class_entropy", stops)
    with pytest.raises(KeyboardInterrupt):
        study(blobs(), SMALL, out)
    assert names(tmp_path) == ["a.nc.parts"]
    part = sorted((tmp_path / "a.nc.parts").iterdir())[0]
    part.write_bytes(part.read_bytes()[:1000])  # half a file is computed again
    with pytest.warns(UserWarning, match="damaged or of another version; it is computed again"):
        whole = study(blobs(), SMALL, out)
    # Two sampled curves of four pieces, one interrupted, one damaged.
    assert len(count) == 2 * 4 + 1 + 1
    xr.testing.assert_identical(whole, found)
    assert names(tmp_path) == ["a.nc"]
    xr.testing.assert_equal(study(blobs(), SMALL, out), found)
    for other in (dataclasses.replace(SMALL, seed=1), dataclasses.replace(SMALL, levels=17)):
        with pytest.raises(ValueError, match="holds another result"):
            study(blobs(), other, out)
    with pytest.raises(ValueError, match="holds another result"):
        study(blobs(separation=3.0), SMALL, out)


def test_what_cannot_be_studied_is_refused_first():
    one = dataclasses.replace(blobs(), y=np.zeros(40, np.int32), classes=("a",))
    with pytest.raises(ValueError, match="two classes or more"):
        check(one, SMALL, 4.0)
    y = blobs().y.copy()
    y[y == 2] = 0
    y[5] = 2
    with pytest.raises(ValueError, match="needs at least 2 points, 'c' of blobs has 1"):
        check(dataclasses.replace(blobs(), y=y), SMALL, 4.0)
    # Two hundred classes, one of them large: every class is laid out as long as the largest.
    y = np.concatenate([np.zeros(20_000, int), np.repeat(np.arange(1, 200), 2)])
    uneven = LabelledData("u", np.zeros((len(y), 100), np.float32), y, tuple(map(str, range(200))), (100,))
    with pytest.raises(
        ValueError, match=r"the largest of 20000, would take .* GiB, above the memory limit of 4"
    ):
        check(uneven, SMALL, 4.0)


@pytest.fixture
def archive(tmp_path):
    data = blobs()
    np.savez(tmp_path / "my data.npz", x=data.x.reshape(-1, *data.shape), y=np.array(data.classes)[data.y])
    return tmp_path / "my data.npz"


def test_command_writes_draws_and_shows(archive, tmp_path, capsys):
    out = tmp_path / "out"
    line = ["data", "--data", str(archive), "--levels", "16", "--samples", "64", "--dtype", "float64"]
    assert cli.run([*line, "--dry-run"]) == 0
    assert "nothing was computed" in capsys.readouterr().out
    assert cli.run([*line, "--out", str(out), "--axis", "sigma"]) == 0
    assert names(out) == ["my-data.nc", "my-data.pdf", "my-data.png"]
    assert "half-entropy" in capsys.readouterr().out
    kept = load_dataset(out / "my-data.nc")
    assert json.loads(kept.attrs["data"]) == {
        "name": "my data.npz", "points": 40, "dim": 6, "classes": 3, "shape": [2, 3],
    }  # fmt: skip
    assert cli.run(["show", str(out / "my-data.nc"), "--units", "bits"]) == 0
    assert "my-data-bits.png" in names(out)
