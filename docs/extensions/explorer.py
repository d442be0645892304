"""The explorer beside its page of the site: the file that ``speciation explore`` writes."""

from pathlib import Path
from typing import Any

from paper_figures.pages.explorer import write_explorer

PLACE = "explorer/explorer.html"


def _write(app: Any, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        write_explorer(Path(app.outdir) / PLACE)


def setup(app: Any) -> dict[str, bool]:
    """Write the explorer after the pages."""
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True}
