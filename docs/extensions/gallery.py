"""The directive ``gallery``: every default figure with its caption, its data, its command and its code.

The figures are made at build by `speciation figures --fast`, which keeps what is there and up to date.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from paper_figures.figures.registry import FIGURES, Figure

COMMAND = "from paper_figures.cli import main; main()"


class Gallery(Directive):
    """One section for each figure."""

    def run(self) -> list[nodes.Node]:
        return [_section(figure) for figure in FIGURES.values() if figure.by_default]


def _section(figure: Figure) -> nodes.section:
    section = nodes.section(ids=[nodes.make_id(figure.name)])
    section += nodes.title(figure.name, figure.name)
    picture = nodes.image(uri=f"made/{figure.name}.png", alt=figure.description)
    section += nodes.figure("", picture, nodes.caption("", figure.description))
    section += nodes.paragraph("", figure.caption)
    section += nodes.literal_block("", f"speciation figures --only {figure.name}", language="console")
    links = nodes.paragraph()
    for name, target in (("data (NetCDF)", f"made/{figure.name}.nc"), ("code", f"made/{figure.module}.py")):
        links += nodes.raw("", f'<a href="{target}" download>{name}</a> ', format="html")
    section += links
    return section


def _make(app: Sphinx) -> None:
    """Make the figures, and lay data and code beside the pages."""
    folder = Path(app.outdir).parent / "figures"
    subprocess.run([sys.executable, "-c", COMMAND, "figures", "--fast", "--out", str(folder)], check=True)
    made = Path(app.srcdir) / "gallery" / "made"
    made.mkdir(parents=True, exist_ok=True)
    for figure in FIGURES.values():
        if figure.by_default:
            shutil.copyfile(folder / f"{figure.name}.png", made / f"{figure.name}.png")


def _lay_beside(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    folder, target = Path(app.outdir).parent / "figures", Path(app.outdir) / "gallery" / "made"
    target.mkdir(parents=True, exist_ok=True)
    sources = Path(__file__).parents[2] / "paper_figures" / "figures"
    for figure in FIGURES.values():
        if figure.by_default:
            shutil.copyfile(folder / f"{figure.name}.nc", target / f"{figure.name}.nc")
            shutil.copyfile(sources / f"{figure.module}.py", target / f"{figure.module}.py")


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive, and make the figures before pages are read."""
    app.add_directive("gallery", Gallery)
    app.connect("builder-inited", _make)
    app.connect("build-finished", _lay_beside)
    return {"parallel_read_safe": True}
