"""``speciation check``, and own models on the command line."""

import pytest

from paper_figures import cli

RIGHT = """
import numpy as np
import gmm, neural

PAIR = gmm.Mixture(np.full(2, 0.5), np.array([[2.0, 0.0], [-2.0, 0.0]]), gmm.Isotropic(0.25))
model = neural.mixture_denoiser(PAIR, gmm.edm())
# Classes that overlap: the clean point leaves most of the entropy.
OVERLAP = gmm.Mixture(np.full(2, 0.5), np.array([[0.4, 0.0], [-0.4, 0.0]]), gmm.Isotropic(1.0))
close = neural.mixture_denoiser(OVERLAP, gmm.edm())
wrong = neural.from_function(
    lambda x, t, c: -model.denoise(x, t, c), gmm.edm(), (0, 1), state_shape=(2,)
)
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own_of_test.py").write_text(RIGHT)
    return f"{tmp_path / 'own_of_test.py'}:"


def test_right_model_passes_and_wrong_sign_fails(own, capsys):
    assert cli.run(["check", "--model", own + "model", "--trust-code"]) == 0
    assert "much noise" in capsys.readouterr().out
    assert cli.run(["check", "--model", own + "wrong", "--trust-code"]) == 1
    assert "fail" in capsys.readouterr().out


def test_own_code_needs_trust(own, capsys):
    for command in (
        ["check"],
        ["window", "--out", "x"],
        ["compare", "--out", "x"],
        ["guidance", "--out", "x"],
    ):
        assert cli.run([*command, "--model", own + "model"]) == 2
        assert "say with --trust-code that you trust that code" in capsys.readouterr().err


def test_own_model_has_a_window(own, tmp_path, capsys):
    asked = ["--model", own + "model", "--trust-code", "--samples", "64", "--steps", "24"]
    assert cli.run(["window", *asked, "--out", str(tmp_path / "w")]) == 0
    assert "decided: " in capsys.readouterr().out


def test_undecided_window_is_refused_unless_partial_is_allowed(own, tmp_path, capsys):
    asked = ["window", "--model", own + "close", "--trust-code", "--samples", "256", "--steps", "24"]
    asked += ["--out", str(tmp_path / "w")]
    assert cli.run(asked) == 2
    assert "pass --allow-partial to compute a window all the same" in capsys.readouterr().err
    assert cli.run([*asked, "--allow-partial"]) == 0
    assert "decided: " in capsys.readouterr().out
