"""The built site in a browser, opened from its folder: it makes no request, its search works, and nothing overflows.

Skipped where the site is not built (`make docs`), or where there is no Chromium with Playwright to drive it.
"""

import shutil

import pytest

from tests.docs.pages import ROOT

SITE = ROOT / "docs" / "_build" / "html"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PAGES = (
    "index",
    "start/install",
    "tutorials/hierarchy",
    "how-to/compare",
    "reference/gmm",
    "gallery/index",
    "explorer/index",
)
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (SITE / "index.html").exists(), reason="the site is not built; run `make docs`"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]


@pytest.fixture(scope="module")
def browser():
    driver = pytest.importorskip("playwright.sync_api")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[(size, scheme) for size in SIZES for scheme in ("light", "dark")], ids="-".join)
def page(browser, request):
    """A page of one size and colour scheme; `page.faults` lists errors and requests to the network."""
    size, scheme = request.param
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    page.faults = []
    page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on(
        "request",
        lambda sent: None if sent.url.startswith(("file:", "data:")) else page.faults.append(sent.url),
    )
    yield page
    context.close()


def _brightness(page):
    """Mean of the red, green and blue of the background."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    numbers = [float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    return sum(numbers) / 3


@pytest.mark.parametrize("name", PAGES)
def test_pages_make_no_request_and_do_not_overflow(page, name, request):
    page.goto((SITE / f"{name}.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert page.faults == []
    assert (_brightness(page) < 128) == ("dark" in request.node.name)


def test_the_gallery_leads_to_the_curves_of_each_figure(page):
    page.goto((SITE / "gallery" / "index.html").as_uri())
    links = page.locator("a", has_text="Curves and values, to choose from")
    assert links.count() == page.locator("img.picture").count()
    links.first.click()
    page.wait_for_selector("body[data-ready=yes]")
    assert page.faults == []


def test_search_works_from_a_folder(page):
    page.goto((SITE / "search.html").as_uri() + "?q=boundary+points")
    page.wait_for_selector("#search-results li a")
    assert "Glossary" in page.inner_text("#search-results")
    assert page.faults == []


def test_code_has_copy_buttons(page):
    page.goto((SITE / "start/install.html").as_uri())
    assert page.locator("button.copybtn").count() == page.locator("div.highlight pre").count() > 0
