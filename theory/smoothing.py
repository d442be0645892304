r"""Gaussian smoothing on a uniform grid, the one operation behind the channel entropies.

Every function here is a step or a bump in x on the grid x_i = (first + i) h, and is replaced by
E_u f(x + shift + √variance u), u ~ N(0, 1), on the same grid: a discrete convolution. Trapezoidal sums of
functions analytic in a strip of half-width a converge like e^{-2πa/h}; exp(-e^x) has a = π/2.

A step F falls from 1 to 0. It is summed by parts, over its decrements against cumulative weights from the
left
and from the right, so that F and 1 - F both come out as sums of positive terms: full relative precision in
both tails, and no extension of the grid beyond the step.
"""

import functools
from typing import NamedTuple

import numpy as np

Array = np.ndarray

# Steps: at variance >= SMOOTH the Gaussian itself is sampled well enough by COARSE, where the error
# e^{-π²/h} is
# 7e-18; below, the functions must be interpolated, which needs their content at the Nyquist frequency,
# e^{-π²/2h}, to vanish: 5e-35 at FINE.
COARSE, FINE, SMOOTH = 1 / 4, 1 / 16, 0.15
# A Gaussian sampled at 1.5 steps a standard deviation has aliases of relative size e^{-2π²·1.5²} = 5e-20.
RESOLVED = 1.5
# Interpolating weights reach this many steps to either side: 8.6 standard deviations at RESOLVED.
REACH = 13
# Standard deviations beyond which a Gaussian's mass is negligible beside what is nearer: e^{-9²/2} = 3e-18.
NEGLIGIBLE = 9.0
# Probabilities below e^{-700} count as zero. It is a normal number: XLA's threads, in which callbacks run,
# flush subnormal ones to zero.
LOG_TINY = -700.0


class UniformGrid(NamedTuple):
    """Points x_i = (first + i) step, i = 0..size-1."""

    step: float
    first: int
    size: int

    @property
    def x(self) -> Array:
        """(size,) points."""
        return self.step * np.arange(self.first, self.first + self.size)

    def integral(self, f: Array) -> float:
        """∫ f dx of a function that vanishes at both ends."""
        return float(self.step * np.sum(f))


def make_grid(low: float, high: float, variances: Array, refine: int = 1) -> UniformGrid:
    """The grid over [low, high] for smoothing with these variances.

    Args:
        low: start of the range of x.
        high: its end.
        variances: (n,) Gaussian variances that will be used on the grid.
        refine: divides the step; the change it makes estimates the quadrature error.
    """
    step = (COARSE if np.min(variances) >= SMOOTH else FINE) / refine
    first = int(np.floor(low / step))
    return UniformGrid(step, first, int(np.ceil(high / step)) - first + 1)


def log_of(value: Array) -> Array:
    """log of a probability; zero and what has underflowed becomes LOG_TINY."""
    return np.log(np.maximum(value, np.exp(LOG_TINY)))


def smooth_step(grid: UniformGrid, log_f: Array, shift: float, variance: float, floor: float) -> Array:
    """Smooth a step F given by its log; full relative precision where the result is small.

    Args:
        grid: the grid.
        log_f: (size,) log F, decreasing from 0.
        shift: mean of the Gaussian.
        variance: its variance.
        floor: decrements of F below it are left out.
    """
    decrements, from_left, _ = _by_parts(grid, log_f, shift, variance, floor)
    return _correlate(decrements, from_left)


def smooth_log(grid: UniformGrid, log_f: Array, shift: float, variance: float, floor: float) -> Array:
    """log of the smoothed step, precise where the step is near one as well as where it is near zero."""
    decrements, from_left, from_right = _by_parts(grid, log_f, shift, variance, floor)
    complement = _correlate(decrements, from_right)
    return np.where(
        complement < 0.5,
        np.log1p(-np.minimum(complement, 0.5)),
        log_of(_correlate(decrements, from_left)),
    )


def smooth_bump(grid: UniformGrid, f: Array, shift: float, variance: float, floor: float) -> Array:
    """Smooth a function that vanishes at both ends; values below `floor` are left out."""
    values, start = _trim(f, floor)
    if not len(values):
        return np.zeros(grid.size)
    offsets = _offsets(grid, start, len(values))
    return _correlate(values, _weights(grid.step, *offsets, shift, variance))


def _by_parts(
    grid: UniformGrid, log_f: Array, shift: float, variance: float, floor: float
) -> tuple[Array, Array, Array]:
    """Decrements F_{j-1} - F_j of a step and the cumulative weights of their offsets, from left and right."""
    before = np.concatenate([[0.0], log_f[:-1]])
    decrements, start = _trim(np.exp(before) * -np.expm1(np.minimum(log_f - before, 0)), floor)
    low, high = _offsets(grid, start, len(decrements))
    # Cumulative weights hold the Gaussian's mass beyond the offsets in use, relative to what is in use.
    margin = REACH + int(np.ceil(NEGLIGIBLE * np.sqrt(variance) / grid.step))
    centre = round(shift / grid.step)
    first, last = min(low, centre) - margin, max(high, centre) + margin
    weights = _weights(grid.step, first, last, shift, variance)
    from_left = np.cumsum(weights)[low - first - 1 : high - first]
    from_right = np.cumsum(weights[::-1])[::-1][low - first : high - first + 1]
    return decrements, from_left, from_right


def _trim(values: Array, floor: float) -> tuple[Array, int]:
    """The stretch of `values` that holds everything above `floor`, and where it starts."""
    above = np.flatnonzero(values > floor)
    if not len(above):
        return values[:0], 0
    return values[above[0] : above[-1] + 1], int(above[0])


def _offsets(grid: UniformGrid, start: int, count: int) -> tuple[int, int]:
    """Smallest and largest j - i, j = start..start+count-1, i over the grid."""
    return start - (grid.size - 1), start + count - 1


def _correlate(values: Array, weights: Array) -> Array:
    """Σ_j values_j weights_{j-i} for every i of the grid; weights cover all its offsets j - i."""
    return np.correlate(weights, values, "valid")[::-1]


def _weights(step: float, low: int, high: int, shift: float, variance: float) -> Array:
    """Weights of the offsets low..high in steps: the density of N(shift, variance) times the step."""
    if variance >= (RESOLVED * step) ** 2:
        z = step * np.arange(low, high + 1) - shift
        return np.exp(-0.5 * z**2 / variance) * (step / np.sqrt(2 * np.pi * variance))
    nearest = round(shift / step)
    weights = np.zeros(high - low + 1)
    offsets = np.arange(nearest - REACH, nearest + REACH + 1) - low
    inside = (offsets >= 0) & (offsets < len(weights))
    fraction = shift / step - nearest
    weights[offsets[inside]] = _interpolating_weights(fraction, variance / step**2)[inside]
    return weights


def _interpolating_weights(shift: float, variance: float) -> Array:
    """Weights at -REACH..REACH with the moments of N(shift, variance) up to order 2 REACH.

    They smooth the interpolating polynomial exactly, so that a variance far below one step squared, or
    zero, costs no finer grid.
    """
    nodes, node_weights = np.polynomial.hermite_e.hermegauss(REACH + 2)
    points = shift + np.sqrt(variance) * nodes
    factors, denominators = _lagrange()
    values = (points[:, None, None] - factors) / denominators
    return (node_weights / node_weights.sum()) @ values.prod(axis=-1)


@functools.cache
def _lagrange() -> tuple[Array, Array]:
    """For each of the nodes -REACH..REACH the others, and its distances from them: (n, n-1) each."""
    nodes = np.arange(-REACH, REACH + 1)
    others = np.stack([np.delete(nodes, i) for i in range(len(nodes))])
    return others, nodes[:, None] - others
