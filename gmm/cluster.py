r"""The cluster expansion of a class entropy: one deterministic integral for every subset of the classes.

With x_k = π_k p_k and S = Σ x_k the Mellin transform of the connected part of S log S gives, on Σ a_k = 1,

    H[Z|X] = Σ_{|A| >= 2} T_A,    T_A = (2π)^{1-|A|} ∫ Π_{k∈A} Γ(-a_k) π_k^{a_k} · C_A(a) du,    a_k = c_k + iu_k,

over all subsets A of the classes; the sign of T_A is (-1)^{|A|}. For a partition into cells only the subsets that
lie in more than one cell count. Under the same integral

    E[-log p(cell|X); Z in the cell] has the factor Σ_{k in A and the cell} a_k,
    1 - E Σ p(cell|X)² has the factor 1 - Σ_cells (Σ_{k in A and the cell} a_k)².

The line (`gmm.chernoff`) becomes a plane: c is the minimum of a convex function on the simplex, and trapezoid sums on
lattices have errors that are sums of terms of one sign, which convexity bounds beforehand. The value is the mean over
shifted lattices (two for four classes, three for three), whose leading errors add up to zero; its error is the bound
of what remains, or the distance of each lattice from the mean where that is less.

T_A = (-1)^{|A|} E ∫ Π_{k∈A}(1 - e^{-sx_k/S}) ds/s² makes H an alternating sum of elementary symmetric functions of
numbers in [0, 1]: every truncation brackets it (Bonferroni), and |T_A| is at most |T_B| for every B inside A.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float, Int
from scipy.ndimage import binary_dilation
from scipy.special import digamma, gammaln, loggamma, polygamma

from gmm.subset_basis import Subset

Array = np.ndarray
# Nodes are left out where the integrand is below this share of the tolerance.
_LEFT_OUT = 1e-3
_BLOCK = 2**16  # numbers in a temporary array that stays in the cache
_EPS = float(np.finfo(np.float64).eps)
# Lattices of more nodes than this would take many minutes.
MAX_NODES = 2**26
# More than a dual lattice has shortest vectors.
_NEIGHBOURS = 24
_SHARES = np.concatenate([np.linspace(0.1, 0.9, 9), 1 - np.geomspace(0.05, 1e-4, 7)])


class Term(NamedTuple):
    """T_A with what else the same integrand gives, or bounds of their errors.

    Attributes:
        entropy: T_A.
        disagreement: its share of 1 - E Σ p(cell)².
        rate: its share of dH/d log(σ²/α²).
        per_cell: (C,) its share of E[-log p(cell|X); Z in the cell].
    """

    entropy: float
    disagreement: float
    rate: float
    per_cell: Float[Array, " C"]


def total_of(terms: Sequence[Term], cell_count: int) -> Term:
    """The sum of terms; zero where there are none."""
    return Term(
        entropy=float(sum(term.entropy for term in terms)),
        disagreement=float(sum(term.disagreement for term in terms)),
        rate=float(sum(term.rate for term in terms)),
        per_cell=np.sum([np.zeros(cell_count), *(term.per_cell for term in terms)], axis=0),
    )


class _Plane(NamedTuple):
    """The integrand on a = c + iu.

    Attributes:
        subset: the components.
        log_weights: (S,) their log priors.
        c: (S,) real part.
        log_top: log of the integrand's modulus at u = 0.
    """

    subset: Subset
    log_weights: Float[Array, " S"]
    c: Float[Array, " S"]
    log_top: float


def cluster_term(
    subset: Subset,
    log_weights: Float[Array, " S"],
    cells: Int[Array, " S"],
    cell_count: int,
    *,
    tolerance: float,
    rates: bool = True,
    floor: float = -np.inf,
) -> tuple[Term, Term]:
    """T_A of three or more components, and bounds of its numerical errors.

    Args:
        subset: the components at one noise level.
        log_weights: (S,) their log priors.
        cells: (S,) the cell of each.
        cell_count: number of cells of the whole decision.
        tolerance: largest error relative to the integrand's modulus.
        rates: whether to compute the rate too; it is NaN otherwise.
        floor: log of a value whose `tolerance` is small enough too: what T_A is part of.
    """
    plane = _plane(subset, log_weights)
    log_tolerance = np.log(tolerance) + max(floor - plane.log_top, 0.0)
    if log_tolerance > 0 or plane.log_top < -800:
        return _negligible(plane, cells, cell_count)
    step = _step(plane, np.log(_NEIGHBOURS) - log_tolerance)
    members = cells[:, None] == np.arange(cell_count)
    size = len(plane.c)
    log_small = log_tolerance + np.log(_LEFT_OUT)
    lattices = _lattices(size)
    # Shifts j and L - j are mirror images, and have one real part.
    shifts = np.arange(lattices // 2 + 1)
    results = [_lattice_sum(plane, step, shift, log_small, members, rates) for shift in shifts.tolist()]
    sums, moduli, counts = (np.array(part) for part in zip(*results, strict=True))
    mean = np.average(sums, axis=0, weights=np.where(2 * shifts % lattices == 0, 1, 2))
    error = np.minimum(np.abs(sums - mean).max(axis=0), np.exp(log_tolerance) * moduli.max(axis=0))
    error += 8 * _EPS * (4 + abs(plane.log_top)) * moduli.max(axis=0)
    # What lies beyond the nodes: no larger than `log_small` on their surface, and falling as e^{-π|u|/2}.
    error += np.exp(log_small) * counts.max() ** ((size - 2) / (size - 1)) * 2 * size / step
    scale = (-1) ** size * np.exp(plane.log_top + (size - 1) * np.log(step / (2 * np.pi)))
    return _named(scale * mean), _named(abs(scale) * error)


def _lattices(size: int) -> int:
    """How many lattices, shifted by multiples of 1/L of a step in every a_k but the last, have errors that cancel.

    A neighbour in the dual lattice has the factor e^{2πi j/L}, j the shift, for the last a_k too if L divides S.
    """
    return next(number for number in range(2, size + 1) if size % number == 0)


def _negligible(plane: _Plane, cells: Array, cell_count: int) -> tuple[Term, Term]:
    """Zero, with the integrand's modulus times its width as the error: |Γ(-c-iu)| falls as e^{-π|u|/2}."""
    zero = Term(0.0, 0.0, 0.0, np.zeros(cell_count))
    bound = float(np.exp(max(plane.log_top, -745.0)))
    occurs = np.bincount(cells, minlength=cell_count) > 0
    return zero, Term(bound, bound, bound, bound * occurs)


def _named(values: Array) -> Term:
    entropy, disagreement, rate = values[:3].tolist()
    return Term(entropy, disagreement, rate, values[3:])


def _plane(subset: Subset, log_weights: Float[Array, " S"]) -> _Plane:
    """The minimum over the simplex of a convex function, by damped Newton steps inside it."""
    size = len(log_weights)
    tangent = np.linalg.svd(np.ones((1, size)))[2][1:].T
    c = np.full(size, 1 / size)
    value, slope, bend = _on_simplex(subset, log_weights, c)
    for _ in range(100):
        reduced = tangent.T @ slope
        move = tangent @ np.linalg.solve(tangent.T @ bend @ tangent, -reduced)
        decrease = float(-slope @ move)
        if decrease < 1e-6:
            break
        length = min(1.0, 0.9 / max(float((-move / c).max()), 1e-300))
        while True:
            new = _on_simplex(subset, log_weights, c + length * move)
            if new[0] <= value - 0.1 * length * decrease or length < 1e-8:
                break
            length *= 0.5
        c = c + length * move
        value, slope, bend = new
    return _Plane(subset, log_weights, c, value)


def _on_simplex(subset: Subset, log_weights: Array, c: Array) -> tuple[float, Array, Array]:
    """log of Π|Γ(-c_k)|π_k^{c_k} C(c), with first and second derivatives."""
    expansion = subset.expand(c)
    value = expansion.value + float((gammaln(1 - c) - np.log(c) + c * log_weights).sum())
    slope = expansion.slope - digamma(1 - c) - 1 / c + log_weights
    return value, slope, expansion.bend + np.diag(polygamma(1, 1 - c) + 1 / c**2)


def _step(plane: _Plane, exponent: float) -> float:
    """The lattice step for which the mean over the shifted lattices errs by e^{-exponent} of the integrand's modulus.

    A vector n of the dual lattice stands for an error of at most e^{-s n·(c - c')} F(c')/F(c), s = 2π/h, whatever
    c' is on the simplex. The shifts leave those with a sum that their number divides.
    """
    size = len(plane.c)
    lattices = _lattices(size)
    frequencies = []
    for lifted in (set(s) for k in range(1, size) for s in itertools.combinations(range(size), k)):
        vectors = [n for n in _dual_vectors(size, frozenset(lifted)) if sum(n) % lattices == 0]
        if not vectors:
            continue
        falls = min(float(np.dot(n, plane.c)) for n in vectors)
        low = np.isin(np.arange(size), list(lifted))
        # Along the way to the face of the simplex on which n is smallest.
        goal = np.where(low, 0, plane.c) / plane.c[~low].sum()
        rise = [
            _on_simplex(plane.subset, plane.log_weights, (1 - part) * plane.c + part * goal)[0]
            - plane.log_top
            for part in _SHARES
        ]
        frequencies.append(np.min((exponent + np.maximum(rise, 0)) / (_SHARES * falls)))
    return float(2 * np.pi / max(frequencies))


def _dual_vectors(size: int, lifted: frozenset[int]) -> list[tuple[int, ...]]:
    """Short integer vectors that are zero outside of `lifted` and positive inside."""
    entries = [(1, 2) if k in lifted else (0,) for k in range(size)]
    return list(itertools.product(*entries))


def _lattice_sum(
    plane: _Plane, step: float, shift: int, log_small: float, members: Array, rates: bool
) -> tuple[Float[Array, " F"], Float[Array, " F"], int]:
    """Sums over one lattice of the integrands in the order of `_named`, of their moduli, and how many nodes."""
    nodes = _nodes(plane, step, shift, log_small)
    unit = step / _lattices(len(plane.c))
    table = _gamma_table(plane.c, unit, int(np.abs(nodes).max(initial=1)) * len(plane.c))
    total, modulus = np.zeros(3 + members.shape[1]), np.zeros(3 + members.shape[1])
    rows = max(16, _BLOCK // max(16, plane.subset.width))
    for start in range(0, len(nodes), rows):
        j = nodes[start : start + rows]
        u = unit * j
        log_ratio, growth = plane.subset.along(plane.c, u, rates)
        ratio = np.exp(log_ratio + 1j * (u @ plane.log_weights))
        for k, row in enumerate(table):
            ratio *= row[j[:, k] + len(row) // 2]
        shares = (plane.c + 1j * u) @ members
        # Nodes at -u are complex conjugates; the origin is its own.
        mirrored = 2 * shift % _lattices(len(plane.c)) == 0
        ratio *= np.where(mirrored & (j != 0).any(axis=1), 2.0, 1.0)
        factors = np.empty((len(j), 3 + shares.shape[1]), complex)
        factors[:, 0], factors[:, 1] = 1, 1 - (shares**2).sum(axis=1)
        factors[:, 2] = np.nan if growth is None else growth
        factors[:, 3:] = shares
        total += np.real(ratio @ factors)
        modulus += np.abs(ratio) @ np.abs(factors)
    return total, modulus, len(nodes)


def _gamma_table(c: Float[Array, " S"], step: float, most: int) -> Complex[Array, "S r"]:
    """Γ(-c_k - iu)/Γ(-c_k) at u = step·(-most..most)."""
    a = c[:, None] + 1j * step * np.arange(-most, most + 1)
    log_gamma = loggamma(1 - a) - np.log(a)
    return np.exp(log_gamma - (gammaln(1 - c) - np.log(c))[:, None])


def _nodes(plane: _Plane, step: float, shift: int, log_small: float) -> Int[Array, "n S"]:
    """The nodes of a lattice where the integrand counts, in steps over the number of lattices; of ±u only one.

    The modulus falls along every ray from the origin; the cells of a coarser lattice around the part that counts
    hold all nodes that do.
    """
    size = len(plane.c)
    widest = _widest(plane, log_small)
    coarse = max(1, int(np.ceil(widest / step / 8)))
    half = int(np.ceil(widest / (step * coarse))) + 1
    axis = np.arange(-half, half + 1) * coarse
    grid = np.stack(np.meshgrid(*[axis] * (size - 1), indexing="ij"), axis=-1).reshape(-1, size - 1)
    large = _log_modulus(plane, step * _closed(grid)) > log_small
    box = large.reshape((len(axis),) * (size - 1))
    large = np.asarray(binary_dilation(box, np.ones((3,) * (size - 1))), bool).reshape(-1)
    if large.sum() * float(coarse) ** (size - 1) > MAX_NODES:
        raise ValueError(
            f"tolerance must leave at most {MAX_NODES} nodes for {size} classes; give a larger one, or sample "
            "with gmm.class_entropy"
        )
    inside = np.arange(coarse) - coarse // 2
    offsets = np.stack(np.meshgrid(*[inside] * (size - 1), indexing="ij"), axis=-1).reshape(-1, 1, size - 1)
    lattices = _lattices(size)
    nodes = _closed((offsets + grid[np.flatnonzero(large)]).reshape(-1, size - 1) * lattices + shift)
    if 2 * shift % lattices == 0:  # its own mirror image
        nodes = nodes[_first_half(nodes)]
    kernel = np.log(
        np.abs(_gamma_table(plane.c, step / lattices, int(np.abs(nodes).max(initial=1)) + 1)) + 1e-300
    )
    total = sum(row[nodes[:, k] + len(row) // 2] for k, row in enumerate(kernel))
    return nodes[total > log_small]


def _closed(free: Int[Array, "n m"]) -> Int[Array, "n S"]:
    """Rows with a last entry that makes their sum zero."""
    return np.concatenate([free, -free.sum(axis=1, keepdims=True)], axis=1)


def _first_half(nodes: Int[Array, "n S"]) -> Array:
    """Which nodes are the origin or have a positive first nonzero entry."""
    first = np.argmax(nodes != 0, axis=1)
    return np.take_along_axis(nodes, first[:, None], axis=1)[:, 0] >= 0


def _log_modulus(plane: _Plane, u: Float[Array, "n S"]) -> Float[Array, " n"]:
    """log|F(c + iu)/F(c)|."""
    rows = max(16, _BLOCK // max(16, plane.subset.width))
    values = np.empty(len(u))
    for part in (slice(i, i + rows) for i in range(0, len(u), rows)):
        a = plane.c + 1j * u[part]
        kernel = np.real(loggamma(1 - a) - np.log(a)) - (gammaln(1 - plane.c) - np.log(plane.c))
        values[part] = kernel.sum(axis=1) + np.real(plane.subset.along(plane.c, u[part], False)[0])
    return values


def _widest(plane: _Plane, log_small: float) -> float:
    """The largest |u_k| of the first S-1 at which the integrand counts, from rays in many directions."""
    size = len(plane.c)
    signs = np.array([s for s in itertools.product((-1, 0, 1), repeat=size - 1) if any(s)], float)
    rays = _closed(signs)
    levels = np.geomspace(1e-3, -log_small, 40)
    u = levels[:, None, None] * rays / np.abs(rays).max(axis=1)[:, None]
    counts = _log_modulus(plane, u.reshape(-1, size)).reshape(len(levels), -1) > log_small
    widths = np.array(
        [
            levels[min(np.flatnonzero(column)[-1] + 1, len(levels) - 1)] if column.any() else levels[0]
            for column in counts.T
        ]
    )
    return 1.2 * float(widths.max())


def subsets_across(cells: Int[Array, " K"], size: int) -> Iterator[tuple[int, ...]]:
    """Subsets of `size` components that do not lie in one cell."""
    for subset in itertools.combinations(range(len(cells)), size):
        if len({int(cells[k]) for k in subset}) > 1:
            yield subset
