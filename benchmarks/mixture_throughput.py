"""Do scores and posteriors run at the rate of their matrix products?

The peer is the machine's own float32 matrix product of the same shapes, in the same turn; beside it
scikit-learn's `predict_proba`, and MixtureSameFamily of torch, numpyro and distrax where installed. A
posterior under a shared covariance needs one product (n x d by d x K), a score two, a posterior under
per-component diagonal covariances two.
"""

import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.mixture import GaussianMixture

from benchmarks.harness import in_turn, ratio, show
from gmm import Diagonal, Isotropic, Mixture, log_posterior, score

N, DIM, CLASSES = 2048, 1024, 1000
Call = Callable[[], object]


def run(n: int = N, dim: int = DIM, classes: int = CLASSES) -> None:
    """Print the table."""
    rng = np.random.default_rng(0)
    x, means = (rng.normal(size=(size, dim)).astype(np.float32) for size in (n, classes))
    weights = np.full(classes, 1 / classes, np.float32)
    variances = rng.uniform(0.5, 1.5, (classes, dim)).astype(np.float32)
    calls = ours(x, weights, means, variances)
    for peer in (scikit_learn, torch_distributions, numpyro_distributions, distrax_distributions):
        try:
            calls |= peer(x, weights, means, variances)
        except ImportError as error:
            print(f"not installed, left out: {error.name}")
    times = in_turn(calls)
    product = times.pop("matrix product")
    columns = ("call", "seconds", "times one matrix product")
    rows = [(name, f"{np.median(t):.3f}", ratio(t, product)) for name, t in times.items()]
    rate = 2 * n * dim * classes / np.median(product) / 1e9
    show(
        f"n={n} d={dim} K={classes}; one product {np.median(product):.3f} s, {rate:.0f} GFLOP/s",
        columns,
        rows,
    )


def ours(x: np.ndarray, weights: np.ndarray, means: np.ndarray, variances: np.ndarray) -> dict[str, Call]:
    """Our calls, and the bare product."""
    points, centres = jnp.asarray(x), jnp.asarray(means)
    shared = Mixture(weights, means, Isotropic(np.float32(1)))
    diagonal = Mixture(weights, means, Diagonal(variances))
    product, within = jax.jit(lambda a, b: a @ b.T), jax.jit(log_posterior)
    return {
        "matrix product": lambda: product(points, centres),
        "log_posterior, shared": lambda: log_posterior(shared, points),
        "the same within jit, where input is not checked": lambda: within(shared, points),
        "score, shared (two products)": lambda: score(shared, points),
        "log_posterior, diagonal each (two products)": lambda: log_posterior(diagonal, points),
        "score, diagonal each (four products)": lambda: score(diagonal, points),
    }


def scikit_learn(
    x: np.ndarray, weights: np.ndarray, means: np.ndarray, variances: np.ndarray
) -> dict[str, Call]:
    """scikit-learn's posterior under diagonal covariances."""
    model = GaussianMixture(len(means), covariance_type="diag")
    model.weights_, model.means_, model.covariances_ = weights, means, variances
    model.precisions_cholesky_ = 1 / np.sqrt(variances)
    return {"scikit-learn predict_proba, diagonal each": lambda: model.predict_proba(x)}


def torch_distributions(
    x: np.ndarray, weights: np.ndarray, means: np.ndarray, variances: np.ndarray
) -> dict[str, Call]:
    """torch.distributions has no posterior; its log_prob builds n·K·d, so it runs in blocks of samples."""
    import torch
    from torch import distributions as td

    tensors = [torch.from_numpy(a) for a in (weights, means, np.sqrt(variances))]
    family = td.Independent(td.Normal(tensors[1], tensors[2]), 1)
    mixture = td.MixtureSameFamily(td.Categorical(tensors[0]), family)
    blocks = torch.from_numpy(x).split(64)
    return {"torch log_prob, diagonal each": lambda: [mixture.log_prob(block) for block in blocks]}


def _jax_blocks(log_prob: Callable[[jax.Array], jax.Array], x: np.ndarray) -> Call:
    blocks = jax.jit(lambda points: jax.lax.map(log_prob, points.reshape(-1, 64, x.shape[-1])))
    points = jnp.asarray(x)
    return lambda: blocks(points)


def numpyro_distributions(
    x: np.ndarray, weights: np.ndarray, means: np.ndarray, variances: np.ndarray
) -> dict[str, Call]:
    """numpyro's log_prob, in blocks of samples."""
    import numpyro.distributions as nd

    family = nd.Normal(jnp.asarray(means), jnp.sqrt(variances)).to_event(1)
    mixture = nd.MixtureSameFamily(nd.Categorical(jnp.asarray(weights)), family)
    return {"numpyro log_prob, diagonal each": _jax_blocks(mixture.log_prob, x)}


def distrax_distributions(
    x: np.ndarray, weights: np.ndarray, means: np.ndarray, variances: np.ndarray
) -> dict[str, Call]:
    """distrax's log_prob, in blocks of samples."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import distrax

    family = distrax.MultivariateNormalDiag(jnp.asarray(means), jnp.sqrt(variances))
    mixture = distrax.MixtureSameFamily(distrax.Categorical(probs=jnp.asarray(weights)), family)
    return {"distrax log_prob, diagonal each": _jax_blocks(mixture.log_prob, x)}
