"""Experiments on published networks, end to end on tiny ones: rows that stay, plans without weights, refusals."""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from safetensors.numpy import load_file, save_file

import gmm
from gmm.curve import load_dataset
from gmm.estimate import Estimate
from neural import load_judge
from neural.estimators import posterior_paths
from neural.models import load_model
from neural.samplers import heun
from neural.stable_diffusion import architecture, unet
from paper_figures.drawing.style import paper_style
from paper_figures.drawing.view import View
from paper_figures.figures.fig26_sd15_u_turn import OTHERS
from paper_figures.figures.registry import FIGURES
from paper_figures.figures.settings import ExperimentSettings
from paper_figures.studies import judged_u_turn
from paper_figures.studies.asked import Asked, questions
from paper_figures.studies.judged_u_turn import predicted, tied_posterior
from paper_figures.studies.plan import network_of
from tests.neural.stable_diffusion import folders
from tests.paper_figures.asked import run, thousand_classes

EDM2 = Path(__file__).parents[2] / "neural" / "data" / "edm2"
VISION = EDM2.parent / "vision"
TINY = ["--weights", EDM2 / "tiny.pkl", "--paths", 8, "--steps", 6]
CLASSES = ["--classes", 1, 2, "--highlight", 5]
# Of the published networks (reference numbers of EDM2's paper and of diffusers).
XS_PARAMETERS, XS_MULTIPLY_ADDS, UNET_PARAMETERS = 124_713_125, 44.9e9, 859_520_964
EXPERIMENTS = {name for name, figure in FIGURES.items() if figure.is_experiment}


def rows(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.nc")}


def test_classes_of_a_changed_list_keep_their_rows(tmp_path, capsys):
    asked = ["figures", "--only", "edm2-classes", *TINY, "--out", tmp_path]
    run(capsys, *asked, *CLASSES)
    kept, folder = rows(tmp_path / "edm2-classes.rows"), tmp_path / "edm2-classes.rows"
    assert len(kept) == 3
    first = load_dataset(tmp_path / "edm2-classes.nc")
    run(capsys, *asked, "--classes", 2, 7, "--highlight", 5)
    more = rows(folder)
    assert len(more) == 4
    assert all(more[name] == contents for name, contents in kept.items())
    second = load_dataset(tmp_path / "edm2-classes.nc")
    for name in ("2", "5"):
        for field in ("entropy", "place"):
            one, other = (found[field].sel(level=name).values for found in (first, second))
            np.testing.assert_array_equal(one, other)
    assert set(map(str, second.level.values)) == {"2", "7", "5"}
    assert int(second.trajectories.sel(level="5")) == 10 * int(second.trajectories.sel(level="2"))
    # By falling noise of half entropy.
    half = second.place.sel(landmark="half", source="trained, online").values
    assert (np.diff(half) <= 0).all()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {row["name"] for row in manifest["rows"]} == {"2", "7", "5"}
    assert all(
        (folder / row["file"]).exists() and row["tracker"] == "unconditional" for row in manifest["rows"]
    )
    # The same command again computes nothing, and a damaged row alone is computed again.
    assert "data reused" in run(capsys, *asked, "--classes", 2, 7, "--highlight", 5)


def test_partitions_by_both_trackers(tmp_path, capsys):
    file = tmp_path / "own.toml"
    file.write_text(
        'format = "speciation-partition/1"\n[[level]]\nname = "half"\ncells.low = ["0-4"]\ncells.high = ["5-9"]\n'
        '[[level]]\nname = "one"\ncells = "each"\n'
    )
    run(capsys, "figures", "--only", "edm2-partitions", *TINY, "--partitions", file, "--out", tmp_path)
    found = load_dataset(tmp_path / "edm2-partitions.nc")
    assert list(found.source.values) == ["cells against each other", "published map"]
    assert list(found.level.values) == [f"{file}: half", f"{file}: one"]
    prior = found.prior_entropy.sel(source="cells against each other").values
    # Two classes of each of ten cells of one class.
    np.testing.assert_allclose(prior, [math.log(2), math.log(10)])
    np.testing.assert_allclose(found.prior_entropy.sel(source="published map"), math.log(2))
    assert np.isfinite(found.entropy).all()


def test_guidance_on_one_class(tmp_path, capsys):
    schedules = ["--schedules", "cfg:2", "interval:2:0.2..2"]
    run(capsys, "figures", "--only", "edm2-guidance", *TINY, "--classes", 3, *schedules, "--out", tmp_path)
    found = load_dataset(tmp_path / "edm2-guidance.nc")
    assert list(found.source.values) == ["none", "cfg:2", "interval:2:0.2..2"]
    assert found.attrs["reference"] == "none"
    # Guidance begins at σ = 2: before, the entropies are those of the plain dynamics, with the same noise.
    before = found.log_snr.isel(source=0, level=0).values < -2 * math.log(2.0)
    plain, limited = (
        found.entropy.sel(source=name).values[0, before] for name in ("none", "interval:2:0.2..2")
    )
    np.testing.assert_allclose(limited[:3], plain[:3], rtol=1e-5)  # float32
    assert "edm2-guidance" in (tmp_path / "index.html").read_text()


@pytest.mark.slow
def test_prompts_and_their_guidance(tmp_path, capsys):
    folder = folders.write_folder(tmp_path / "tiny")
    asked = ["figures", "--weights", folder, "--paths", 4, "--steps", 5, "--out", tmp_path]
    pairs = ["--prompts", "a cat", "a dog", "a red car", "a blue car"]
    run(capsys, *asked, "--only", "sd15-prompts", *pairs)
    found = load_dataset(tmp_path / "sd15-prompts.nc")
    assert list(found.level.values) == ["a cat | a dog", "a red car | a blue car"]
    run(capsys, *asked, "--only", "sd15-guidance", *pairs[:3], "--schedules", "cfg:3")
    guided = load_dataset(tmp_path / "sd15-guidance.nc")
    assert list(guided.source.values) == ["none", "cfg:3"]
    assert np.isfinite(guided.cross_entropy).all()


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_plans_need_no_weights(name, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SPECIATION_CACHE", str(tmp_path / "empty"))
    planned = run(capsys, "figures", "--only", name, "--dry-run", "--out", tmp_path / "out")
    assert "Nothing was made" in planned
    assert "PFLOP" in planned
    assert not (tmp_path / "out").exists()
    fetch = FIGURES[name].weights[0]
    assert f"speciation weights fetch {fetch}" in run(
        capsys, "figures", "--only", name, "--out", tmp_path / "out", code=2
    )


def test_a_plan_counts_every_evaluation(monkeypatch, tmp_path):
    monkeypatch.setenv("SPECIATION_CACHE", str(tmp_path))
    settings = ExperimentSettings(
        weights=("edm2-xs",), classes=("tench", "goldfish"), highlight=("tabby",), paths=32
    )
    plan = FIGURES["edm2-classes"].plan(settings)
    # 64 steps, the class and the network without one; ten times the paths of the highlighted class.
    assert plan.evaluations == 64 * 2 * (2 * 32 + 320)
    assert plan.operations == 2 * plan.evaluations * plan.network.multiply_adds


def test_sizes_of_published_networks(monkeypatch, tmp_path):
    monkeypatch.setenv("SPECIATION_CACHE", str(tmp_path))
    edm2, sd15 = network_of("edm2-xs"), network_of("sd15")
    # Of the pair: the second lacks the embedding of the classes, and both have buffers beside their weights.
    assert edm2.parameters == pytest.approx(2 * XS_PARAMETERS, rel=0.005)
    assert edm2.multiply_adds == pytest.approx(XS_MULTIPLY_ADDS, rel=0.002)
    assert sd15.parameters == UNET_PARAMETERS


def test_multiply_adds_of_the_unet_are_those_of_its_program():
    config = architecture.UNetConfig(
        widths=(32, 64, 96), attends=(True, True, False), layers=2, context=48, heads=2
    )
    shapes = {
        name: jax.ShapeDtypeStruct(shape, jnp.float32)
        for name, shape in architecture.tensor_shapes(config).items()
    }
    x, t = jax.ShapeDtypeStruct((1, 16, 16, 4), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32)
    text = jax.ShapeDtypeStruct((1, architecture.TOKENS, 48), jnp.float32)

    def evaluate(weights, x, t, text):
        return unet.unet(weights, config, x, t, unet.text_keys(weights, config, text))

    counted = multiply_adds(jax.make_jaxpr(evaluate)(shapes, x, t, text).jaxpr)
    # The embedding of a time is one vector; all else is a product.
    assert architecture.unet_multiply_adds(config, 16) == pytest.approx(counted, rel=1e-3)


def multiply_adds(jaxpr):
    """Multiply-adds of all products and convolutions of a program; of alternatives by platform, of the first."""
    total = 0
    for equation in jaxpr.eqns:
        shapes, kind = [value.aval.shape for value in equation.invars], equation.primitive.name
        if kind == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            size = math.prod(equation.outvars[0].aval.shape)
            total += size * math.prod(shapes[0][axis] for axis in contracted)
        elif kind == "conv_general_dilated":
            out = equation.params["dimension_numbers"].rhs_spec[0]
            total += math.prod(equation.outvars[0].aval.shape) * math.prod(shapes[1]) // shapes[1][out]
        elif kind == "cond":
            total += multiply_adds(equation.params["branches"][-1].jaxpr)
        else:
            times = equation.params.get("length", 1) if kind == "scan" else 1
            inner = [
                value
                for value in equation.params.values()
                if hasattr(value, "eqns") or hasattr(value, "jaxpr")
            ]
            total += times * sum(multiply_adds(getattr(value, "jaxpr", value)) for value in inner)
    return total


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "log-time-vp", "--classes", "3"], "--classes is for experiments"),
        (["--only", "edm2-classes", "--weights", "zoo:digits"], "of kind edm2, got zoo:digits: trained"),
        (["--only", "edm2-classes", *TINY, "--classes", "12"], "12"),
        (
            ["--only", "edm2-classes", "--weights", "nowhere.pkl"],
            "a file or folder that exists, got 'nowhere.pkl'",
        ),
        (["--only", "sd15-prompts", "--prompts", "a cat", "--dry-run"], "--prompts must come in pairs"),
        (["--only", "edm2-guidance", *TINY, "--classes", "1", "--schedules", "much"], "much"),
    ],
)
def test_refusals(words, message, tmp_path, capsys):
    assert message in run(capsys, "figures", *words, "--out", tmp_path, code=2)


def test_imagenet_names_are_those_of_a_network_of_a_thousand_classes(tmp_path, capsys):
    many = thousand_classes(tmp_path, EDM2)
    asked = ["figures", "--only", "edm2-classes", "--weights", many, "--paths", 2, "--steps", 3, "--fast"]
    assert "unconditional" in run(capsys, *asked, "--out", tmp_path / "out", code=2)


def test_pictures_on_every_axis(tmp_path, capsys):
    words = ["edm2-classes", "edm2-partitions", "edm2-guidance", *TINY, "--classes", 1, 2, "--highlight", 5]
    cells = tmp_path / "own.toml"
    cells.write_text('format = "speciation-partition/1"\n[[level]]\ncells.a = [1]\ncells.b = [2]\n')
    more = ["--partitions", cells, "--schedules", "cfg:2", "--out", tmp_path]
    run(capsys, "figures", "--only", *words, *more)
    for name in words[:3]:
        data = load_dataset(tmp_path / f"{name}.nc")
        for view in (View(), View("t", "bits"), View("log-snr")):
            with paper_style():
                picture = FIGURES[name].draw(data, view)
            assert all(ax.lines or ax.collections for ax in picture.axes)


# Of four standard errors; at seven levels and two laws a false alarm comes once in a thousand runs. At 48 steps what is
# left of the error of the steps is below a hundredth.
STDERRS, STEPS_LEAVE = 4, 0.012


@pytest.mark.parametrize(("classes", "untied"), [(8, 0.08), (2, 0.04)])
def test_the_prediction_of_a_u_turn_is_the_exact_posterior(classes, untied):
    """E p(class | X_t) over samples of a class of an exact mixture, at the few steps that experiments take."""
    noise = np.log(np.geomspace(0.5, 30, 7))
    words = {"classes": ["1"], "each": True, "samples": 512, "steps": 48, "seed": 1}
    (question,) = questions(Asked(f"mixture:simplex:{classes}:64", **words))
    share = Estimate(np.asarray(1 / classes), np.asarray(0.0))
    found = predicted(question, share, noise)
    exact, exact_error = exact_posterior(question.model.mixture, 1, np.exp(noise))
    error = np.hypot(found.stderr, exact_error)
    assert (np.abs(found.value - exact) < STDERRS * error + STEPS_LEAVE).all()
    # A share of unknown size widens the band where it matters: before the class is decided.
    vague = predicted(question, share._replace(stderr=np.asarray(0.3 / classes)), noise)
    np.testing.assert_array_equal(vague.value, found.value)
    assert vague.stderr[-1] == pytest.approx(0.3 * found.value[-1], rel=0.3)
    assert vague.stderr[0] == pytest.approx(found.stderr[0], abs=1e-12)
    # What the tie makes good: the same ratios, cut at one.
    paths = tracked(question)
    cut = np.exp(np.minimum(paths.log_ratio[-1] - np.log(classes), 0)).mean()
    assert cut < exact[0] - untied


def tracked(question):
    return posterior_paths(
        question.model.denoiser, question.decision.conditions, tracker="unconditional",
        guide=question.model.unconditional, key=question.key(5, 0), samples=question.samples,
        times=question.times, start=question.start, shape=question.model.shape,
    )  # fmt: skip


def test_a_posterior_that_learns_nothing_stays_at_the_share():
    np.testing.assert_allclose(tied_posterior(np.zeros((5, 3)), 0.1), 0.1)


def exact_posterior(mixture, number, levels):
    x, _ = gmm.sample(mixture.take(np.array([number])), jax.random.key(3), 4000)
    noise = np.random.default_rng(4).normal(size=x.shape)
    posteriors = [gmm.log_posterior(gmm.diffuse(mixture, 1.0, level), x + level * noise) for level in levels]
    p = np.array([np.exp(np.asarray(log_p))[:, number] for log_p in posteriors])
    return p.mean(axis=1), p.std(axis=1) / np.sqrt(p.shape[1])


def test_u_turns_of_latents_judged_by_a_vision_network(tmp_path, capsys):
    folder = folders.write_folder(tmp_path / "sd")
    weights = ["--weights", EDM2 / "tiny.pkl", folder / "vae", VISION / "dinov2"]
    asked = ["figures", "--only", "edm2-u-turn", *weights, "--classes", 1, "--paths", 4, "--steps", 4]
    run(capsys, *asked, "--out", tmp_path / "out")
    found = load_dataset(tmp_path / "out" / "edm2-u-turn.nc")
    assert found.sizes == {"level": 1, "turn": 8}
    assert ((found.u_turn > 0) & (found.u_turn < 1)).all()
    assert float(found.share[0]) == pytest.approx(0.1)
    with paper_style():
        picture = FIGURES["edm2-u-turn"].draw(found, View())
    assert all(ax.lines for ax in picture.axes)
    alone = ["figures", "--only", "edm2-u-turn", *TINY, "--classes", 1]
    refused = run(capsys, *alone, "--out", tmp_path / "out", code=2)
    assert "--weights must name a network, its autoencoder and a judge, got 1" in refused


def tiny_clip(folder):
    """The small CLIP with a vocabulary of the letters, and an embedding for each of its words."""
    folders.write_tokenizer(folder)
    words = len(json.loads((folder / "vocab.json").read_text()))
    config = json.loads((VISION / "clip" / "config.json").read_text())
    config["text_config"] |= {"vocab_size": words, "bos_token_id": words - 2, "eos_token_id": words - 1}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = dict(load_file(VISION / "clip" / "model.safetensors"))
    width = tensors["text_model.embeddings.token_embedding.weight"].shape[1]
    table = np.random.default_rng(0).normal(size=(words, width)).astype(np.float32)
    save_file(tensors | {"text_model.embeddings.token_embedding.weight": table}, folder / "model.safetensors")
    return folder


@pytest.mark.slow
def test_u_turns_of_prompts_judged_by_clip(tmp_path, capsys, monkeypatch):
    weights = ["--weights", folders.write_folder(tmp_path / "sd"), tiny_clip(tmp_path / "clip")]
    asked = [
        "figures",
        "--only",
        "sd15-u-turn",
        *weights,
        "--prompts",
        "a cat",
        "a dog",
        "--paths",
        4,
        "--steps",
        4,
    ]
    run(capsys, *asked, "--out", tmp_path / "out")
    found = load_dataset(tmp_path / "out" / "sd15-u-turn.nc")
    assert found.sizes == {"level": 2, "turn": 8}
    assert ((found.u_turn > 0) & (found.u_turn < 1)).all()
    # The shares by a second route: CLIP's features of the same samples, its texts, and a softmax, all in numpy.
    model, judge = load_model(str(weights[1])), load_judge(weights[2])
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 7), 0)
    noise = jax.random.normal(key, (4, *model.shape), jnp.float32)
    x = heun(model.unconditional, noise, None, times=model.grid.times(model.process, 4))
    images, texts = judge.features(model.pictures(x)), judge.text_features(["a cat", "a dog", *OTHERS])
    cosines = (images / np.linalg.norm(images, axis=1)[:, None]) @ (
        texts / np.linalg.norm(texts, axis=1)[:, None]
    ).T
    p = scipy.special.softmax(judge.text.scale * cosines, axis=1)
    # Of four samples, half a sample's worth at least.
    np.testing.assert_allclose(found.share, np.maximum(p[:, :2].mean(axis=0), 1 / 8), rtol=1e-4)
    np.testing.assert_allclose(found.share_stderr, p[:, :2].std(axis=0, ddof=1) / 2, rtol=1e-4)
    with paper_style():
        picture = FIGURES["sd15-u-turn"].draw(found, View())
    assert all(ax.lines for ax in picture.axes)
    # What is kept is not sampled again, until the judge is another.
    (tmp_path / "out" / "sd15-u-turn.nc").unlink()
    monkeypatch.setattr(judged_u_turn, "heun", None)
    run(capsys, *asked, "--out", tmp_path / "out")
    np.testing.assert_array_equal(load_dataset(tmp_path / "out" / "sd15-u-turn.nc").u_turn, found.u_turn)
    monkeypatch.undo()
    config = tmp_path / "clip" / "config.json"
    config.write_text(config.read_text() + " ")
    before = rows(tmp_path / "out" / "sd15-u-turn.rows")
    run(capsys, *asked, "--out", tmp_path / "out")
    assert len(rows(tmp_path / "out" / "sd15-u-turn.rows")) == 2 * len(before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda clip: (clip / "vocab.json").unlink(), "without its vocabulary"),
        (lambda clip: (clip / "config.json").write_text("[]"), "config.json"),
    ],
)
def test_a_clip_that_cannot_judge_is_refused(change, message, tmp_path, capsys):
    weights = ["--weights", folders.write_folder(tmp_path / "sd"), tiny_clip(tmp_path / "clip")]
    change(tmp_path / "clip")
    asked = [
        "figures",
        "--only",
        "sd15-u-turn",
        *weights,
        "--prompts",
        "a cat",
        "a dog",
        "--paths",
        4,
        "--steps",
        4,
    ]
    assert message in run(capsys, *asked, "--out", tmp_path / "out", code=2)
    asked[asked.index(weights[2])] = VISION / "dinov2"
    assert "CLIP with both towers" in run(capsys, *asked, "--out", tmp_path / "out", code=2)
