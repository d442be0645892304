"""``speciation compare`` from end to end on models whose answer is known, and what it refuses."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import xarray as xr

import theory
from gmm.contrast import floor_of
from gmm.curve import load_dataset
from gmm.process import edm
from paper_figures import cli
from paper_figures.drawing import comparison as picture
from paper_figures.drawing.style import View
from paper_figures.studies import asked, sources
from paper_figures.studies.comparison import asks_of, compared, curve_of
from tests.paper_figures.asked import PAIR, TREE, run, thousand_classes

# One size for all, so that one compilation serves them.
SAMPLES, STEPS = 128, 24
LINE = ["compare", "--model", PAIR, "--samples", str(SAMPLES), "--steps", str(STEPS)]
# ‖m‖² = d for the pair ±m, within-class variance 1.
ENERGY = 4.0
# Standard errors that a number may be off; a few dozen numbers are judged.
SIGMAS = 4.0


@pytest.fixture(scope="module")
def data(request):
    return request.config.rootpath / "tests" / "neural" / "data" / "edm2"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """One comparison, read by many tests."""
    folder = tmp_path_factory.mktemp("pair")
    assert cli.run([*LINE, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def dataset(pair):
    return load_dataset(pair / "compare.nc")


def test_everything_is_there_and_nothing_else(pair):
    assert {path.name for path in pair.iterdir()} == {"compare.nc", "compare.png", "compare.pdf"}


def expected(source, curve):
    """Quadrature; of the chain that the online posterior belongs to, whose steps gain a little more (theory: Q_n)."""
    exact = theory.entropy_curve(edm(), curve.t, energy=ENERGY)
    if source != sources.ONLINE:
        return exact
    snr = curve.t**-2.0
    gained = np.diff(snr) / (1 + snr[:-1]) ** 2
    rho = ENERGY * (snr[0] / (1 + snr[0]) + np.concatenate([[0.0], np.cumsum(gained)]))
    return dataclasses.replace(exact, entropy=theory.binary_entropy(rho))


def test_curves_are_those_of_quadrature(dataset):
    for source in map(str, dataset.source.values):
        curve = curve_of(dataset, source, "classes")
        gap = np.abs(curve.entropy - expected(source, curve).entropy)
        # Where so few paths are undecided that the error is unknown, the largest known one stands for it.
        stderr = np.nan_to_num(curve.entropy_stderr, nan=np.nanmax(curve.entropy_stderr))
        assert np.isfinite(curve.entropy_stderr).sum() > 5
        assert (gap < SIGMAS * stderr + 1e-4).all(), source


def test_places_and_their_errors_are_those_of_quadrature(dataset):
    for source in map(str, dataset.source.values):
        at = dataset.sel(source=source, level="classes", landmark="half")
        exact = expected(source, curve_of(dataset, source, "classes"))
        half = np.interp(0.5 * np.log(2), exact.entropy[::-1], np.log(exact.t[::-1]))
        # Between points 0.2 apart in log noise straight lines and cubics differ by less than a hundredth.
        assert abs(float(at.place) - half) < SIGMAS * float(at.place_stderr) + 0.01
        if source == "exact":
            assert str(at.route.values) == "pair"
            assert float(at.place_low) == float(at.place) == float(at.place_high)
        else:
            assert 0 < float(at.place_stderr) < 0.3
            assert float(at.place_low) < float(at.place) < float(at.place_high)


def test_facts_to_measure_it_again(dataset):
    facts = json.loads(dataset.attrs["question"])
    assert facts["model"] == PAIR
    assert facts["samples"] == SAMPLES
    assert facts["decision"]["levels"][0]["cells"] == {"0": ["0"], "1": ["1"]}
    assert dataset.attrs["reference"] == "exact"
    labels = [n["label"] for n in json.loads(dataset.attrs["numbers"])]
    assert "classes, trained, online: shift of half in log(σ/α)" in labels


def test_saved_curves_and_comparisons_are_overlaid(pair, tmp_path, capsys):
    curve = theory.entropy_curve(edm(), np.geomspace(0.01, 80, 50), energy=4.0)
    curve.save(tmp_path / "a.nc")
    curve.in_bits().save(tmp_path / "b.nc")
    printed = run(
        capsys, "compare", tmp_path / "a.nc", tmp_path / "b.nc", pair / "compare.nc", "--out", tmp_path / "o"
    )
    assert "difference from a" in printed
    found = load_dataset(tmp_path / "o" / "compare.nc")
    assert list(found.source.values[:3]) == ["a", "b", "compare: exact"]
    np.testing.assert_allclose(curve_of(found, "b", "entropy").entropy, curve.entropy)
    # Exact curves have exact places, and one that was measured keeps the errors it came with.
    at = found.sel(level="entropy", landmark="half")
    assert float(at.place_stderr.sel(source="a")) == 0
    assert float(at.place_stderr.sel(source=f"compare: {sources.ONLINE}")) > 0


def test_what_was_written_can_be_shown(pair, capsys):
    assert "half" in run(capsys, "show", pair / "compare.nc", "--out", pair / "shown.png", "--units", "bits")
    (pair / "shown.png").unlink()


def test_few_paths_of_many_classes_find_data_of_every_class():
    question = asked.question(asked.Asked(model="zoo:tree", samples=8, steps=4))
    x, component = sources.fresh_samples(question, jax.random.key(0))
    # So few that the plain draw misses classes.
    assert len(np.unique(np.asarray(component)[: 4 * question.per_run])) < 8
    assert set(component) == set(range(8))
    # The class of a point, by its nearest mean where that is clear (deviation 1 within a class, means 4.7 apart).
    means = np.asarray(question.model.mixture.means)
    distances = np.linalg.norm(x[:, None] - means[None], axis=-1)
    nearest = distances.argmin(axis=1)
    far = np.sort(distances, axis=1)
    sure = far[:, 1] - far[:, 0] > 1
    assert sure.mean() > 0.5
    np.testing.assert_array_equal(nearest[sure], component[sure])


def test_dry_run_says_the_cost_and_computes_nothing(tmp_path, capsys):
    printed = run(capsys, *LINE, "--dry-run", "--out", tmp_path / "o")
    # Every step and the start, two classes, two estimators.
    assert f"{2 * SAMPLES * (STEPS + 1) * 2:,} network evaluations, about less than a second" in printed
    assert printed.endswith("nothing was computed\n")
    assert not (tmp_path / "o").exists()


def test_interrupted_work_goes_on(pair, tmp_path, capsys, monkeypatch):
    line = [*LINE, "--out", tmp_path]
    real, calls = sources.online_entropy, []

    def breaks(*args, **kwargs):
        calls.append(kwargs["key"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(sources, "online_entropy", breaks)
    assert cli.run([*map(str, line)]) == 130
    assert "the same command goes on" in capsys.readouterr().err
    kept = {path.name for path in (tmp_path / "compare.parts").iterdir()}
    # Every run of the exact curve, and two of the trained one.
    assert len(kept) == sources.RUNS + 2
    monkeypatch.setattr(sources, "online_entropy", real)
    monkeypatch.setattr(sources.gmm, "class_entropy", None)  # nothing finished is computed again
    run(capsys, *line)
    assert not (tmp_path / "compare.parts").exists()
    xr.testing.assert_equal(load_dataset(tmp_path / "compare.nc"), load_dataset(pair / "compare.nc"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"--model {PAIR} --classes 0 two", f"{PAIR} has no class 'two'; names are 0, 1"),
        (f"--model {PAIR} --classes 0 0-1", "cells of classes must not overlap: '0' is in '0' and '0-1'"),
        (f"--model {PAIR} --classes 0", "must have two cells or more"),
        (
            f"--model {PAIR} --classes 0 1 --partition pets",
            "--classes and --partition both say what to decide between",
        ),
        (f"--model {PAIR} --prompts a b", f"{PAIR} has classes and takes no prompts"),
        (f"--model {PAIR} --partition nowhere.toml", "--partition must be a file, or one of"),
        (f"--model {PAIR} --partition pets", "has no class 'golden retriever'"),
        (f"--model {PAIR} --eta 0", "--eta must be 1 (the stochastic sampler), got 0"),
        (f"--model {PAIR} --samples 1", "--samples must be at least 2, got 1"),
        (f"--model {PAIR} --steps 1", "--steps must be at least 2, got 1"),
        (f"--model {PAIR} --against gaussian", "--against gaussian needs the data that"),
        (f"--model {PAIR} --against emprical", "did you mean 'empirical'?"),
        (f"--model {TREE} --classes 0 1 --u-turn", "U-turns need a decision among all classes"),
        ("--model zoo:digit", "--model must be a name or a file or folder that exists, got 'zoo:digit'"),
        ("--model edm2-xs", "run `speciation weights fetch edm2-xs`"),
        ("missing.nc", "no such file: missing.nc"),
    ],
)
def test_what_is_refused(line, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPECIATION_CACHE", str(tmp_path / "cache"))
    assert message in run(capsys, "compare", *line.split(), code=2)
    assert list(tmp_path.rglob("*.nc")) == []


def test_files_that_hold_no_curves(tmp_path, capsys):
    xr.Dataset().to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    assert "files must hold speciation-entropy-curve/1" in run(capsys, "compare", tmp_path / "a.nc", code=2)


@pytest.mark.slow
def test_u_turns_agree_with_the_posterior(tmp_path, capsys):
    run(capsys, "compare", "--model", TREE, "--samples", 512, "--steps", 32, "--u-turn", "--out", tmp_path)
    dataset = load_dataset(tmp_path / "compare.nc")
    for level in map(str, dataset.level.values):
        curve = curve_of(dataset, "exact", level)
        order = np.argsort(curve.sigma)
        stays = np.interp(dataset.turn_log_sigma, np.log(curve.sigma[order]), curve.clone_agreement[order])
        found = dataset.sel(level=level)
        # What 32 steps cost: the way back forgets that x_0 has a variance given x_t.
        assert (np.abs(found.u_turn - stays) < SIGMAS * found.u_turn_stderr + 0.03).all()


@pytest.mark.slow
def test_published_networks_by_name_at_several_levels(data, tmp_path, capsys):
    path = thousand_classes(tmp_path, data)
    line = ["--partition", "pets", "--per-cell", 1, "--samples", 16, "--steps", 6, "--against"]
    message = run(capsys, "compare", "--model", path, *line, "empirical", code=2)
    assert "--against empirical needs the data" in message
    printed = run(capsys, "compare", "--model", path, *line[:-1], "--out", tmp_path / "o")
    assert "8 conditions; dog or cat: dog, cat; breed: golden retriever" in printed
    found = load_dataset(tmp_path / "o" / "compare.nc")
    assert list(found.level.values) == ["dog or cat", "breed"]
    assert list(found.source.values) == [sources.ONLINE, sources.GAP]
    assert json.loads(found.attrs["question"])["decision"]["conditions"] == [
        207,
        162,
        254,
        250,
        281,
        283,
        284,
        285,
    ]
    assert curve_of(found, sources.ONLINE, "breed").prior_entropy == pytest.approx(np.log(8))


def test_one_class_against_all_is_laid_over_the_exact_curve_of_the_same(tmp_path, capsys):
    line = ["compare", "--model", "mixture:simplex:4:64", "--classes", "2", "1"]
    line += ["--samples", 256, "--steps", 128, "--preset", "paper"]
    printed = run(capsys, *line, "--out", tmp_path)
    assert "each against all, at prior ½" in printed
    assert "difference from exact" in printed
    found = load_dataset(tmp_path / "compare.nc")
    assert asks_of(found) == dict.fromkeys(["exact", sources.ONLINE], "each against all, at prior ½")
    assert float(found.prior_entropy[0, 0]) == float(found.prior_entropy[1, 0]) == np.log(2)
    # Two classes of four, against all four: the reference is the whole mixture, not the two.
    np.testing.assert_allclose(found.floor, floor_of(0.25))
    exact, online = (curve_of(found, name, "classes") for name in ("exact", sources.ONLINE))
    stderr = np.hypot(exact.entropy_stderr, np.nan_to_num(online.entropy_stderr))
    # What 128 steps cost: 0.018 nat at the end for one class of ten.
    assert (np.abs(online.entropy - exact.entropy) < SIGMAS * stderr + 0.02).all()
    labels = {n["label"]: n["value"] for n in json.loads(found.attrs["numbers"])}
    assert labels["classes, exact: floor (nat)"] == pytest.approx(floor_of(0.25))
    assert labels["classes, trained, online: entropy at the least noise (nat)"] == online.entropy[-1]
    assert "class\\ or\\ all" in picture.draw(found, View()).axes[0].get_ylabel()


def test_another_question_is_laid_over_no_exact_curve(tmp_path, capsys):
    asked = [*LINE, "--tracker", "share", "--out", str(tmp_path)]
    assert "another question" in run(capsys, *asked, "--against", "exact", code=2)
    out = run(capsys, *asked)
    assert "no exact curve: tracker share answers another question" in out
    assert "difference from" not in out
    found = load_dataset(tmp_path / "compare.nc")
    assert found.attrs["reference"] == ""
    assert asks_of(found) == {sources.ONLINE: "each against all, at its share"}


def test_files_of_other_questions_are_not_subtracted(pair, tmp_path, capsys):
    line = [*LINE, "--tracker", "unconditional", "--out", tmp_path / "a"]
    run(capsys, *line)
    printed = run(
        capsys, "compare", tmp_path / "a" / "compare.nc", pair / "compare.nc", "--out", tmp_path / "o"
    )
    assert "question" in printed
    found = load_dataset(tmp_path / "o" / "compare.nc")
    assert compared(found) == [f"compare: {sources.ONLINE}"]
    assert len(set(asks_of(found).values())) == 2


def test_data_of_some_classes_keep_their_classes():
    """More points than stand for the data: the ones chosen belong to the classes that were named."""
    whole = asked.question(asked.Asked(model="zoo:digits", classes=["3", "8"], samples=8, steps=4))
    few = dataclasses.replace(whole, data_points=100)
    mixture, condition = sources._law(few, "empirical")
    assert mixture.components == 100
    data = sources.data_of(whole)
    images = {tuple(x): y for x, y in zip(data.x.reshape(len(data.x), -1).tolist(), data.y, strict=True)}
    classes = [images[tuple(x)] for x in np.asarray(mixture.means).tolist()]
    np.testing.assert_array_equal(np.array([3, 8])[condition], classes)
    np.testing.assert_allclose(np.bincount(condition, mixture.weights), [0.5, 0.5], rtol=1e-6)


def test_sources_of_one_question_say_so(dataset):
    assert set(asks_of(dataset).values()) == {"which of the classes"}


def test_each_class_is_a_level_of_its_own(tmp_path, capsys):
    line = ["compare", "--model", "mixture:simplex:4:64", "--samples", "64", "--steps", "16"]
    run(capsys, *line, "--classes", "2", "1", "--each", "--out", tmp_path)
    found = load_dataset(tmp_path / "compare.nc")
    assert list(found.level.values) == ["2", "1"]
    # The denoiser gap is one between classes, and there is one class at a time.
    assert list(found.source.values) == ["exact", sources.ONLINE]
    assert np.allclose(found.prior_entropy, np.log(2))
