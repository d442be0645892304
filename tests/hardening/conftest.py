"""What was tried, by category, as a table at the end of the run."""

import collections

import pytest

_TRIED: collections.Counter = collections.Counter()
_HELD: collections.Counter = collections.Counter()


@pytest.fixture
def held(request):
    """Call it with a category once an attempt has held; what failed before has been tried and has not held."""
    counted = False

    def count(category, attempts=1):
        nonlocal counted
        counted = True
        _TRIED[category] += attempts
        _HELD[category] += attempts

    yield count
    if not counted:
        _TRIED[request.node.originalname] += 1


def pytest_terminal_summary(terminalreporter):
    if not _TRIED:
        return
    terminalreporter.section("hardening")
    width = max(map(len, _TRIED))
    terminalreporter.write_line(f"{'category':{width}}  {'tried':>6}  {'held':>6}")
    for category, tried in sorted(_TRIED.items()):
        terminalreporter.write_line(f"{category:{width}}  {tried:6d}  {_HELD[category]:6d}")
