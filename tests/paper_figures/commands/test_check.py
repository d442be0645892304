"""``speciation check``, and own models on the command line."""

import numpy as np
import pytest

from gmm import EntropyCurve, MeasuredWindow, load_window
from paper_figures import cli

RIGHT = """
import numpy as np
import gmm, neural

PAIR = gmm.Mixture(np.full(2, 0.5), np.array([[2.0, 0.0], [-2.0, 0.0]]), gmm.Isotropic(0.25))
model = neural.mixture_denoiser(PAIR, gmm.edm())
# Classes that overlap: the clean point leaves most of the entropy.
OVERLAP = gmm.Mixture(np.full(2, 0.5), np.array([[0.4, 0.0], [-0.4, 0.0]]), gmm.Isotropic(1.0))
close = neural.mixture_denoiser(OVERLAP, gmm.edm())
def broken_output(x, t, c=None):
    raise KeyError("nothing")


def interrupted(x, t, c=None):
    raise KeyboardInterrupt


broken, stopped = (
    neural.from_function(f, gmm.edm(), (0, 1), state_shape=(2,), traceable=False) for f in (broken_output, interrupted)
)
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
        ["sample"],
        ["window", "--out", "x"],
        ["compare", "--out", "x"],
        ["guidance", "--out", "x"],
    ):
        assert cli.run([*command, "--model", own + "model"]) == 2
        assert "say with --trust-code that you trust that code" in capsys.readouterr().err


def test_every_command_loads_what_is_trusted(own, tmp_path, capsys):
    asked = ["--model", own + "model", "--trust-code"]
    assert cli.run(["models", "classes", own + "model"]) == 2
    assert cli.run(["models", "classes", own + "model", "--trust-code"]) == 0
    assert capsys.readouterr().out == "0\t0\n1\t1\n"
    # States that are no pictures can be sampled as they are.
    assert cli.run(["sample", *asked, "--latents", "--steps", "4", "--out", str(tmp_path / "s")]) == 0
    assert len(list((tmp_path / "s").glob("*.safetensors"))) == 2


def test_what_the_models_own_code_raises_is_one_line(own, capsys):
    assert cli.run(["check", "--model", own + "broken", "--trust-code"]) == 2
    assert capsys.readouterr().err == "speciation: the model's own code failed: KeyError: 'nothing'\n"
    # Ctrl-C while a network outside JAX computes.
    assert cli.run(["check", "--model", own + "stopped", "--trust-code"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_data_are_in_the_models_own_coordinates(own, tmp_path, capsys):
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=400)
    x = np.array([[2.0, 0.0], [-2.0, 0.0]])[y] + 0.5 * rng.normal(size=(400, 2))
    verdict = {}
    for name, scale in (("right", 1.0), ("scaled", 100.0)):
        np.savez(tmp_path / f"{name}.npz", x=(scale * x).astype(np.float32), y=y)
        line = ["check", "--model", own + "model", "--trust-code", "--data", str(tmp_path / f"{name}.npz")]
        verdict[name] = cli.run(line), capsys.readouterr().out
    assert verdict["right"][0] == 0, verdict["right"][1]
    # Data are not standardised: a scale that is not the model's is a slip, and the table says so.
    assert verdict["scaled"][0] == 1
    assert "data: scale" in verdict["scaled"][1]


def test_own_model_has_a_window(own, tmp_path, capsys):
    asked = ["--model", own + "model", "--trust-code", "--samples", "64", "--steps", "24"]
    assert cli.run(["window", *asked, "--out", str(tmp_path / "w")]) == 0
    assert "decided: " in capsys.readouterr().out
    written = load_window(tmp_path / "w" / "window.json")
    # From Python the same curve gives the same fields, under the same format.
    same = MeasuredWindow.from_curve(EntropyCurve.load(tmp_path / "w" / "window.nc"))
    assert written.decided == same.decided
    assert written.decided is not None
    assert written.decided.share == pytest.approx(1, abs=0.05)
    assert written.as_dict()["format"] == same.as_dict()["format"] == "speciation-window/1"


def test_undecided_window_is_refused_unless_partial_is_allowed(own, tmp_path, capsys):
    asked = ["window", "--model", own + "close", "--trust-code", "--samples", "256", "--steps", "24"]
    asked += ["--out", str(tmp_path / "w")]
    assert cli.run(asked) == 2
    assert "pass --allow-partial to compute a window all the same" in capsys.readouterr().err
    assert cli.run([*asked, "--allow-partial"]) == 0
    assert "decided: " in capsys.readouterr().out
