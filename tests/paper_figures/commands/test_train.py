"""``speciation train`` as a person meets it, and what it leaves."""

import numpy as np
import pytest

from gmm.curve import load_dataset
from neural.models import load_model
from neural.training import train as train_function
from paper_figures import cli
from paper_figures.commands.train import _command_line
from paper_figures.studies import training
from paper_figures.studies.training import share_of_class, worst_gap
from paper_figures.studies.training_request import Request

LINE = "train --family pair --dim 3 --depth 0 --steps 60 --batch 32 --out out"
FILES = {"state.safetensors", "model.safetensors", "training.nc", "training.png", "samples.png", "card.md"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One run of the command, stopped half-way and given again."""
    place = tmp_path_factory.mktemp("train")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(place)
        patched.setattr(training, "train", _stopped)
        assert cli.run(LINE.split()) == 130
        assert {path.name for path in (place / "out").iterdir()} == {"state.safetensors"}
        patched.setattr(training, "train", train_function)
        assert cli.run(LINE.split()) == 0
    return place / "out"


def _stopped(*arguments, progress, **options):
    def stop(done, total):
        if done == 20:
            raise KeyboardInterrupt

    return train_function(*arguments, progress=stop, block=20, **options)


def test_what_it_leaves(folder):
    assert {path.name for path in folder.iterdir()} == FILES
    card = (folder / "card.md").read_text()
    assert "`speciation train --family pair --dim 3 --depth 0 --steps 60 --batch 32 --out out`" in card
    assert "| 0.02 |" in card


def test_its_results(folder):
    dataset = load_dataset(folder / "training.nc")
    assert dataset.sizes["step"] == 60
    assert np.isfinite(dataset.step_loss).all()
    share, stderr = share_of_class(dataset)
    assert 0 <= share <= 1
    assert np.isclose(stderr, np.sqrt(share * (1 - share) / dataset.sizes["sample"]))
    assert np.isfinite(worst_gap(dataset)).all()
    held_out = dataset.sel(points="held out")
    # The excess is the loss above the optimum, to sampling error: 50 values, 5 standard errors.
    assert (np.abs(held_out.loss - held_out.optimum - held_out.excess) < 5 * held_out.stderr + 1e-6).all()


def test_its_model_is_one_by_path(folder):
    model = load_model(folder / "model.safetensors")
    assert model.shape == (3,)
    assert model.conditions == (0, 1)
    np.testing.assert_allclose(np.sum(np.square(model.mixture.means), axis=1), 3.0, rtol=1e-6)


def test_shown_like_every_result(folder, tmp_path, capsys):
    assert cli.run(["show", str(folder / "training.nc"), "--out", str(tmp_path / "a.png")]) == 0
    assert "speciation train --family pair" in capsys.readouterr().out.replace("\n", " ")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_dry_run_makes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["train", "--data", "digits", "--patch", "2", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "526,822 parameters" in out
    assert "min on this device" in out
    assert list(tmp_path.iterdir()) == []


def test_another_run_in_the_folder_is_refused(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder.parent)
    assert cli.run(LINE.replace("--dim 3", "--dim 4").split()) == 2
    assert "holds another run: family: dim is 3 there, 4 here" in capsys.readouterr().err


def test_the_command_of_a_request_is_that_request():
    request = Request(family="tree", branching="2x2", label_dropout=0.3, store="float16")
    assert (
        _command_line(request)
        == "speciation train --family tree --branching 2x2 --label-dropout 0.3 --store float16"
    )


def test_held_out_points_are_not_in_training(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "v.npz", x=rng.normal(size=(60, 4)), y=rng.integers(0, 3, 60))
    plan = Request(data=str(tmp_path / "v.npz"), held_out=20).plan()
    assert (len(plan.data.x), len(plan.held_out.x)) == (40, 20)
    both = np.concatenate([plan.data.x, plan.held_out.x])
    assert len(np.unique(both, axis=0)) == 60


def test_a_folder_named_like_the_built_in_data_is_not_taken_for_them(tmp_path, monkeypatch):
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    plan = Request(data="digits", held_out=297).plan()
    assert (len(plan.data.x), len(plan.held_out.x)) == (1500, 297)
