r"""Gaussian mixtures, which the forward process maps to Gaussian mixtures.

    p_0 = Σ_k π_k N(μ_k, C_k)   ⇒   p_t = Σ_k π_k N(α μ_k, α² C_k + σ² I)

so that density, score, posterior p(k|x) and denoiser E[x_0|x_t] are closed forms of one type. Everything
stays in the log domain. Work runs over blocks of samples and components with a running log-sum-exp: memory
is bounded by `BLOCK_ELEMENTS`, whatever n, K and d are.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray

from gmm.checks import as_float, check_finite, check_shape, check_values, is_concrete
from gmm.covariance import Covariance, matmul
from gmm.process import Process
from gmm.pytree import build, pytree, set_fields

# Entries of the largest temporary array (64 MiB in float32): small enough for any laptop, large enough
# that matrix products run at full rate.
BLOCK_ELEMENTS = 2**24
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
        weights, means = as_float(weights), as_float(means)
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
            if total <= 0 or not (normalise or abs(total - 1) <= WEIGHT_SUM_TOLERANCE):
                raise ValueError(
                    f"weights must sum to one, got {total:.9g}; pass normalise=True to rescale them"
                )
        dtype = jnp.result_type(weights, means, *jax.tree.leaves(covariance))
        log_weights = jnp.log(weights.astype(dtype))
        set_fields(
            self,
            log_weights=log_weights - jax.nn.logsumexp(log_weights),
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
        normalised = log_weights - jax.nn.logsumexp(log_weights)
        return build(Mixture, log_weights=normalised, means=self.means, covariance=self.covariance)

    def take(self, index: Int[ArrayLike, " m"]) -> "Mixture":
        """The mixture conditioned on the components `index` (m,), weights renormalised."""
        index = jnp.asarray(index)
        log_weights, means = self.log_weights[index], self.means[index]
        taken = build(Mixture, log_weights=log_weights, means=means, covariance=self.covariance.take(index))
        return taken.reweighted(log_weights)

    def __repr__(self) -> str:
        return f"Mixture(K={self.components}, d={self.dim}, {self.covariance!r}, {self.dtype})"


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


def diffuse(mixture: Mixture, alpha: Float[ArrayLike, ""], sigma: Float[ArrayLike, ""]) -> Mixture:
    """The law of α x_0 + σ ε: means α μ_k, covariances α² C_k + σ² I (theory of mixtures under diffusion).

    Args:
        mixture: law of x_0.
        alpha: () signal scale, >= 0.
        sigma: () noise standard deviation, >= 0.
    """
    check_values("alpha", alpha, "finite and >= 0", lambda a: np.isfinite(a) & (a >= 0))
    check_values("sigma", sigma, "finite and >= 0", lambda a: np.isfinite(a) & (a >= 0))
    # Cast first: a float64 schedule must not silently promote a float32 mixture.
    alpha, sigma = jnp.asarray(alpha, mixture.dtype), jnp.asarray(sigma, mixture.dtype)
    return build(
        Mixture,
        log_weights=mixture.log_weights,
        means=alpha * mixture.means,
        covariance=mixture.covariance.diffused(alpha, sigma),
    )


def log_prob(mixture: Mixture, x: Float[ArrayLike, "... d"]) -> Float[Array, "..."]:
    """Log density log p(x) in nats.

    Args:
        mixture: the mixture; every covariance positive definite (diffuse a zero-variance one first).
        x: (..., d) points.

    Raises:
        ValueError: when x has another dimension or is not finite, or a variance is zero.
    """
    return _checked(_log_prob, mixture, x)


def score(mixture: Mixture, x: Float[ArrayLike, "... d"]) -> Float[Array, "... d"]:
    """Score ∇ log p(x) = Σ_k p(k|x) Σ_k⁻¹ (μ_k - x); arguments and errors as in `log_prob`."""
    return _checked(_score, mixture, x)


def log_posterior(mixture: Mixture, x: Float[ArrayLike, "... d"]) -> Float[Array, "... K"]:
    """Log posterior log p(k|x) = log softmax_k(log π_k + log N_k(x)); arguments as in `log_prob`."""
    return _checked(_log_posterior, mixture, x)


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
        ValueError: on wrong shapes, non-finite x, times outside the process's range or unknown components.
    """
    x = _check_points(mixture, x)
    check_values("t", t, f"in [{process.t_min:g}, {process.t_max:g}]", _within(process))
    if component is not None:
        known = f"a component index 0..{mixture.components - 1}"
        check_values("component", component, known, lambda a: (a >= 0) & (a < mixture.components))
    return _denoise(mixture, process, x, jnp.asarray(t, mixture.dtype), component)


def sample(mixture: Mixture, key: PRNGKeyArray, n: int) -> tuple[Float[Array, "n d"], Int[Array, " n"]]:
    """Draw n points and the components that they came from: x (n, d), component (n,)."""
    if n < 0:
        raise ValueError(f"n must be >= 0, got {n}")
    return _sample(mixture, check_key(key), n)


def check_key(key: PRNGKeyArray) -> PRNGKeyArray:
    """Return `key` if it is a JAX random key (typed, or a raw uint32 pair)."""
    if not isinstance(key, jax.Array) or not (
        jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or key.dtype == jnp.uint32
    ):
        raise ValueError(f"key must be a JAX random key such as jax.random.key(0), got {type(key).__name__}")
    return key


def log_normalise(logits: Float[Array, "... K"]) -> Float[Array, "... K"]:
    """Log-softmax over the last axis, keeping full relative precision of log p where p is close to one.

    log p_max = -log1p(Σ of the others) does not round to zero when the others are below machine epsilon;
    a posterior entropy of 1e-30 is still right.
    """
    top = jnp.argmax(logits, axis=-1, keepdims=True)
    shifted = logits - jnp.take_along_axis(logits, top, axis=-1)
    is_top = jnp.arange(logits.shape[-1]).reshape((1,) * (logits.ndim - 1) + (-1,)) == top
    others = jnp.sum(jnp.where(is_top, 0, jnp.exp(shifted)), axis=-1, keepdims=True)
    return shifted - jnp.log1p(others)


# ---------------------------------------------------------------------------------------------- inner parts


def _within(process: Process) -> Callable[[np.ndarray], np.ndarray]:
    return lambda a: (a >= process.t_min) & (a <= process.t_max)


def _check_points(mixture: Mixture, x: Float[ArrayLike, "... d"]) -> Float[Array, "... d"]:
    x = as_float(x)
    if x.ndim == 0 or x.shape[-1] != mixture.dim:
        raise ValueError(f"x must have shape (..., {mixture.dim}) like the mixture, got {x.shape}")
    check_finite("x", x)
    return x


def _check_density(mixture: Mixture) -> None:
    covariance = mixture.covariance
    if is_concrete(covariance):
        # A mixture that a jitted function closes over is known, but its trace would still stage the check.
        with jax.ensure_compile_time_eval():
            values = covariance.eigenvalues(covariance.dim or 1)
        way_out = "positive for a density to exist (diffuse a mixture of points first)"
        check_values("variances of covariance", values, way_out, lambda a: a > 0)


def _checked(function: Callable[[Mixture, Array], Array], mixture: Mixture, x: ArrayLike) -> Array:
    """Validate what a person handed in, then evaluate `function` on x flattened to (n, d)."""
    points = _check_points(mixture, x)
    _check_density(mixture)
    flat = function(mixture, points.reshape(-1, mixture.dim))
    return flat.reshape(*points.shape[:-1], *flat.shape[1:])


def _in_blocks(function: Callable[..., Array], mixture: Mixture, *arrays: Array) -> Array:
    """Apply `function` to blocks of rows of `arrays` (n, ...), keeping rows·max(K, d) bounded."""
    n = arrays[0].shape[0]
    width = max(mixture.dim, min(mixture.components, BLOCK_ELEMENTS // 64))
    rows = max(1, BLOCK_ELEMENTS // width)
    if n <= rows:
        return function(*arrays)
    whole = n // rows * rows
    stacked = tuple(a[:whole].reshape(-1, rows, *a.shape[1:]) for a in arrays)
    done = lax.map(lambda block: function(*block), stacked)
    done = done.reshape(whole, *done.shape[2:])
    return jnp.concatenate([done, function(*(a[whole:] for a in arrays))]) if whole < n else done


def joint_log_prob(mixture: Mixture, x: Float[Array, "n d"]) -> Float[Array, "n K"]:
    """log π_k + log N(x; μ_k, Σ_k), unchecked and in one block."""
    covariance, dim = mixture.covariance, mixture.dim
    distance = covariance.map(lambda value: 1 / value).quadratic(x, mixture.means)
    constant = jnp.atleast_1d(covariance.log_det(dim)) + dim * np.log(2 * np.pi)
    return mixture.log_weights[None, :] - 0.5 * (constant[None, :] + distance)


def _fold(
    mixture: Mixture,
    x: Float[Array, "n d"],
    accumulate: Callable[[Mixture, Float[Array, "n k"]], Any],
    law: Callable[[Mixture], Mixture] = lambda part: part,
) -> tuple[Float[Array, " n"], Any]:
    """Stream over blocks of components with a running log-sum-exp.

    Args:
        mixture: the mixture.
        x: (n, d) points.
        accumulate: (block of the mixture, weights (n, k)) -> pytree of (n, ...) arrays, linear in weights.
        law: what x is drawn from, given a block: the block itself, or the block diffused.

    Returns:
        log p(x) (n,), and the accumulated arrays for the posterior weights p(k|x).
    """

    def block(part: Mixture) -> tuple[Array, Any]:
        joint = joint_log_prob(law(part), x)
        total = jax.nn.logsumexp(joint, axis=-1)
        # A block may hold only components of weight zero: its total is -inf and its weights must be 0.
        base = jnp.where(jnp.isfinite(total), total, 0)
        return total, accumulate(part, jnp.exp(joint - base[:, None]))

    def merge(carry: tuple[Array, Any], part: Mixture) -> tuple[tuple[Array, Any], None]:
        old, sums = carry
        new, more = block(part)
        total = jnp.logaddexp(old, new)
        base = jnp.where(jnp.isfinite(total), total, 0)

        def mix(a: Array, b: Array) -> Array:
            shape = (-1,) + (1,) * (a.ndim - 1)
            return a * jnp.exp(old - base).reshape(shape) + b * jnp.exp(new - base).reshape(shape)

        return (total, jax.tree.map(mix, sums, more)), None

    size = max(1, BLOCK_ELEMENTS // x.shape[0]) if x.shape[0] else mixture.components
    if mixture.components <= size:
        return block(mixture)
    first, rest = _split(mixture, size)
    return lax.scan(merge, block(first), rest)[0]


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


def _weighted_means(part: Mixture, weights: Float[Array, "n k"]) -> Float[Array, "n d"]:
    return matmul(weights, part.means)


@jax.jit
def _log_prob(mixture: Mixture, x: Float[Array, "n d"]) -> Float[Array, " n"]:
    return _in_blocks(lambda rows: _fold(mixture, rows, lambda *_: ())[0], mixture, x)


@jax.jit
def _log_posterior(mixture: Mixture, x: Float[Array, "n d"]) -> Float[Array, "n K"]:
    return _in_blocks(lambda rows: log_normalise(joint_log_prob(mixture, rows)), mixture, x)


@jax.jit
def _score(mixture: Mixture, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
    def rows(x: Float[Array, "n d"]) -> Float[Array, "n d"]:
        if mixture.covariance.shared:
            # One product for the posterior mean, then one application of the shared precision.
            mean = _fold(mixture, x, _weighted_means)[1]
            return mixture.covariance.map(jnp.reciprocal).apply(mean - x)
        return _fold(mixture, x, functools.partial(_pull, x=x))[1]

    return _in_blocks(rows, mixture, x)


def _pull(part: Mixture, weights: Float[Array, "n k"], x: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Σ_k w_k Σ_k⁻¹ (μ_k - x)."""
    return part.covariance.map(jnp.reciprocal).weighted_apply(weights, x, part.means)


@jax.jit
def _denoise(
    mixture: Mixture,
    process: Process,
    x: Float[Array, "... d"],
    t: Float[Array, "..."],
    component: Int[ArrayLike, "..."] | None,
) -> Float[Array, "... d"]:
    flat = x.reshape(-1, mixture.dim)
    batch = x.shape[:-1]
    chosen = () if component is None else (jnp.broadcast_to(jnp.asarray(component), batch).reshape(-1),)
    if t.ndim:
        # A time for each state: every row is a problem of its own.
        times = jnp.broadcast_to(t, batch).reshape(-1)

        def row(x: Array, time: Array, *k: Array) -> Array:
            k = tuple(value[None] for value in k)
            return _denoise_rows(mixture, process.alpha(time), process.sigma(time), x[None], *k)[0]

        function = jax.vmap(row)
        return _in_blocks(function, mixture, flat, times, *chosen).reshape(x.shape)
    rows = functools.partial(_denoise_rows, mixture, process.alpha(t), process.sigma(t))
    return _in_blocks(rows, mixture, flat, *chosen).reshape(x.shape)


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
        return _fold(mixture, x, both, law)[1]
    average = component is None
    mean = _fold(mixture, x, _weighted_means, law)[1] if average else mixture.means[component]
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
    # Rounding may leave the last edge below u.
    return jnp.minimum(jnp.searchsorted(edges, u * edges[-1], side="right"), mixture.components - 1)
