r"""The integrals behind `theory.channel`, one point at a time, in NumPy.

Notation as in `theory.channel`; derivations in ``docs/explanation/theory.md``. `refine` divides every step and widens
every range, so that the change it makes estimates the error.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from theory.smoothing import SMOOTH, UniformGrid, log_of, make_grid, smooth_bump, smooth_log, smooth_step

Array = np.ndarray

# What a range or a sum may leave out: e^{-60} of what it keeps.
LEFT_OUT = 60.0
# Standard deviations that a Gaussian is followed to: e^{-9²/2} = 3e-18.
DEVIATIONS = 9.0
# exp(-e^x) is zero in float64 beyond.
LEAF_END = 7.0
# Trapezoidal sums over a Gaussian with this step have aliases of e^{-2π²/h²} = 5e-35.
NODE_STEP = 0.5
# Nodes of the two-class quadrature in memory at once.
BLOCK_NODES = 2**21


# Two classes: √(π₊π₋) e^{-ρ/2} E_u f(|a|), a = log(π₊/π₋) + 2√ρ u, with f one of


def uncertainty(a: Array) -> Array:
    """2 cosh(a/2) h_b(1/(1+e^{-a})), the entropy, without overflow."""
    e = np.exp(-a)
    ratio = np.where(e > 0, np.log1p(e) / np.where(e > 0, e, 1), 1.0)
    return np.exp(-a / 2) * ((1 + e) * ratio + a)


def minus_sech(a: Array) -> Array:
    """-sech(a/2), its derivative with respect to ρ."""
    return -2 * np.exp(-a / 2) / (1 + np.exp(-a))


def sech_cubed(a: Array) -> Array:
    """sech³(a/2), its second derivative."""
    return -(minus_sech(a) ** 3)


def binary_mean(f: Callable[[Array], Array], refine: int, rho: Array, prior: Array) -> Array:
    """√(π₊π₋) e^{-ρ/2} E_u f(|a|) for arrays of one shape; NaN where an argument is outside its range."""
    valid = (rho >= 0) & (prior >= 0) & (prior <= 1)
    decided = (prior == 0) | (prior == 1)
    # At ρ = 1e4 everything is zero in float64; larger values, infinity included, would only overflow.
    r = np.where(valid, np.minimum(rho, 1e4), 0.0).ravel()
    p = np.where(valid & ~decided, prior, 0.5).ravel()
    h = np.log(p) - np.log1p(-p)
    # f ~ e^{-|a|/2} has singularities at ±iπ: steps of ½ in a leave e^{-4π²} = 7e-18. |a| runs to 80
    # beyond h.
    step = 1 / ((2.5 + 4 * np.sqrt(r)) * refine)
    nodes = int(np.ceil(2 * (80 + 10 * (refine - 1) + np.abs(h).max(initial=0.0)))) * refine
    k = np.arange(-nodes, nodes + 1)
    mean = np.empty_like(r)
    rows = max(1, BLOCK_NODES // len(k))
    for block in (slice(i, i + rows) for i in range(0, len(r), rows)):
        u = step[block, None] * k
        a = np.abs(h[block, None] + 2 * np.sqrt(r[block, None]) * u)
        mean[block] = (f(a) * np.exp(-0.5 * (u**2 + r[block, None]))).sum(axis=1)
    mean *= step * np.sqrt(p * (1 - p) / (2 * np.pi))
    return np.where(valid, np.where(decided, 0.0, mean.reshape(rho.shape)), np.nan)


# Trees; the flat families are trees of one level.


class Sweep(NamedTuple):
    """A tree's leaf entropy and the probability that a replica leaves the true path at each level."""

    entropy: float
    divergence: Array


def tree_sweep(branching: Sequence[float], rhos: Sequence[float], refine: int, rates: bool = True) -> Sweep:
    """One sweep from the leaves to the root.

    At each level, off the true path and on it, with b_{L+1} = 1 and leaves ψ = χ = e^{-λ}::

        ψ_l = E_u ψ_{l+1}^{b_{l+1}}              at x - ρ_l/2 + √ρ_l u
        χ_l = E_u χ_{l+1} ψ_{l+1}^{b_{l+1}-1}    at x + ρ_l/2 + √ρ_l u
        δ_l = E_u δ_{l+1} + χ_l (1 - ψ_l^{b_l-1})      E_u as for χ_l;  H = ∫ δ_1 dx

    A replica that leaves the path at level m contributes (b_m-1) χ_m η_m ψ_m^{b_m-2} there, η = -ψ', and is
    carried up like χ. All sums are of positive terms.

    Args:
        branching: (L,) branching numbers b_l >= 1, coarsest level first.
        rhos: (L,) signal-to-noise ratios ρ_l >= 0.
        refine: see the module.
        rates: whether divergence is wanted.
    """
    size = float(np.sum(np.log(branching)))
    grid = _tree_grid(size, np.asarray(rhos), refine)
    floor = np.exp(-LEFT_OUT - size)
    leaf = _leaf(grid)
    # The state is that of a node with all its children: ψ^b, χ ψ^{b-1}, -(ψ^b)', δ and what diverged below.
    log_off, log_on, slope = -leaf, -leaf, leaf * np.exp(-leaf)
    delta, diverged = np.zeros(grid.size), []
    for b, rho in zip(reversed(branching), reversed(rhos), strict=True):
        log_psi = smooth_log(grid, log_off, -rho / 2, rho, floor)
        chi = smooth_step(grid, log_on, rho / 2, rho, floor)
        others = np.exp((b - 1) * log_psi)
        delta = smooth_bump(grid, delta, rho / 2, rho, floor) - chi * np.expm1((b - 1) * log_psi)
        if rates:
            eta = smooth_bump(grid, slope, -rho / 2, rho, floor)
            diverged = [smooth_bump(grid, weight, rho / 2, rho, floor) * others for weight in diverged]
            diverged.append((b - 1) * np.exp(log_of(chi) + log_of(eta) + (b - 2) * log_psi))
            slope = b * others * eta
        log_off, log_on = b * log_psi, log_of(chi) + (b - 1) * log_psi
    return Sweep(grid.integral(delta), np.array([grid.integral(weight) for weight in diverged[::-1]]))


def _tree_grid(size: float, rhos: Array, refine: int) -> UniformGrid:
    """The range of x for a tree; size is the log of its number of leaves.

    A level's own integrand reaches from where λ times the number of leaves is negligible to where its
    Gaussian is.
    What a level adds on the path is moved by -ρ/2 ± √ρ u at each level above it; off the path, ψ falls at
    +ρ/2 of the levels below it.
    """
    above, below = rhos[:-1].sum(), rhos[1:].sum()
    deviations = DEVIATIONS + refine - 1
    spread = deviations * np.sqrt(rhos.sum())
    low = max(size + LEFT_OUT + 10 * (refine - 1), spread) + above / 2 + deviations * np.sqrt(above)
    return make_grid(-low, below / 2 + spread + LEAF_END, rhos, refine)


def _leaf(grid: UniformGrid) -> Array:
    """λ = e^x, kept finite: it only matters where e^{-λ} is not zero."""
    return np.exp(np.minimum(grid.x, 700.0))


def flat_entropy(classes: float, rho: float, refine: int) -> float:
    """H of K orthogonal classes, ∫ χ (1 - ψ^{K-1}) dx."""
    return tree_sweep([classes], [rho], refine, rates=False).entropy


def flat_rate(classes: float, rho: float, refine: int) -> float:
    """dH/dρ = -½ (K-1) ∫ χ η ψ^{K-2} dx."""
    return -0.5 * float(tree_sweep([classes], [rho], refine).divergence[0])


def flat_second(classes: float, rho: float, refine: int) -> float:
    """d²H/dρ² = ½ E‖Cov(Z|X)‖².

    Equal to ½ (K-1) ∫ e^{-x} [θ² ψ^{K-2} + ½ (K-2) θ η² ψ^{K-3}] dx, θ = λ² E w² e^{-λw}.

    The derivative of a minimum mean squared error is minus the mean squared norm of the posterior covariance
    (Payaró, Palomar, IEEE Trans. Inf. Theory 55, 2009).
    """
    grid = _tree_grid(np.log(classes), np.array([rho]), refine)
    floor = np.exp(-LEFT_OUT) / classes
    leaf = _leaf(grid)
    log_psi = smooth_log(grid, -leaf, -rho / 2, rho, floor)
    eta, theta = (log_of(smooth_bump(grid, np.exp(n * grid.x - leaf), -rho / 2, rho, floor)) for n in (1, 2))
    pairs = np.exp(2 * theta + (classes - 2) * log_psi - grid.x)
    triples = np.exp(theta + 2 * eta + (classes - 3) * log_psi - grid.x)
    return 0.5 * (classes - 1) * grid.integral(pairs + 0.5 * (classes - 2) * triples)


def flat(
    value: Callable[[float, float, int], float],
    order: int,
    simplex: bool,
    refine: int,
    rho: Array,
    classes: Array,
) -> Array:
    """`value(classes, rho, refine)`, a derivative of some order, of the orthogonal family or the simplex.

    K vertices of a centred simplex of energy E are K orthogonal means of energy E K/(K-1), centred.
    """
    result = np.full(rho.shape, np.nan)
    for index in np.ndindex(rho.shape):
        k, r = float(classes[index]), float(rho[index])
        if not (r >= 0 and 1 <= k < np.inf):
            continue
        scale = k / (k - 1) if simplex and k > 1 else 1.0
        # H <= (K-1) e^{-ρ/4} is zero in float64 beyond.
        r = min(r * scale, 4 * (750 + np.log(k)))
        result[index] = scale**order * value(k, r, refine) if k > 1 else 0.0
    return result


# Orthogonal means of any priors and energies.


def general_sweep(weights: Array, rhos: Array, refine: int) -> tuple[float, Array]:
    """H[Z|X] for classes of prior π_k and signal-to-noise ratio ρ_k, and dH/dρ_k (K,).

    H = Σ_k π_k ∫ χ_k (1 - Π_{j≠k} ψ_j) dx and E p_k p_j = ∫ e^{-x} η_k η_j Π_{i≠k,j} ψ_i dx, with
    ψ_k(x) = E exp(-π_k λ w_k). Classes that are alike are computed once.

    Args:
        weights: (K,) priors > 0 that sum to one.
        rhos: (K,) ratios >= 0.
        refine: see the module.
    """
    kinds, kind_of, counts = np.unique(
        np.stack([weights, rhos], -1), axis=0, return_inverse=True, return_counts=True
    )
    pi, rho = kinds[:, 0], np.minimum(kinds[:, 1], 4 * (750 - np.log(weights.min())))
    spread = (DEVIATIONS + refine - 1) * np.sqrt(rho)
    # The rarest class's own step lies -log π further to the left on its leaf.
    low = max(LEFT_OUT + 10 * (refine - 1) - np.log(pi.min()), spread.max())
    # Kinds of small ρ take no step of the grid: the coarse one integrates all.
    grid = make_grid(-low, float(np.max(spread - np.log(pi))) + LEAF_END, np.array([SMOOTH]), refine)
    floor = np.exp(-LEFT_OUT) * pi.min()
    columns = [
        (_by_grid if r >= SMOOTH else _by_nodes)(grid, h, r, floor, refine)
        for h, r in zip(np.log(pi), rho, strict=True)
    ]
    log_psi, chi, log_eta = (np.stack(column) for column in zip(*columns, strict=True))
    log_others = _of_others(log_psi, counts)
    entropy = (counts * pi) @ (chi * -np.expm1(log_others)).sum(axis=1) * grid.step
    ratios = _of_others(np.exp(log_eta - log_psi), counts)
    pairs = (np.exp(log_eta + log_others - grid.x) * ratios).sum(axis=1) * grid.step
    return float(entropy), -0.5 * pairs[kind_of.ravel()]


Columns = tuple[Array, Array, Array]
"""log ψ, χ and log η of one kind of class on a grid, (size,) each."""


def _by_grid(grid: UniformGrid, log_prior: float, rho: float, floor: float, _refine: int) -> Columns:
    leaf = _leaf(grid)
    log_psi = smooth_log(grid, -leaf, log_prior - rho / 2, rho, floor)
    chi = smooth_step(grid, -leaf, log_prior + rho / 2, rho, floor)
    return log_psi, chi, log_of(smooth_bump(grid, leaf * np.exp(-leaf), log_prior - rho / 2, rho, floor))


def _by_nodes(grid: UniformGrid, log_prior: float, rho: float, _floor: float, refine: int) -> Columns:
    """The same for small ρ, by trapezoidal sums over u: λ itself is a node's, not the grid's."""
    step, widest = NODE_STEP / refine, DEVIATIONS + 1 + refine
    u = step * np.arange(-math.ceil(widest / step), math.ceil(widest / step) + 1)
    weights = np.exp(-0.5 * u**2) * (step / np.sqrt(2 * np.pi))
    places = (grid.x + log_prior)[:, None] + np.sqrt(rho) * u
    leaf = np.exp(np.minimum(places - rho / 2, LEAF_END))
    psi, complement = np.exp(-leaf) @ weights, -np.expm1(-leaf) @ weights
    log_psi = np.where(complement < 0.5, np.log1p(-np.minimum(complement, 0.5)), log_of(psi))
    chi = np.exp(-np.exp(np.minimum(places + rho / 2, LEAF_END))) @ weights
    return log_psi, chi, log_of((leaf * np.exp(-leaf)) @ weights)


def _of_others(values: Array, counts: Array) -> Array:
    """Σ over all classes but one of each kind, (kinds, size): of positive terms alone, none is subtracted again."""
    weighted, zero = counts[:, None] * values, np.zeros_like(values[:1])
    before = np.concatenate([zero, np.cumsum(weighted, axis=0)[:-1]])
    after = np.concatenate([np.cumsum(weighted[::-1], axis=0)[-2::-1], zero])
    return before + after + (counts - 1)[:, None] * values
