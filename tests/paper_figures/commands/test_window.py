"""``speciation window``: the file that samplers read against quadrature, names against indices, and refusals."""

import math

import numpy as np
import pytest

import theory
from gmm.curve import EntropyCurve
from gmm.process import edm
from gmm.window_file import load_window
from neural.models import Grid
from paper_figures.commands.window_words import in_steps
from paper_figures.studies.window import steps_of
from tests.paper_figures.asked import PAIR, run, thousand_classes

ENERGY = 4.0
SIGMAS = 4.0


@pytest.fixture(scope="module")
def data(request):
    return request.config.rootpath / "tests" / "neural" / "data" / "edm2"


def test_the_window_of_a_pair(tmp_path, capsys):
    line = [
        "--model",
        "mixture:pair:2:64",
        "--samples",
        512,
        "--steps",
        32,
        "--sampler",
        "edm:32",
        "log-snr:10",
    ]
    printed = run(capsys, "window", *line, "--out", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"window.{end}" for end in ("json", "nc", "png", "pdf")
    }
    found = load_window(tmp_path / "window.json")
    exact = theory.window_of(theory.Problem(edm(), 64.0))
    for place, level in ((found.low, exact.low), (found.median, exact.median), (found.high, exact.high)):
        # The chain's steps of 0.27 in log noise gain a little more than the diffusion does: a hundredth here.
        assert abs(math.log(place.sigma) - level) < SIGMAS * place.stderr + 0.02
        assert place.interval[0] < place.sigma < place.interval[1]
        assert place.t == pytest.approx(place.sigma)
    assert found.cells == {"0": (0,), "1": (1,)}
    assert found.prior_entropy == pytest.approx(math.log(2))
    assert [(s.sampler, s.steps) for s in found.samplers] == [("edm", 32), ("log-snr", 10)]
    steps = found.samplers[0]
    inside = [i for i, sigma in enumerate(steps.sigmas) if found.contains(sigma)]
    assert steps.inside == (inside[0], inside[-1])
    assert inside[0] - 1 < steps.first <= inside[0]
    assert inside[-1] <= steps.last < inside[-1] + 1
    assert f"{steps.inside[0]} to {steps.inside[1]}" in printed
    curve = EntropyCurve.load(tmp_path / "window.nc")
    assert curve.metadata["estimator"] == "trained, online"


def test_steps_in_which_nothing_falls():
    steps = steps_of(edm(), Grid("edm", 4, 0.002, 80.0), math.log(0.5), math.log(0.6), math.log(0.7))
    assert steps.inside is None
    assert 1 < steps.first < steps.median < steps.last < 3
    beyond = steps_of(edm(), Grid("log-snr", 8, 1.0, 2.0), math.log(0.5), math.log(1.5), math.log(3))
    assert (beyond.first, beyond.last, beyond.inside) == (None, None, (0, 7))
    assert "its ends are at before the first and after the last" in in_steps(beyond)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--share 1", "--share must be in (0, 1), got 1"),
        (
            "--sampler dpm",
            "--sampler must name a grid (edm, log-snr, time), with steps >= 2 as in edm:32; got 'dpm'",
        ),
        ("--sampler edm:1", "got 'edm:1'"),
        ("--sampler edm:x", "got 'edm:x'"),
        ("--eta 0.5", "eta must be 1 (the stochastic sampler), got 0.5"),
        ("--estimator both", "'both' is not one of 'online', 'gap'"),
        ("--classes 0 5", "has no class '5'"),
    ],
)
def test_what_is_refused(line, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in run(capsys, "window", "--model", PAIR, *line.split(), code=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_classes_by_name_on_a_network_as_published(data, tmp_path, capsys):
    path = thousand_classes(tmp_path, data)
    common = ["--model", path, "--samples", 16, "--steps", 8, "--share", 0.5]
    line = run(capsys, "window", *common, "--classes", "golden retreiver", "tabby", code=2)
    assert "did you mean 'golden retriever'" in line
    run(capsys, "window", *common, "--classes", "golden retriever", "tabby cat", "--out", tmp_path / "a")
    run(capsys, "window", *common, "--classes", 207, 281, "--out", tmp_path / "b")
    by_name, by_index = (load_window(tmp_path / name / "window.json") for name in "ab")
    assert by_name.cells == {"golden retriever": (207,), "tabby": (281,)}
    assert by_name == by_index
    assert np.isfinite(by_name.sigma).all()


@pytest.mark.slow
def test_a_window_for_each_level(tmp_path, capsys):
    line = ["--model", "mixture:tree:2x2:64", "--samples", 256, "--steps", 32, "--estimator", "gap"]
    run(capsys, "window", *line, "--out", tmp_path)
    coarse, fine = (load_window(tmp_path / f"window-{level}.json") for level in (1, 2))
    assert (coarse.question, fine.question) == ("level 1", "classes")
    assert coarse.median.sigma > fine.median.sigma


SIMPLEX = ["--model", "mixture:simplex:32:256", "--samples", 256, "--steps", 24]


def test_each_class_alone_against_the_unconditional_network(tmp_path, capsys):
    asked = ["window", *SIMPLEX, "--classes", 0, 3, "--each", "--out"]
    printed = run(capsys, *asked, tmp_path / "each")
    assert "2 questions, each with 256 trajectories of 24 steps" in printed
    first, second = (load_window(tmp_path / "each" / f"window-{number}.json") for number in (1, 2))
    assert (first.cells, second.cells) == ({"0": (0,)}, {"3": (3,)})
    assert first.facts["tracker"] == "unconditional"
    assert first.prior_entropy == pytest.approx(math.log(2))
    # Classes of a simplex differ by a rotation alone.
    for one, other in zip((first.low, first.median), (second.low, second.median), strict=True):
        error = math.hypot(one.stderr, other.stderr)
        assert abs(one.log_snr - other.log_snr) < 2 * SIGMAS * error
    # One alone is the first of them: the same noise.
    run(capsys, "window", *SIMPLEX, "--classes", 0, "--tracker", "unconditional", "--out", tmp_path / "one")
    alone = load_window(tmp_path / "one" / "window.json")
    assert alone.median == first.median


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--classes 0", "or more to decide between, got 1; one alone can be compared with the unconditional"),
        ("--classes 0 1 --each --tracker classes", "--each compares a class alone"),
        ("--partition fashion --each", "--each takes --classes or --prompts"),
    ],
)
def test_a_class_alone_needs_another_tracker(words, message, capsys):
    assert message in run(capsys, "window", *SIMPLEX, *words.split(), code=2)
