"""What was tried, by category, as a table at the end of the run."""

import collections

import pytest


@pytest.fixture
def held(request):
    """Call it with a category once an attempt has held; what failed before has been tried and has not held."""
    counts = []

    def count(category, attempts=1):
        counts.append((category, attempts, attempts))

    yield count
    # These travel with the report of the test, also from another process.
    request.node.user_properties.append(("held", counts or [(request.node.originalname, 1, 0)]))


def pytest_terminal_summary(terminalreporter):
    tried, held = collections.Counter(), collections.Counter()
    reports = [
        report for kind in ("passed", "failed", "error") for report in terminalreporter.stats.get(kind, [])
    ]
    for report in reports:
        properties = report.user_properties if report.when == "teardown" else []
        for category, attempts, successes in dict(properties).get("held", []):
            tried[category] += attempts
            held[category] += successes
    if not tried:
        return
    terminalreporter.section("hardening")
    width = max(map(len, tried))
    terminalreporter.write_line(f"{'category':{width}}  {'tried':>6}  {'held':>6}")
    for category, attempts in sorted(tried.items()):
        terminalreporter.write_line(f"{category:{width}}  {attempts:6d}  {held[category]:6d}")
