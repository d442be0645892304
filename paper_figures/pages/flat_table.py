"""The table from which the explorer's page interpolates classes of equal priors and energies.

Of K orthogonal means of energy E the entropy depends on K and on ρ = α²E/v alone, and so does a simplex, which is an
orthogonal family of ρ K/(K-1). The table has a row for each of evenly spaced values of log log K and a column for each
of evenly spaced values of log(ρ / log K): in these coordinates the decision lies in the same columns for every K. Two
numbers are kept at each, both between 0 and 1: H / log K, and (1 - E Σp²) / (1 - 1/K). The page interpolates them by
polynomials through `STENCIL` neighbours along either coordinate.
"""

import functools
import io
import math
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from theory.integrals import tree_sweep

VERSION = 1
CLASSES = (2.0, 1e12)
# log(ρ / log K): before the first H is log K - ρ (1 - 1/K) / 2 to rounding of float32, after the last it is zero.
COLUMNS = (-9.6, 5.4)
ROWS_COUNT, COLUMNS_COUNT = 41, 251
STENCIL = 6
# Largest error of H / log K, checked by the tests on random points and stated on the page.
ERROR = 1e-5
_FILE = "flat-table-1.npy"


class FlatTable(NamedTuple):
    """Values (2, rows, columns) of float32, and the ends of their coordinates."""

    values: np.ndarray
    rows: tuple[float, float]
    columns: tuple[float, float]


def _ends() -> tuple[tuple[float, float], tuple[float, float]]:
    low, high = (math.log(math.log(classes)) for classes in CLASSES)
    return (low, high), COLUMNS


def compute() -> FlatTable:
    """The table from the quadrature itself, in a minute."""
    rows, columns = _ends()
    values = np.empty((2, ROWS_COUNT, COLUMNS_COUNT))
    for i, row in enumerate(np.linspace(*rows, ROWS_COUNT)):
        log_classes = math.exp(row)
        classes = math.exp(log_classes)
        for j, column in enumerate(np.linspace(*columns, COLUMNS_COUNT)):
            sweep = tree_sweep([classes], [math.exp(column) * log_classes], 1)
            values[:, i, j] = sweep.entropy / log_classes, sweep.divergence[0] / (1 - 1 / classes)
    return FlatTable(values.astype(np.float32), rows, columns)


@functools.cache
def shipped() -> FlatTable:
    """The table that ships with the package, as `compute` made it."""
    data = files("paper_figures.pages").joinpath(_FILE).read_bytes()
    return FlatTable(np.load(io.BytesIO(data), allow_pickle=False), *_ends())


def interpolated(table: FlatTable, classes: float, rho: float) -> np.ndarray:
    """H / log K and (1 - E Σp²) / (1 - 1/K) of orthogonal classes, (2,), as the page computes them."""
    log_classes = math.log(classes)
    row, row_weights = _weights(math.log(log_classes), table.rows, ROWS_COUNT)
    column, column_weights = _weights(math.log(rho / log_classes), table.columns, COLUMNS_COUNT)
    block = table.values[:, row : row + STENCIL, column : column + STENCIL]
    return np.einsum("vij,i,j->v", block, row_weights, column_weights)


def _weights(place: float, ends: tuple[float, float], count: int) -> tuple[int, np.ndarray]:
    """First index and weights of the polynomial through the `STENCIL` nodes around a place."""
    at = (place - ends[0]) / (ends[1] - ends[0]) * (count - 1)
    first = int(np.clip(math.floor(at) - STENCIL // 2 + 1, 0, count - STENCIL))
    nodes = np.arange(STENCIL)
    weights = [
        math.prod((at - first - other) / (node - other) for other in nodes if other != node) for node in nodes
    ]
    return first, np.array(weights)
