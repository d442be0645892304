"""The guidance command from end to end: exact mixtures, a tiny network pair, a tiny text-to-image model."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import gmm
from gmm.landmarks import half_entropy
from paper_figures import cli
from paper_figures.commands.lists import spread
from paper_figures.formats.words import slug

EDM2 = Path(__file__).parents[2] / "neural" / "data" / "edm2"
NAMES = ["none", "cfg:2", "cfg:4", "interval:2:2..20", "entropy:4"]
# Standard errors of two runs with the same noise: one comparison in 16,000 by chance.
DEVIATIONS = 4


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("guidance")
    arguments = ["--model", "mixture:simplex:4:64", "--samples", "256", "--steps", "32", "--out", str(out)]
    assert cli.run(["guidance", *arguments, "--schedules", "cfg:2,4", "interval:2:2..20", "entropy:4"]) == 0
    return out


def curve(out, name):
    return gmm.EntropyCurve.load(out / f"guidance-{slug(name)}.nc")


def test_every_schedule_has_its_files(made):
    listed = json.loads((made / "guidance.json").read_text())["schedules"]
    assert [one["name"] for one in listed] == NAMES
    assert {path.suffix for path in made.iterdir()} == {".json", ".nc", ".png", ".pdf"}
    assert not (made / "guidance.parts").exists()
    for name in NAMES:
        found = curve(made, name)
        assert found.metadata["schedule"] == name
        assert found.cross_entropy is not None
        assert np.isfinite(found.metadata["mean_weight"]).all()


def test_curves_are_those_of_the_exact_paths(made):
    """The tracked posterior of an exact denoiser: its finite steps err by less than its error bars show."""
    mixture = gmm.reduce(gmm.families.simplex(4, 64))
    for name in ("none", "cfg:4"):
        found = curve(made, name)
        middle = (found.sigma > 4) & (found.sigma < 20)
        schedule = gmm.load_guidance(made / "guidance.json")[name]
        settings = {"target": 0, "key": gmm_key(), "samples": 4096, "steps": 100}
        exact = gmm.guided_entropy(mixture, gmm.edm(), found.t[middle], schedule, **settings)
        spread = np.hypot(found.cross_entropy_stderr[middle], exact.cross_entropy_stderr)
        gap = np.abs(found.cross_entropy[middle] - exact.cross_entropy)
        # 0.03 nat: the bias of 32 steps at this separation.
        assert (gap < DEVIATIONS * spread + 0.03).all()


def gmm_key():
    import jax

    return jax.random.key(5)


def test_the_window_that_was_measured_times_the_schedule(made):
    schedule = gmm.load_guidance(made / "guidance.json")["entropy:4"]
    low, _, high = gmm.window(curve(made, "none")).sigma
    assert schedule.jumps == pytest.approx((low, high))


def test_stronger_guidance_decides_earlier(made):
    places = [half_entropy(curve(made, name)).value for name in ("none", "cfg:2", "cfg:4")]
    assert places[0] < places[1] < places[2]


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("guess:2", "schedule must be one of"),
        ("interval:2:3..1", "it is empty"),
        ("interval:2:-1..1", "noise level"),
        ("feedback:1.5", "pi must be in"),
        ("entropy:2:1.5", "share must be in"),
        ("auto:2", "--guide"),
    ],
)
def test_bad_schedules_are_one_line_before_anything_is_computed(schedule, words, tmp_path, capsys):
    arguments = [
        "guidance",
        "--model",
        "mixture:pair:2:16",
        "--schedules",
        schedule,
        "--out",
        str(tmp_path / "o"),
    ]
    assert cli.run(arguments) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_a_network_without_null_condition_says_what_still_works(tmp_path, capsys):
    shutil.copy(EDM2 / "tiny.safetensors", tmp_path / "alone.safetensors")
    arguments = ["guidance", "--model", str(tmp_path / "alone.safetensors"), "--schedules", "cfg:2"]
    assert cli.run([*arguments, "--out", str(tmp_path / "o")]) == 2
    assert "none and cfg:1" in capsys.readouterr().err
    assert cli.run([*arguments[:-1], "cfg:1", "none", "--dry-run"]) == 0


@pytest.mark.slow
def test_a_network_and_its_unconditional_sibling(tmp_path):
    arguments = ["guidance", "--model", str(EDM2 / "tiny.pkl"), "--classes", "1", "6", "--out", str(tmp_path)]
    arguments += ["--samples", "4", "--steps", "6", "--schedules", "cfg:2", "feedback"]
    assert cli.run(spread(arguments, ["--classes", "--schedules"])) == 0
    for name in ("none", "cfg:2", "feedback"):
        found = curve(tmp_path, name)
        assert np.isfinite(found.entropy).all()
        assert np.isfinite(found.metadata["mean_weight"]).all()


@pytest.mark.slow
def test_a_model_of_prompts(tmp_path):
    from tests.neural.stable_diffusion import folders

    folder = folders.write_folder(tmp_path / "tiny")
    arguments = [
        "guidance",
        "--model",
        str(folder),
        "--prompts",
        "cat",
        "dog",
        "--out",
        str(tmp_path / "out"),
    ]
    arguments += ["--samples", "2", "--steps", "4", "--schedules", "cfg:3"]
    assert cli.run(arguments) == 0
    assert np.isfinite(curve(tmp_path / "out", "cfg:3").entropy).all()


def test_one_class_against_the_unconditional_network(tmp_path):
    """Under guidance the mean surprise of the class falls below the entropy of the published map without it."""
    line = ["guidance", "--model", "mixture:simplex:4:64", "--classes", "1", "--preset", "paper"]
    line += ["--samples", "128", "--steps", "24"]
    assert cli.run([*line, "--schedules", "cfg:3", "--out", str(tmp_path)]) == 0
    plain, guided = curve(tmp_path, "none"), curve(tmp_path, "cfg:3")
    assert plain.metadata["tracker"] == guided.metadata["tracker"] == "unconditional"
    assert plain.metadata["start"] == "prior"
    middle = slice(8, 16)
    assert (guided.cross_entropy[middle] < plain.entropy[middle]).all()
