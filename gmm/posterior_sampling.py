r"""Posterior expectations at x ~ p_t by sampling, with small relative errors at all noise levels.

The decision is a partition of the components. With p_c the posterior of cell c and s_c = ∇log p_t(x|c),
everything is a posterior expectation::

    H = E[-Σ_c p_c log p_c]            dH/dt = ½ g² E[Σ_c p_c ‖s_c - s‖²]   (I-MMSE; Guo, Shamai, Verdu 2005)
    E[-log p(c|X_t) | Z=c] = E[-p_c log p_c]/π_c        clone agreement = E Σ_c p_c²

so that no curve is differenced, and every sample contributes to every cell. Three methods reduce the error:

* Importance sampling: points are drawn where classes are undecided, see `gmm.proposal`.
* Strata: the distribution function of the class is cut into equal pieces with two independent draws in each, so
  that class counts do not fluctuate; half the squared difference of the two is an unbiased variance.
* Antithetic noise, x = centre ± root·ε, keyed by the stratum alone and hence common to all times.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray

from gmm.checks import may_be_infinite
from gmm.covariance import Covariance
from gmm.decision import MixtureDecision
from gmm.devices import over_devices, rows_for
from gmm.estimate import AGREEMENT, CARRYING, FEWEST, UNAIMED, carrying
from gmm.mixture import BLOCK_ELEMENTS, Mixture, posterior_logits
from gmm.posterior_statistics import Statistics, per_point, posterior
from gmm.proposal import Coverage, Proposal, centres, coverage, has_boundaries, propose, weights
from gmm.pytree import build

DRAWS = 2  # independent draws in a stratum: the least that has a variance
SIGNS = 2  # the antithetic pair
_SCALARS = len(Statistics._fields) - 1  # statistics that are not of single cells
# An error is known where this many draws carry the estimate (fewer than for plain averages, since a weighted statistic
# is bounded by a few times its mean), or 0.6 of them; below the second number of draws it is not known,
# nor is that of a cell that fewer draws than that are made for, unless `UNAIMED`, and 0.8 of all, carry it,
# unless all draws agree.
_COVERED = 12
# α/σ is at least the smallest float to this power: squares of states then stay finite.
_FAINT = 0.45


class Strata(NamedTuple):
    """How many strata, and how many points that makes in all."""

    count: int
    points: int


def strata_of(decision: MixtureDecision, samples: int, boundary: bool) -> Strata:
    """The fewest whole strata that hold `samples` points."""
    size = DRAWS * SIGNS * (2 if boundary and has_boundaries(decision) else 1)
    count = -(-samples // size)
    return Strata(count, count * size)


class Sums(NamedTuple):
    """Over strata, (F,) each.

    Attributes:
        total: sum of means.
        error: root of the summed squared errors.
        norm: root of the summed squares of draws.
    """

    total: Float[Array, "... F"]
    error: Float[Array, "... F"]
    norm: Float[Array, "... F"]


def statistics(
    decision: MixtureDecision,
    alpha: Float[ArrayLike, ""],
    sigma: Float[ArrayLike, ""],
    key: PRNGKeyArray,
    *,
    samples: int,
    boundary: bool,
) -> tuple[Statistics, Statistics]:
    """Means of `Statistics` at one noise level, and their standard errors, in float64 on the host.

    Args:
        decision: the decision, centred; see `decide`.
        alpha: () signal scale.
        sigma: () noise standard deviation.
        key: random key; stratum i uses fold_in(key, i), however strata are grouped.
        samples: points, rounded up to whole strata.
        boundary: whether to draw boundary points where they are defined.
    """
    # Units of a power of two change no digit: σ of order one overflows nowhere. Of signal so faint that (σ/α)² would
    # overflow every statistic has its limit but the spread, which grows as α².
    unit = 2.0 ** np.frexp(sigma)[1]
    faint = sigma / unit * float(jnp.finfo(decision.mixture.dtype).tiny) ** _FAINT
    signal = max(alpha / unit, faint)
    scale = (alpha / unit / signal / unit) ** 2
    strata = strata_of(decision, samples, boundary).count
    boundary = boundary and has_boundaries(decision)
    sums, covered = _statistics(decision, signal, sigma / unit, key, strata=strata, boundary=boundary)
    known = _known(sums, covered, strata, boundary)
    mean, error = (np.asarray(values, np.float64) / strata for values in (sums.total, sums.error))
    mean, stderr = _fields(mean), _fields(np.where(known, error, np.nan))
    return mean._replace(spread=scale * mean.spread), stderr._replace(spread=scale * stderr.spread)


def _known(sums: Sums, coverage: Coverage, strata: int, boundary: bool) -> Bool[np.ndarray, " F"]:
    """Whether the standard error of each statistic can be estimated from these points."""
    total, error, norm = (np.asarray(values, np.float64) for values in sums)
    share, log_bound = (np.asarray(values, np.float64) for values in coverage)
    draws = DRAWS * strata
    needed = min(_COVERED if boundary else CARRYING, 0.6 * draws)
    of_cell = np.where(draws * share < FEWEST, max(UNAIMED, 0.8 * draws), needed)
    enough = carrying(DRAWS * total, norm) >= np.append(np.full(_SCALARS, needed), of_cell)
    known = (enough & (draws >= FEWEST)) | (error <= AGREEMENT * total)
    # Where all draws are zero, the error is known only if the bound is zero too.
    bound = np.append(np.full(_SCALARS, log_bound.max()), log_bound)
    return np.where(total == 0, bound < 0.9 * math.log(jnp.finfo(sums.total.dtype).tiny), known)


@may_be_infinite
@functools.partial(jax.jit, static_argnames=("strata", "boundary"))
def _statistics(
    decision: MixtureDecision,
    alpha: Float[ArrayLike, ""],
    sigma: Float[ArrayLike, ""],
    key: PRNGKeyArray,
    *,
    strata: int,
    boundary: bool,
) -> tuple[Sums, Coverage]:
    clean, dtype = decision.mixture, decision.mixture.dtype
    # States divided by alpha: the means stay as they are, where α μ would be one more copy of them.
    noise = jnp.asarray(sigma / alpha, dtype)
    noisy = build(
        Mixture,
        log_weights=clean.log_weights,
        means=clean.means,
        covariance=clean.covariance.diffused(jnp.ones((), dtype), noise),
    )
    unit = jnp.asarray(1 / alpha, dtype)
    pull = noisy.covariance.map(lambda variance: unit / variance)
    proposal = propose(decision, noisy, boundary)
    scheme = _Scheme(decision, noisy, pull, proposal, key)
    numbers = rows_for(strata, _strata_at_once(decision, boundary))
    work = functools.partial(_accumulate, strata=strata)
    return over_devices(work, _merge, numbers, scheme), coverage(decision, proposal)


class _Scheme(NamedTuple):
    """Everything a device needs to draw strata and evaluate statistics at one noise level.

    Attributes:
        decision: the decision.
        noisy: the law of x_t/alpha at this noise level.
        pull: (alpha Σ)⁻¹, Σ its covariances: scores of x_t are this applied to differences.
        proposal: the law of the points.
        key: random key.
    """

    decision: MixtureDecision
    noisy: Mixture
    pull: Covariance
    proposal: Proposal
    key: PRNGKeyArray


def _accumulate(scheme: _Scheme, numbers: Int[Array, "b s"], strata: int) -> Sums:
    """Sums over strata; numbers >= strata contribute nothing."""

    def block(sums: Sums, index: Int[Array, " s"]) -> tuple[Sums, None]:
        y = _evaluate(scheme, _draw(scheme, index, strata))
        per_draw = y.reshape(len(index), DRAWS, -1, y.shape[1]).mean(axis=2)
        real = (index < strata)[:, None]
        half = jnp.where(real, 0.5 * (per_draw[:, 0] - per_draw[:, 1]), 0)
        middle = jnp.where(real, per_draw.mean(axis=1), 0)
        here = Sums(middle.sum(axis=0), _norm(half), jnp.hypot(_norm(middle), _norm(half)) * 2**0.5)
        return _merge(jax.tree.map(lambda *leaves: jnp.stack(leaves), sums, here)), None

    zero = jnp.zeros(_SCALARS + scheme.decision.cells, scheme.noisy.dtype)
    return lax.scan(block, Sums(zero, zero, zero), numbers)[0]


def _evaluate(scheme: _Scheme, x: Float[Array, "n d"]) -> Float[Array, "n F"]:
    """Weighted statistics at points x."""
    at = posterior(scheme.decision, posterior_logits(scheme.noisy, x, centred=True))
    values = _columns(per_point(scheme.decision, scheme.noisy, x, at, scheme.pull))
    return weights(scheme.decision, scheme.proposal, at)[:, None] * values


def _columns(statistics: Statistics) -> Float[Array, "n F"]:
    """Statistics of n points side by side: a block then needs a fifth of the operations."""
    *scalars, per_cell = statistics
    return jnp.concatenate([jnp.stack(scalars, axis=-1), per_cell], axis=-1)


def _fields(values: Float[np.ndarray, " F"]) -> Statistics:
    """One row of `_columns` back by name."""
    return Statistics._make([*values[:_SCALARS], values[_SCALARS:]])


def _merge(sums: Sums) -> Sums:
    """Sums over parts, stacked on the leading axis, to one."""
    return Sums(sums.total.sum(axis=0), _norm(sums.error), _norm(sums.norm))


def _norm(values: Float[Array, "s ..."]) -> Float[Array, "..."]:
    """Euclidean norm over the first axis; squares of 1e-25 must not underflow in float32."""
    scale = jnp.max(jnp.abs(values), axis=0)
    safe = jnp.where(scale > 0, scale, 1)
    return scale * jnp.sqrt(jnp.sum((values / safe[None]) ** 2, axis=0))


def _strata_at_once(decision: MixtureDecision, boundary: bool) -> int:
    """How many strata keep the largest temporary array below BLOCK_ELEMENTS."""
    width = max(decision.mixture.components, decision.mixture.dim)
    if not decision.trivial:
        width = max(width, decision.cells * decision.mixture.dim)
    return max(1, BLOCK_ELEMENTS // (2 * DRAWS * SIGNS * (2 if boundary else 1) * width))


def _draw(scheme: _Scheme, index: Int[Array, " s"], strata: int) -> Float[Array, "n d"]:
    """Points of the strata `index`, laid out (stratum, draw, branch, sign)."""
    noisy, dtype, dim = scheme.noisy, scheme.noisy.dtype, scheme.noisy.dim
    branches = 1 if scheme.proposal.boundaries is None else 2
    open_below = jnp.nextafter(jnp.asarray(-1, dtype), jnp.asarray(0, dtype))

    def random(i: Int[Array, ""]) -> Float[Array, "draws m"]:
        shape = (DRAWS, 2 + branches * dim)
        return jax.random.uniform(jax.random.fold_in(scheme.key, i), shape, dtype, minval=open_below)

    # One draw for places and noise alike: each more is a tenth of the time that all of this takes to compile.
    uniform = jax.vmap(random)(index)
    place = 0.5 * (1 + uniform[..., :2])
    noise = 2**0.5 * lax.erf_inv(uniform[..., 2:])
    stratified = (index.astype(dtype)[:, None] + place[..., 0]) / strata
    centre, component = centres(scheme.proposal, noisy, stratified, place[..., 1])
    # Per-component covariances have one branch; a shared one does not use the component.
    root = noisy.covariance.map(jnp.sqrt)
    chosen = jnp.broadcast_to(component[..., None], centre.shape[:-1]).reshape(-1)
    step = root.apply(noise.reshape(-1, dim), chosen).reshape(centre.shape)
    return jnp.stack([centre + step, centre - step], axis=3).reshape(-1, dim)
