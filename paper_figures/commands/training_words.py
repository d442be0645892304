"""The results of a training in words: a summary, a table of facts, and the model card."""

import json

import numpy as np
import xarray as xr

from neural.training.evaluation import PREDICTIONS
from paper_figures.formats.numbers import percent
from paper_figures.studies.training import GUIDED, share_of_class, worst_gap

_LABELS = {"class": "given the class", "null": "without the class"}


def summary(dataset: xr.Dataset) -> str:
    """Samples of their class, and the loss above the optimum where that is known, in one line."""
    text = f"{percent(*share_of_class(dataset))} of its samples are judged to be of their class"
    gap = worst_gap(dataset)
    if np.isfinite(gap).all():
        by = ", ".join(f"{p} {float(gap.sel(prediction=p)):.2%}" for p in PREDICTIONS)
        text += f"; loss above the optimum by at most: {by}"
    return text


def facts(dataset: xr.Dataset) -> list[tuple[str, str]]:
    """Facts of a training and their values, in words."""
    rows = [
        ("command", dataset.attrs["command"]),
        ("network", f"{dataset.attrs['network']}, {dataset.attrs['parameters']:,} parameters"),
        ("samples of their class", f"{percent(*share_of_class(dataset))} of {dataset.sizes['sample']}"),
        ("the same under guidance", percent(*share_of_class(dataset, "sample_judged_guided"))),
        ("held-out points of their class, same judge", f"{dataset.attrs['judge_accuracy']:.1%}"),
    ]
    gap = worst_gap(dataset)
    if np.isfinite(gap).all():
        rows += [
            (f"largest loss above the optimum, {label}", f"{float(gap.sel(prediction=name)):.2%}")
            for name, label in _LABELS.items()
        ]
    return [*rows, ("versions", dataset.attrs["versions"])]


def card(dataset: xr.Dataset, name: str) -> str:
    """The model card in Markdown: what the network is, how it was made and what it is worth."""
    plain = percent(*share_of_class(dataset))
    guided = percent(*share_of_class(dataset, "sample_judged_guided"))
    facts = json.loads(dataset.attrs["facts"])
    about = facts.get("data")
    learned = (
        f"{about['name']}: {about['points']} points in training, {about['held_out']} held out"
        if about
        else "samples of the mixture " + ", ".join(f"{k} {v}" for k, v in facts["family"].items() if v)
    )
    lines = [
        f"# {name}", "", f"{dataset.attrs['network']}, {dataset.attrs['parameters']:,} parameters.", "",
        f"- Learned: {learned}.",
        f"- Made by: `{dataset.attrs['command']} --out {name}` (seed {dataset.attrs['seed']}).",
        f"- Samples: {plain} of {dataset.sizes['sample']} are of the class that was asked for, by "
        f"{'the class of the nearest training point' if about else 'the exact posterior'}, which is right for "
        f"{dataset.attrs['judge_accuracy']:.1%} of held-out points. Under constant guidance of {GUIDED:g}: "
        f"{guided}.",
        f"- Versions: {', '.join(f'{k} {v}' for k, v in json.loads(dataset.attrs['versions']).items())}.", "",
        *_loss_table(dataset),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _loss_table(dataset: xr.Dataset) -> list[str]:
    """Held-out losses at some levels, in Markdown."""
    known = bool(np.isfinite(dataset.optimum).any())
    last = "above the optimum" if known else "on training points"
    rows = [
        f"Mean square error of a coordinate on held-out points, given the class | without it; {last}.", "",
        "| σ | given the class | without | " + f"{last}, class | without |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for place in range(0, dataset.sizes["sigma"], 3):
        part = dataset.isel(sigma=place)
        here = part.sel(points="held out")
        extra = (here.excess / here.optimum).values if known else part.sel(points="training").loss.values
        shown = [f"{v:.2%}" if known else f"{v:.4g}" for v in extra]
        cells = [f"{float(part.sigma):.3g}", *(f"{v:.4g}" for v in here.loss.values), *shown]
        rows.append("| " + " | ".join(cells) + " |")
    return rows
