"""compare and window between prompts, on a folder of Stable Diffusion's form."""

import shutil
import warnings

import numpy as np
import pytest

from gmm.curve import load_dataset
from gmm.window_file import load_window
from paper_figures import cli
from paper_figures.studies.comparison import curve_of
from paper_figures.studies.sources import GAP, ONLINE
from paper_figures.studies.window import _interval
from tests.neural.stable_diffusion import folders
from tests.paper_figures.asked import run

CAT, DOG = "a photo of a cat", "a photo of a dog"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folders.write_folder(tmp_path_factory.mktemp("sd15") / "tiny")


@pytest.mark.slow
def test_window_between_two_prompts(folder, tmp_path, capsys):
    asked = ["window", "--model", folder, "--prompts", CAT, DOG, "--samples", 2, "--steps", 10]
    asked += ["--allow-partial"]  # weights are random
    planned = run(capsys, *asked, "--dry-run", "--out", tmp_path / "o")
    # 2 paths of 10 steps and their start, each under 2 prompts.
    assert "2 trajectories of 10 steps: 44 network evaluations, about" in planned
    assert not (tmp_path / "o").exists()
    printed = run(capsys, *asked, "--out", tmp_path / "o")
    assert "half by" in printed
    found = load_window(tmp_path / "o" / "window.json")
    assert found.cells == {CAT: (CAT,), DOG: (DOG,)}
    assert found.prior_entropy == pytest.approx(np.log(2))
    # The steps that diffusers takes, on the model's own axis, and how wide the bars of two samples are.
    assert found.samplers[0].sampler == "time"
    # Two paths: an error that they do not tell is unknown.
    assert all(place.stderr is None or place.stderr > 0 for place in (found.low, found.median, found.high))


def test_prompts_that_cannot_be_read_are_refused_before_anything_is_planned(folder, tmp_path, capsys):
    mute = shutil.copytree(folder, tmp_path / "mute", ignore=shutil.ignore_patterns("tokenizer"))
    for asked in (
        ["window", "--prompts", CAT, DOG],
        ["compare", "--partition", "prompts-colour"],
        ["sample", "--prompt", CAT],
    ):
        printed = run(capsys, *asked, "--model", mute, "--dry-run", code=2)
        assert "put vocab.json and merges.txt into a folder `tokenizer` beside the weights" in printed


def test_a_prompt_that_is_cut_is_said_so_once_and_early(folder, tmp_path, capsys, monkeypatch):
    cli._say_once.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", cli._warn)
        asked = ["sample", "--model", folder, "--prompt", "cat " * 90, "--steps", 2]
        assert cli.run([*map(str, asked), "--out", str(tmp_path / "o"), "--dry-run"]) == 0
        assert cli.run([*map(str, asked), "--out", str(tmp_path / "o")]) == 0
    assert capsys.readouterr().err.count("the rest is cut off") == 1


def test_an_error_wider_than_numbers_go_is_no_interval():
    assert _interval(-400.0, 800.0) is None
    assert _interval(0.0, np.log(2)) == pytest.approx((1, 2))


@pytest.mark.slow
def test_compare_at_several_levels_from_one_set_of_paths(folder, tmp_path, capsys):
    asked = ["compare", "--model", folder, "--partition", "prompts-colour", "--samples", 4, "--steps", 6]
    printed = run(capsys, *asked, "--out", tmp_path)
    assert "4 conditions; warm or cold: warm, cold; colour: a photo of a red car" in printed
    found = load_dataset(tmp_path / "compare.nc")
    assert list(found.level.values) == ["warm or cold", "colour"]
    assert list(found.source.values) == [ONLINE, GAP]
    coarse, fine = (curve_of(found, ONLINE, level) for level in found.level.values)
    assert (coarse.prior_entropy, fine.prior_entropy) == pytest.approx((np.log(2), np.log(4)))
    # The colour says whether it is warm, along every path.
    assert (fine.entropy >= coarse.entropy - 1e-6).all()


@pytest.mark.slow
def test_overflow_in_half_precision_is_one_line(tmp_path, capsys):
    name = "down_blocks.0.resnets.0.conv2.weight"

    def change(part, found):
        return found | {name: np.full_like(found[name], 6e4)} if part == "unet" else found

    path = folders.write_folder(tmp_path / "m", change)
    asked = ["--model", path, "--steps", 4, "--dtype", "float16", "--out", tmp_path / "o"]
    printed = run(capsys, "window", *asked, "--prompts", CAT, DOG, "--samples", 2, code=2)
    assert "not finite at step 1 of 4 (t = 999" in printed
    assert "float16" in printed
    printed = run(capsys, "sample", *asked, "--prompt", CAT, code=2)
    assert "float16 may have overflowed: use --dtype bfloat16" in printed
