"""A user's own denoiser as a model, by the name of its object."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import gmm
from neural import load_model, online_entropy

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "own_model.py"
# Four standard errors: one false alarm in 16,000; steps of 32 add a bias below one of them.
STDERRS = 5.0


def written(folder, text):
    path = folder / "mine.py"
    path.write_text(text)
    return f"{path}:model"


def test_the_example_is_a_model():
    model = load_model(f"{EXAMPLE}:model", trust_code=True)
    assert (model.kind, model.names, model.shape) == ("own", ("0", "1"), (16,))
    # Facts are the same in every run, and name the code: parts of an unfinished run are kept by them.
    assert model.facts == {"network": "FunctionDenoiser", "prediction": "x0", "data_range": None}
    assert model.files == (EXAMPLE,)
    curve = online_entropy(model.denoiser, [0, 1], key=jax.random.key(0), samples=256, steps=48)
    half = sys.modules["_own_own_model"].MEANS
    # Two Gaussians of variance 1: the exact entropy of the pair with the same distance.
    distance = float(np.linalg.norm(half[0] - half[1]))
    pair = gmm.families.from_gram(np.diag([1.0, 1.0]) * distance**2 / 2)
    exact = gmm.class_entropy(pair, gmm.edm(), curve.t, key=jax.random.key(1), samples=4096)
    error = np.hypot(np.nan_to_num(curve.entropy_stderr), exact.entropy_stderr) + 0.01
    assert np.max(np.abs(curve.entropy - exact.entropy) / error) < STDERRS


def test_the_example_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLE], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "the model decides between" in done.stdout
    assert "fail" not in done.stdout
    assert gmm.load_window(tmp_path / "window.json").model == "own_model"


def test_code_is_executed_only_on_request(tmp_path):
    name = written(tmp_path, "raise SystemExit('executed')\n")
    with pytest.raises(ValueError, match="loading it executes its code; say with `trust_code`"):
        load_model(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no object 'model'"),
        ("model = 3\n", "must be a neural.Model or a denoiser .*; got int"),
        ("1 / 0\n", "loading .* failed: ZeroDivisionError"),
        # A network of torch and its like, and a function of (x, t, condition), are named with the way on.
        (
            "class Net:\n    def __call__(self, x, t):\n        pass\nmodel = Net()\n",
            "got Net. neural.from_torch",
        ),
        (
            "def model(x, t, c):\n    return x\n",
            "got function. neural.from_torch .*, and neural.from_function",
        ),
        (
            "class model:\n    def __init__(self, width):\n        pass\n",
            "must be a neural.Model .*; got type",
        ),
        ("def model():\n    raise KeyError('key')\n", "calling .* failed: KeyError"),
    ],
)
def test_what_is_no_denoiser_says_so(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load_model(written(tmp_path, text), trust_code=True)


def test_functions_and_classes_make_models(tmp_path):
    head = "import gmm, neural\nmixture = gmm.families.pair(2)\n"
    made = written(tmp_path, f"{head}def model():\n    return neural.mixture_denoiser(mixture, gmm.edm())\n")
    assert load_model(made, trust_code=True).conditions == (0, 1)
    fields = "    process, conditions, state_shape = gmm.edm(), ('a', 'b'), (2,)\n"
    body = f"{fields}    def denoise(self, x, t, c=None):\n        return x\n"
    own = load_model(written(tmp_path, f"{head}class model:\n{body}"), trust_code=True)
    assert own.names == ("a", "b")
    whole = written(tmp_path, f"{head}model = neural.load_model('mixture:pair:2:2')\n")
    assert load_model(whole, trust_code=True).kind == "mixture"


def test_built_in_names_win_and_missing_files_are_named():
    assert load_model("mixture:pair:2:2", trust_code=True).kind == "mixture"
    with pytest.raises(ValueError, match="model must name a file that exists"):
        load_model("nowhere/mine.py:model", trust_code=True)
    with pytest.raises(ValueError, match="model must be a name or a file or folder that exists"):
        load_model("no_such_module:model", trust_code=True)
