"""The explorer: one page on which sliders move the exact curves of the theory."""

import base64
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, HoverTool, Range1d
from bokeh.plotting import figure

from gmm.curve import EntropyCurve
from paper_figures.pages import flat_table
from paper_figures.pages.bundle import asset, write_page
from paper_figures.pages.panel import new_panel, numbers
from paper_figures.shipped.measure import ESTIMATORS, load
from theory import CRITERIA

FORMAT = "speciation-explorer/1"
SCRIPTS = ("theory.js", "plot.js", "explorer.js")
PANELS = {"h": (330, "H[Z|x]"), "rate": (190, "rate"), "agree": (190, "agreement of clones")}
# Colours that stay apart for every kind of colour vision (Okabe, Ito 2008).
MAIN, OTHER, MARK = "#0072b2", "#d55e00", "#777777"


def write_explorer(path: Path) -> Path:
    """Write the page to a file and return its path.

    Raises:
        OSError: when the file cannot be written.
    """
    data = {
        "format": FORMAT,
        "version": importlib.metadata.version("speciation"),
        "table": _table(),
        "tableError": flat_table.ERROR,
        "measured": _measured(),
        "criteria": {name: [rule.description, rule.condition] for name, rule in CRITERIA.items()},
    }
    return write_page(
        path,
        body=asset("explorer.html"),
        title="When is the class decided? An explorer of class speciation",
        scripts=SCRIPTS,
        layout=column(*_panels(), sizing_mode="stretch_width"),
        data=data,
    )


def _table() -> dict[str, Any]:
    table = flat_table.shipped()
    return {
        "version": flat_table.VERSION,
        "values": base64.b64encode(table.values.astype("<f4").tobytes()).decode(),
        "shape": table.values.shape,
        "rows": table.rows,
        "columns": table.columns,
        "stencil": flat_table.STENCIL,
    }


def _panels() -> list[figure]:
    """The three pictures, with empty sources that the script fills."""
    names = {
        "curve": ("x", "h", "rate", "agree", "other_h", "other_rate", "other_agree"),
        "marks": ("x",),
        "labels": ("x", "y", "name"),
        "band": ("x0", "x1"),
        "cursor": ("x",),
        "measured": ("xs", "h", "rate", "agree", "colour", "dash"),
    }
    sources = {
        name: ColumnDataSource(data={column: [] for column in columns}, name=name)
        for name, columns in names.items()
    }
    across = Range1d(start=0, end=1, name="across")
    return [_panel(field, *about, sources, across) for field, about in PANELS.items()]


def _panel(
    field: str, height: int, title: str, sources: dict[str, ColumnDataSource], across: Range1d
) -> figure:
    panel = new_panel(f"panel-{field}", height, title, across)
    panel.vstrip(x0="x0", x1="x1", source=sources["band"], fill_color=MAIN, fill_alpha=0.13, line_color=None)
    panel.vspan(
        x="x", source=sources["marks"], line_color=MARK, line_width=1, line_dash="dotted", name="lines"
    )
    panel.vspan(x="x", source=sources["cursor"], line_color="#009e73", line_width=2)
    panel.multi_line(
        xs="xs", ys=field, source=sources["measured"], line_color="colour", line_width=1.5, line_dash="dash"
    )
    panel.line(
        "x", f"other_{field}", source=sources["curve"], line_color=OTHER, line_width=2, line_dash="dashed"
    )
    line = panel.line("x", field, source=sources["curve"], line_color=MAIN, line_width=2.5)
    if field == "h":
        panel.text(
            "x", "y", text="name", source=sources["labels"], angle=-np.pi / 2, text_font_size="11px",
            text_baseline="middle", text_color=MARK, name="names",
        )  # fmt: skip
    panel.add_tools(
        HoverTool(
            renderers=[line], mode="vline", tooltips=[("x", "@x"), (title, f"@{field}")], attachment="left"
        )
    )
    return panel


def _measured() -> list[dict[str, Any]]:
    """The curves of trained networks that ship, in nats, by log SNR."""
    measured = []
    for name in ("digits", "fashion"):
        dataset = load(name)
        for i in range(4):
            label = str(dataset[f"curve{i}"].values[0])
            if label in ESTIMATORS:
                measured.append(_points(f"{name}: {label}", dataset, f"c{i}_"))
    tree = load("tree")
    for level in tree.level.values:
        part = tree.sel(level=level).isel(estimator=0)
        measured.append(_points(f"tree, {level}: {part.estimator.item()}", part, ""))
    return measured


def _points(name: str, dataset: xr.Dataset, prefix: str) -> dict[str, Any]:
    fields = ("t", "log_snr", "log_snr_slope", "entropy", "entropy_stderr", "rate", "rate_stderr")
    values = {field: np.asarray(dataset[prefix + field].values, float).reshape(-1) for field in fields}
    order = np.argsort(values["log_snr"])
    sorted_values: dict[str, Any] = {field: value[order] for field, value in values.items()}
    curve = EntropyCurve(
        **sorted_values,
        prior_entropy=float(np.asarray(dataset[f"{prefix}prior_entropy"]).reshape(-1)[0]),
        clone_agreement=np.asarray(dataset[f"{prefix}clone_agreement"].values, float).reshape(-1)[order],
    )
    rate, rate_stderr = curve.rate_per_log_noise()
    parts = {
        "level": curve.log_snr, "h": curve.entropy, "hError": curve.entropy_stderr, "dh": -0.5 * rate,
        "dhError": 0.5 * rate_stderr, "agree": curve.clone_agreement,
    }  # fmt: skip
    return {"name": name, "prior": curve.prior_entropy} | {
        key: numbers(value) for key, value in parts.items()
    }
