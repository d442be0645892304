"""``speciation explore``: the page on which sliders move the exact curves."""

from pathlib import Path
from typing import Annotated

import typer

PageFile = Annotated[Path, typer.Option("--out", metavar="FILE.html", help="File for the page.")]
Open = Annotated[bool, typer.Option("--open", help="Also open the page in the browser.")]
SettingText = Annotated[
    str | None,
    typer.Option(
        "--setting",
        metavar="NAME=VALUE&...",
        help="A setting of the page, such as mode=prior&prior=0.01&dim=1e4; the page's own button copies it.",
    ),
]
CurveFile = Annotated[
    Path | None,
    typer.Option(
        "--curve",
        metavar="FILE.nc",
        help="Write the exact curve of the setting to this file, and no page.",
    ),
]


def explore(
    *,
    out: PageFile = Path("explorer.html"),
    open_page: Open = False,
    setting: SettingText = None,
    curve: CurveFile = None,
) -> None:
    """Write a page on which sliders move the exact entropy curves and every speciation time.

    The page is one file that needs no network and no server. It shows classes of equal priors, a rare class, trees of
    classes and guided pairs, under every process, and what trained networks were measured to do.

    Examples: speciation explore --open
              speciation explore --setting "mode=flat&classes=1000&dim=1e6" --curve curve.nc
    """
    if curve is not None:
        _write_curve(setting or "", curve)
        return
    if out.suffix != ".html":
        raise ValueError(f"out must end in .html, got {out}")
    from paper_figures.pages.explorer import write_explorer

    fragment = f"#{_checked(setting)}" if setting else ""
    page = write_explorer(out)
    address = page.resolve().as_uri() + fragment
    typer.echo(f"explorer: {page if not setting else address}")
    if open_page and typer.launch(address) != 0:
        raise OSError(f"no browser could be started; open {page}")


def _checked(setting: str) -> str:
    from paper_figures.pages.setting import parse_setting

    parse_setting(setting)
    return setting.lstrip("#")


def _write_curve(setting: str, path: Path) -> None:
    from paper_figures.pages.setting import exact_curve, parse_setting

    if path.suffix != ".nc":
        raise ValueError(f"curve must end in .nc, got {path}")
    exact_curve(parse_setting(setting)).save(path)
    typer.echo(f"curve: {path}")
