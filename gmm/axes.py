"""Coordinate axes that the data alone determine, whatever linear algebra library computes them.

Eigenvectors and singular vectors have no sign of their own, and where values are equal any rotation of them is as
good: two libraries, or two kernels of one library, return different ones. Here axes follow the data instead. The
first axis points along the longest row, the second along what is left of the row that is then longest, and so on
(Gram-Schmidt with pivots). Lengths that differ by rounding count as equal, and then the first row is taken.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

# Lengths count as equal if they differ by this share, far above rounding and far below what anyone would plan.
EQUAL_LENGTHS = 1e-6
# Values from a decomposition count as equal if they differ by less than this many eps of the largest.
EIGENVALUE_ROUNDING = 64


def first_longest(lengths: Float[np.ndarray, " n"], rounding: float | Float[np.ndarray, " n"] = 0.0) -> int:
    """Index of the longest; of several that are equal up to `EQUAL_LENGTHS` and `rounding`, the first."""
    return int(np.argmax(lengths >= (1 - EQUAL_LENGTHS) * lengths.max() - rounding))


def axes_of(rows: Float[np.ndarray, "n g"], rounding: float = 0.0) -> Float[np.ndarray, "g r"]:
    """(g, r) orthonormal columns that span the rows (n, g): row 1 in pivot order has one coordinate, row 2 two, ...

    The coordinates `rows @ axes` of the pivots are a triangle with a positive diagonal, which makes the axes unique.

    Args:
        rows: (n, g) points.
        rounding: length at and below which what is left of a row is rounding.
    """
    if rows.shape[1] > rows.shape[0]:  # no array of size g x g is built
        frame, triangle = np.linalg.qr(rows.T)
        return frame @ axes_of(triangle.T, rounding)
    rest, axes = np.array(rows, float), np.zeros((rows.shape[1], 0))
    while axes.shape[1] < rows.shape[1]:
        lengths = np.linalg.norm(rest, axis=1)
        if lengths.max(initial=0.0) <= rounding:
            break
        axis = rest[first_longest(lengths, rounding)]
        axis = axis / np.linalg.norm(axis)
        axis = axis - axes @ (axes.T @ axis)  # what rounding has left of the axes before
        axis /= np.linalg.norm(axis)
        axes = np.column_stack([axes, axis])
        rest -= np.outer(rest @ axis, axis)
    return axes


def equal_groups(
    values: Float[np.ndarray, " n"], slack: Float[np.ndarray, " n"]
) -> Iterator[tuple[float, Int[np.ndarray, " m"]]]:
    """Indices of equal values, ascending: all within `slack` of the smallest of their group.

    Chains of close neighbours are not followed: values spread densely over an interval are not one value.
    """
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    start = 0
    while start < len(order):
        stop = int(np.searchsorted(ascending, ascending[start] + slack[order[start]], side="right"))
        # The median is exact for copies, which a mean need not be.
        yield float(ascending[(start + stop) // 2]), np.sort(order[start:stop])
        start = stop


def eigenvectors(
    matrix: Float[np.ndarray, "... d d"],
) -> tuple[Float[np.ndarray, "... d"], Float[np.ndarray, "... d d"]]:
    """Eigenvalues (..., d), ascending, and eigenvectors (..., d, d) in columns, of symmetric matrices in float64."""
    values, vectors = np.linalg.eigh(np.asarray(matrix, float))
    return values, _turned(values, vectors)


def left_singular_vectors(
    factor: Float[np.ndarray, "... d r"],
) -> tuple[Float[np.ndarray, "... m"], Float[np.ndarray, "... d m"]]:
    """Singular values (..., m), m = min(d, r), falling, and left singular vectors (..., d, m), in float64."""
    vectors, values, _ = np.linalg.svd(np.asarray(factor, float), full_matrices=False)
    return values, _turned(values, vectors, absent=True)


def _turned(values: np.ndarray, vectors: np.ndarray, absent: bool = False) -> np.ndarray:
    """The vectors (..., d, m) with the axes of their own rows in each group of equal values (..., m)."""
    turned = np.array(vectors)
    for place in np.ndindex(values.shape[:-1]):
        spectrum, frame = values[place], turned[place]
        slack = EIGENVALUE_ROUNDING * np.finfo(float).eps * np.abs(spectrum).max(initial=0.0)
        for value, group in equal_groups(spectrum, np.full(spectrum.shape, slack)):
            if absent and value <= slack:  # of a value of zero a factor determines no vectors at all
                others = np.delete(frame, group, axis=1)
                frame[:, group] = _completed(others, len(group))
            else:
                frame[:, group] = frame[:, group] @ axes_of(frame[:, group])
    return turned


def _completed(frame: np.ndarray, more: int) -> np.ndarray:
    """(d, more) orthonormal columns orthogonal to those of `frame` (d, m): the first axes that are furthest from it."""
    for _ in range(more):
        distances = 1 - np.sum(frame**2, axis=1)
        axis = -frame @ frame[pivot := first_longest(distances)]
        axis[pivot] += 1
        axis -= frame @ (frame.T @ axis)
        frame = np.column_stack([frame, axis / np.linalg.norm(axis)])
    return frame[:, -more:]
