"""One file that holds a whole page: the plotting library, our script, its data and the style."""

import html
import json
import string
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.models import LayoutDOM
from bokeh.resources import Resources

from gmm.files import write_aside

# Largest page that is meant to be written, in bytes.
LARGEST = 2_500_000


def write_page(
    path: Path, *, body: str, title: str, scripts: Sequence[str], layout: LayoutDOM, data: Mapping[str, Any]
) -> Path:
    """Write a page that needs nothing but itself.

    Args:
        path: the file.
        body: HTML of the page's content, with an element of id "plot" for the pictures; trusted.
        title: the page's title, as text.
        scripts: names of our scripts in this folder, in order.
        layout: the pictures, models of Bokeh.
        data: what the scripts read, as JSON; texts from files may be in it, for the scripts to show as text.

    Raises:
        OSError: when the file cannot be written.
    """
    page = string.Template(asset("page.html")).substitute(
        title=html.escape(title),
        body=body,
        style=asset("page.css"),
        library=_library(),
        scripts="\n".join(map(asset, scripts)),
        data=in_script({**data, "plot": json_item(layout, ID("plot"))}),
    )
    with write_aside(path) as aside:
        aside.write_text(page, encoding="utf-8")
    return path


def asset(name: str) -> str:
    """A file of this folder, as text."""
    return files("paper_figures.pages").joinpath(name).read_text(encoding="utf-8")


def _library() -> str:
    """The plotting library without its widgets and tables, which the pages do not use."""
    return "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)


def in_script(value: Any) -> str:
    """JSON that cannot end the element of a page that holds it, whatever texts are in it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
