r"""Gaussian mixtures, which the forward process maps to Gaussian mixtures.

    p_0 = Σ_k π_k N(μ_k, C_k)   ⇒   p_t = Σ_k π_k N(α μ_k, α² C_k + σ² I)

so that density, score, posterior p(k|x) and denoiser E[x_0|x_t] are closed forms of one type. Everything
stays in the log domain. Work runs over blocks of samples and components with a running log-sum-exp: memory
is bounded by `BLOCK_ELEMENTS`, whatever n, K and d are.
"""

import contextlib
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray

from gmm.checks import (
    as_float,
    check_count,
    check_detached,
    check_finite,
    check_index,
    check_rounding,
    check_shape,
    check_values,
    common_dtype,
    is_concrete,
    may_be_infinite,
)
from gmm.covariance import Covariance
from gmm.distances import DIRECT_DIM, matmul, recomputed
from gmm.keys import check_key
from gmm.process import Process
from gmm.pytree import build, pytree, set_fields

# Entries of the largest temporary array (64 MiB in float32): small enough for any laptop, large enough
# that matrix products run at full rate.
BLOCK_ELEMENTS = 2**24
# Below this many components a comparison with every edge compiles and runs faster than bisection.
COMPARE_ALL = 64
# Weights that sum to one within this count as normalised: the rounding of a million float32 weights.
WEIGHT_SUM_TOLERANCE = 1e-6


@pytree("log_weights", "means", "covariance")
class Mixture:
    """Σ_k weights_k N(means_k, covariance_k) in d dimensions.

    Attributes:
        log_weights: (K,) normalised log weights; -inf for a component of weight zero.
        means: (K, d).
        covariance: one of `Isotropic`, `Diagonal`, `LowRank`, `Full`; shared or one per component.

    Raises:
        ValueError: on wrong shapes, non-finite values, negative weights, or weights that do not sum to one
            (unless `normalise=True`).
    """

    log_weights: Float[Array, " K"]
    means: Float[Array, "K d"]
    covariance: Covariance

    def __init__(
        self,
        weights: Float[ArrayLike, " K"],
        means: Float[ArrayLike, "K d"],
        covariance: Covariance,
        *,
        normalise: bool = False,
    ) -> None:
        given, weights, means = means, as_float(weights), as_float(means)
        if means.ndim != 2:
            raise ValueError(f"means must have shape (K, d), got {means.shape}")
        components, dim = means.shape
        check_shape("weights", weights, f"({components},) like means", [(components,)])
        _check_covariance(covariance, components, dim)
        check_finite("means", means)
        check_finite("weights", weights)
        check_values("weights", weights, "non-negative", lambda a: a >= 0)
        if is_concrete(weights):
            total = float(np.sum(np.asarray(weights, np.float64)))
            # The sum of rounded weights is itself known to one unit of rounding only.
            slack = WEIGHT_SUM_TOLERANCE + float(jnp.finfo(weights.dtype).eps)
            if total <= 0 or not (normalise or abs(total - 1) <= slack):
                raise ValueError(
                    f"weights must sum to one, got {total:.9g}; pass normalise=True to rescale them"
                )
        dtype = common_dtype(weights, means, *jax.tree.leaves(covariance))
        _check_cast(given, means, covariance)
        set_fields(
            self,
            log_weights=_log_normalised(weights.astype(dtype)),
            means=means.astype(dtype),
            covariance=jax.tree.map(lambda leaf: leaf.astype(dtype), covariance),
        )

    @property
    def weights(self) -> Float[Array, " K"]:
        """(K,) prior probabilities."""
        return jnp.exp(self.log_weights)

    @property
    def components(self) -> int:
        """Number of components K."""
        return self.means.shape[0]

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.means.shape[1]

    @property
    def dtype(self) -> jnp.dtype:
        """Floating dtype of all parameters."""
        return self.means.dtype

    def reweighted(self, log_weights: Float[Array, " K"]) -> "Mixture":
        """The same components with other log weights, normalised here; -inf leaves a component out."""
        with _precision_of(self):
            normalised = _renormalised(log_weights)
        return build(Mixture, log_weights=normalised, means=self.means, covariance=self.covariance)

    def take(self, index: Int[ArrayLike, " m"]) -> "Mixture":
        """The mixture conditioned on the components `index` (m,), weights renormalised.

        Raises:
            ValueError: when index is not a list of component numbers.
        """
        index = jnp.asarray(index)
        if index.ndim != 1 or not jnp.issubdtype(index.dtype, jnp.integer):
            raise ValueError(f"index must hold integers of shape (m,), got {index.dtype} {index.shape}")
        check_index("index", index, self.components, "a component index")
        with _precision_of(self):
            return _taken(self, index)

    def __repr__(self) -> str:
        return f"Mixture(K={self.components}, d={self.dim}, {self.covariance!r}, {self.dtype})"


def _precision_of(mixture: Mixture) -> contextlib.AbstractContextManager[object]:
    """A mixture in float64 keeps its precision where JAX is set to 32 bit."""
    return jax.enable_x64(True) if mixture.dtype == np.float64 else contextlib.nullcontext()


@may_be_infinite
@jax.jit
def _renormalised(log_weights: Float[Array, " K"]) -> Float[Array, " K"]:
    return log_weights - jax.nn.logsumexp(log_weights)


@may_be_infinite
@jax.jit
def _taken(mixture: Mixture, index: Int[Array, " m"]) -> Mixture:
    return build(
        Mixture,
        log_weights=_renormalised(mixture.log_weights[index]),
        means=mixture.means[index],
        covariance=mixture.covariance.take(index),
    )


@may_be_infinite
@jax.jit
def _log_normalised(weights: Float[Array, " K"]) -> Float[Array, " K"]:
    """log(weights / Σ weights); a component of weight zero is absent, and so is its weight's gradient."""
    absent = weights == 0
    log_weights = jnp.where(absent, -jnp.inf, jnp.log(jnp.where(absent, 1, weights)))
    return _renormalised(log_weights)


def _check_covariance(covariance: Covariance, components: int, dim: int) -> None:
    if not isinstance(covariance, Covariance):
        raise ValueError(
            f"covariance must be Isotropic, Diagonal, LowRank or Full, got {type(covariance).__name__}; "
            "a number v is Isotropic(v)"
        )
    if covariance.components not in (None, components):
        raise ValueError(
            f"covariance must be shared or have one entry for each of the {components} components, "
            f"got {covariance.components}"
        )
    if covariance.dim not in (None, dim):
        raise ValueError(f"covariance must have dimension {dim} like means, got {covariance.dim}")


def _check_cast(given: ArrayLike, means: Array, covariance: Covariance) -> None:
    """Refuse means in float64 whose classes float32 would move noticeably, such as those with a large offset."""
    if not is_concrete(given, covariance) or np.asarray(given).dtype.itemsize <= means.dtype.itemsize:
        return
    exact = np.asarray(given, np.float64)
    moved = np.asarray(means, np.float64) - exact
    moved -= moved.mean(axis=0)  # what all means share changes nothing
    with jax.ensure_compile_time_eval():
        deviation = math.sqrt(float(jnp.min(covariance.eigenvalues(covariance.dim or 1))))
    way_out = "move the means towards the origin, or set JAX to 64 bit"
    check_rounding("means", exact, moved, deviation, way_out)


def diffuse(mixture: Mixture, alpha: Float[ArrayLike, ""], sigma: Float[ArrayLike, ""]) -> Mixture:
    """The law of α x_0 + σ ε: means α μ_k, covariances α² C_k + σ² I (theory of mixtures under diffusion).

    Args:
        mixture: law of x_0.
        alpha: () signal scale, >= 0.
        sigma: () noise standard deviation, >= 0.

    Raises:
        ValueError: when alpha or sigma is negative, not finite or not a single number, or the variance of the noise
            is beyond the mixture's type.
    """
    for name, value in (("alpha", alpha), ("sigma", sigma)):
        check_shape(name, value, "() (jax.vmap makes many mixtures at once)", [()])
    check_values("alpha", alpha, "finite and >= 0", lambda a: np.isfinite(a) & (a >= 0))
    check_values("sigma", sigma, "finite and >= 0", lambda a: np.isfinite(a) & (a >= 0))
    largest = math.sqrt(float(np.finfo(mixture.dtype).max))
    way_out = f"below {largest:.2g}, whose square {mixture.dtype} holds (use float64, or `denoise` of x_0's mixture)"
    check_values("sigma", sigma, way_out, lambda a: a < largest)
    # Cast first: a float64 schedule must not silently promote a float32 mixture.
    alpha, sigma = jnp.asarray(alpha, mixture.dtype), jnp.asarray(sigma, mixture.dtype)
    return build(
        Mixture,
        log_weights=mixture.log_weights,
        means=alpha * mixture.means,
        covariance=mixture.covariance.diffused(alpha, sigma),
    )


@may_be_infinite
def log_prob(mixture: Mixture, x: Float[ArrayLike, "... d"]) -> Float[Array, "..."]:
    """Log density log p(x) in nats.

    Args:
        mixture: the mixture; every covariance positive definite (diffuse a zero-variance one first).
        x: (..., d) points.

    Raises:
        ValueError: when x has another dimension or is not finite, or a variance is zero.
    """
    return _checked(_log_prob, mixture, x, lambda value, unit: value - mixture.dim * math.log(unit))


@may_be_infinite
def score(mixture: Mixture, x: Float[ArrayLike, "... d"]) -> Float[Array, "... d"]:
    """Score ∇ log p(x) = Σ_k p(k|x) Σ_k⁻¹ (μ_k - x); arguments and errors as in `log_prob`."""
    return _checked(_score, mixture, x, lambda value, unit: value / unit)


@may_be_infinite
def log_posterior(mixture: Mixture, x: Float[ArrayLike, "... d"]) -> Float[Array, "... K"]:
    """Log posterior log p(k|x) = log softmax_k(log π_k + log N_k(x)); arguments as in `log_prob`."""
    return _checked(_log_posterior, mixture, x)


@may_be_infinite
def denoise(
    mixture: Mixture,
    process: Process,
    x: Float[ArrayLike, "... d"],
    t: Float[ArrayLike, "..."],
    component: Int[ArrayLike, "..."] | None = None,
) -> Float[Array, "... d"]:
    """Posterior mean E[x_0|x_t], or E[x_0|x_t, k] of one component.

    Computed as Σ_k p(k|x) (μ_k + α C_k Σ_k⁻¹ (x - α μ_k)), which unlike Tweedie's (x + σ² score)/α is
    exact where α → 0.

    Args:
        mixture: law of x_0.
        process: forward process.
        x: (..., d) noisy states.
        t: () one time, or one for each x.
        component: () or (...) component indices to condition on; None for the whole mixture.

    Raises:
        ValueError: on wrong shapes, non-finite x, times outside the process's range, unknown components, or
            a time without noise where a variance is zero.
    """
    check_detached("x", x)
    check_detached("t", t)
    mixture, x = _check_points(mixture, x)
    check_shape("t", t, f"() or {x.shape[:-1]} like x", [(), x.shape[:-1]])
    check_values("t", t, f"in [{process.t_min:g}, {process.t_max:g}]", _within(process))
    _check_noise(mixture, process, t)
    if component is not None:
        component = check_component(mixture, component, x.shape[:-1])
    return _denoise(mixture, process, x, as_float(t), component)


def sample(mixture: Mixture, key: PRNGKeyArray, n: int) -> tuple[Float[Array, "n d"], Int[Array, " n"]]:
    """Draw n points and the components that they came from: x (n, d), component (n,).

    In float32 the probability of a component is right to 1e-7: with more than 1e5 components use float64.

    Raises:
        ValueError: when n is not a whole number >= 0 or key is not a random key.
    """
    check_count("n", n, 0)
    return _sample(mixture, check_key(key), n)


def log_normalise(logits: Float[Array, "... K"]) -> Float[Array, "... K"]:
    """Log-softmax over the last axis, keeping full relative precision of log p where p is close to one.

    log p_max = -log1p(Σ of the others) does not round to zero when the others are below machine epsilon;
    a posterior entropy of 1e-30 is still right.
    """
    top = lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    shifted = logits - top
    is_top = (shifted == 0).astype(logits.dtype)
    # One is subtracted from each of the largest, which leaves exactly zero (as do derivatives), and added below.
    others = jnp.sum(jnp.exp(shifted) - is_top, axis=-1, keepdims=True)
    others += jnp.sum(is_top, axis=-1, keepdims=True) - 1
    return shifted - jnp.log1p(others)


# ---------------------------------------------------------------------------------------------- inner parts


def _within(process: Process) -> Callable[[np.ndarray], np.ndarray]:
    return lambda a: (a >= process.t_min) & (a <= process.t_max)


def _check_points(mixture: Mixture, x: Float[ArrayLike, "... d"]) -> tuple[Mixture, Float[Array, "... d"]]:
    """The mixture and the points, both in the precision that holds both."""
    x = as_float(x)
    if x.ndim == 0 or x.shape[-1] != mixture.dim:
        raise ValueError(f"x must have shape (..., {mixture.dim}) like the mixture, got {x.shape}")
    check_finite("x", x)
    dtype = common_dtype(x, mixture.dtype)
    if mixture.dtype != dtype:
        mixture = jax.tree.map(lambda leaf: leaf.astype(dtype), mixture)
    return mixture, x.astype(dtype)


def check_component(mixture: Mixture, component: Int[ArrayLike, "..."], batch: tuple[int, ...]) -> Array:
    """Return `component` when it is one index, or one for each x of shape `batch`."""
    check_shape("component", component, f"() or {batch} like x", [(), batch])
    check_index("component", component, mixture.components, "a component index")
    return jnp.asarray(component)


def _check_noise(mixture: Mixture, process: Process, t: Float[ArrayLike, "..."]) -> None:
    """A point without noise has no density, hence no posterior."""
    if is_concrete(mixture.covariance, process, t):
        with jax.ensure_compile_time_eval():
            silent = bool(jnp.any(process.sigma(t) == 0))
        if silent:
            _check_density(mixture)


def _check_density(mixture: Mixture) -> float:
    """A unit for x: one, or where squares may overflow or underflow a power of two near √(largest deviation)."""
    covariance = mixture.covariance
    if is_concrete(covariance):
        # A mixture that a jitted function closes over has known values, but its trace would still stage the check.
        with jax.ensure_compile_time_eval():
            values = covariance.eigenvalues(covariance.dim or 1)
        way_out = "positive for a density to exist without noise (diffuse a mixture of points first)"
        check_values("variances of covariance", values, way_out, lambda a: a > 0)
        largest = float(np.max(np.asarray(values)))
        limits = np.finfo(mixture.dtype)
        if math.sqrt(limits.tiny) > largest or largest > math.sqrt(limits.max):
            return 2.0 ** (math.frexp(math.sqrt(largest))[1] // 2)
    return 1.0


def _checked(
    function: Callable[[Mixture, Array], Array],
    mixture: Mixture,
    x: ArrayLike,
    in_units: Callable[[Array, float], Array] = lambda value, _: value,
) -> Array:
    """`function` of x flattened to (n, d), after validation of the arguments.

    Where squares of x could overflow, x and the mixture are measured in another unit, and `in_units` (result, unit)
    returns what the function is of x itself.
    """
    check_detached("x", x)
    mixture, x = _near_origin(mixture, x)
    mixture, points = _check_points(mixture, x)
    unit = _check_density(mixture)
    if unit != 1:
        mixture, points = diffuse(mixture, 1 / unit, 0.0), points / unit
    flat = function(mixture, points.reshape(-1, mixture.dim))
    return in_units(flat.reshape(*points.shape[:-1], *flat.shape[1:]), unit)


def _near_origin(mixture: Mixture, x: ArrayLike) -> tuple[Mixture, ArrayLike]:
    """Points of more digits than the mixture has, such as float64 beside float32, and means measured from one of these.

    A shift of both changes no density; a cast of points with a large offset would round them.
    """
    if not is_concrete(mixture, x) or isinstance(x, jax.Array) or np.asarray(x).dtype != np.float64:
        return mixture, x
    if mixture.dtype == np.float64 or np.shape(x)[-1:] != (mixture.dim,):
        return mixture, x
    origin = np.asarray(mixture.means[0])
    means = mixture.means - origin[None, :]
    shifted = build(Mixture, log_weights=mixture.log_weights, means=means, covariance=mixture.covariance)
    return shifted, np.asarray(x) - origin


def _row_width(mixture: Mixture) -> int:
    """Entries that one row of a matrix product needs: max(K, d), with K itself cut into blocks beyond."""
    return max(mixture.dim, min(mixture.components, BLOCK_ELEMENTS // 64))


def _in_blocks(function: Callable[..., Array], width: int, *arrays: Array) -> Array:
    """Apply `function` to blocks of rows of `arrays` (n, ...), keeping rows·width bounded."""
    n = arrays[0].shape[0]
    rows = max(1, BLOCK_ELEMENTS // width)
    if n <= rows:
        return function(*arrays)
    whole = n // rows * rows
    stacked = tuple(a[:whole].reshape(-1, rows, *a.shape[1:]) for a in arrays)
    done = lax.map(recomputed(lambda block: function(*block)), stacked)
    done = done.reshape(whole, *done.shape[2:])
    return jnp.concatenate([done, function(*(a[whole:] for a in arrays))]) if whole < n else done


def joint_log_prob(mixture: Mixture, x: Float[Array, "n d"]) -> Float[Array, "n K"]:
    """log π_k + log N(x; μ_k, Σ_k), unchecked and in one block."""
    covariance, dim = mixture.covariance, mixture.dim
    distance = covariance.map(lambda value: 1 / value).quadratic(x, mixture.means)
    # A Python number: one of NumPy's would promote float32 to float64.
    constant = jnp.atleast_1d(covariance.log_det(dim)) + dim * math.log(2 * math.pi)
    return mixture.log_weights[None, :] - 0.5 * (constant[None, :] + distance)


def posterior_logits(
    mixture: Mixture,
    x: Float[Array, "n d"],
    centre: Float[Array, " d"] | None = None,
    *,
    centred: bool = False,
    longest: Float[Array, ""] | None = None,
) -> Float[Array, "n K"]:
    """log π_k + log N(x; μ_k, Σ_k) up to a term that all components share: all that a posterior needs.

    With a shared covariance that term holds ‖x‖², which grows with d; adding it would cost float32 its
    digits. Without it log-odds are good to 1e-5 in any dimension, with it to 1e-2 at d = 10^6.

    Args:
        mixture: the mixture.
        x: (n, d) points.
        centre: (d,) origin to measure from, the same for all blocks of one mixture; None for its mean.
        centred: whether that is done already; it would copy the means.
        longest: () where the components are one block of a mixture: the largest of `Covariance.lengths` of all.
    """
    if not mixture.covariance.shared or mixture.dim <= DIRECT_DIM:
        return joint_log_prob(mixture, x)
    precision = mixture.covariance.map(jnp.reciprocal)
    if centred:
        return mixture.log_weights[None, :] + precision.alignment(x, mixture.means, longest)
    centre = (jnp.mean(mixture.means, axis=0) if centre is None else centre)[None, :]
    return mixture.log_weights[None, :] + precision.alignment(x - centre, mixture.means - centre, longest)


def _fold(
    mixture: Mixture,
    n: int,
    joint: Callable[[Mixture], Float[Array, "n k"]],
    accumulate: Callable[[Mixture, Float[Array, "n k"]], Any] = lambda *_: (),
) -> tuple[Float[Array, " n"], Any]:
    """Stream over blocks of components with a running log-sum-exp.

    Args:
        mixture: the mixture.
        n: how many points there are.
        joint: block of the mixture -> log π_k + log N_k(x), up to a term that all blocks share.
        accumulate: (block of the mixture, weights (n, k)) -> pytree of (n, ...) arrays, linear in weights.

    Returns:
        log Σ_k exp(joint) (n,), and the accumulated arrays for the posterior weights p(k|x).
    """

    def block(part: Mixture) -> tuple[Array, Any]:
        logits = joint(part)
        top = lax.stop_gradient(jnp.max(logits, axis=-1))
        # Relative to the largest, not to the sum: weights then add up to one however large the logits are.
        weights = jnp.exp(logits - _or_zero(top)[:, None])
        return top, (weights.sum(axis=-1), accumulate(part, weights))

    def merge(carry: tuple[Array, Any], part: Mixture) -> tuple[tuple[Array, Any], None]:
        (old, sums), (new, more) = carry, block(part)
        top = jnp.maximum(old, new)
        keep, take = jnp.exp(old - _or_zero(top)), jnp.exp(new - _or_zero(top))
        return (top, jax.tree.map(lambda a, b: _scale(a, keep) + _scale(b, take), sums, more)), None

    size = _components_at_once(mixture, n)
    if mixture.components <= size:
        top, (mass, sums) = block(mixture)
    else:
        first, rest = _split(mixture, size)
        top, (mass, sums) = lax.scan(recomputed(merge), block(first), rest)[0]
    return top + jnp.log(mass), jax.tree.map(lambda a: _scale(a, 1 / mass), sums)


def _components_at_once(mixture: Mixture, n: int) -> int:
    return max(1, BLOCK_ELEMENTS // n) if n else mixture.components


def _or_zero(top: Float[Array, " n"]) -> Float[Array, " n"]:
    """`top`, or 0 where a block holds only components of weight zero: -inf - (-inf) would be NaN."""
    return jnp.where(jnp.isfinite(top), top, 0)


def _scale(a: Float[Array, "n ..."], factor: Float[Array, " n"]) -> Float[Array, "n ..."]:
    return a * factor.reshape(-1, *(1,) * (a.ndim - 1))


def _split(mixture: Mixture, size: int) -> tuple[Mixture, Mixture]:
    """First block of `size` components, and the others stacked in blocks, padded with weight zero."""
    padding = -mixture.components % size

    def stack(leaf: Array, fill: float) -> Array:
        padded = jnp.concatenate([leaf, jnp.full((padding, *leaf.shape[1:]), fill, leaf.dtype)])
        return padded.reshape(-1, size, *leaf.shape[1:])

    covariance = mixture.covariance
    if covariance.shared:
        blocks = -(-mixture.components // size)
        stacked = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (blocks, *leaf.shape)), covariance)
    else:
        stacked = jax.tree.map(lambda leaf: stack(leaf, 1.0), covariance)
    whole = build(
        Mixture,
        log_weights=stack(mixture.log_weights, -jnp.inf),
        means=stack(mixture.means, 0.0),
        covariance=stacked,
    )
    return jax.tree.map(lambda leaf: leaf[0], whole), jax.tree.map(lambda leaf: leaf[1:], whole)


def _average(
    mixture: Mixture,
    x: Float[Array, "n d"],
    accumulate: Callable[[Mixture, Float[Array, "n k"]], Float[Array, "n d"]],
    law: Callable[[Mixture], Mixture] = lambda part: part,
) -> Float[Array, "n d"]:
    """Posterior average over components; `law` gives the mixture that x is drawn from: a block itself, or diffused."""
    whole = law(mixture)
    centre, longest = jnp.mean(whole.means, axis=0), None
    if whole.covariance.shared and _components_at_once(mixture, len(x)) < mixture.components:
        longest = jnp.max(whole.covariance.map(jnp.reciprocal).lengths(whole.means - centre[None, :]))
    joint = lambda part: posterior_logits(law(part), x, centre, longest=longest)
    return _fold(mixture, len(x), joint, accumulate)[1]


def _weighted_means(part: Mixture, weights: Float[Array, "n k"]) -> Float[Array, "n d"]:
    return matmul(weights, part.means)


@jax.jit
def _log_prob(mixture: Mixture, x: Float[Array, "n d"]) -> Float[Array, " n"]:
    def rows(x: Float[Array, "n d"]) -> Float[Array, " n"]:
        return _fold(mixture, x.shape[0], lambda part: joint_log_prob(part, x))[0]

    return _in_blocks(rows, _row_width(mixture), x)


@jax.jit
def _log_posterior(mixture: Mixture, x: Float[Array, "n d"]) -> Float[Array, "n K"]:
    return _in_blocks(lambda rows: log_normalise(posterior_logits(mixture, rows)), _row_width(mixture), x)


@jax.jit
def _score(mixture: Mixture, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
    def rows(x: Float[Array, "n d"]) -> Float[Array, "n d"]:
        if mixture.covariance.shared:
            # One product for the posterior mean, then one application of the shared precision.
            mean = _average(mixture, x, _weighted_means)
            return mixture.covariance.map(jnp.reciprocal).apply(mean - x)
        return _average(mixture, x, functools.partial(_pull, x=x))

    return _in_blocks(rows, _row_width(mixture), x)


def _pull(part: Mixture, weights: Float[Array, "n k"], x: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Σ_k w_k Σ_k⁻¹ (μ_k - x)."""
    return part.covariance.map(jnp.reciprocal).weighted_apply(weights, x, part.means)


@jax.jit
def _denoise(
    mixture: Mixture,
    process: Process,
    x: Float[Array, "... d"],
    t: Float[Array, "..."],
    component: Int[Array, "..."] | None,
) -> Float[Array, "... d"]:
    chosen = () if component is None else (jnp.broadcast_to(component, x.shape[:-1]).reshape(-1),)
    # Cast last: a float64 schedule must not silently promote a float32 mixture, nor its times be rounded.
    alpha, sigma = process.alpha(t).astype(mixture.dtype), process.sigma(t).astype(mixture.dtype)
    # In units of the noise where it is large: its square may overflow. A power of two rounds nothing.
    unit = jnp.ldexp(jnp.ones_like(sigma), jnp.maximum(jnp.frexp(sigma)[1], 0))
    alpha, sigma = alpha / unit, sigma / unit
    flat = (x / unit.reshape(*unit.shape, *(1,) * (x.ndim - unit.ndim))).reshape(-1, mixture.dim)
    if not t.ndim:
        rows = functools.partial(_denoise_rows, mixture, alpha, sigma)
        return _in_blocks(rows, _row_width(mixture), flat, *chosen).reshape(x.shape)

    def row(alpha: Array, sigma: Array, x: Array, *k: Array) -> Array:
        return _denoise_rows(mixture, alpha, sigma, x[None], *(value[None] for value in k))[0]

    # A time for each state: every row has its own α μ_k and Σ_k, so that few fit into memory at once.
    width = max(1, mixture.components * mixture.dim)
    inputs = (alpha.reshape(-1), sigma.reshape(-1), flat, *chosen)
    return _in_blocks(jax.vmap(row), width, *inputs).reshape(x.shape)


def _denoise_rows(
    mixture: Mixture,
    alpha: Float[Array, ""],
    sigma: Float[Array, ""],
    x: Float[Array, "n d"],
    component: Int[Array, " n"] | None = None,
) -> Float[Array, "n d"]:
    """Σ_k p(k|x) (μ_k + α G_k (x - α μ_k)), G_k = C_k Σ_k⁻¹, at one time."""

    def gain(part: Mixture) -> Covariance:
        return part.covariance.map(lambda value: value / (alpha**2 * value + sigma**2))

    def both(part: Mixture, weights: Float[Array, "n k"]) -> Float[Array, "n d"]:
        pulled = gain(part).weighted_apply(weights, x, alpha * part.means)
        return _weighted_means(part, weights) - alpha * pulled

    law = functools.partial(diffuse, alpha=alpha, sigma=sigma)
    if component is None and not mixture.covariance.shared:
        return _average(mixture, x, both, law)
    average = component is None
    mean = _average(mixture, x, _weighted_means, law) if average else mixture.means[component]
    return mean + alpha * gain(mixture).apply(x - alpha * mean, component)


@functools.partial(jax.jit, static_argnums=2)
def _sample(mixture: Mixture, key: PRNGKeyArray, n: int) -> tuple[Array, Array]:
    key_component, key_noise = jax.random.split(key)
    component = component_at(mixture, jax.random.uniform(key_component, (n,), mixture.dtype))
    noise = jax.random.normal(key_noise, (n, mixture.dim), mixture.dtype)
    root = mixture.covariance.map(jnp.sqrt)
    return mixture.means[component] + root.apply(noise, component), component


def component_at(mixture: Mixture, u: Float[Array, "..."]) -> Int[Array, "..."]:
    """The component at cumulative probability u in [0, 1): inverse of the prior's distribution function."""
    edges = jnp.cumsum(mixture.weights)
    # Rounding may carry u to 1, and the last component may have weight zero: stay below the last edge.
    below = jnp.nextafter(edges[-1], jnp.zeros_like(edges[-1]))
    method = "compare_all" if mixture.components <= COMPARE_ALL else "scan"
    return jnp.searchsorted(edges, jnp.minimum(u * edges[-1], below), side="right", method=method)
