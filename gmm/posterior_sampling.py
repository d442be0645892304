r"""Posterior expectations at x ~ p_t, sharp from the undecided to the long decided end of time.

The decision is a partition of the components. With p_c the posterior of cell c and s_c = ∇log p_t(x|c),
everything is a posterior expectation::

    H = E[-Σ_c p_c log p_c]            dH/dt = ½ g² E[Σ_c p_c ‖s_c - s‖²]   (I-MMSE; Guo, Shamai, Verdu 2005)
    E[-log p(c|X_t) | Z=c] = E[-p_c log p_c]/π_c        clone agreement = E Σ_c p_c²

so no curve is ever differenced, and every sample informs every cell. What makes the estimates sharp:

* Strata: the prior's distribution function is cut into equal pieces with two independent draws in each, so
  that component counts do not fluctuate; half the squared difference of the two is an unbiased variance.
* Antithetic noise, x = mean ± root·ε, keyed by the stratum alone and hence common to all times.
* Boundary points (shared covariance): once a decision is nearly made, all that is left of H comes from
  states between the classes, which p_t visits with probability e^{-ρ/2}. Half of the points are drawn
  around midpoints (μ_z+μ_j)/2 instead, j in another cell with probability ∝ √π_j e^{-δ²/8}, δ the distance
  of the two means in units of the noise. The balance weight then needs the posterior alone,
  w = N_z/(½N_z + ½q_z),  q_z/N_z = Σ_j √(p_j/p_z) √π_z/S_z,  S_z = Σ_j √π_j e^{-δ²/8},
  and is at most 2. Entropies of 1e-30 come with errors of a percent; plain sampling sees zero, and a zero
  standard error.
* Control variate: E[w] = 1, so w(f-c)+c has mean E[f] for any constant c. With c = f(prior)·ΣπS/ΣπS|_{δ=0}
  it takes out the noise of w where nothing is decided, and vanishes like H where all is.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray

from gmm.covariance import DIRECT_DIM, Covariance, Diagonal, Isotropic, matmul
from gmm.devices import over_devices, rows_for
from gmm.mixture import BLOCK_ELEMENTS, Mixture, component_at, log_normalise, posterior_logits
from gmm.partition import Partition
from gmm.pytree import build

DRAWS = 2  # independent draws in a stratum: the least that has a variance
SIGNS = 2  # the antithetic pair
# α/σ is at least the smallest float to this power: squares of states then stay finite.
_FAINT = 0.45
# Above this many components the K x K table of class distances is not built.
MAX_BOUNDARY_COMPONENTS = 4096


@functools.partial(jax.tree_util.register_dataclass, data_fields=("mixture",), meta_fields=("cells",))
@dataclasses.dataclass(frozen=True, eq=False)
class Decision:
    """What is asked of a mixture: the components that take part, cell by cell.

    Attributes:
        mixture: the components inside the decision, sorted by cell, weights renormalised. Every cell has
            as many components as the largest one: smaller cells repeat a member with weight zero.
        cells: number of cells C; components per cell m = K/C.
    """

    mixture: Mixture
    cells: int

    @property
    def trivial(self) -> bool:
        """Whether every component is its own cell."""
        return self.cells == self.mixture.components

    @property
    def labels(self) -> np.ndarray:
        """(K,) cell of each component."""
        return np.repeat(np.arange(self.cells), self.mixture.components // self.cells)

    @property
    def prior(self) -> Float[Array, " C"]:
        """(C,) prior probability of each cell."""
        return self.by_cell(self.mixture.weights).sum(axis=-1)

    def centred(self) -> "Decision":
        """With means measured from their mean: done once, no step after it copies them to do so.

        A shift of all states changes no posterior.
        """
        return Decision(_centred(self.mixture), self.cells)

    def by_cell(self, values: Float[Array, "... K"]) -> Float[Array, "... C m"]:
        """Split the last axis into cells and their members."""
        return values.reshape(*values.shape[:-1], self.cells, -1)


def decide(mixture: Mixture, partition: Partition) -> Decision:
    """The decision `partition` about `mixture`."""
    inside = partition.inside
    order = inside[np.argsort(partition.labels[inside], kind="stable")]
    counts = np.bincount(partition.labels[order])
    offset = np.arange(counts.max())[None, :]
    place = (np.cumsum(counts) - counts)[:, None] + np.minimum(offset, counts[:, None] - 1)
    present = (offset < counts[:, None]).reshape(-1)
    index = order[place.reshape(-1)]
    if present.all() and np.array_equal(index, np.arange(mixture.components)):
        return Decision(mixture, len(counts))  # already so: neither a program to compile nor a copy
    return Decision(_taken(mixture, index, present), len(counts))


@jax.jit
def _taken(mixture: Mixture, index: Int[Array, " K"], present: Bool[Array, " K"]) -> Mixture:
    """The components `index`, absent ones at weight zero."""
    taken = mixture.take(index)
    return taken.reweighted(jnp.where(present, taken.log_weights, -jnp.inf))


@jax.jit
def _centred(mixture: Mixture) -> Mixture:
    """The mixture with its means measured from their mean."""
    means = mixture.means - jnp.mean(mixture.means, axis=0, keepdims=True)
    return build(Mixture, log_weights=mixture.log_weights, means=means, covariance=mixture.covariance)


class Statistics(NamedTuple):
    """Per-point functions of the posterior, or their means or standard errors.

    Attributes:
        entropy: -Σ p_c log p_c.
        disagreement: Σ p_c (1 - p_c), one minus the clone agreement.
        second_moment: Σ p_c log² p_c.
        spread: Σ p_c ‖s_c - s‖².
        per_cell: (..., C) -p_c log p_c / π_c.
    """

    entropy: Float[Array, "..."]
    disagreement: Float[Array, "..."]
    second_moment: Float[Array, "..."]
    spread: Float[Array, "..."]
    per_cell: Float[Array, "... C"]


class Strata(NamedTuple):
    """How many strata, and how many points that makes in all."""

    count: int
    points: int


def branches(decision: Decision, boundary: bool) -> int:
    """2 when boundary points are drawn beside points of p_t, else 1."""
    able = decision.mixture.covariance.shared and decision.mixture.components <= MAX_BOUNDARY_COMPONENTS
    return 2 if boundary and able else 1


def strata_of(samples: int, drawn: int) -> Strata:
    """The fewest whole strata that hold `samples` points when `drawn` branches are drawn."""
    size = DRAWS * drawn * SIGNS
    count = -(-samples // size)
    return Strata(count, count * size)


def statistics(
    decision: Decision,
    alpha: Float[ArrayLike, ""],
    sigma: Float[ArrayLike, ""],
    key: PRNGKeyArray,
    *,
    samples: int,
    boundary: bool,
) -> tuple[Statistics, Statistics]:
    """Means of `Statistics` at one noise level, and their standard errors, in float64 on the host.

    Args:
        decision: what is asked, centred; see `decide`.
        alpha: () signal scale.
        sigma: () noise standard deviation.
        key: random key; stratum i uses fold_in(key, i), however strata are grouped.
        samples: points, rounded up to whole strata.
        boundary: whether to draw boundary points where they can be had.
    """
    # Units of a power of two change no digit: σ of order one overflows nowhere. Of signal so faint that (σ/α)² would
    # overflow every statistic has its limit but the spread, which grows as α².
    unit = 2.0 ** np.frexp(sigma)[1]
    faint = sigma / unit * float(jnp.finfo(decision.mixture.dtype).tiny) ** _FAINT
    seen = max(alpha / unit, faint)
    scale = (alpha / unit / seen / unit) ** 2
    sums = _statistics(decision, seen, sigma / unit, key, samples=samples, boundary=boundary)
    mean, stderr = (_fields(np.asarray(values, np.float64)) for values in sums)
    return mean._replace(spread=scale * mean.spread), stderr._replace(spread=scale * stderr.spread)


@functools.partial(jax.jit, static_argnames=("samples", "boundary"))
def _statistics(
    decision: Decision,
    alpha: Float[ArrayLike, ""],
    sigma: Float[ArrayLike, ""],
    key: PRNGKeyArray,
    *,
    samples: int,
    boundary: bool,
) -> "Sums":
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
    drawn = branches(decision, boundary)
    strata = strata_of(samples, drawn).count
    boundaries = _boundaries(decision, noisy) if drawn > 1 else None
    scheme = _Scheme(decision, noisy, pull, boundaries, key)
    numbers = rows_for(strata, _strata_at_once(decision, drawn))
    work = functools.partial(_accumulate, strata=strata)
    total, error = over_devices(work, _merge, numbers, scheme)
    return total / strata, error / strata


Sums = tuple[Float[Array, " F"], Float[Array, " F"]]


def _accumulate(scheme: "_Scheme", numbers: Int[Array, "b s"], strata: int) -> Sums:
    """Sums of means over strata, and root sums of squared errors; numbers >= strata count for nothing."""

    def block(sums: Sums, index: Int[Array, " s"]) -> tuple[Sums, None]:
        y = _judge(scheme, _draw(scheme.noisy, scheme.boundaries, scheme.key, index, strata))
        per_draw = y.reshape(len(index), DRAWS, -1, y.shape[1]).mean(axis=2)
        real = (index < strata)[:, None]
        half = jnp.where(real, 0.5 * (per_draw[:, 0] - per_draw[:, 1]), 0)
        middle = jnp.where(real, per_draw.mean(axis=1), 0)
        total, error = sums
        return (total + middle.sum(axis=0), jnp.hypot(error, _norm(half))), None

    zero = jnp.zeros(len(Statistics._fields) - 1 + scheme.decision.cells, scheme.noisy.dtype)
    return lax.scan(block, (zero, zero), numbers)[0]


def _judge(scheme: "_Scheme", points: "_Points") -> Float[Array, "n F"]:
    """Per-point statistics, weighted and with the control variate taken out."""
    decision, noisy, boundaries = scheme.decision, scheme.noisy, scheme.boundaries
    joint = posterior_logits(noisy, points.x, centred=True)
    if boundaries is None:
        return _columns(per_point(decision, noisy, points.x, joint, scheme.pull))
    # The prior goes along as a last row; a shared covariance makes the spread independent of x.
    rows = jnp.concatenate([joint, noisy.log_weights[None, :]])
    found = _columns(per_point(decision, noisy, points.x, rows, scheme.pull))
    centre = boundaries.openness * found[-1:]
    weight = _balance_weight(decision, boundaries, joint, points.component)[:, None]
    # In this order w = 1 leaves f exactly as it is.
    return weight * found[:-1] + (1 - weight) * centre


def _columns(found: Statistics) -> Float[Array, "n F"]:
    """Statistics of n points side by side: one array goes through a block in a fifth of the operations."""
    *scalars, per_cell = found
    return jnp.concatenate([jnp.stack(scalars, axis=-1), per_cell], axis=-1)


def _fields(values: Float[np.ndarray, " F"]) -> Statistics:
    """One row of `_columns` back by name."""
    scalars = len(Statistics._fields) - 1
    return Statistics._make([*values[:scalars], values[scalars:]])


def _merge(sums: Sums) -> Sums:
    """Sums over devices, stacked on the leading axis, to one."""
    total, error = sums
    return total.sum(axis=0), _norm(error)


def _norm(values: Float[Array, "s ..."]) -> Float[Array, "..."]:
    """Euclidean norm over the first axis; squares of 1e-25 must not underflow in float32."""
    scale = jnp.max(jnp.abs(values), axis=0)
    safe = jnp.where(scale > 0, scale, 1)
    return scale * jnp.sqrt(jnp.sum((values / safe[None]) ** 2, axis=0))


def _strata_at_once(decision: Decision, drawn: int) -> int:
    """How many strata keep the largest temporary array below BLOCK_ELEMENTS."""
    width = max(decision.mixture.components, decision.mixture.dim)
    if not decision.trivial:
        width = max(width, decision.cells * decision.mixture.dim)
    return max(1, BLOCK_ELEMENTS // (2 * DRAWS * drawn * SIGNS * width))


class _Scheme(NamedTuple):
    """Everything a device needs to draw and judge strata at one noise level.

    Attributes:
        decision: what is asked.
        noisy: the law of x_t/alpha at this noise level.
        pull: (alpha Σ)⁻¹, Σ its covariances: scores of x_t are this applied to differences.
        boundaries: proposal of midpoints, or None.
        key: random key.
    """

    decision: Decision
    noisy: Mixture
    pull: Covariance
    boundaries: "_Boundaries | None"
    key: PRNGKeyArray


class _Boundaries(NamedTuple):
    """Proposal of midpoints.

    Attributes:
        cumulative: (K, K) distribution function over j of √π_j e^{-δ_zj²/8}, j outside the cell of z.
        log_normaliser: (K,) log S_z.
        openness: () Σ π_z S_z over its value at δ = 0: how open the decision still is.
    """

    cumulative: Float[Array, "K K"]
    log_normaliser: Float[Array, " K"]
    openness: Float[Array, ""]


def _boundaries(decision: Decision, noisy: Mixture) -> _Boundaries:
    distance = _squared_distances(noisy)
    other = jnp.asarray(decision.labels[:, None] != decision.labels[None, :])
    flat = jnp.where(other, 0.5 * noisy.log_weights[None, :], -jnp.inf)
    logits = flat - distance / 8
    normaliser = jax.nn.logsumexp(logits, axis=1)
    probability = jnp.exp(logits - normaliser[:, None])
    open_now = jax.nn.logsumexp(noisy.log_weights + normaliser)
    open_at_first = jax.nn.logsumexp(noisy.log_weights + jax.nn.logsumexp(flat, axis=1))
    return _Boundaries(jnp.cumsum(probability, axis=1), normaliser, jnp.exp(open_now - open_at_first))


def _squared_distances(noisy: Mixture) -> Float[Array, "K K"]:
    """Between the means, in units of the noise; they are centred, so that no copies are needed."""
    precision = noisy.covariance.map(jnp.reciprocal)
    if noisy.dim <= DIRECT_DIM:
        return precision.quadratic(noisy.means, noisy.means)
    aligned = precision.alignment(noisy.means, noisy.means)
    return jnp.maximum(2 * (jnp.diagonal(aligned)[:, None] - aligned), 0)


class _Points(NamedTuple):
    x: Float[Array, "n d"]
    component: Int[Array, " n"]


def _draw(
    noisy: Mixture,
    boundaries: _Boundaries | None,
    key: PRNGKeyArray,
    index: Int[Array, " s"],
    strata: int,
) -> _Points:
    """Points of the strata `index`, laid out (stratum, draw, branch, sign)."""
    drawn = 1 if boundaries is None else 2
    dtype, dim = noisy.dtype, noisy.dim

    open_below = jnp.nextafter(jnp.asarray(-1, dtype), jnp.asarray(0, dtype))

    def random(i: Int[Array, ""]) -> Float[Array, "draws m"]:
        shape = (DRAWS, 2 + drawn * dim)
        return jax.random.uniform(jax.random.fold_in(key, i), shape, dtype, minval=open_below)

    # One draw for places and noise alike: each more is a tenth of the time that all of this takes to compile.
    uniform = jax.vmap(random)(index)
    place = 0.5 * (1 + uniform[..., :2])
    noise = 2**0.5 * lax.erf_inv(uniform[..., 2:])
    component = component_at(noisy, (index.astype(dtype)[:, None] + place[..., 0]) / strata)
    middle = noisy.means[component][:, :, None, :]
    if boundaries is not None:
        rows = boundaries.cumulative[component]
        partner = jnp.argmax(rows >= place[..., 1:] * rows[..., -1:], axis=-1)
        halfway = 0.5 * (noisy.means[component] + noisy.means[partner])
        middle = jnp.concatenate([middle, halfway[:, :, None, :]], axis=2)
    chosen = jnp.broadcast_to(component[..., None, None], (*middle.shape[:-1], SIGNS))
    root = noisy.covariance.map(jnp.sqrt)
    step = root.apply(noise.reshape(-1, dim), chosen[..., 0].reshape(-1)).reshape(middle.shape)
    x = jnp.stack([middle + step, middle - step], axis=3)
    return _Points(x.reshape(-1, dim), chosen.reshape(-1))


def _balance_weight(
    decision: Decision,
    boundaries: _Boundaries,
    joint: Float[Array, "n K"],
    component: Int[Array, " n"],
) -> Float[Array, " n"]:
    """N_z(x) / (½ N_z(x) + ½ q_z(x)) at x from the balanced proposal of class z."""
    labels = jnp.asarray(decision.labels)
    other = labels[None, :] != labels[component][:, None]
    own = jnp.take_along_axis(joint, component[:, None], axis=1)[:, 0]
    roots = jax.nn.logsumexp(jnp.where(other, 0.5 * joint, -jnp.inf), axis=1) - 0.5 * own
    prior = 0.5 * decision.mixture.log_weights[component]
    log_ratio = roots + prior - boundaries.log_normaliser[component]
    return 2 * jax.nn.sigmoid(-log_ratio)


def per_point(
    decision: Decision,
    noisy: Mixture,
    x: Float[Array, "n d"],
    joint: Float[Array, "n K"],
    pull: Covariance | None = None,
) -> Statistics:
    """`Statistics` of each of n points.

    Args:
        decision: what is asked.
        noisy: the law of the points.
        x: (n, d) points.
        joint: (n, K) their log joint probabilities up to a common term.
        pull: (α Σ)⁻¹ where points are states divided by α and means are centred; None for states themselves.
    """
    means = noisy.means
    if pull is None:
        means = means - jnp.mean(means, axis=0, keepdims=True)
        pull = noisy.covariance.map(jnp.reciprocal)
    by_cell = decision.by_cell(joint)
    top = by_cell.max(axis=-1, keepdims=True)
    top = jnp.where(jnp.isfinite(top), top, 0)
    inside = jnp.exp(by_cell - top)
    total = inside.sum(axis=-1)
    log_p = log_normalise(jnp.log(total) + top[..., 0])
    p = jnp.exp(log_p)
    # 0 log 0 = 0: a posterior that underflows contributes nothing.
    log_p = jnp.where(p > 0, log_p, 0)
    surprise = -p * log_p
    inside = inside / jnp.where(total > 0, total, 1)[..., None]
    if not noisy.covariance.shared:
        spread = _spread_one_by_one(decision, noisy, pull, x, inside, p)
    elif decision.trivial:
        spread = _component_spread(means, pull, p)
    else:
        spread = _cell_spread(decision, means, pull, inside, p)
    return Statistics(
        entropy=surprise.sum(axis=-1),
        disagreement=(-p * jnp.expm1(log_p)).sum(axis=-1),
        second_moment=(p * log_p**2).sum(axis=-1),
        spread=spread,
        per_cell=surprise / decision.prior[None, :],
    )


def _before_and_after(means: Float[Array, "K d"], pull: Covariance) -> tuple[Array, Callable[[Array], Array]]:
    """Under a shared covariance s_k - s_j = pull(μ_k - μ_j) whatever x is: what to average, and what to do then.

    An elementwise operator waits for the averages, which are few; a matrix goes over the means, once.
    """
    if isinstance(pull, Isotropic | Diagonal):
        return means, pull.apply
    return pull.apply(means), lambda averages: averages


def _without_top(p: Float[Array, "n C"]) -> tuple[Float[Array, "n C"], Int[Array, " n"]]:
    """Posteriors with the largest set to zero, and where it was.

    What is measured from the likeliest cell does not cancel when its posterior is nearly one.
    """
    top = jnp.argmax(p, axis=-1)
    return jnp.where(jnp.arange(p.shape[1])[None, :] == top[:, None], 0, p), top


def _component_spread(
    means: Float[Array, "K d"], pull: Covariance, p: Float[Array, "n K"]
) -> Float[Array, " n"]:
    """Σ_k p_k ‖s_k - s‖², every component a cell, shared covariance: one matrix product."""
    vectors, after = _before_and_after(means, pull)
    rest, top = _without_top(p)
    mass = rest.sum(axis=-1)
    total, best = after(matmul(rest, vectors)), after(vectors[top])
    norms = jnp.sum(after(vectors) ** 2, axis=-1)
    second = matmul(rest, norms) + mass * norms[top] - 2 * jnp.sum(total * best, axis=-1)
    shift = total - mass[:, None] * best
    return jnp.maximum(second - jnp.sum(shift**2, axis=-1), 0)


def _cell_spread(
    decision: Decision,
    means: Float[Array, "K d"],
    pull: Covariance,
    inside: Float[Array, "n C m"],
    p: Float[Array, "n C"],
) -> Float[Array, " n"]:
    """Σ_c p_c ‖s_c - s‖² under a shared covariance: one matrix product, a cell at a time.

    The likeliest cell's own term follows from Σ_c p_c (s_c - s) = 0.
    """
    vectors, after = _before_and_after(means, pull)
    of_cell = matmul(inside.transpose(1, 0, 2), vectors.reshape(decision.cells, -1, means.shape[1]))
    gap = of_cell - jnp.sum(p.T[:, :, None] * of_cell, axis=0, keepdims=True)
    gap = after(gap.reshape(-1, means.shape[1])).reshape(gap.shape)
    weight = _without_top(p)[0].T
    remainder = jnp.sum(weight[:, :, None] * gap, axis=0)
    squares = jnp.sum(weight * jnp.sum(gap**2, axis=-1), axis=0)
    return squares + jnp.sum(remainder**2, axis=-1) / jnp.max(p, axis=-1)


def _spread_one_by_one(
    decision: Decision,
    noisy: Mixture,
    pull: Covariance,
    x: Float[Array, "n d"],
    inside: Float[Array, "n C m"],
    p: Float[Array, "n C"],
) -> Float[Array, " n"]:
    """Σ_c p_c ‖s_c - s‖² under per-component covariances: two passes over the components."""
    everything = (inside * p[..., None]).reshape(len(x), -1)
    score = pull.weighted_apply(everything, x, noisy.means)

    def add(carry: tuple[Array, Array], cell: tuple) -> tuple[tuple[Array, Array], None]:
        squares, remainder = carry
        operator, means, within, weight = cell
        gap = operator.weighted_apply(within, x, means) - score
        return (squares + weight * jnp.sum(gap**2, axis=-1), remainder + weight[:, None] * gap), None

    split = lambda leaf: leaf.reshape(decision.cells, -1, *leaf.shape[1:])
    parts = (*jax.tree.map(split, (pull, noisy.means)), inside.transpose(1, 0, 2), _without_top(p)[0].T)
    start = (jnp.zeros(len(x), x.dtype), jnp.zeros_like(score))
    squares, remainder = lax.scan(add, start, parts)[0]
    return squares + jnp.sum(remainder**2, axis=-1) / jnp.max(p, axis=-1)
