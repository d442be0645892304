"""Links of README and of the pages lead somewhere: files, anchors, and paths of pages that code and messages name."""

import os
import re

import pytest

from tests.docs.pages import ROOT, anchors, linked_pages, links, pages, text_of

CODE = ("gmm", "theory", "neural", "paper_figures", "benchmarks", "examples", "tests")
PATH_OF_A_PAGE = re.compile(r"\b(?:docs|benchmarks)/[\w/-]+\.(?:md|json|png)\b")


def _is_elsewhere(target):
    return re.match(r"[a-z][a-z+.-]*:", target) is not None


@pytest.mark.parametrize("page", linked_pages())
def test_links_lead_to_files_and_headings_that_exist(page):
    wrong = []
    for target in links(page):
        if _is_elsewhere(target):
            continue
        path, _, anchor = target.partition("#")
        place = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
        if not (ROOT / place).exists():
            wrong.append(target)
        elif anchor and place.endswith(".md") and anchor not in anchors(place):
            wrong.append(f"{target} (headings: {sorted(anchors(place))})")
    assert wrong == []


def test_links_to_the_web_are_encrypted():
    wrong = [
        f"{page}: {target}" for page in linked_pages() for target in links(page) if target.startswith("http:")
    ]
    assert wrong == []


def test_every_page_is_in_the_contents_of_the_site():
    """Each page but the first is named by the table of contents of the index beside it."""
    site = [page for page in pages() if page.startswith("docs/")]
    listed = {"docs/index.md"}
    for page in site:
        for block in re.findall(r"```\{toctree\}\n(.*?)```", text_of(page), re.DOTALL):
            names = [line for line in block.splitlines() if line and not line.startswith(":")]
            listed |= {f"{os.path.dirname(page)}/{name}.md" for name in names}
    assert set(site) == listed


def test_pages_that_code_names_exist():
    """Docstrings, messages and notes name pages by their path from the root."""
    files = [ROOT / "Makefile", ROOT / "pyproject.toml", *(ROOT / page for page in linked_pages())]
    files += [file for folder in CODE for file in (ROOT / folder).rglob("*.py")]
    wrong = {
        f"{file.relative_to(ROOT)}: {path}"
        for file in files
        for path in PATH_OF_A_PAGE.findall(file.read_text(encoding="utf-8"))
        if not (ROOT / path).exists()
    }
    assert wrong == set()
