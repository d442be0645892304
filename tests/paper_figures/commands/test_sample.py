"""``speciation sample`` from end to end on networks of reduced size."""

import json
import re
import signal
import subprocess
import sys
from time import sleep

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image

from neural import load_sd15, load_vae
from neural.checkpoints import read_kept
from neural.edm2.latents import IMG512
from neural.models import load_model
from neural.pictures import decoded, from_rgb, from_unit
from neural.samplers import ddim, ddim_times
from neural.vision.reference import image_files
from paper_figures import cli
from paper_figures.studies.pictures import Picture, plan_pictures
from tests.neural.stable_diffusion import folders

EDM2 = "tests/neural/data/edm2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folders.write_folder(tmp_path_factory.mktemp("sd15") / "tiny")


@pytest.fixture
def data(request):
    return request.config.rootpath / EDM2


def run(capsys, *arguments, code=0):
    assert cli.run(["sample", *map(str, arguments)]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def settings(path):
    return json.loads(Image.open(path).text["speciation"])


def test_prompts_become_pictures(folder, capsys, tmp_path):
    asked = (
        *("--model", folder, "--prompt", "a cat", "a dog", "--count", 2, "--seed", 5),
        *("--steps", 2, "--batch", 1, "--guidance-scale", 3, "--out", tmp_path / "out"),
    )
    planned = run(capsys, *asked, "--dry-run")
    assert "4 picture(s); ddim, 2 noise levels, 4 evaluations each: 16 in all" in planned
    assert not (tmp_path / "out").exists()
    run(capsys, *asked)
    made = sorted(path.name for path in (tmp_path / "out").glob("*seed*.png"))
    assert [name.rsplit("-", 1)[1] for name in made] == ["seed5.png", "seed6.png"] * 2
    cat = next((tmp_path / "out").glob("a-cat-*-seed5.png"))
    assert imread(cat).shape == (16, 16, 4)
    assert settings(cat) == {
        "condition": "a cat",
        "decoder": "",
        "dtype": "float32",
        "guidance_scale": 3.0,
        "model": str(folder),
        "sampler": "ddim",
        "seed": 5,
        "steps": 2,
    }
    assert imread(tmp_path / "out" / "sheet.png").shape[0] > 300
    # What is there is kept; what is missing is made again, the same to the byte.
    before = {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "out").glob("*seed*.png")
    }
    cat.unlink()
    assert "4 picture(s), 3 of them there already" in run(capsys, *asked)
    for path, (time, raw) in before.items():
        assert path.read_bytes() == raw
        assert (path.stat().st_mtime_ns == time) == (path != cat)
    # The same by hand, from the same noise.
    assert_by_hand(folder, cat)


def assert_by_hand(folder, cat):
    import jax

    model = load_sd15(folder)
    start, _ = jax.random.split(jax.random.key(5))
    noise = jax.random.normal(start, (8, 8, 4), np.float32)[None]
    options = {"times": ddim_times(model.process, 2), "end": 0.0, "guidance_scale": 3.0}
    latents = ddim(model, noise, ["a cat"], **options, progress=lambda *_: None)
    expected = from_unit(model.pictures(latents))[0]
    found = np.asarray(Image.open(cat).convert("RGB"))
    # One value may round the other way in another program.
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.slow
def test_classes_become_pictures(folder, capsys, tmp_path, data):
    common = ("--model", data / "tiny.pkl", "--class", 3, 5, "--steps", 3, "--vae", folder / "vae")
    run(capsys, *common, "--sampler", "ancestral", "--batch", 2, "--out", tmp_path / "two")
    run(capsys, *common, "--sampler", "ancestral", "--batch", 1, "--out", tmp_path / "one")
    for name in ("3-seed0.png", "5-seed0.png"):
        one, two = (imread(tmp_path / which / name) for which in ("one", "two"))
        assert one.shape == (32, 32, 4)
        # A picture does not depend on what is made beside it.
        assert np.abs(one - two).max() <= 1 / 255 + 1e-6
    run(capsys, *common, "--guidance-scale", 2, "--out", tmp_path / "guided")
    told = settings(tmp_path / "guided" / "3-seed0.png")
    assert (told["sampler"], told["decoder"]) == ("heun", str(folder / "vae"))


def test_latents_are_decoded_with_their_own_statistics(folder):
    vae = load_vae(folder / "vae")
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 4)).astype(np.float32)
    mean, std = np.array([5.81, 3.25, 0.12, -2.15]), np.array([4.17, 4.62, 3.71, 3.28])
    raw = np.asarray(vae.decode((x / 0.5 * std + mean).astype(np.float32)), np.float64)
    expected = np.trunc(np.clip(raw, 0, 1) * 255)
    assert np.abs(decoded(x, vae).astype(int) - expected).max() <= 1
    assert IMG512.final_std == 0.5


def test_bytes_of_pixels():
    # As documented: x = pixel/127.5 - 1, and back x · 127.5 + 128, cut and truncated.
    pixels = np.arange(256, dtype=np.float64).reshape(1, 16, 16, 1)
    np.testing.assert_array_equal(from_rgb(pixels / 127.5 - 1), pixels)
    np.testing.assert_array_equal(from_unit(pixels / 255), pixels)
    np.testing.assert_array_equal(from_rgb(np.array([-3.0, 3.0])), [0, 255])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--prompt", "a cat", "--steps", 1), "--steps must be at least 2, got 1"),
        (("--class", "cat"), "takes prompts and has no classes; use --prompt"),
        (("--prompt", "a cat", "--count", 0), "--count must be >= 1, got 0"),
        (("--prompt", "a cat", "--guidance-scale", -1), "--guidance-scale must be a number >= 0, got -1.0"),
        (("--prompt", "a cat", "--seed", -1), "--seed must be in 0.."),
        (("--prompt", "a cat", "--sampler", "euler"), "'euler' is not one of 'heun', 'ddim', 'ancestral'"),
    ],
)
def test_bad_input_is_one_line(folder, options, message, capsys):
    line = run(capsys, "--model", folder, *options, "--dry-run", code=2)
    assert message in line
    assert line.count("\n") == 1


@pytest.mark.slow
def test_a_network_that_ships_draws_what_it_was_trained_on(capsys, tmp_path):
    run(capsys, "--model", "zoo:digits", "--class", 3, "--steps", 12, "--out", tmp_path)
    picture = imread(tmp_path / "3-seed0.png")
    assert picture.shape == (8, 8, 4)
    # Ink in the middle and none at the sides, as in all the data.
    assert picture[:, 3:5, 0].mean() > 0.3
    assert picture[:, 0, 0].max() < 0.1


def test_states_that_are_no_pictures_are_refused_before_anything_is_made(capsys):
    line = run(capsys, "--model", "zoo:tree", "--dry-run", code=2)
    assert (
        "--model must make pictures, unless --latents is given, which writes states; those of zoo:tree"
        in line
    )


def test_what_a_class_model_cannot_do(data, capsys, tmp_path):
    model = ("--model", data / "tiny.pkl")
    assert "takes no prompts; use --class" in run(capsys, *model, "--prompt", "a cat", code=2)
    assert "has no class 'cat'" in run(capsys, *model, "--class", "cat", code=2)
    found = run(capsys, *model, "--class", 3, "--vae", tmp_path / "none", "--out", tmp_path, code=2)
    assert "no such file" in found


def test_without_names_every_class_or_the_empty_prompt(data, folder):
    everything = plan_pictures(str(data / "tiny.pkl")).pictures
    assert [one.condition for one in everything] == list(range(10))
    (one,) = plan_pictures(str(folder)).pictures
    assert (one.name, one.condition) == ("no prompt", "")
    paths = {Picture(name, name, 0).path(data) for name in ("a cat", "a cat!", "A cat", "猫", "犬")}
    assert len(paths) == 5


def test_pictures_for_metrics_are_numbered_and_resumed(capsys, tmp_path):
    asked = ("--model", "zoo:digits", "--for-metrics", "--count", 6, "--seed", 998, "--steps", 3)
    run(capsys, *asked, "--out", tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*.*"))]
    assert names == [
        "000000/000998.png",
        "000000/000999.png",
        *(f"001000/{1000 + i:06d}.png" for i in range(4)),
    ]
    drawn = [settings(tmp_path / name)["condition"] for name in names]
    assert drawn == [str(int(np.random.default_rng(seed).integers(10))) for seed in range(998, 1004)]
    before = {name: (tmp_path / name).read_bytes() for name in names}
    (tmp_path / names[2]).unlink()
    assert "6 picture(s), 5 of them there already" in run(capsys, *asked, "--out", tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in names} == before
    # A reader of folders finds them all.
    assert len(image_files(tmp_path)) == 6


def test_latents_need_no_autoencoder(data, capsys, tmp_path):
    asked = ("--model", data / "tiny.pkl", "--classes", 3, "--steps", 2, "--latents", "--out", tmp_path)
    run(capsys, *asked, "--count", 2)
    files = sorted(tmp_path.glob("*.safetensors"))
    assert [path.name for path in files] == ["3-seed0.safetensors", "3-seed1.safetensors"]
    kept = read_kept(files[0])
    assert kept.tensors["latents"].shape == (16, 16, 4)
    assert json.loads(kept.attributes["speciation"])["latents"] is True
    files[1].write_bytes(files[1].read_bytes()[:-3])
    with pytest.warns(UserWarning, match="damaged"):
        assert "2 picture(s), 1 of them there already" in run(capsys, *asked, "--count", 2)


def test_a_schedule_guides(capsys, tmp_path):
    model = load_model("zoo:digits")
    asked = ("--model", "zoo:digits", "--classes", 7, "--steps", 5, "--sampler", "ddim", "--latents")
    run(capsys, *asked, "--schedule", "interval:3:0.5..20", "--out", tmp_path / "a")
    found = read_kept(tmp_path / "a" / "7-seed0.safetensors").tensors["latents"]
    start, _ = jax.random.split(jax.random.key(0))
    noise = jnp.stack([jax.random.normal(start, model.shape, np.float32)])
    weight = lambda level: np.where((np.asarray(level) > 0.5) & (np.asarray(level) <= 20), 3.0, 1.0)
    by_hand = ddim(
        model.denoiser,
        noise,
        7,
        times=model.grid.times(model.process, 5),
        guide=model.unconditional,
        guidance_scale=weight,
    )
    # Batches are filled up to one size, whose sums round in another order.
    np.testing.assert_allclose(found, by_hand[0], atol=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--schedule", "cfg:2", "--guidance-scale", 2], "--schedule and --guidance-scale both say"),
        (["--schedule", "cfg:1,2"], "--schedule must be one schedule, got 2: cfg:1, cfg:2"),
        (["--schedule", "entropy:3"], "timed by a measured curve"),
        (["--schedule", "auto:3"], "needs a second model"),
        (["--schedule", "feedback", "--steps", 2], "use `ancestral`|ancestral"),
        (["--schedule", "much"], "schedule must be one of"),
    ],
)
def test_schedules_that_are_refused(words, message, capsys, tmp_path):
    error = run(capsys, "--model", "zoo:digits", "--classes", 7, *words, "--out", tmp_path, code=2)
    assert re.search(message, error)
    assert error.count("\n") == 1


COMMAND = "from paper_figures.cli import main; main()"
MANY = ["sample", "--model", "zoo:digits", "--for-metrics", "--steps", "3", "--batch", "4"]
# Bytes: every picture is larger.
SMALL_FILE = 100
LIMITED = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({SMALL_FILE}, -1)); {COMMAND}"


def pictures(folder):
    finished = [path for path in folder.rglob("*.png") if not path.name.startswith(".")]
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in finished}


@pytest.mark.slow
def test_many_pictures_outlive_kill_9(capsys, tmp_path):
    """Killed again and again, each run goes on; what is finished is neither lost nor made again, nor cut short."""
    count, killed = 240, tmp_path / "killed"
    words = [*MANY, "--count", str(count)]
    kept, kills = {}, 0
    while kills < 3:
        running = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *words, "--out", str(killed)], stdout=subprocess.DEVNULL
        )
        while running.poll() is None and len(pictures(killed)) < len(kept) + 20:
            sleep(0.01)
        running.kill()
        assert running.wait(60) == -signal.SIGKILL
        after, kills = pictures(killed), kills + 1
        # A reader of the folder sees whole pictures alone.
        assert len(image_files(killed)) == len(after)
        assert kept.items() <= after.items()
        assert len(kept) < len(after) < count
        kept = after
    assert f"{count} picture(s), {len(kept)} of them there already" in run(
        capsys, *words[1:], "--out", killed
    )
    run(capsys, *words[1:], "--out", tmp_path / "whole")
    finished, whole = pictures(killed), pictures(tmp_path / "whole")
    assert kept.items() <= finished.items()
    assert {name: contents for name, (contents, _) in finished.items()} == {
        name: contents for name, (contents, _) in whole.items()
    }
    assert len(image_files(killed)) == count
    left = [path.name for path in killed.rglob("*") if path.is_file() and path.suffix != ".png"]
    assert left == []


def test_a_disk_that_fills_loses_no_picture(capsys, tmp_path):
    """A limit on the size of files stands for a disk without room."""
    run(capsys, *MANY[1:], "--count", 8, "--out", tmp_path)
    kept = pictures(tmp_path)
    words = [sys.executable, "-c", LIMITED, *MANY, "--count", "16", "--out", str(tmp_path)]
    stopped = subprocess.run(words, capture_output=True, text=True, check=False)
    assert stopped.returncode == 2
    assert stopped.stderr.splitlines()[-1].startswith("speciation: cannot write ")
    assert "Traceback" not in stopped.stderr
    assert pictures(tmp_path) == kept
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".png"]
    assert "16 picture(s), 8 of them there already" in run(
        capsys, *MANY[1:], "--count", 16, "--out", tmp_path
    )
    assert len(pictures(tmp_path)) == 16
