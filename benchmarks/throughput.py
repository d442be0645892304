"""How fast are posterior entropies and scores beside plain PyTorch and scikit-learn, and how does that grow?

Rivals run in turn within one process, on the same numbers: the class posterior's entropy of n points of d dimensions
under K classes with one isotropic covariance (one matrix product), and the score (two).

- ours: `gmm.log_posterior` and `gmm.score`, jitted;
- PyTorch, written plainly: products, softmax, sum; on the accelerator where there is one for both;
- scikit-learn's `predict_proba` with spherical covariances, on the CPU, float64 inside;
- the bare matrix product of the same shapes, the unit of the table.

On a CPU float32 and float64 are timed, on a GPU bfloat16 too. A second table shows growth with n, d and K, a third
the same sampling problem on 1, 2 and 8 devices: forced ones on a CPU, which share its cores, so that what shows is
the overhead of dealing work out.
"""

import functools
import os
import subprocess
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import gmm
from benchmarks.harness import in_turn, ratio, show

N, DIM, CLASSES = 4096, 1024, 512
Call = Callable[[], object]
DEVICES = (1, 2, 8)
CHILD = """
import sys, time
import jax, numpy as np
import gmm
mixture = gmm.families.random(jax.random.key(0), 100, 1000)
call = lambda: gmm.class_entropy(mixture, gmm.vp(), [2.5], key=jax.random.key(1), samples=8192)
call()
times = []
for _ in range(5):
    start = time.perf_counter(); curve = call(); times.append(time.perf_counter() - start)
print(jax.device_count(), float(np.median(times)), repr(float(curve.entropy[0])))
"""


def run(n: int = N, dim: int = DIM, classes: int = CLASSES, repeats: int = 7) -> None:
    """Print the tables."""
    device = jax.devices()[0]
    dtypes = ("float32", "float64") if device.platform == "cpu" else ("bfloat16", "float32", "float64")
    for dtype in dtypes:
        with jax.enable_x64(dtype == "float64"):
            _print_rivals(n, dim, classes, dtype, repeats)
    _print_growth(n, dim, classes, repeats)
    _print_devices()


def problem(n: int, dim: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, d) of p_t and class means (K, d), float64."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(classes, dim)) * (10 / dim) ** 0.5
    return means[rng.integers(classes, size=n)] + rng.normal(size=(n, dim)), means


def _print_rivals(n: int, dim: int, classes: int, dtype: str, repeats: int) -> None:
    x, means = problem(n, dim, classes)
    calls = ours(x, means, dtype)
    for peer in (plain_torch, scikit_learn):
        try:
            calls |= peer(x, means, dtype)
        except ImportError as error:
            print(f"{error.name} is not installed: its rows are missing; install the extra `bench`")
    times = in_turn(calls, repeats)
    product = times.pop("matrix product")
    rows = [(name, f"{n / np.median(t):.3g}", ratio(t, product)) for name, t in times.items()]
    rate = 2 * n * dim * classes / np.median(product) / 1e9
    title = (
        f"{dtype} on {jax.devices()[0].device_kind}, n={n} d={dim} K={classes}; product {rate:.0f} GFLOP/s"
    )
    show(title, ("call", "points a second", "times one matrix product"), rows)


def ours(x: np.ndarray, means: np.ndarray, dtype: str) -> dict[str, Call]:
    """Our calls, and the bare product."""
    classes = len(means)
    mixture = gmm.Mixture(np.full(classes, 1 / classes), means, gmm.Isotropic(1.0))
    mixture = jax.tree.map(lambda leaf: leaf.astype(dtype), mixture)
    points, centres = jnp.asarray(x, dtype), jnp.asarray(means, dtype)
    product = jax.jit(lambda a, b: a @ b.T)
    entropy = jax.jit(functools.partial(_entropy, mixture))
    return {
        "matrix product": lambda: product(points, centres),
        "entropy, ours": lambda: entropy(points),
        "score, ours (two products)": lambda: gmm.score(mixture, points),
    }


def _entropy(mixture: gmm.Mixture, x: jax.Array) -> jax.Array:
    log_p = gmm.log_posterior(mixture, x)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def plain_torch(x: np.ndarray, means: np.ndarray, dtype: str) -> dict[str, Call]:
    """What one would write in PyTorch; results wait for the device."""
    import torch

    where = "cuda" if jax.devices()[0].platform == "gpu" and torch.cuda.is_available() else "cpu"
    points, centres = (torch.tensor(a, dtype=getattr(torch, dtype), device=where) for a in (x, means))
    offset = -0.5 * (centres**2).sum(dim=1)

    def done(result: "torch.Tensor") -> "torch.Tensor":
        if where == "cuda":
            torch.cuda.synchronize()
        return result

    def entropy() -> object:
        log_p = torch.log_softmax(points @ centres.T + offset, dim=1)
        return done(-(log_p.exp() * log_p).sum(dim=1))

    def score() -> object:
        return done(torch.softmax(points @ centres.T + offset, dim=1) @ centres - points)

    return {f"entropy, PyTorch ({where})": entropy, f"score, PyTorch ({where})": score}


def scikit_learn(x: np.ndarray, means: np.ndarray, dtype: str) -> dict[str, Call]:
    """scikit-learn's posterior, then the entropy."""
    from sklearn.mixture import GaussianMixture

    if dtype == "bfloat16":
        return {}
    model = GaussianMixture(len(means), covariance_type="spherical")
    model.weights_, model.means_ = np.full(len(means), 1 / len(means)), means
    model.covariances_ = model.precisions_cholesky_ = np.ones(len(means))
    points = x.astype(dtype)

    def entropy() -> object:
        p = model.predict_proba(points)
        return -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=1)

    return {"entropy, scikit-learn": entropy}


def _print_growth(n: int, dim: int, classes: int, repeats: int) -> None:
    sizes = {"base": (n, dim, classes), "n x 4": (4 * n, dim, classes)}
    sizes |= {"d x 4": (n, 4 * dim, classes), "K x 4": (n, dim, 4 * classes)}
    calls: dict[str, Call] = {}
    for name, size in sizes.items():
        mine = ours(*problem(*size), "float32")
        calls |= {name: mine["entropy, ours"], f"{name}, product": mine["matrix product"]}
    times = in_turn(calls, repeats)
    base = times["base"]
    rows = [
        (name, "{} x {} x {}".format(*size), f"{np.median(times[name]):.3f}", ratio(times[name], base),
         ratio(times[name], times[f"{name}, product"]))
        for name, size in sizes.items()
    ]  # fmt: skip
    columns = ("size", "n x d x K", "seconds", "times base", "times its product")
    show("entropy, ours, float32: growth", columns, rows)


def _print_devices() -> None:
    platform = jax.devices()[0].platform
    rows, first = [], None
    for count in DEVICES:
        environment = dict(os.environ)
        if platform == "cpu":
            environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={count}"
        else:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(count)))
        done = subprocess.run(
            [sys.executable, "-c", CHILD], capture_output=True, text=True, check=True, env=environment
        )
        devices, seconds, entropy = done.stdout.split()
        if int(devices) != count:
            print(f"{count} devices: only {devices} here, left out")
            continue
        first = first or float(seconds)
        rows.append((devices, f"{float(seconds):.3f}", f"{first / float(seconds):.2f}", entropy))
    columns = ("devices", "seconds", "speed-up", "entropy, nat")
    show(f"class_entropy, K=100, d=1000, 8192 samples, {platform}", columns, rows)
