r"""Entropies of classes seen through Gaussian noise, by quadrature, in nats.

Notation::

    x_t = α x_0 + σ ε, class means m_z, within-class variance s²,  v = α² s² + σ²
    ρ = α² E / v     signal-to-noise ratio of means of energy E; E is ‖m‖² for the pair ±m, the squared
    norm of one
                     of K orthogonal means, of one vertex of a centred simplex
    u ~ N(0, 1),  w = e^{√ρ u - ρ/2},  λ = e^x
    ψ(x) = E e^{-λ w}    χ(x) = E w e^{-λ w}    η(x) = -ψ'(x) = λ χ(x)

H[Z|X] = E log(S/w_1), S the sum of all classes' likelihood ratios w, w_1 that of the true class. Frullani's
log(1 + b/a) = ∫ e^{-λa} (1 - e^{-λb}) dx makes it one integral in which K is a number, and I-MMSE (Guo,
Shamai, Verdú, IEEE Trans. Inf. Theory 51, 2005) its derivative another::

    H = ∫ χ (1 - ψ^{K-1}) dx        dH/dρ = -½ (K-1) ∫ χ η ψ^{K-2} dx

Every integrand is positive, so that values keep their relative precision however small they are.

Known arguments are evaluated by NumPy and give float64 whatever JAX is set to. Under jit, vmap and grad
the same
code runs as a callback: computed in float64, returned in JAX's own precision; first and second derivatives
with respect to rho are closed forms too. Every function takes `refine`, which divides the quadrature's steps
and widens its ranges; `quadrature_error` does the subtraction.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

from gmm.checks import check_values, is_concrete
from theory import integrals
from theory.host import HostFunction

Array = np.ndarray
Values = Float[ArrayLike, "..."]


def quadrature_error(function: Callable[..., Any], *arguments: Any) -> Any:
    """Error estimate: the change of a function when every step is halved and every range widened.

    The sums converge exponentially, so the estimate is that of the coarser one and far above the finer
    one's error; below about 1e-15 of the value it is rounding.

    Args:
        function: such as `orthogonal_entropy`.
        *arguments: what it is called with.
    """
    return np.abs(function(*arguments) - function(*arguments, refine=2))


# Two classes.


def binary_entropy(rho: Values, prior: Values = 0.5, *, refine: int = 1) -> Any:
    """H[Z|X] of two classes whose means lie ±√ρ standard deviations from their midpoint.

    H = √(π₊π₋) e^{-ρ/2} E_u[2 cosh(a/2) h_b(1/(1+e^{-a}))], a = log(π₊/π₋) + 2√ρ u, with h_b the entropy
    of a coin. Absolute error below 1e-15, and 1e-13 relative wherever float64 holds the value.

    Args:
        rho: ‖μ₊-μ₋‖²/4 over the variance seen by x_t, that is ‖m‖² over it for the pair ±m;
            >= 0, may be infinite.
        prior: probability of one of the classes, in [0, 1]; broadcasts with rho.
        refine: see the module.

    Returns:
        Nats, float64 of the broadcast shape.

    Raises:
        ValueError: on a negative or NaN rho, or a prior outside [0, 1].
        TypeError: when differentiated with respect to prior.
    """
    _check_binary(rho, prior)
    return _binary(refine)[0](rho, prior)


def binary_entropy_rate(rho: Values, prior: Values = 0.5, *, refine: int = 1) -> Any:
    """dH/dρ of `binary_entropy`, -√(π₊π₋) e^{-ρ/2} E_u[sech(a/2)]; arguments and errors as there."""
    _check_binary(rho, prior)
    return _binary(refine)[1](rho, prior)


def binary_mmse(rho: Values, *, refine: int = 1) -> Any:
    """Minimum mean squared error of a fair sign observed at signal-to-noise ratio rho, 1 - E tanh(ρ + √ρ u).

    Equal to -2 dH/dρ (Guo, Shamai, Verdú 2005); arguments and errors as in `binary_entropy`.
    """
    return -2 * binary_entropy_rate(rho, refine=refine)


def binary_clone_agreement(rho: Values, prior: Values = 0.5, *, refine: int = 1) -> Any:
    """E Σ_z p(z|X)², the probability that two posterior draws agree, = 1 + dH/dρ.

    Biroli, Bonnaire, de Bortoli, Mézard, Nat. Commun. 2024; arguments and errors as in `binary_entropy`.
    """
    return 1 + binary_entropy_rate(rho, prior, refine=refine)


@functools.cache
def _binary(refine: int) -> tuple[HostFunction, HostFunction]:
    """H and dH/dρ."""
    second, first, value = (
        functools.partial(integrals.binary_mean, f, refine)
        for f in (integrals.sech_cubed, integrals.minus_sech, integrals.uncertainty)
    )
    rate = HostFunction(
        "binary_entropy_rate", first, HostFunction("the second derivative of binary_entropy", second)
    )
    return HostFunction("binary_entropy", value, rate), rate


def _check_binary(rho: Values, prior: Values) -> None:
    check_values("rho", rho, ">= 0", lambda r: r >= 0)
    check_values("prior", prior, "in [0, 1]", lambda p: (p >= 0) & (p <= 1))


# K classes of equal prior and energy.


def orthogonal_entropy(classes: Values, rho: Values, *, refine: int = 1) -> Any:
    """H[Z|X] of K equally likely classes with orthogonal means, any K.

    Relative error below 1e-12 at K up to 10^12 and rho up to 450, where H is down to 1e-50.

    Args:
        classes: K >= 1, any real number up to 1e250; broadcasts with rho.
        rho: squared norm of one mean over the variance seen by x_t; >= 0, may be infinite.
        refine: see the module.

    Returns:
        Nats, float64 of the broadcast shape; log K at rho = 0.

    Raises:
        ValueError: on a negative or NaN rho, or classes < 1.
        TypeError: when differentiated with respect to classes.
    """
    _check_flat(classes, rho)
    return _flat(False, refine)[0](rho, classes)


def orthogonal_entropy_rate(classes: Values, rho: Values, *, refine: int = 1) -> Any:
    """dH/dρ of `orthogonal_entropy`; arguments and errors as there."""
    _check_flat(classes, rho)
    return _flat(False, refine)[1](rho, classes)


def orthogonal_clone_agreement(classes: Values, rho: Values, *, refine: int = 1) -> Any:
    """E Σ_z p(z|X)² of `orthogonal_entropy`'s classes, = 1 + 2 dH/dρ; arguments and errors as there."""
    return 1 + 2 * orthogonal_entropy_rate(classes, rho, refine=refine)


def simplex_entropy(classes: Values, rho: Values, *, refine: int = 1) -> Any:
    """H[Z|X] of K equally likely classes at the vertices of a centred regular simplex.

    Centring orthogonal means of energy E K/(K-1) gives a simplex of energy E and changes no posterior.

    Args:
        classes: K >= 1, any real number up to 1e250; broadcasts with rho.
        rho: squared norm of one vertex over the variance seen by x_t; >= 0, may be infinite.
        refine: see the module.

    Returns:
        Nats, float64 of the broadcast shape; `binary_entropy(rho)` at K = 2.

    Raises:
        ValueError: on a negative or NaN rho, or classes < 1.
        TypeError: when differentiated with respect to classes.
    """
    _check_flat(classes, rho)
    return _flat(True, refine)[0](rho, classes)


def simplex_entropy_rate(classes: Values, rho: Values, *, refine: int = 1) -> Any:
    """dH/dρ of `simplex_entropy`; arguments and errors as there."""
    _check_flat(classes, rho)
    return _flat(True, refine)[1](rho, classes)


def simplex_clone_agreement(classes: Values, rho: Values, *, refine: int = 1) -> Any:
    """E Σ_z p(z|X)² of `simplex_entropy`'s classes, = 1 + 2 (1-1/K) dH/dρ; arguments and errors as there."""
    xp = np if is_concrete(classes) else jnp
    share = 1 - 1 / xp.asarray(classes, float)
    return 1 + 2 * share * simplex_entropy_rate(classes, rho, refine=refine)


def entropy_second(classes: float, rho: Values, simplex: bool, *, refine: int = 1) -> Any:
    """d²H/dρ² of `simplex_entropy` or `orthogonal_entropy`, ½ E‖Cov(Z|X)‖² at unit scale."""
    _check_flat(classes, rho)
    return _flat(simplex, refine)[2](rho, classes)


@functools.cache
def _flat(simplex: bool, refine: int) -> tuple[HostFunction, HostFunction, HostFunction]:
    """H, dH/dρ and d²H/dρ² as functions of rho and classes."""
    name = "simplex_entropy" if simplex else "orthogonal_entropy"
    values = (integrals.flat_entropy, integrals.flat_rate, integrals.flat_second)
    compute = [
        functools.partial(integrals.flat, value, order, simplex, refine) for order, value in enumerate(values)
    ]
    second = HostFunction(f"the second derivative of {name}", compute[2])
    first = HostFunction(f"{name}_rate", compute[1], second)
    return HostFunction(name, compute[0], first), first, second


def _check_flat(classes: Values, rho: Values) -> None:
    check_values("classes", classes, "a number from 1 to 1e250", lambda k: (k >= 1) & (k <= 1e250))
    check_values("rho", rho, ">= 0", lambda r: r >= 0)


# Orthogonal means of any priors and energies.


def unequal_entropy(
    weights: Float[ArrayLike, " K"], rhos: Float[ArrayLike, "... K"], *, refine: int = 1
) -> Any:
    """H[Z|X] of classes with orthogonal means of any priors and energies.

    Relative error below 1e-12, priors of 1e-100 included.

    Args:
        weights: (K,) known priors; a sum within 1e-6 of one counts as one, classes of prior zero are
            left out.
        rhos: (..., K) squared norm of each mean over the variance seen by x_t; >= 0, may be infinite.
        refine: see the module.

    Returns:
        (...) nats, float64.

    Raises:
        ValueError: on weights that are not a probability vector, or rhos of another length, negative or NaN.
    """
    return _general(_check_general(weights, rhos), refine)[0](rhos)


def unequal_entropy_rate(
    weights: Float[ArrayLike, " K"], rhos: Float[ArrayLike, "... K"], *, refine: int = 1
) -> Any:
    """(..., K) derivatives of `unequal_entropy` in each rho, -½ E p_k (1-p_k); arguments as there."""
    return _general(_check_general(weights, rhos), refine)[1](rhos)


def unequal_clone_agreement(
    weights: Float[ArrayLike, " K"], rhos: Float[ArrayLike, "... K"], *, refine: int = 1
) -> Any:
    """E Σ_z p(z|X)² of `unequal_entropy`'s classes, = 1 + 2 Σ_k ∂H/∂ρ_k; arguments and errors as there."""
    return 1 + 2 * unequal_entropy_rate(weights, rhos, refine=refine).sum(axis=-1)


def _check_general(weights: Any, rhos: Any) -> tuple[float, ...]:
    if not is_concrete(weights):
        raise ValueError("weights must be known numbers, got traced values; close over them instead")
    priors = np.asarray(weights, np.float64)
    if priors.ndim != 1 or np.shape(rhos)[-1:] != priors.shape:
        raise ValueError(
            f"rhos must have shape (..., K) for weights (K,), got {np.shape(rhos)} and {priors.shape}"
        )
    check_values("weights", priors, ">= 0", lambda w: w >= 0)
    if not abs(priors.sum() - 1) <= 1e-6:
        raise ValueError(f"weights must sum to one, got {priors.sum():.6g}; divide by the sum")
    check_values("rhos", rhos, ">= 0", lambda r: r >= 0)
    return tuple((priors / priors.sum()).tolist())


@functools.lru_cache(64)
def _general(weights: tuple[float, ...], refine: int) -> tuple[HostFunction, HostFunction]:
    """H and its gradient as functions of rhos."""
    priors = np.array(weights)
    present = priors > 0

    def sweep(rhos: Array) -> tuple[Array, Array]:
        entropy, rates = np.full(rhos.shape[:-1], np.nan), np.full(rhos.shape, np.nan)
        for index in np.ndindex(entropy.shape):
            if (rhos[index] >= 0).all():
                rates[index] = 0.0
                entropy[index], rates[index][present] = integrals.general_sweep(
                    priors[present], rhos[index][present], refine
                )
        return entropy, rates

    rate = HostFunction("unequal_entropy_rate", lambda rhos: sweep(rhos)[1])
    apply = lambda rates, tangent: (rates * tangent).sum(axis=-1)
    value = HostFunction(
        "unequal_entropy", lambda rhos: sweep(rhos)[0], rate, apply, lambda shape: shape[:-1]
    )
    return value, rate


# Hierarchical classes.


def tree_entropy(branching: Sequence[float], rhos: Float[ArrayLike, "levels ..."], *, refine: int = 1) -> Any:
    """H[levels 1..j|X] for every level j of a tree of classes, equally likely leaves.

    A leaf's mean is a sum over levels of orthogonal increments, one for each node of a level. Chain rule:
    H[1..j|X] is the leaf entropy of the tree less that of the subtree below level j. Absolute error below
    1e-12 to depth 6 and branching 1000.

    Args:
        branching: (levels,) numbers of children >= 1, coarsest level first.
        rhos: (levels, ...) energy of each level's increments over the variance seen by x_t; >= 0, may be
            infinite.
        refine: see the module.

    Returns:
        (levels, ...) nats, float64, leaves last.

    Raises:
        ValueError: on branching < 1, rhos of another length, negative or NaN.
    """
    return _levels_first(_tree(_check_tree(branching, rhos), refine)[0], rhos, 1)


def tree_entropy_jacobian(
    branching: Sequence[float], rhos: Float[ArrayLike, "levels ..."], *, refine: int = 1
) -> Any:
    """(levels, levels, ...) derivatives of `tree_entropy`, [j, l] that of H[1..j|X] in ρ_l.

    Arguments and errors as there.
    """
    return _levels_first(_tree(_check_tree(branching, rhos), refine)[1], rhos, 2)


def tree_entropy_rate(
    branching: Sequence[float], rhos: Float[ArrayLike, "levels ..."], *, refine: int = 1
) -> Any:
    """(levels, ...) derivatives of the leaf entropy in each level's ρ; see `tree_entropy`."""
    return tree_entropy_jacobian(branching, rhos, refine=refine)[-1]


def tree_clone_agreement(
    branching: Sequence[float], rhos: Float[ArrayLike, "levels ..."], *, refine: int = 1
) -> Any:
    """(levels, ...) probabilities that two draws share their node of a level, 1 + 2 ∂H[leaf|X]/∂ρ_l.

    Arguments and errors as in `tree_entropy`.
    """
    return 1 + 2 * tree_entropy_rate(branching, rhos, refine=refine)


def _check_tree(branching: Any, rhos: Any) -> tuple[float, ...]:
    if not is_concrete(branching):
        raise ValueError("branching must be known numbers, got traced values; close over them instead")
    numbers = np.asarray(branching, np.float64)
    if numbers.ndim != 1 or not numbers.size:
        raise ValueError(f"branching must have shape (levels,) with levels >= 1, got {numbers.shape}")
    check_values("branching", numbers, "numbers >= 1", lambda b: (b >= 1) & (b < np.inf))
    if np.shape(rhos)[:1] != numbers.shape:
        raise ValueError(
            f"rhos must have shape (levels, ...) for {numbers.size} branching numbers, got {np.shape(rhos)}"
        )
    check_values("rhos", rhos, ">= 0", lambda r: r >= 0)
    return tuple(numbers.tolist())


def _levels_first(function: HostFunction, rhos: Any, axes: int) -> Any:
    """Apply a function of (..., levels) to (levels, ...), and bring its last `axes` axes to the front."""
    xp: Any = np if is_concrete(rhos) else jnp
    result = function(xp.moveaxis(xp.asarray(rhos), 0, -1))
    return xp.moveaxis(result, range(-axes, 0), range(axes))


@functools.lru_cache(64)
def _tree(branching: tuple[float, ...], refine: int) -> tuple[HostFunction, HostFunction]:
    """Entropies (..., levels) and derivatives (..., levels, levels) as functions of rhos."""
    levels = len(branching)
    # Leaf entropies saturate: (N-1) e^{-ρ/4} < 1e-22 beyond, N the number of leaves.
    largest = 4 * (50 + np.sum(np.log(branching)))

    def entropies(rhos: Array) -> Array:
        leaf = [
            integrals.tree_sweep(branching[j:], rhos[j:].tolist(), refine, rates=False).entropy
            for j in range(levels)
        ]
        return leaf[0] - np.array([*leaf[1:], 0.0])

    def rates(rhos: Array) -> Array:
        leaf = np.zeros((levels + 1, levels))
        for j in range(levels):
            divergence = integrals.tree_sweep(branching[j:], rhos[j:].tolist(), refine).divergence
            leaf[j, j:] = -0.5 * np.cumsum(divergence)
        return leaf[0] - leaf[1:]

    def each(function: Callable[[Array], Array], shape: tuple[int, ...], rhos: Array) -> Array:
        result = np.full(rhos.shape[:-1] + shape, np.nan)
        for index in np.ndindex(rhos.shape[:-1]):
            if (rhos[index] >= 0).all():
                result[index] = function(np.minimum(rhos[index], largest))
        return result

    rate = HostFunction(
        "tree_entropy_jacobian",
        functools.partial(each, rates, (levels, levels)),
        shape=lambda shape: (*shape, levels),
    )
    apply = lambda rates, tangent: (rates * tangent[..., None, :]).sum(axis=-1)
    return HostFunction("tree_entropy", functools.partial(each, entropies, (levels,)), rate, apply), rate
