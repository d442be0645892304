"""A stated precision in place of a number of trajectories: window, compare and guidance against quadrature."""

import json
import math
from typing import Any

import numpy as np
import pytest

import theory
from gmm.curve import EntropyCurve, load_dataset
from gmm.landmarks import half_entropy
from gmm.process import edm
from gmm.window_file import load_window
from paper_figures.progress import share
from paper_figures.studies import asked, sources
from paper_figures.studies.guidance import measure
from tests.paper_figures.asked import PAIR, run

ENERGY, MODEL = 64.0, "mixture:pair:2:64"
# Standard errors that a place may be off: of a dozen places once in a thousand runs.
SIGMAS = 4.0


@pytest.fixture(scope="module")
def exact():
    return theory.window_of(theory.Problem(edm(), ENERGY))


def test_a_window_is_as_precise_as_asked_from_few_evaluations(tmp_path, capsys, exact):
    printed = run(capsys, "window", "--model", MODEL, "--out", tmp_path)
    found = load_window(tmp_path / "window.json")
    for place, level in ((found.low, exact.low), (found.median, exact.median), (found.high, exact.high)):
        assert place.stderr is not None
        assert place.stderr <= asked.PRECISION
        assert abs(math.log(place.sigma) - level) < SIGMAS * place.stderr
    assert found.facts["precision"] == asked.PRECISION
    curve = EntropyCurve.load(tmp_path / "window.nc")
    spent = curve.metadata["evaluations"]
    assert f"precision 0.05 reached, with 32 trajectories and {spent:,} network evaluations" in printed
    assert "trajectories until errors are 0.05 in log σ/α" in printed
    assert spent < 0.1 * asked.question(asked.Asked(MODEL)).evaluations()


def test_compare_states_the_errors_of_a_single_run(tmp_path, capsys):
    printed = run(capsys, "compare", "--model", PAIR, "--precision", 0.1, "--samples", 64, "--out", tmp_path)
    dataset = load_dataset(tmp_path / "compare.nc")
    ours, other = (dataset.sel(source=name, level="classes") for name in (sources.ONLINE, "exact"))
    off = np.abs(ours.place - other.place).values
    # The middle of the window is that of what is decided along the curve, which ends before the classes part.
    assert (off <= SIGMAS * ours.place_stderr.values).all()
    assert (ours.place_stderr.sel(landmark=["half", "low", "high"]) <= 0.1).all()
    assert "precision 0.1 reached" in printed


def test_guided_trajectories_are_added_until_half_entropy_is_precise():
    question = asked.question(asked.Asked("mixture:simplex:3:16", precision=0.08, samples=1024, steps=16))
    plain, guided = measure(question, None, ["cfg:2"], None)
    for one in (plain, guided):
        facts = one.curve.metadata
        assert facts["reached"]
        assert 64 <= facts["samples"] < 1024
        assert half_entropy(one.curve).stderr <= 0.08
    again, _ = measure(question, None, ["cfg:1"], None)
    assert np.array_equal(again.curve.entropy, plain.curve.entropy)


def test_samples_and_steps_fix_the_plan():
    plans: list[dict[str, Any]] = [{"samples": 8}, {"steps": 8}, {"preset": "paper"}, {"each": True}]
    for fixed in [*plans, {"tracker": "share"}]:
        assert asked.to_a_precision(asked.Asked(MODEL, **fixed)).precision is None
    assert asked.to_a_precision(asked.Asked(MODEL)).precision == asked.PRECISION
    assert asked.to_a_precision(asked.Asked(MODEL, precision=0.3)).precision == 0.3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("window --precision 0", "--precision must be positive, got 0"),
        ("window --precision nan", "--precision must be positive, got nan"),
        ("compare --precision 0.1 --tracker unconditional", "--precision needs --tracker classes"),
        ("window --precision 0.1 --estimator gap", "--precision needs --estimator online"),
    ],
)
def test_what_is_refused(line, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command, *rest = line.split()
    assert message in run(capsys, command, "--model", PAIR, *rest, code=2)
    assert list(tmp_path.iterdir()) == []


def test_the_only_part_of_a_work_counts_by_itself():
    seen = []
    part = share(lambda done, total: seen.append((done, total)), 0, 1)
    assert part is not None
    part(7, 31)
    assert seen == [(7, 31)]


def test_facts_of_a_fixed_plan_are_as_before():
    """Rows of experiments are named by these facts: a field that says nothing must not rename them."""
    facts = json.dumps(asked.question(asked.Asked(PAIR, samples=4)).facts())
    assert "precision" not in facts
