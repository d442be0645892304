"""Chromium for the tests of pages: opened from disk, with every fault on the way counted."""

import contextlib
import json
import os
import shutil
from pathlib import Path

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
# Width and height of a desktop's window and of a phone's.
SHAPES = {"desktop": (1280, 900), "phone": (390, 844)}


def reason_to_skip():
    """Why no browser can be driven here; empty where one can."""
    if CHROMIUM is None:
        return "there is no Chromium here; `make browser` installs it"
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "playwright is not installed; `make browser` installs it"
    return ""


@contextlib.contextmanager
def opened(browser, path, fragment="", shape="desktop", colours="light"):
    """A page from disk that is ready; afterwards it must have made no request and no error."""
    width, height = SHAPES[shape]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=colours, accept_downloads=True
    )
    page = context.new_page()
    faults = []
    page.on("console", lambda message: message.type in ("error", "warning") and faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    allowed = ("data:", "blob:", Path(path).resolve().as_uri())
    page.on("request", lambda request: request.url.startswith(allowed) or faults.append(request.url))
    page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
    page.goto(Path(path).resolve().as_uri() + fragment)
    page.wait_for_selector("body[data-ready=yes]", timeout=60_000)
    yield page
    assert faults == []
    context.close()


def violations(page):
    """What axe finds against WCAG 2.2, levels A and AA."""
    import axe_core_python

    page.add_script_tag(path=Path(axe_core_python.__file__).with_name("axe.min.js"))
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = page.evaluate(f"() => axe.run({{ runOnly: {json.dumps(tags)} }})")
    return {rule["id"]: [node["html"][:120] for node in rule["nodes"]] for rule in found["violations"]}
