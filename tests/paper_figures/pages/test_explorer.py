"""The explorer in a real browser, against `theory` in Python."""

import math
import os
import shlex

import numpy as np
import pytest

import theory
from gmm.curve import EntropyCurve
from paper_figures import cli
from paper_figures.pages.explorer import write_explorer
from paper_figures.pages.setting import Setting, exact_curve, noise_levels
from tests.paper_figures.pages.browser import SHAPES, opened, violations

pytestmark = pytest.mark.browser

# Below this difference of agreements between clean data and chance the page names no time of cloning.
DECIDED = 1e-4

# Share of H[Z] (and, for agreements and surprises, of one) by which the page may differ: what it states for each mode.
STATED = {"flat": 1e-5, "prior": 1e-6, "tree": 1e-6, "guided": 1e-4}
# Rates are differences of what is interpolated: over the width of a decision an order of magnitude less exact.
RATES = {"flat": 1e-4, "prior": 1e-5, "tree": 1e-5, "guided": 2e-3}
# In log σ/α, of what is read off the curve between its points.
PLACES = {"flat": 1e-4, "prior": 1e-4, "tree": 1e-3, "guided": 2e-3}
SETTINGS = 200
BATCH = 25


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    return write_explorer(tmp_path_factory.mktemp("explorer") / "explorer.html")


@pytest.fixture
def page(browser, page_file):
    with opened(browser, page_file) as page:
        yield page


def drawn_setting(rng):
    """A setting from anywhere on the page, each mode as often as the others."""
    mode = ("flat", "prior", "tree", "guided")[rng.integers(4)]
    between = lambda low, high: float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.4g}")
    values = {
        "mode": mode,
        "process": str(rng.choice(["vp", "vp-linear", "ve", "edm", "flow", "ddpm"])),
        "dim": between(2, 1e9) // 1,
        "separation": between(0.03, 3),
        "variance": 0.0 if rng.random() < 0.2 else between(1e-3, 3),
        "family": str(rng.choice(["simplex", "orthogonal"])),
        "classes": max(2.0, between(2, 1e12) // 1),
        "prior": between(1e-4, 0.5),
        "coarse": max(2.0, between(2, 1000) // 1),
        "fine": max(2.0, between(2, 1000) // 1),
        "inner": between(0.03, 3),
        "weight": between(1, 10),
        "sampler": str(rng.choice(["sde", "flow"])),
    }
    return Setting(**values)


def visited_settings(seed, count):
    rng = np.random.default_rng(seed)
    found = []
    while len(found) < count:
        setting = drawn_setting(rng)
        try:
            levels = noise_levels(setting)
        except ValueError:  # the process visits none of its decision
            continue
        place = rng.uniform(0.05, 0.95)
        found.append((setting, float(np.interp(place, [0, 1], levels[[0, -1]]))))
    return found


READ = """([settings]) => settings.map(([values, noise]) => {
  Object.assign(state, DEFAULTS, values, { axis: "t", units: "nats" });
  show();
  cursor = noise;
  update();
  const at = {};
  for (const box of document.querySelectorAll("#readout div")) at[box.dataset.name] = Number(box.dataset.value);
  const marks = {};
  for (const { dataset } of document.querySelectorAll("#criteria tbody tr"))
    marks[dataset.criterion] = Number(dataset.level);
  return { at, marks, cursor, window: document.body.dataset.window.split(" ").map(Number), time: durations.at(-1) };
})"""


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(SETTINGS // BATCH))
def test_numbers_of_the_page_are_those_of_theory(page, batch):
    settings = visited_settings(batch, BATCH)
    fields = lambda setting: {
        name: getattr(setting, name) for name in Setting.__dataclass_fields__ if name != "level"
    }
    asked = [[fields(setting), -0.5 * level] for setting, level in settings]
    for (setting, level), read in zip(settings, page.evaluate(READ, [asked]), strict=True):
        if read["cursor"] != pytest.approx(-0.5 * level, abs=1e-12):
            continue  # the process visits a wider range than the page shows
        compare_point(setting, level, read["at"])
        compare_places(setting, read)


def compare_point(setting, level, at):
    curve = exact_curve(setting, np.array([level]))
    share = STATED[setting.mode]
    # Guidance can make the pair less sure than its prior: errors are in nats, of the order of one bit.
    scale = math.log(2) if setting.mode == "guided" else curve.prior_entropy
    said = f"{setting} at {level}"
    assert at["time t"] == pytest.approx(curve.t[0], rel=1e-9), said
    assert at["H (nats)"] == pytest.approx(curve.entropy[0], abs=share * scale), said
    # Rates in log noise, so that every clock is judged alike.
    slope = curve.log_snr_slope[0]
    assert at["dH/dt"] / slope == pytest.approx(curve.rate[0] / slope, abs=RATES[setting.mode] * scale), said
    third = (
        ("surprise of target", curve.cross_entropy)
        if setting.mode == "guided"
        else ("clone agreement", curve.clone_agreement)
    )
    assert at[third[0]] == pytest.approx(third[1][0], abs=share * max(1, third[1][0])), said


def compare_places(setting, read):
    process = setting.forward_process()
    if setting.mode == "flat":
        problem = theory.Problem(process, setting.energy, setting.variance, setting.classes, setting.family)
        expected = {name: rule.log_snr(problem) for name, rule in theory.CRITERIA.items()}
        last, first = problem.visited()
        clean = setting.energy / setting.variance if setting.variance > 0 else math.inf
        if problem.clone_agreement(clean) - 1 / setting.classes <= 2 * DECIDED:
            del expected["cloning"]
        for name, level in expected.items():
            level = level if last <= level <= first else math.nan
            if name == "entropy-rate" and min(level - last, first - level) < 1e-3:
                level = math.nan  # a rate that still grows where the process ends has no maximum there
            found = read["marks"][name]
            assert -0.5 * found == pytest.approx(-0.5 * level, abs=PLACES["flat"], nan_ok=True), (
                setting,
                name,
            )
        window = theory.window_of(problem)
        assert -0.5 * np.array(read["window"]) == pytest.approx(
            [window.high, window.median, window.low], abs=PLACES["flat"]
        ), setting
        return
    level = read["marks"]["half-entropy"]
    if math.isfinite(level):
        curve = exact_curve(setting, np.array([level]))
        steep = abs(curve.rate[0] / curve.log_snr_slope[0]) + 1e-3 * curve.prior_entropy
        wrong = (curve.entropy[0] - 0.5 * curve.prior_entropy) / steep
        assert wrong == pytest.approx(0, abs=2 * PLACES[setting.mode]), setting


def test_a_slider_moves_the_numbers(page):
    before = page.inner_text("#summary")
    page.locator("#classes-slider").focus()
    for _ in range(5):
        page.keyboard.press("PageUp")
    page.wait_for_timeout(300)
    classes = float(page.input_value("#classes"))
    assert page.inner_text("#summary") != before
    assert f"classes={classes:.0f}" in page.url
    read = page.evaluate("() => current[0].prior")
    assert read == pytest.approx(math.log(classes), rel=1e-12)


@pytest.mark.parametrize("mode", ["flat", "prior", "tree", "guided"])
def test_one_setting_of_each_mode(page, mode):
    setting = Setting(mode=mode, classes=50, dim=100, variance=0.5, prior=0.2, coarse=3, fine=4, inner=0.5)
    fields = {name: getattr(setting, name) for name in Setting.__dataclass_fields__ if name != "level"}
    (read,) = page.evaluate(READ, [[[fields, 1.0]]])
    compare_point(setting, -2.0, read["at"])
    compare_places(setting, read)


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("shape", SHAPES)
def test_everyone_can_use_the_page_and_take_its_files(browser, page_file, shape, colours, tmp_path):
    with opened(browser, page_file, "#mode=guided&over=0.4", shape, colours) as page:
        assert violations(page) == {}
        for name, start in (("csv", b"t,log_snr"), ("svg", b"<svg"), ("png", b"\x89PNG")):
            with page.expect_download() as download:
                page.click(f"#{name}")
            download.value.save_as(tmp_path / name)
            assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_on_a_phone_the_pictures_stay_in_sight_of_the_sliders(browser, page_file, colours):
    with opened(browser, page_file, "", "phone", colours) as page:
        tops = [
            page.locator(name).bounding_box()["y"] for name in ("#answer", "#plot", "#form", "#point-title")
        ]
        assert tops == sorted(tops)
        slider = page.locator("#variance-slider")
        page.evaluate("(top) => scrollTo(0, top)", slider.bounding_box()["y"] - 600)
        plot, moved = page.locator("#plot").bounding_box(), slider.bounding_box()
        assert plot["y"] == 0
        assert plot["height"] < moved["y"] < SHAPES["phone"][1]
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


# Moves the setting of a mode a little, so that nothing is remembered, and updates.
MOVE = """([mode, count]) => {
  Object.assign(state, DEFAULTS, { mode });
  durations.length = 0;
  for (let i = 0; i < count; i++) {
    Object.assign(state, { classes: 10 + i, separation: 0.5 + 0.03 * i, inner: 0.1 + 0.01 * i, prior: 0.01 * (i + 1),
      weight: 1.5 + 0.1 * i });
    update();
  }
  return durations;
}"""
MOVES = 31


@pytest.mark.parametrize("mode", ["flat", "prior", "tree", "guided"])
def test_time_of_an_update_is_reported(page, mode, report):
    durations = page.evaluate(MOVE, [mode, MOVES])
    assert len(durations) == MOVES
    processors = page.evaluate("navigator.hardwareConcurrency")
    report(
        f"explorer, {mode}: an update takes {np.median(durations):.1f} ms of script (median of {MOVES}, load "
        f"{os.getloadavg()[0]:.1f} on {processors} processors); goal: 16"
    )


TAKEN = [
    {"mode": "flat", "classes": 1e12, "dim": 1e9, "family": "orthogonal", "process": "flow"},
    {"mode": "flat", "classes": 3, "variance": 0, "process": "edm", "dim": 7},
    {"mode": "prior", "prior": 1e-5, "separation": 0.03, "process": "vp-linear"},
    {"mode": "tree", "coarse": 5, "fine": 40, "inner": 0.05, "variance": 0.3, "process": "ve"},
    {"mode": "guided", "prior": 0.3, "weight": 3.5, "sampler": "flow", "process": "ddpm", "dim": 50},
    {"mode": "guided", "weight": 6, "sampler": "sde"},
]
# The page's own values at the noise levels of a curve: those that its readout shows.
VALUES = """(levels) => levels.map(
  (level) => state.mode === "guided" ? valueAt(current[0], level) : pointsOf()(level)[0])"""


def taken(page, values, button):
    """What a button copies, in a setting."""
    page.evaluate("(values) => { Object.assign(state, DEFAULTS, values); show(); update(); }", values)
    page.click(f"#{button}")
    return page.evaluate("() => document.body.dataset.copied")


def compare_curve(page, curve, mode):
    """A curve that was computed by what the page said, with the page's numbers at the same noise levels."""
    found = page.evaluate(VALUES, list(map(float, curve.log_snr)))
    scale = math.log(2) if mode == "guided" else curve.prior_entropy
    share = STATED[mode] * scale
    np.testing.assert_allclose([point["h"] for point in found], curve.entropy, rtol=0, atol=share)
    rates = [point["dh"] for point in found]
    np.testing.assert_allclose(rates, curve.rate / curve.log_snr_slope, rtol=0, atol=RATES[mode] * scale)


@pytest.mark.parametrize("values", TAKEN, ids=lambda values: "-".join(map(str, values.values())))
def test_copied_python_computes_the_curve_of_the_page(page, values, capsys):
    text = taken(page, values, "python")
    names = {}
    exec(compile(text, "copied", "exec"), names)
    assert "log_snr" in capsys.readouterr().out  # the text ends by printing its data frame
    assert len(names["curve"].t) == 200
    compare_curve(page, names["curve"], values["mode"])


@pytest.mark.parametrize("values", TAKEN, ids=lambda values: "-".join(map(str, values.values())))
def test_copied_command_computes_the_curve_of_the_page(page, values, tmp_path, monkeypatch):
    program, *arguments = shlex.split(taken(page, values, "command"))
    assert program == "speciation"
    monkeypatch.chdir(tmp_path)
    assert cli.run(arguments) == 0
    compare_curve(page, EntropyCurve.load(tmp_path / "curve.nc"), values["mode"])
