"""The page of a saved result: what is written without a browser, and what it shows in one."""

import csv
import json
import math
import re

import jax
import numpy as np
import pytest
import xarray as xr

import gmm
import theory
from gmm.curve import EntropyCurve
from paper_figures import cli
from paper_figures.formats.curves import stack
from paper_figures.pages.view import write_view
from tests.paper_figures.pages.browser import SHAPES, opened, violations

HOSTILE = "</script><script>alert('named')</script><img src=x onerror=alert(1)>"
TIMES = np.linspace(0.2, 3.0, 25)
# Numbers on the page have six digits.
DIGITS = 1e-5


def exact(dim):
    return theory.entropy_curve(gmm.vp(), TIMES, dim)


def sampled():
    pair = gmm.families.pair(dim=20, separation=0.5)
    return gmm.class_entropy(pair, gmm.vp(), TIMES, key=jax.random.key(1), samples=64, exact=False)


@pytest.fixture(scope="module")
def curve_page(tmp_path_factory):
    """A sampled curve, as the command shows it."""
    folder = tmp_path_factory.mktemp("view")
    sampled().save(folder / "curve.nc")
    assert cli.run(["show", str(folder / "curve.nc"), "--html", str(folder / "page.html")]) == 0
    return folder / "page.html"


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory):
    """A family whose texts are markup, and a quantity that belongs to no curve."""
    folder = tmp_path_factory.mktemp("hostile")
    family = stack([exact(10.0), exact(1000.0)], "kind", [HOSTILE, "plain"])
    extra = xr.Dataset(
        {f"times{HOSTILE}": ("place", [1.0, 2.0]), f"times{HOSTILE}_stderr": ("place", [0.5, 0.25])},
        {"place": [HOSTILE, "there"]},
    )
    page = write_view(folder / "page.html", family.merge(extra), HOSTILE, [(HOSTILE, HOSTILE)])
    assert page is not None
    return page


def data_of(page):
    text = page.read_text(encoding="utf-8")
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


def test_the_page_holds_the_values_of_the_file(curve_page):
    (line,) = data_of(curve_page)["curves"]
    curve = EntropyCurve.load(curve_page.with_name("curve.nc"))
    order = np.argsort(curve.log_snr)
    np.testing.assert_allclose(line["h"], curve.entropy[order], rtol=DIGITS)
    np.testing.assert_allclose(line["hError"], curve.entropy_stderr[order], rtol=DIGITS)
    np.testing.assert_allclose(line["axes"]["sigma"], curve.sigma[order], rtol=DIGITS)
    np.testing.assert_allclose(line["rate"], curve.rate_per_log_noise()[0][order], rtol=DIGITS)
    facts = dict(data_of(curve_page)["facts"])
    assert facts["points"].startswith("25,")
    assert facts["route"] == "sampled"


def test_no_text_of_a_file_becomes_markup(hostile_page):
    text = hostile_page.read_text(encoding="utf-8")
    assert "<img" not in text
    assert "alert(1)" in text
    assert text.count("<script") == text.count("</script>") == 3
    data = data_of(hostile_page)
    assert [line["name"] for line in data["curves"]] == [HOSTILE, "plain"]
    assert data["series"][0]["ticks"] == [HOSTILE, "there"]


def test_a_page_in_place_of_a_picture(tmp_path, capsys):
    exact(10.0).save(tmp_path / "curve.nc")
    assert cli.run(["show", str(tmp_path / "curve.nc"), "--html", str(tmp_path / "page.html")]) == 0
    assert f"page: {tmp_path / 'page.html'}" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.nc", "page.html"]
    assert cli.run(["show", str(tmp_path / "curve.nc"), "--html", str(tmp_path / "page.html"), "--out",
                    str(tmp_path / "a.png")]) == 0  # fmt: skip
    assert (tmp_path / "a.png").exists()


REFUSED = [
    ("curve.nc", "page.htm", ".html"),
    ("missing.nc", "page.html", "missing.nc"),
    ("window.json", "page.html", "NetCDF"),
]


@pytest.mark.parametrize(("file", "page", "said"), REFUSED)
def test_what_cannot_be_shown_is_refused(tmp_path, capsys, file, page, said):
    exact(10.0).save(tmp_path / "curve.nc")
    assert cli.run(["show", str(tmp_path / file), "--html", str(tmp_path / page)]) == cli.BAD_INPUT
    assert said in capsys.readouterr().err
    assert not (tmp_path / page).exists()


def test_a_result_without_lines_has_no_page(tmp_path):
    assert write_view(tmp_path / "page.html", xr.Dataset({"one": ((), 1.0)}), "one") is None
    assert not (tmp_path / "page.html").exists()


# ------------------------------------------------------------------------------------------------ in a browser

in_browser = pytest.mark.browser


def rows(page):
    """The table of values: names and the numbers beside them."""
    cells = page.evaluate(
        "() => [...document.querySelectorAll('#values tbody tr')].map((r) => [...r.children].map((c) => c.textContent))"
    )
    return {name: values for name, *values in cells}


@in_browser
def test_axis_and_unit_change_what_the_table_says(browser, curve_page):
    curve = EntropyCurve.load(curve_page.with_name("curve.nc"))
    with opened(browser, curve_page) as page:
        (values,) = rows(page).values()
        i = int(np.argmin(np.abs(curve.sigma - float(values[0]))))
        said, error = map(float, values[1].split(" ± "))
        assert said == pytest.approx(curve.entropy[i], abs=curve.entropy_stderr[i])
        assert error == pytest.approx(curve.entropy_stderr[i], rel=0.06)  # two digits of an error
        page.select_option("#units", "bits")
        page.select_option("#axis", "t")
        (values,) = rows(page).values()
        i = int(np.argmin(np.abs(curve.t - float(values[0]))))
        assert float(values[1].split()[0]) == pytest.approx(curve.entropy[i] / math.log(2), abs=0.02)
        rate, rate_error = (curve.rate[i] / math.log(2), curve.rate_stderr[i] / math.log(2))
        assert float(values[2].split()[0]) == pytest.approx(rate, abs=rate_error + DIGITS)
        assert page.evaluate("() => model('panel-1').left[0].axis_label") == "dH/dt"


@in_browser
def test_pointing_at_a_curve_shows_its_value_with_its_error(browser, curve_page):
    with opened(browser, curve_page) as page:
        place = page.evaluate("""() => {
          const view = viewOf(model("panel-0"));
          const box = view.el.getBoundingClientRect();
          const { x, y, value } = model("points-0").data;
          const i = Math.floor(x.length / 2);
          const frame = view.frame.bbox;
          const [sx, sy] = [view.frame.x_scale.compute(x[i]), view.frame.y_scale.compute(y[i])];
          return { x: box.x + sx, y: box.y + sy, value: value[i], frame: frame.width };
        }""")
        page.mouse.move(place["x"] - 3, place["y"])
        page.mouse.move(place["x"], place["y"])
        page.wait_for_timeout(300)
        shown = page.evaluate("() => { const all = []; const walk = (n) => { if (n.shadowRoot) walk(n.shadowRoot);"
                              " for (const c of n.children ?? []) walk(c); if (n.className?.includes?.('bk-tooltip'))"
                              " all.push(n.textContent + (n.shadowRoot?.textContent ?? '')); }; walk(document.body);"
                              " return all.join(' '); }")  # fmt: skip
        assert "±" in place["value"]
        assert place["value"] in shown


@in_browser
def test_lines_are_switched_by_the_keyboard(browser, hostile_page):
    with opened(browser, hostile_page) as page:
        assert len(rows(page)) == 2
        page.locator("#lines input").first.focus()
        page.keyboard.press("Space")
        assert list(rows(page)) == ["plain"]
        page.click("#none")
        assert rows(page) == {}
        page.click("#all")
        assert list(rows(page)) == [HOSTILE, "plain"]


@in_browser
@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("shape", SHAPES)
def test_everyone_can_use_the_page_and_take_its_files(browser, hostile_page, shape, colours, tmp_path):
    with opened(browser, hostile_page, "", shape, colours) as page:
        assert violations(page) == {}
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        page.select_option("#quantity", index=1)
        (values,) = rows(page).values()
        assert values == [HOSTILE, "1.00 ± 0.50"] or values == ["there", "2.00 ± 0.25"]
        for name, start in (("csv", b"line,quantity"), ("svg", b"<svg"), ("png", b"\x89PNG")):
            with page.expect_download() as download:
                page.click(f"#{name}")
            download.value.save_as(tmp_path / name)
            assert (tmp_path / name).read_bytes().startswith(start)
        table = list(csv.DictReader((tmp_path / "csv").read_text(encoding="utf-8").splitlines()))
        assert [row["value"] for row in table] == ["1", "2"]
        assert page.evaluate("document.images.length") == 0
