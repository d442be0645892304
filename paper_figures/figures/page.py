"""index.html: the figures of a folder with captions and the numbers that matter."""

import functools
import html
import json
import warnings
from pathlib import Path

from gmm.files import write_aside
from gmm.netcdf import load_dataset
from paper_figures.figures.job import FORMAT
from paper_figures.figures.registry import FIGURES, Figure
from paper_figures.formats.numbers import ATTRIBUTE, Number

_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Class speciation in diffusion models</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #222 }}
h2 {{ margin: 3rem 0 .3rem; border-top: 1px solid #ddd; padding-top: 1.5rem }}
img {{ width: 100%; background: #fff }}
table {{ border-collapse: collapse; font-size: .9rem; margin: .8rem 0 }}
th, td {{ text-align: left; padding: .15rem 1.2rem .15rem 0; border-bottom: 1px solid #eee }}
td.n {{ font-variant-numeric: tabular-nums }}
.facts {{ color: #595959; font-size: .85rem }}
table {{ display: block; overflow-x: auto }}
@media (prefers-color-scheme: dark) {{
  :root {{ color-scheme: dark }} body {{ background: #14171c; color: #eceff3 }} a {{ color: #7cc0ff }}
  .facts {{ color: #b4bdc8 }} h2, th, td {{ border-color: #3d4651 }}
}}
</style>
<h1>Class speciation in diffusion models</h1>
<p>When, along the noise axis, is the class of a sample decided? H[Z|X<sub>t</sub>] is the entropy of the
class given the noisy state. Every picture is drawn from the data file beside it.</p>
{explorer}{sections}
</html>
"""


def write(folder: Path) -> Path:
    """Write index.html for all figures in `folder`; quick versions come apart, under their name."""
    full = [_section(folder, figure, figure.name) for figure in FIGURES.values()]
    fast = [_section(folder, figure, f"{figure.name}-fast") for figure in FIGURES.values()]
    sections = "".join(full)
    if any(fast):
        sections += "<h1>Quick versions</h1><p>Small sizes, to look at; not to quote.</p>" + "".join(fast)
    with write_aside(folder / "index.html") as aside:
        aside.write_text(_PAGE.format(sections=sections, explorer=_explorer(folder)), encoding="utf-8")
    return folder / "index.html"


def _explorer(folder: Path) -> str:
    """A link to the explorer where it lies beside the figures."""
    if not (folder / "explorer.html").is_file():
        return ""
    return '<p>The curves, to play with: <a href="explorer.html">the explorer</a>.</p>\n'


def _section(folder: Path, figure: Figure, stem: str) -> str:
    """One figure's part of the page; empty unless its data and picture are there and whole."""
    data = folder / f"{stem}.nc"
    if not data.exists() or not (folder / f"{stem}.png").exists():
        return ""
    try:
        attributes = _attributes(data, data.stat().st_mtime_ns)
        return _described(folder, figure, stem, attributes) if attributes.get("format") == FORMAT else ""
    except (ValueError, KeyError, TypeError, OSError):
        warnings.warn(f"{data} is damaged; the page leaves it out", stacklevel=2)
        return ""


def _described(folder: Path, figure: Figure, stem: str, attributes: dict[str, str]) -> str:
    settings = json.loads(attributes["settings"])
    link = html.escape(stem, quote=True)
    facts = (
        f"seed {settings['seed']}, {settings['dtype']}, figure code version {attributes['figure_version']}"
    )
    return f"""
<h2 id="{link}">{html.escape(stem)}</h2>
<p>{html.escape(figure.description[0].upper() + figure.description[1:])}.</p>
<a href="{link}.pdf"><img src="{link}.png" alt="{html.escape(figure.description, quote=True)}"></a>
<p>{html.escape(figure.caption)}</p>
{_table(json.loads(attributes.get(ATTRIBUTE, "[]")))}
<p class="facts">{_view(folder, stem)}<a href="{link}.pdf">PDF</a> · <a href="{link}.nc">data (NetCDF)</a> ·
{html.escape(facts)}</p>
"""


def _view(folder: Path, stem: str) -> str:
    """A link to the page of the figure's lines where it lies beside the data."""
    if not (folder / f"{stem}.html").is_file():
        return ""
    link = html.escape(stem, quote=True)
    return f'<a href="{link}.html"><strong>curves and values, to choose from</strong></a> · '


@functools.cache
def _attributes(path: Path, _changed: int) -> dict[str, str]:
    """The attributes of a file as it was at some time."""
    return {str(name): str(value) for name, value in load_dataset(path).attrs.items()}


def _table(rows: list[dict]) -> str:
    numbers = [Number(**row) for row in rows]
    if not numbers:
        return ""
    cells = ((html.escape(n.label), n.shown, n.shown_expected) for n in numbers)
    body = "".join(
        f"<tr><td>{label}</td><td class=n>{a}</td><td class=n>{b}</td></tr>" for label, a, b in cells
    )
    return f"<table><tr><th>number<th>here<th>expected{body}</table>"
