"""One browser for all tests of pages."""

import pytest

from tests.paper_figures.pages.browser import CHROMIUM, reason_to_skip


@pytest.fixture(scope="session")
def browser():
    if reason := reason_to_skip():
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()
