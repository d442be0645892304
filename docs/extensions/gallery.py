"""The directive ``gallery``: every default figure with its caption, its command, its data and its code.

The figures are made before pages are read, by ``speciation figures --fast`` in docs/_build/figures, unless all of them
are newer than the code. The command computes only what is missing or out of date.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.addnodes import download_reference
from sphinx.application import Sphinx

from paper_figures.figures.job import Job
from paper_figures.figures.registry import FIGURES, Figure
from paper_figures.figures.settings import Settings

COMMAND = "from paper_figures.cli import main; main()"
ROOT = Path(__file__).parents[2]
PACKAGES = ("gmm", "theory", "neural", "paper_figures")
# Paths that begin with a slash are relative to docs/.
FOLDER = Path("/_build/figures")
CODE = Path("/../paper_figures/figures")


class Gallery(Directive):
    """One section for each figure."""

    def run(self) -> list[nodes.Node]:
        return [_section(figure) for figure in FIGURES.values() if figure.by_default]


def _section(figure: Figure) -> nodes.section:
    made = Job(figure, Settings(fast=True), FOLDER)
    section = nodes.section(ids=[nodes.make_id(figure.name)])
    section += nodes.title(figure.name, figure.name)
    section += nodes.paragraph("", f"{figure.description[0].upper()}{figure.description[1:]}.")
    section += nodes.image(uri=str(made.path(".png")), alt=figure.description, classes=["picture"])
    section += nodes.paragraph("", figure.caption)
    section += nodes.raw("", _link(made), format="html")
    section += nodes.literal_block("", f"speciation figures --only {figure.name}", language="bash")
    section += _downloads(
        [
            ("data (NetCDF)", made.path(".nc")),
            ("picture (PDF)", made.path(".pdf")),
            ("code (Python)", CODE / f"{figure.module}.py"),
        ]
    )
    return section


def _link(made: Job) -> str:
    """The page of the figure's lines, which `_copy` puts beside the gallery."""
    page = made.path(".html").name
    return f'<p><a class="reference external" href="{page}">Curves and values, to choose from</a></p>'


def _downloads(files: Iterable[tuple[str, Path]]) -> nodes.paragraph:
    line = nodes.paragraph("", "Download: ")
    for number, (name, path) in enumerate(files):
        link = download_reference("", reftarget=str(path), refdoc="gallery/index")
        link += nodes.inline("", name)
        line += nodes.Text(" · " if number else "")
        line += link
    return line


def _make(app: Sphinx) -> None:
    folder = app.srcdir / FOLDER.relative_to("/")
    if not _newer_than_code(folder):
        subprocess.run([sys.executable, "-c", COMMAND, "figures", "--fast", "--out", str(folder)], check=True)


def _copy(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        for page in (app.srcdir / FOLDER.relative_to("/")).glob("*-fast.html"):
            shutil.copy(page, Path(app.outdir) / "gallery")


def _newer_than_code(folder: Path) -> bool:
    """Whether every picture exists and was drawn after the last change of the code."""
    jobs = [Job(figure, Settings(fast=True), folder) for figure in FIGURES.values() if figure.by_default]
    pictures = [job.path(".html") for job in jobs]  # the last file of a figure that is written
    code = [
        file
        for package in PACKAGES
        for kind in ("py", "js", "css", "html")
        for file in (ROOT / package).rglob(f"*.{kind}")
    ]
    changed = max(file.stat().st_mtime for file in code)
    return all(path.exists() and path.stat().st_mtime > changed for path in pictures)


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive, and make the figures before pages are read, their pages after all others."""
    app.add_directive("gallery", Gallery)
    app.connect("builder-inited", _make)
    app.connect("build-finished", _copy)
    return {"parallel_read_safe": True}
