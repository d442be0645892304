"""Guidance schedules: formulas against direct ones, their limits, text and JSON forms, bad input."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmm
from gmm.guidance import Guidance, Profile
from gmm.guidance_specs import FORMAT, from_dict
from theory import entropy_curve

# Both sides are a handful of float64 operations.
ROUNDING = 1e-13

LEVELS = np.geomspace(0.01, 50, 23)
RATIOS = np.linspace(-3, 3, 23)
GAPS = np.linspace(0, 4, 23)

SCHEDULES: dict[str, Guidance] = {
    "none": gmm.unguided(),
    "cfg": gmm.cfg(2.5),
    "negative": gmm.negative(1.5),
    "auto": gmm.autoguidance(2),
    "interval": gmm.limited_interval(3, 0.2, 1.5),
    "open interval": gmm.limited_interval(3, 0, math.inf),
    "feedback": gmm.feedback(0.8, temperature=0.5, offset=-0.02, max_weight=7),
    "power": gmm.power_law(2, 0.7),
    "dynamic negative": gmm.dynamic_negative(0.1, scale=5, temperature=0.2, offset=2e-4),
    "profile": gmm.weight_profile([-2, 0, 1], [1, 4, 1]),
}
by_name = pytest.mark.parametrize("name", SCHEDULES)


def weights(schedule: Guidance) -> np.ndarray:
    return np.asarray(schedule.weight(LEVELS, RATIOS, GAPS))


@pytest.fixture(scope="module")
def curve():
    return entropy_curve(gmm.edm(), np.geomspace(0.3, 3000, 200), energy=100.0)


# Formulas.


def test_weights_are_the_published_formulas():
    one = np.ones_like(LEVELS)
    inside = (LEVELS > 0.2) & (LEVELS <= 1.5)
    bounded = np.clip(RATIOS, np.log(0.2 * 7 / 6), 3)
    posterior = np.minimum(0.1 * np.exp(RATIOS), 0.8)
    expected = {
        "none": one,
        "cfg": 2.5 * one,
        "negative": -1.5 * one,
        "auto": 2 * one,
        "interval": np.where(inside, 3.0, 1.0),
        "open interval": 3 * one,
        "feedback": np.exp(bounded) / (np.exp(bounded) - 0.2),
        "power": 1 + 2 * GAPS**0.7,
        "dynamic negative": -5 * posterior / (1 - posterior),
        "profile": np.interp(np.log(LEVELS), [-2, 0, 1], [1, 4, 1], left=1, right=1),
    }
    for name, schedule in SCHEDULES.items():
        np.testing.assert_allclose(weights(schedule), expected[name], rtol=ROUNDING, err_msg=name)


def test_what_a_schedule_needs():
    assert {name for name, s in SCHEDULES.items() if s.needs_ratio} == {"feedback", "dynamic negative"}
    assert {name for name, s in SCHEDULES.items() if s.needs_gap} == {"power"}
    assert {name for name, s in SCHEDULES.items() if s.reference == "guide"} == {"auto"}
    assert {name for name, s in SCHEDULES.items() if s.is_plain} == {"none"}
    plain = [
        gmm.cfg(1),
        gmm.limited_interval(1, 0.1, 1),
        gmm.power_law(0),
        gmm.weight_profile([0, 1], [1, 1]),
    ]
    assert all(schedule.is_plain for schedule in plain)


@by_name
def test_schedules_trace_and_compile_once(name):
    schedule = SCHEDULES[name]
    traced = jax.jit(lambda s, *a: s.weight(*a))(schedule, LEVELS, RATIOS, GAPS)
    np.testing.assert_allclose(np.asarray(traced), weights(schedule), rtol=ROUNDING)
    leaves, structure = jax.tree.flatten(schedule)
    assert type(jax.tree.unflatten(structure, leaves)) is type(schedule)


def test_weights_keep_their_precision(x32):
    for schedule in SCHEDULES.values():
        w = schedule.weight(*(jnp.asarray(a, jnp.float32) for a in (LEVELS, RATIOS, GAPS)))
        assert w.dtype == jnp.float32
        assert w.shape == LEVELS.shape


def test_weight_one_changes_nothing_to_the_bit():
    denoised, reference = jax.random.normal(jax.random.key(0), (2, 50, 3), jnp.float32) * 100
    assert np.array_equal(gmm.steer(denoised, reference, 1.0), denoised)
    assert np.array_equal(gmm.steer(denoised, reference, jnp.ones(50)), denoised)
    away = gmm.steer(denoised, reference, jnp.zeros(50))
    np.testing.assert_allclose(away, reference, atol=1e-4)


# Limits.


def test_feedback_towards_its_limits():
    # π → 1: nothing to undo.
    nearly = gmm.feedback(1 - 1e-9, max_weight=1e6)
    np.testing.assert_allclose(nearly.weight(1.0, np.linspace(-3, 3, 7)), 1, atol=1e-7)
    # A tracker that does not move is classifier-free guidance of weight 1/π.
    np.testing.assert_allclose(gmm.feedback(0.25).weight(LEVELS, 0 * RATIOS), 4, rtol=ROUNDING)
    # The weight starts there, grows where the condition is missed up to its bound, and goes to one where it is met.
    w = np.asarray(gmm.feedback(0.25, max_weight=10).weight(1.0, np.array([-5, -0.1, 0, 0.1, 3, 9])))
    assert (np.diff(w) <= 0).all()
    np.testing.assert_allclose(w[[0, -1]], [10, 1 / (1 - 0.75 * np.exp(-3))], rtol=ROUNDING)


def test_feedback_keeps_its_ratio_between_the_clamps():
    schedule = gmm.feedback(0.8, temperature=0.5, offset=-0.02, max_weight=7)
    assert float(schedule.tracked(0.1, 1.0)) == pytest.approx(0.1 + 0.5 - 0.02, rel=ROUNDING)
    assert float(schedule.tracked(2.9, 10.0)) == 3.0
    assert float(schedule.tracked(0.0, -50.0)) == pytest.approx(np.log(0.2 * 7 / 6), rel=ROUNDING)
    assert float(schedule.of_exact(1.2, 5)) == pytest.approx(0.5 * 1.2 - 0.02 * 5, rel=ROUNDING)


def test_other_schedules_reduce_to_constant_guidance():
    for same in (
        gmm.limited_interval(3, 0, math.inf),
        gmm.power_law(2, 0),
        gmm.weight_profile([-99, 99], [3, 3]),
    ):
        reached = np.asarray(same.weight(LEVELS, RATIOS, GAPS + 0.1))
        np.testing.assert_allclose(reached, 3, rtol=ROUNDING)


def test_dynamic_negative_guidance_is_the_score_of_everything_else():
    mixture = gmm.Mixture([0.2, 0.5, 0.3], [[0.0, 1.0], [2.0, 0.0], [-1.0, -1.0]], gmm.Isotropic(0.4))
    rest = mixture.take([1, 2])
    x = jax.random.normal(jax.random.key(1), (64, 2)) * 2
    ratio = gmm.log_posterior(mixture, x)[:, 0] - jnp.log(0.2)
    w = gmm.dynamic_negative(0.2, max_posterior=1 - 1e-15).weight(1.0, ratio)
    own = gmm.score(mixture.take([0]), x)
    found = gmm.steer(own, gmm.score(mixture, x), w)
    # P/(1-P) and the difference of scores are as large as 1e3 and as small as the digits that they cost.
    np.testing.assert_allclose(found, gmm.score(rest, x), atol=1e-9)


# Timed by a measured curve.


def test_entropy_timed_interval_is_the_window(curve):
    timed = gmm.entropy_timed(curve, 2.0, share=0.6)
    low, _, high = gmm.window(curve, 0.6).sigma
    np.testing.assert_array_equal(timed.weight(LEVELS), gmm.limited_interval(2.0, low, high).weight(LEVELS))


def test_entropy_timed_profile_follows_the_rate(curve):
    timed = gmm.entropy_timed(curve, 3.0, shape="profile")
    assert isinstance(timed, Profile)
    rate = curve.rate_per_log_noise()[0]
    w = np.asarray(timed.weight(curve.sigma))
    np.testing.assert_allclose(w, 1 + 2 * rate / rate.max(), rtol=1e-9)
    assert float(timed.weight(1e9)) == 1


# Text and JSON.


@by_name
def test_json_round_trip(name, tmp_path):
    schedule = SCHEDULES[name]
    path = tmp_path / "guidance.json"
    gmm.save_guidance(path, {name: schedule})
    # Strict JSON: no NaN, no Infinity.
    json.loads(path.read_text(), parse_constant=lambda text: pytest.fail(text))
    back = gmm.load_guidance(path)[name]
    assert type(back) is type(schedule)
    np.testing.assert_array_equal(weights(back), weights(schedule))
    assert gmm.parse_guidance(str(path)).keys() == {name}


def test_text_forms(curve):
    def same(text: str, schedule: Guidance) -> None:
        ((label, found),) = gmm.parse_guidance(text, curve).items()
        assert label == text
        assert found.as_dict() == schedule.as_dict()

    assert [s.as_dict()["w"] for s in gmm.parse_guidance("cfg:1,2,4").values()] == [1, 2, 4]
    assert list(gmm.parse_guidance("cfg:1,2,4")) == ["cfg:1", "cfg:2", "cfg:4"]
    same("none", gmm.unguided())
    same("cfg:2", gmm.cfg(2))
    same("interval:2:0.2..1.5", gmm.limited_interval(2, 0.2, 1.5))
    same("interval:2:0.2..inf", gmm.limited_interval(2, 0.2, math.inf))
    same("feedback", gmm.feedback())
    same("feedback:0.999:temperature=0.2,offset=-0.02", gmm.feedback(0.999, temperature=0.2, offset=-0.02))
    same("power:2:0.5", gmm.power_law(2, 0.5))
    same("entropy:2", gmm.entropy_timed(curve, 2))
    same("entropy:2:0.5", gmm.entropy_timed(curve, 2, share=0.5))
    same("entropy:2:profile", gmm.entropy_timed(curve, 2, shape="profile"))
    same("negative:1", gmm.negative(1))
    same("dynamic-negative:0.1:max-posterior=0.9", gmm.dynamic_negative(0.1, max_posterior=0.9))
    same("auto:1.5", gmm.autoguidance(1.5))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cfg",
        "cfg:",
        "cfg:two",
        "cfg:nan",
        "cfg:2:3",
        "none:1",
        "interval:2",
        "interval:2:1.5",
        "interval:2:1.5..0.2",
        "interval:2:-1..1",
        "interval:2:1..1",
        "feedback:1",
        "feedback:0",
        "feedback:0.5:tau=1",
        "feedback:0.05",
        "power:-1",
        "power:1:-2",
        "entropy",
        "entropy:2",
        "entropy:2:0.5:0.6",
        "negative:-1",
        "dynamic-negative",
        "dynamic-negative:0.9",
        "guess:2",
        "missing.json",
    ],
)
def test_bad_text_is_refused_in_words(text):
    with pytest.raises(ValueError, match=r"must|no such file"):
        gmm.parse_guidance(text)


def test_bad_files_are_refused_in_words(tmp_path):
    def refuse(content: str, words: str) -> None:
        path = tmp_path / "bad.json"
        path.write_text(content)
        with pytest.raises(ValueError, match=words):
            gmm.load_guidance(path)

    def listed(*schedules: object) -> str:
        return json.dumps({"format": FORMAT, "schedules": schedules})

    refuse("{", "Invalid JSON")
    refuse("[" * 100_000, "Invalid JSON")
    refuse("[]", "it must be an object")
    refuse(json.dumps({"format": FORMAT}), "schedules is missing")
    refuse(json.dumps({"format": "x", "schedules": []}), f"format must be '{FORMAT}'")
    refuse(listed({"kind": "cfg", "w": 1}), "name of its own")
    refuse(listed({"name": "a", "kind": "none"}, {"name": "a", "kind": "none"}), "name of its own")
    refuse(listed({"name": "a", "kind": "cfg"}), "schedules.0.cfg.w is missing")
    refuse(listed({"name": "a", "kind": "cfg", "w": 1, "v": 2}), "schedules.0.cfg.v is no field")
    refuse(listed({"name": "a", "kind": "cfg", "w": "1"}), "number")
    refuse(listed({"name": "a", "kind": "exec", "w": 1}), "kind")
    refuse(listed({"name": "a", "kind": [], "w": 1}), "kind")
    refuse(listed({"name": "a", "kind": "cfg", "w": True}), "must be a number")
    refuse(listed({"name": "a", "kind": "cfg", "w": [1, 2]}), "w must be a number")
    refuse(listed({"name": "a", "kind": "cfg", "w": 10**400}), "number")
    refuse(listed({"name": "a", "kind": "interval", "w": 1, "low": 3, "high": 2}), "empty")
    refuse(listed({"name": "a", "kind": "profile", "log_level": [1, 0], "w": [1, 1]}), "rise")


# Bad input.


def test_bad_values_are_refused_in_words(curve):
    for call, words in (
        (lambda: gmm.cfg(math.nan), "w must be finite"),
        (lambda: gmm.negative(-1), "w must be finite and >= 0"),
        (lambda: gmm.autoguidance(math.inf), "w must be finite"),
        (lambda: gmm.limited_interval(2, -0.1, 1), "low must be a noise level"),
        (lambda: gmm.limited_interval(2, 0.1, math.nan), "high must be a noise level"),
        (lambda: gmm.limited_interval(2, 1, 1), "it is empty"),
        (lambda: gmm.limited_interval(2, 2, 1), "it is empty"),
        (lambda: gmm.feedback(0.0), r"pi must be in \(0, 1\)"),
        (lambda: gmm.feedback(1.0), r"pi must be in \(0, 1\)"),
        (lambda: gmm.feedback(0.1, max_weight=10), "max_weight must be above 1/pi"),
        (lambda: gmm.feedback(0.5, temperature=0), "temperature"),
        (lambda: gmm.dynamic_negative(1.5), r"pi must be in \(0, 1\)"),
        (lambda: gmm.dynamic_negative(0.5, max_posterior=0.4), "max_posterior"),
        (lambda: gmm.power_law(-1), "omega"),
        (lambda: gmm.entropy_timed(curve, 2, share=1.5), "share must be in"),
        (lambda: gmm.entropy_timed(curve, 2, shape="square"), "shape must be one of"),
        (lambda: gmm.weight_profile([0], [1]), "n >= 2"),
        (lambda: gmm.weight_profile([0, 1], [1, math.nan]), "finite"),
        (lambda: from_dict({"kind": "none", "w": 1}), "none.w is no field"),
        (lambda: from_dict(3), "must be an object, got 3"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_the_documented_file_is_read(request, tmp_path):
    page = (request.config.rootpath / "docs" / "how-to" / "guidance.md").read_text()
    path = tmp_path / "guidance.json"
    path.write_text(page.partition("```json\n")[2].partition("```")[0])
    found = gmm.load_guidance(path)
    assert [schedule.kind for schedule in found.values()] == ["cfg", "interval", "profile"]
    for form in gmm.guidance_specs.SPECS.values():
        assert f"`{form}`" in page, form
