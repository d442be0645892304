"""Saved results as tables: data frames to read in any other program."""

from collections.abc import Mapping

import numpy as np
import pandas
import xarray as xr

from gmm.curve import EntropyCurve
from gmm.guidance import Guidance
from gmm.window_file import PLACES, MeasuredWindow
from paper_figures.formats.numbers import numbers_of
from paper_figures.studies.guidance import weights_at_levels
from paper_figures.studies.sweep_cell import SCALARS

# Noise levels σ/α at which the weights of schedules are listed.
LEVELS = (0.01, 100.0)
LEVEL_COUNT = 201


def of_curve(dataset: xr.Dataset, units: str) -> pandas.DataFrame:
    """One row for each time of a curve."""
    return EntropyCurve.from_dataset(dataset).in_units(units).to_dataframe()


def of_numbers(dataset: xr.Dataset) -> pandas.DataFrame:
    """One row for each number of a result: label, value, standard error, expectation."""
    rows = [(n.label, n.value, n.stderr, n.expected) for n in numbers_of(dataset)]
    return pandas.DataFrame(rows, columns=["label", "value", "stderr", "expected"])


def of_sweep(dataset: xr.Dataset) -> pandas.DataFrame:
    """One row for each cell of a sweep: its settings, its times with their errors, and its status."""
    frame = dataset[[*SCALARS, "status", "method"]].to_dataframe().reset_index()
    return frame.filter([*map(str, dataset.status.dims), *SCALARS, "status", "method"])


def of_comparison(dataset: xr.Dataset) -> pandas.DataFrame:
    """One row for each point of each curve of a comparison."""
    points = dataset[[name for name, values in dataset.items() if "point" in values.dims]]
    frame = points.to_dataframe().reset_index().drop(columns="point")
    return frame.dropna(subset="log_snr").reset_index(drop=True)


def of_training(dataset: xr.Dataset) -> pandas.DataFrame:
    """One row for each noise level at which the losses of a training were taken."""
    return dataset[["loss", "stderr", "optimum", "excess", "excess_stderr"]].to_dataframe().reset_index()


def of_window(window: MeasuredWindow) -> pandas.DataFrame:
    """One row for each place of a window: σ/α, log SNR, t, standard error of log(σ/α) and 95% interval."""
    rows = [
        (name, place.sigma, place.log_snr, place.t, place.stderr, *(place.interval or (None, None)))
        for name, place in ((name, getattr(window, name)) for name in PLACES)
    ]
    names = ["place", "sigma", "log_snr", "t", "log_sigma_stderr", "interval_low", "interval_high"]
    return pandas.DataFrame(rows, columns=names)


def of_schedules(schedules: Mapping[str, Guidance]) -> pandas.DataFrame:
    """One row for each noise level of each schedule: its weight; empty where that depends on the state."""
    frames = []
    for name, schedule in schedules.items():
        noise, weight = np.array([np.nan]), np.array([np.nan])
        if not schedule.of_state:
            noise, weight = weights_at_levels(schedule, tuple(np.log(LEVELS)), LEVEL_COUNT)
        frames.append(pandas.DataFrame({"schedule": name, "sigma": np.exp(noise), "weight": weight}))
    return pandas.concat(frames, ignore_index=True)
