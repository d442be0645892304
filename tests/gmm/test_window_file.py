"""Windows written and read back, and files that are not what they say."""

import copy
import json
import math

import pytest

from gmm.window_file import FORMAT, MeasuredWindow, Place, SamplerSteps, load_window, save_window


def place(sigma, stderr=0.02):
    low, high = sigma * math.exp(-2 * stderr), sigma * math.exp(2 * stderr)
    return Place(sigma, -2 * math.log(sigma), sigma, stderr, (low, high))


WINDOW = MeasuredWindow(
    model="zoo:digits", question="digit", cells={"three": (3,), "eight": (8, "0")}, process="edm()", share=0.8,
    prior_entropy=math.log(2), low=place(0.4), median=place(1.0), high=place(2.5),
    samplers=(
        SamplerSteps("edm", 4, (80.0, 2.0, 0.5, 0.002), 0.9, 1.4, 2.1, (1, 2)),
        SamplerSteps("log-snr", 2, (0.3, 0.2), None, None, None, None),
    ),
    facts={"samples": 100},
)  # fmt: skip


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "new" / "window.json"
    save_window(path, WINDOW)
    assert load_window(path) == WINDOW
    held = json.loads(path.read_text())
    assert held["format"] == FORMAT
    assert held["window"]["median"]["sigma"] == 1.0
    held["added_later"] = 1
    path.write_text(json.dumps(held))
    assert load_window(path) == WINDOW


def test_levels_inside():
    assert WINDOW.sigma == (0.4, 1.0, 2.5)
    assert WINDOW.contains(0.4)
    assert not WINDOW.contains(2.6)


def changed(*path, value):
    held = copy.deepcopy(json.loads(json.dumps(WINDOW.as_dict())))
    inner = held
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return held


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ([], "it must be an object, got "),
        (changed("format", value="speciation-window/2"), "got 'speciation-window/2'"),
        (changed("share", value=1), "share must be below 1.0, got 1"),
        (changed("share", value="0.8"), "share must be a number, got '0.8'"),
        (changed("prior_entropy", value=None), "prior_entropy must be a number, got None"),
        (changed("model", value=3), "model must be text, got 3"),
        (changed("cells", value={}), "cells must have 1 or more entr"),
        (changed("cells", value={"a": [1], "b": []}), "cells.b must have 1 or more entries"),
        (changed("window", value=None), "window must be an object"),
        (changed("window", "low", value=None), "low must be an object"),
        (changed("window", "low", "t", value=True), "window.low.t must be a number, got True"),
        (changed("window", "low", "sigma", value=0.5), "sigma of low must agree"),
        (changed("window", "low", "interval", value=[1]), "window.low.interval.1 is missing"),
        (
            changed("window", "high", value={"sigma": 0.9, "log_snr": -2 * math.log(0.9), "t": 1}),
            "must rise from low",
        ),
        (changed("samplers", value={}), "samplers must be a list"),
        (changed("samplers", value=[1]), "samplers.0 must be an object, got 1"),
        (changed("samplers", 0, "sigmas", value=[1, 2]), "sigmas must be 4 numbers"),
        (changed("samplers", 0, "sigmas", value=[4, 2, 2, 1]), "sigmas must fall"),
        (changed("samplers", 0, "inside", value=[2, 4]), r"inside must be two step indices in 0\.\.3"),
        (changed("samplers", 0, "steps", value=4.5), "steps must be a whole number, got 4.5"),
    ],
)
def test_files_that_are_refused(held, message, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(held))
    with pytest.raises(ValueError, match=message) as caught:
        load_window(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", [b"\xff", b"{", b"[" * 100_000, b"NaN", b" " * (2 << 20)])
def test_text_that_is_no_window(text, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(text)
    with pytest.raises(ValueError, match="cannot read"):
        load_window(path)
    with pytest.raises(ValueError, match="no such file"):
        load_window(tmp_path / "missing.json")


def test_nothing_unreadable_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"share must be below 1[.]0"):
        save_window(tmp_path / "a.json", MeasuredWindow(**{**WINDOW.__dict__, "share": 2.0}))
    assert list(tmp_path.iterdir()) == []
