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


MEASURED = pytest.StashKey[list[str]]()


@pytest.fixture
def report(request):
    """A function that adds a line to the end of the run: what is measured and not judged."""
    return request.config.stash.setdefault(MEASURED, []).append


def pytest_terminal_summary(terminalreporter, config):
    for line in config.stash.get(MEASURED, []):
        terminalreporter.write_line(line)
